//! `GET /ws`: from an HTTP request to a session.
//!
//! actix-web-actors does the handshake (RFC 6455, section 4.2) and nothing else: its own context
//! has an unbounded send queue and freezes with a stuffed socket.

use std::{
    net::SocketAddr, os::fd::OwnedFd, rc::Rc, sync::Arc, sync::atomic::Ordering, time::Instant,
    time::SystemTime,
};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    http::{StatusCode, header},
    web::{Data, Payload},
};
use actix_web_actors::ws;
use tidewire_eventstore::Timestamp;
use tidewire_protocol::{
    ErrorBody, ErrorCode, Session, SessionId, SessionInfo as WireInfo,
    frame::{FrameDecoder, FrameLimits},
};
use uuid::Uuid;

use crate::{
    http::{Refusal, host},
    node::Node,
    outbound::Outbound,
    session_actor::SessionActor,
    session_cell::{SessionCell, SessionInfo},
    worker::Worker,
};

/// The subprotocol that this server speaks.
pub(crate) const SUBPROTOCOL: &str = "tidewire.v1.json";

/// A bearer token may come as one more subprotocol, which is never echoed.
const BEARER: &str = "bearer.";

/// What [`tune`](crate::tune) learns of a connection when it is accepted.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) address: Option<SocketAddr>,
    /// A second handle on the socket, to cut it off.
    pub(crate) socket: Option<Rc<OwnedFd>>,
}

/// Accepts or refuses a handshake.
pub(crate) async fn open(
    request: HttpRequest,
    payload: Payload,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    let node = node.into_inner();
    handshake(&request, payload, &node).inspect_err(|_| {
        node.metrics.handshakes_refused.fetch_add(1, Ordering::Relaxed);
    })
}

fn handshake(
    request: &HttpRequest,
    payload: Payload,
    node: &Arc<Node>,
) -> Result<HttpResponse, Refusal> {
    host::check(request, node)?;
    check_origin(request, node)?;
    let offered = subprotocols(request);
    let speaks = offered.iter().any(|name| name == SUBPROTOCOL);
    let others = offered.iter().any(|name| name != SUBPROTOCOL && !name.starts_with(BEARER));
    if others && !speaks {
        return Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "unsupported_subprotocol",
            format!("none of the offered subprotocols is served; this server speaks {SUBPROTOCOL}"),
        ));
    }
    let bearer = offered.iter().find_map(|name| name.strip_prefix(BEARER)).map(str::to_owned);
    let mut response = ws::handshake_with_protocols(request, &[SUBPROTOCOL]).map_err(|error| {
        // The error's own `status_code` is 500 for all of them.
        let status = error.error_response().status();
        Refusal::new(status, "bad_handshake", error.to_string())
    })?;

    if node.is_draining() {
        return Err(ErrorBody::of(ErrorCode::Closing).into());
    }
    if !node.admit() {
        node.metrics.sessions_refused.fetch_add(1, Ordering::Relaxed);
        return Err(Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_sessions",
            format!("this node has its {} sessions", node.config.sessions_max),
        ));
    }

    let worker = Worker::current(node);
    let session = session(request, &worker, bearer);
    let limits = FrameLimits::server(session.message_bytes_max() as u64);
    SessionActor::start(session.clone(), FrameDecoder::new(limits), payload);
    Ok(response.body(Outbound::new(session)))
}

/// Makes the session of an accepted handshake.
fn session(request: &HttpRequest, worker: &Rc<Worker>, bearer: Option<String>) -> Rc<SessionCell> {
    let node = worker.node();
    let id = SessionId(Uuid::now_v7());
    let connection = request.conn_data::<Connection>();
    let address = connection.and_then(|connection| connection.address).or(request.peer_addr());
    let now = Instant::now();
    let info = WireInfo {
        session: id,
        node: node.name.as_str().into(),
        epochs: worker.epochs(),
        opened_at: Timestamp::now(),
        bearer: bearer.map(Into::into),
    };
    let moment = worker.moment(now);
    SessionCell::new(
        worker.clone(),
        Session::new(node.session.clone(), info, moment),
        SessionInfo { id: id.to_string(), since: SystemTime::now(), address },
        connection.and_then(|connection| connection.socket.clone()),
        now,
    )
}

/// A browser sends its page's origin; only the server's own and the configured ones may connect.
/// Programs send none.
fn check_origin(request: &HttpRequest, node: &Node) -> Result<(), Refusal> {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let own = origin.split_once("://").map(|(_, host)| host).is_some_and(|o| Some(o) == host);
    if own || node.config.origins.iter().any(|allowed| allowed == origin) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "origin_not_allowed",
        "pages of this origin may not open a session; add it to `origins` if they should"
            .to_owned(),
    ))
}

fn subprotocols(request: &HttpRequest) -> Vec<String> {
    request
        .headers()
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}
