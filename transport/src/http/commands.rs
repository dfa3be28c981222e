//! `POST /commands/{name}` has the application do something.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Payload},
};
use bytes::{BufMut, BytesMut};
use tidewire_protocol::{ErrorBody, ErrorCode, codec::json, command_name};

use super::{Refusal, authorize, body};
use crate::{commands::Caller, node::Node};

/// Carries out the command of the body, and answers 200 with its result once that is durable.
pub(super) async fn execute(
    request: HttpRequest,
    name: Path<String>,
    payload: Payload,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    body::require_json(&request)?;
    let name = command_name(&name)?;
    let body = body::read(payload, node.config.message_bytes_max).await?;
    let command = json::decode_command(name, &body)?;
    let done = node.commands.execute(command, Caller::Http).await.map_err(refusal)?;

    let mut out = BytesMut::with_capacity(done.data.len() + 48);
    out.put_slice(b"{\"data\":");
    out.put_slice(&done.data);
    if let Some(position) = done.position {
        out.put_slice(format!(",\"position\":{position}").as_bytes());
    }
    out.put_slice(b"}\n");
    Ok(HttpResponse::Ok().content_type("application/json").body(out.freeze()))
}

/// The status of a failed command is the application's 422, or the server's own fault.
fn refusal(error: ErrorBody) -> Refusal {
    let is_handlers_fault = || {
        let code = error.details.as_ref()?.get("code")?.as_str()?;
        Some(code.starts_with('$'))
    };
    match error.known() {
        Some(ErrorCode::CommandFailed) if error.retryable => {
            Refusal::with_status(StatusCode::SERVICE_UNAVAILABLE, error)
        }
        Some(ErrorCode::CommandFailed) if is_handlers_fault() == Some(true) => {
            Refusal::with_status(StatusCode::INTERNAL_SERVER_ERROR, error)
        }
        _ => error.into(),
    }
}
