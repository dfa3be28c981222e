//! Pages of a query: the next documents that meet it, after a cursor.

use serde_json::Value;
use tidewire_eventstore::{Generation, GlobalPosition};
use tidewire_protocol::query::{Query, Reached};

use super::{
    QueryError, cursor,
    plan::{Plan, plan},
};
use crate::{
    Definition, DocumentStore, StoreError,
    documents::{DocumentPage, PAGE_MAX, PageRead, StoredDocument},
};

/// Documents that one page looks at, at most about this many, whether they meet the query or not.
pub const SCAN_MAX: usize = 10_000;

/// A page ends once its documents have so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// One page of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryPage {
    /// Where the projection was, read before the documents or together with them: each of them is
    /// of this position or newer.
    pub reached: Reached,
    /// The documents, in the query's order.
    pub documents: Vec<StoredDocument>,
    /// Where the next page goes on, where there may be more.
    pub next: Option<String>,
}

impl QueryPage {
    /// Whether there may be more.
    pub const fn more(&self) -> bool {
        self.next.is_some()
    }
}

/// Reads a page of `query` over the documents of `generation`: the next `limit` after `cursor`,
/// [`PAGE_MAX`] at most. It has fewer, and says that there is more, where it looked at
/// [`SCAN_MAX`] documents or grew large. The window's limit counts for nothing here.
///
/// # Errors
///
/// [`QueryError`]. [`StoreError::Unknown`] where the generation is gone.
pub async fn page(
    store: &dyn DocumentStore,
    definition: &Definition,
    generation: Generation,
    query: &Query,
    cursor: Option<&str>,
    limit: usize,
) -> Result<QueryPage, QueryError> {
    let plan = plan(query, definition)?;
    let after = cursor.map(|text| cursor::read(text, query, generation)).transpose()?;
    match plan {
        Plan::Key(key) => {
            if after.is_some() {
                // One document has no second page.
                return Err(QueryError::InvalidCursor);
            }
            let status = store.status(&definition.name).await?.ok_or(StoreError::Unknown)?;
            let of = [&status.active].into_iter().chain(&status.building);
            let position = of
                .into_iter()
                .find(|status| status.generation == generation)
                .map(|status| status.checkpoint)
                .ok_or(StoreError::Unknown)?;
            let mut documents = store.documents(generation, vec![key]).await?;
            documents.retain(|document| meets(query, document));
            Ok(QueryPage { reached: Reached { generation, position }, documents, next: None })
        }
        Plan::Scan(scan) => {
            let limit = limit.clamp(1, PAGE_MAX);
            let mut read = PageRead { generation, scan, after, limit };
            let mut found = Found { query, limit, position: None, documents: Vec::new(), bytes: 0 };
            let mut scanned = 0;
            loop {
                read.limit = if query.condition.is_some() { PAGE_MAX } else { limit };
                let page = store.page(read.clone()).await?;
                scanned += page.documents.len();
                let more = page.more;
                let ended = found.take(page, &mut read);
                if ended || !more || scanned >= SCAN_MAX {
                    let next = (ended || more).then_some(read.after.as_ref()).flatten();
                    let next = next.map(|place| cursor::write(query, generation, place));
                    let position = found.position.unwrap_or_default();
                    let reached = Reached { generation, position };
                    return Ok(QueryPage { reached, documents: found.documents, next });
                }
            }
        }
    }
}

/// What a page has so far.
struct Found<'a> {
    query: &'a Query,
    limit: usize,
    /// Where the projection was before the first read.
    position: Option<GlobalPosition>,
    documents: Vec<StoredDocument>,
    bytes: usize,
}

impl Found<'_> {
    /// Takes what meets the query, and moves `read` on. Whether the page is full before the end of
    /// what was read.
    fn take(&mut self, page: DocumentPage, read: &mut PageRead) -> bool {
        self.position.get_or_insert(page.position);
        for (place, document) in page.documents {
            if self.documents.len() >= self.limit || self.bytes >= PAGE_BYTES {
                return true;
            }
            if meets(self.query, &document) {
                self.bytes += document.data.len();
                self.documents.push(document);
            }
            read.after = Some(place);
        }
        // Full, but nothing is known to be left.
        page.more && (self.documents.len() >= self.limit || self.bytes >= PAGE_BYTES)
    }
}

/// Whether a document meets the query's condition.
fn meets(query: &Query, document: &StoredDocument) -> bool {
    let Some(condition) = &query.condition else { return true };
    // What a store gives is JSON; in anything else there is no field.
    let value: Value = serde_json::from_slice(&document.data).unwrap_or_default();
    condition.matches(&value)
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
