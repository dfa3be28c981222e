//! `/projections/{name}/documents`: documents by page, as a query asks for them; and
//! `/projections/{name}/documents/{key}`: one of them.

use std::num::NonZeroU32;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, Query},
};
use bytes::{BufMut, BytesMut};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidewire_eventstore::GlobalPosition;
use tidewire_projections::{documents::PAGE_MAX, query::QueryPage};
use tidewire_protocol::{
    ErrorBody, ErrorCode, QueryRequest,
    query::{Reached, WrittenQuery},
};

use super::{Refusal, authorize, number};
use crate::node::Node;

/// Documents a page where the request names no limit.
const LIMIT_DEFAULT: u32 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentsQuery {
    key: Option<String>,
    /// A condition, as JSON.
    #[serde(rename = "where")]
    condition: Option<String>,
    /// A field.
    order: Option<String>,
    direction: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
    wait: Option<String>,
    timeout_ms: Option<String>,
}

/// A page of documents.
pub(super) async fn read(
    request: HttpRequest,
    name: Path<String>,
    query: Query<DocumentsQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let request = query.into_inner().request(&name)?;
    // What is wrong with a query is told before anything is waited for.
    node.live.check(&request.query)?;
    node.live.wait(&request).await?;
    let page = node.documents(request).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(encode(&page).freeze()))
}

/// What a request for one document may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentQuery {
    wait: Option<String>,
    timeout_ms: Option<String>,
}

/// One document, by its key; 404 where there is none.
pub(super) async fn show(
    request: HttpRequest,
    path: Path<(String, String)>,
    query: Query<DocumentQuery>,
    node: Data<Node>,
) -> Result<HttpResponse, Refusal> {
    authorize(&request, &node)?;
    let (name, key) = path.into_inner();
    let DocumentQuery { wait, timeout_ms } = query.into_inner();
    let query = DocumentsQuery { key: Some(key), wait, timeout_ms, ..DocumentsQuery::default() };
    let request = query.request(&name)?;
    node.live.check(&request.query)?;
    node.live.wait(&request).await?;
    let mut page = node.documents(request).await?;
    let Reached { generation, position } = page.reached;
    let Some(document) = page.documents.pop() else {
        let details = json!({ "position": position, "generation": generation });
        return Err(ErrorBody::of(ErrorCode::NoSuchDocument).with_details(details).into());
    };
    let mut out = BytesMut::with_capacity(document.data.len() + 512);
    let key = Value::from(document.key.as_str());
    out.put_slice(format!("{{\"key\":{key},\"document\":").as_bytes());
    out.put_slice(&document.data);
    out.put_slice(format!(",\"position\":{position},\"generation\":{generation}}}\n").as_bytes());
    Ok(HttpResponse::Ok().content_type("application/json").body(out.freeze()))
}

impl DocumentsQuery {
    /// The request as the socket would have it.
    fn request(self, name: &str) -> Result<QueryRequest, Refusal> {
        let limit = match number("limit", self.limit.as_deref())? {
            None => LIMIT_DEFAULT,
            Some(limit) if (1..=PAGE_MAX as u64).contains(&limit) => limit as u32,
            Some(_) => {
                return Err(Refusal::invalid(format!("`limit` is a number from 1 to {PAGE_MAX}")));
            }
        };
        let wait = number("wait", self.wait.as_deref())?.map(GlobalPosition::new);
        let timeout_ms = match number("timeout_ms", self.timeout_ms.as_deref())? {
            None => QueryRequest::TIMEOUT_MS_DEFAULT,
            Some(ms) if ms <= QueryRequest::TIMEOUT_MS_MAX.into() => ms as u32,
            Some(_) => {
                let max = QueryRequest::TIMEOUT_MS_MAX;
                return Err(Refusal::invalid(format!("`timeout_ms` is a number up to {max}")));
            }
        };
        let cursor = self.cursor.filter(|cursor| !cursor.is_empty());
        if cursor.as_ref().is_some_and(|text| text.len() > QueryRequest::CURSOR_BYTES_MAX) {
            return Err(ErrorBody::of(ErrorCode::InvalidCursor).into());
        }

        let mut written = Map::new();
        written.insert("projection".to_owned(), name.into());
        if let Some(key) = self.key {
            written.insert("key".to_owned(), key.into());
        }
        if let Some(condition) = self.condition {
            let condition: Value = serde_json::from_str(&condition).map_err(|failure| {
                let text = format!("`where` is not JSON: {failure}");
                let error = ErrorBody::new(ErrorCode::InvalidQuery, text);
                Refusal::from(error.with_details(json!({ "field": "where" })))
            })?;
            written.insert("where".to_owned(), condition);
        }
        if self.order.is_some() || self.direction.is_some() {
            let order = json!({ "by": self.order, "direction": self.direction });
            written.insert("order".to_owned(), order);
        }
        let query = WrittenQuery::parse(&Value::Object(written))?;
        Ok(QueryRequest {
            query: query.paged(NonZeroU32::new(limit)),
            cursor: cursor.map(String::into_boxed_str),
            limit: limit as usize,
            wait,
            timeout_ms,
        })
    }
}

fn encode(page: &QueryPage) -> BytesMut {
    let bytes: usize = page.documents.iter().map(|document| document.data.len() + 64).sum();
    let mut out = BytesMut::with_capacity(bytes + 256);
    out.put_slice(b"{\"documents\":[");
    for (number, document) in page.documents.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let key = Value::from(document.key.as_str());
        out.put_slice(format!("{comma}{{\"key\":{key},\"document\":").as_bytes());
        out.put_slice(&document.data);
        out.put_u8(b'}');
    }
    out.put_slice(format!("],\"more\":{}", page.more()).as_bytes());
    if let Some(next) = &page.next {
        out.put_slice(format!(",\"next\":{}", Value::from(next.as_str())).as_bytes());
    }
    let (position, generation) = (page.reached.position, page.reached.generation);
    out.put_slice(format!(",\"position\":{position},\"generation\":{generation}}}\n").as_bytes());
    out
}
