//! An Actix application with a log of its own below `/log`: WebSocket, HTTP and metrics, and a
//! command that the application handles itself.
//!
//! `cargo run --package embed`, then:
//!
//! ```sh
//! curl localhost:8080/
//! curl localhost:8080/log/commands/place-order -H 'content-type: application/json' \
//!   -d '{"key": "my-first", "data": {"customer": "ann", "items": [{"product": "bread", "quantity": 2}]}}'
//! curl localhost:8080/log/events
//! ```
//!
//! Send the second line again: the answer is the same, and there is one order.

mod order;

use std::{error::Error, sync::Arc};

use actix_web::{App, HttpServer, web};
use tidewire_eventstore::{SqliteOptions, SqliteStore};
use tidewire_transport::{DatabaseRuntime, Tidewire, tune};

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let file = arguments.next().unwrap_or_else(|| "embed.db".to_owned());

    let runtime = DatabaseRuntime::new(2)?;
    let store = runtime.run(SqliteStore::open(file, SqliteOptions::serve())).await?;
    let tidewire = Tidewire::builder(Arc::new(store))
        .runtime(runtime)
        .command("place-order", order::place_order)
        .start()
        .await?;
    let app = move || {
        App::new()
            .route("/", web::get().to(async || "the application's own page\n"))
            .service(web::scope("/log").service(tidewire.scope()))
    };
    let server = tune(HttpServer::new(app)).bind(address)?;
    println!("listening on http://{}", server.addrs()[0]);
    Ok(server.run().await?)
}
