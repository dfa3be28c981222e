//! `GET /projections/{name}/documents` reads documents by page, and
//! `GET /projections/{name}/documents/{key}` one of them.

use std::num::NonZeroU32;

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Path, Query},
};
use bytes::{BufMut, BytesMut};
use serde::Deserialize;
use serde_json::{Value, json};
use tidewire_eventstore::GlobalPosition;
use tidewire_projections::{documents::PAGE_MAX, query::QueryPage};
use tidewire_protocol::{
    ErrorBody, ErrorCode, QueryRequest,
    codec::json as wire,
    query::{Document, Reached, WrittenQuery},
};

use super::{Refusal, authorize, number};
use crate::node::Node;

/// Documents a page where the request names no limit.
const LIMIT_DEFAULT: usize = 100;

/// What a request for documents may say. Numbers are parsed later, for errors that say more.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentsQuery {
    key: Option<String>,
    /// A condition, as JSON.
    r#where: Option<String>,
    /// The field to order by.
    order: Option<String>,
    direction: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
    wait: Option<String>,
    timeout_ms: Option<String>,
}

/// What a request for one document may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WaitQuery {
    wait: Option<String>,
    timeout_ms: Option<String>,
}

/// Reads a page of documents.
pub(super) async fn list(
    request: HttpRequest,
    name: Path<String>,
    query: Query<DocumentsQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let page = read(&node, asked(&name, query.into_inner())?).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(render(&page)))
}

/// Reads one document; 404 where there is none.
pub(super) async fn show(
    request: HttpRequest,
    path: Path<(String, String)>,
    query: Query<WaitQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let (name, key) = path.into_inner();
    let WaitQuery { wait, timeout_ms } = query.into_inner();
    let query = DocumentsQuery { key: Some(key), wait, timeout_ms, ..DocumentsQuery::default() };
    let mut page = read(&node, asked(&name, query)?).await?;
    let Some(document) = page.documents.pop() else {
        let Reached { generation, position } = page.reached;
        let error = ErrorBody::of(ErrorCode::NoSuchDocument)
            .with_details(json!({ "position": position, "generation": generation }));
        return Err(Refusal::with_status(StatusCode::NOT_FOUND, error));
    };
    let mut out = BytesMut::new();
    wire::write_document(&Document { key: document.key, data: document.data }, &mut out);
    // The position and the generation stand beside what stands there already.
    out.truncate(out.len() - 1);
    finish(page.reached, &mut out);
    Ok(HttpResponse::Ok().content_type("application/json").body(out.freeze()))
}

async fn read(node: &Node, mut request: QueryRequest) -> Result<QueryPage, Refusal> {
    // What is wrong with a query is told before anything is waited for.
    node.live.check(&request.query)?;
    node.live.wait(&request).await?;
    request.wait = None;
    Ok(node.documents(request).await?)
}

/// The request in the words of the protocol.
fn asked(name: &str, query: DocumentsQuery) -> Result<QueryRequest, Refusal> {
    let limit = match number("limit", query.limit.as_deref())? {
        None => LIMIT_DEFAULT,
        Some(limit) if (1..=PAGE_MAX as u64).contains(&limit) => limit as usize,
        Some(_) => {
            return Err(Refusal::invalid(format!("`limit` is a number from 1 to {PAGE_MAX}")));
        }
    };
    let timeout_ms = match number("timeout_ms", query.timeout_ms.as_deref())? {
        None => QueryRequest::TIMEOUT_MS_DEFAULT,
        Some(timeout) if timeout <= QueryRequest::TIMEOUT_MS_MAX.into() => timeout as u32,
        Some(_) => {
            let max = QueryRequest::TIMEOUT_MS_MAX;
            return Err(Refusal::invalid(format!("`timeout_ms` is a number from 0 to {max}")));
        }
    };
    let mut written = json!({ "projection": name });
    if let Some(key) = &query.key {
        written["key"] = json!(key);
    }
    if let Some(condition) = &query.r#where {
        written["where"] = serde_json::from_str::<Value>(condition).map_err(|error| {
            let message = format!("`where` is not JSON: {error}");
            Refusal::from(ErrorBody::new(ErrorCode::InvalidQuery, message))
        })?;
    }
    if query.order.is_some() || query.direction.is_some() {
        written["order"] = json!({ "by": query.order, "direction": query.direction });
    }
    let written = WrittenQuery::parse(&written)?;
    if query.cursor.as_ref().is_some_and(|text| text.len() > QueryRequest::CURSOR_BYTES_MAX) {
        return Err(ErrorBody::of(ErrorCode::InvalidCursor).into());
    }
    let wait = number("wait", query.wait.as_deref())?.map(GlobalPosition::new);
    let cursor = query.cursor.map(Into::into);
    let query = written.paged(NonZeroU32::new(limit as u32));
    Ok(QueryRequest { query, cursor, limit, wait, timeout_ms })
}

fn render(page: &QueryPage) -> bytes::Bytes {
    let mut out = BytesMut::from(&b"{\"documents\":["[..]);
    for (index, document) in page.documents.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        let (key, data) = (document.key.clone(), document.data.clone());
        wire::write_document(&Document { key, data }, &mut out);
    }
    out.put_slice(format!("],\"more\":{}", page.more()).as_bytes());
    if let Some(next) = &page.next {
        // A cursor has nothing in it that JSON would have to escape.
        out.put_slice(format!(",\"next\":\"{next}\"").as_bytes());
    }
    finish(page.reached, &mut out);
    out.freeze()
}

/// Ends an answer with where the projection was.
fn finish(Reached { generation, position }: Reached, out: &mut BytesMut) {
    let reached = format!(",\"position\":{position},\"generation\":{generation}}}\n");
    out.put_slice(reached.as_bytes());
}
