//! What an open session is compared with: Actix with a streaming body that never has anything.

use actix_web::{App, HttpResponse, HttpServer, rt::System, web};
use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;

use super::child;

/// Serves until the parent ends.
pub(super) fn run() -> Result<()> {
    System::new().block_on(async {
        let silent = || async {
            HttpResponse::Ok().streaming(stream::pending::<Result<Bytes, actix_web::Error>>())
        };
        let app = move || App::new().route("/ws", web::get().to(silent));
        let server = tidewire_transport::tune(HttpServer::new(app)).workers(1);
        let server = server.bind(("127.0.0.1", 0))?;
        child::announce(server.addrs()[0])?;
        server.run().await?;
        Ok(())
    })
}
