//! HTTP beside the socket: append, command, read by page, remove, health, metrics, sessions.
//!
//! The same fields and codes as on the wire. Errors are `{"error": {"code", "message",
//! "retryable", …}}`. There are no CORS headers, and a write has to be `application/json`, which a
//! page of another origin cannot send without asking first — so it cannot write at all.

pub(crate) mod admin;
mod body;
mod commands;
mod consumers;
mod documents;
mod events;
pub(crate) mod host;
mod projections;
mod refusal;
mod retention;
mod streams;

use actix_web::{
    HttpRequest, HttpResponse, ResponseError, guard,
    http::{StatusCode, header},
    web,
};
use tidewire_protocol::{ErrorBody, ErrorCode};

use crate::{node::Node, websocket};

pub(crate) use refusal::Refusal;

/// Routes everything that Tidewire serves.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let resource = |path| web::resource(path).default_service(web::to(method_not_allowed));
    let query = web::QueryConfig::default()
        .error_handler(|failure, _| Refusal::invalid(failure.to_string()).into());
    config
        .app_data(query)
        .service(resource("/ws").route(web::get().to(websocket::open)))
        .service(
            resource("/streams/{stream:.+}")
                .route(web::post().to(streams::append))
                .route(web::get().to(streams::read))
                .route(web::delete().to(retention::remove_stream)),
        )
        .service(resource("/commands/{name:.+}").route(web::post().to(commands::execute)))
        .service(
            resource("/categories/{category}/retention").route(web::post().to(retention::retain)),
        )
        .service(resource("/events/{position}").route(web::delete().to(retention::erase)))
        .service(resource("/consumers").route(web::get().to(consumers::list)))
        .service(
            resource("/consumers/{name}")
                .route(web::get().to(consumers::show))
                .route(web::delete().to(consumers::delete)),
        )
        .service(resource("/consumers/{name}/parked").route(web::get().to(consumers::parked)))
        .service(
            resource("/consumers/{name}/parked/replay").route(web::post().to(consumers::replay)),
        )
        .service(
            resource("/consumers/{name}/parked/drop").route(web::post().to(consumers::drop_parked)),
        )
        .service(resource("/projections").route(web::get().to(projections::list)))
        .service(resource("/projections/{name}").route(web::get().to(projections::show)))
        .service(resource("/projections/{name}/documents").route(web::get().to(documents::read)))
        .service(
            resource("/projections/{name}/documents/{key:.+}")
                .route(web::get().to(documents::show)),
        )
        .service(
            resource("/projections/{name}/rebuild").route(web::post().to(projections::rebuild)),
        )
        .service(resource("/projections/{name}/cancel").route(web::post().to(projections::cancel)))
        .service(resource("/projections/{name}/resume").route(web::post().to(projections::resume)))
        .service(resource("/projections/{name}/skip").route(web::post().to(projections::skip)))
        .service(resource("/projections/{name}/parked").route(web::get().to(projections::parked)))
        .service(resource("/events").route(web::get().to(events::read)))
        .service(resource("/healthz").route(get_or_head().to(admin::healthz)))
        .service(resource("/readyz").route(get_or_head().to(admin::readyz)))
        .service(resource("/metrics").route(web::get().to(admin::metrics)))
        .service(resource("/sessions").route(web::get().to(admin::sessions)));
}

/// Load balancers ask with either.
fn get_or_head() -> actix_web::Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Answers 404 as Tidewire answers every error; for [`App::default_service`](actix_web::App).
pub async fn not_found() -> HttpResponse {
    Refusal::new(StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
        .error_response()
}

async fn method_not_allowed() -> HttpResponse {
    let message = "this path does not take that method";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).error_response()
}

/// Lets a request pass that carries the server's token, or, where there is none, any that asks for
/// a name of this server.
fn authorize(request: &HttpRequest, node: &Node) -> Result<(), Refusal> {
    host::check(request, node)?;
    let bearer = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    if node.session.auth.accepts(bearer) {
        Ok(())
    } else {
        Err(ErrorBody::of(ErrorCode::Unauthorized).into())
    }
}

/// A number in the query, or why it is not one.
fn number(name: &'static str, text: Option<&str>) -> Result<Option<u64>, Refusal> {
    text.map(|text| {
        text.parse().ok().filter(|number| *number <= tidewire_eventstore::NUMBER_MAX).ok_or_else(
            || {
                Refusal::invalid(format!(
                    "`{name}` has to be a number from 0 to 2^53 - 1, not {text:?}"
                ))
            },
        )
    })
    .transpose()
}
