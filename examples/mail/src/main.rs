//! A mail program: mailboxes and messages as events, two projections of them, commands that change
//! them, and a page that shows them live.
//!
//! `cargo run --package mail`, then open <http://127.0.0.1:8081> in two browsers at once.
//!
//! - [`events`]: what happens to mailboxes and messages.
//! - [`commands`]: what a client may ask for, and what is recorded then.
//! - [`projections`]: the documents that the page shows.
//! - [`samples`]: what a fresh log is filled with.
//! - `page/`: what the browser runs, without a build step.

mod commands;
mod events;
mod page;
mod projections;
mod samples;

use std::{error::Error, sync::Arc};

use actix_web::{App, HttpServer, web};
use tidewire_eventstore::{EventStore, SqliteOptions, SqliteStore};
use tidewire_projections::{Policy, Projections, SqliteDocuments, SqliteDocumentsOptions};
use tidewire_transport::{DatabaseRuntime, Tidewire, tune};
use tokio::runtime::Handle;

/// Opens the log and the documents beside it in one file, and begins to project.
async fn open(
    file: String,
    runtime: Handle,
) -> Result<(Arc<dyn EventStore>, Arc<Projections>), Box<dyn Error + Send + Sync>> {
    let log: Arc<dyn EventStore> =
        Arc::new(SqliteStore::open(&file, SqliteOptions::serve()).await?);
    samples::fill(log.as_ref()).await?;
    let documents = SqliteDocuments::open(&file, SqliteDocumentsOptions::default()).await?;
    let mut projections = Projections::builder(Arc::clone(&log), Arc::new(documents), "mail");
    for projection in projections::all()? {
        let policy = Policy { rebuild_on_new_version: true, ..Policy::default() };
        projections = projections.projection(projection, policy);
    }
    Ok((log, Arc::new(projections.start(&runtime).await?)))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8081".to_owned());
    let file = arguments.next().unwrap_or_else(|| "mail.db".to_owned());

    // Whatever talks to the database does so on a runtime of its own.
    let runtime = DatabaseRuntime::new(2)?;
    let (log, projections) = runtime.run(open(file, runtime.handle().clone())).await?;
    let tidewire = commands::register(Tidewire::builder(log), &projections)
        .runtime(runtime)
        .projections(projections)
        .start()
        .await?;

    let served = tidewire.clone();
    let app = move || {
        App::new().configure(page::serve).service(web::scope("/log").service(served.scope()))
    };
    let server = tune(HttpServer::new(app)).bind(address)?;
    println!("listening on http://{}", server.addrs()[0]);
    server.run().await?;
    // Lets go of the projections, so that the next start need not wait for their leases.
    tidewire.drain().await;
    Ok(())
}
