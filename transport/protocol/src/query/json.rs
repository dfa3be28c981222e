//! Queries as JSON: the `to` of a live query, and the `from` of a fetch.

use std::{num::NonZeroU32, sync::Arc};

use serde_json::{Map, Value, json};
use tidewire_eventstore::{DocumentKey, ProjectionName};

use super::{Condition, FieldPath, Order, OrderDirection, Query, WINDOW_MAX, Window};
use crate::codes::{ErrorBody, ErrorCode};

/// A query as a client writes it: its order and its limit, each by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenQuery {
    /// The projection.
    pub projection: ProjectionName,
    /// Only the document of this key.
    pub key: Option<DocumentKey>,
    /// Only documents that meet this.
    pub condition: Option<Arc<Condition>>,
    /// The order.
    pub order: Option<Order>,
    /// How many, 1 to [`WINDOW_MAX`].
    pub limit: Option<NonZeroU32>,
}

impl WrittenQuery {
    /// Reads `{"projection": name, "key"?, "where"?, "order"?, "limit"?}`. Other fields are passed
    /// over.
    ///
    /// # Errors
    ///
    /// `invalid_query` for what is not well formed, and where an order or a limit goes with a key;
    /// what is wrong with the name of the projection.
    pub fn parse(json: &Value) -> Result<Self, ErrorBody> {
        let object =
            json.as_object().ok_or_else(|| invalid("projection", "a query is an object"))?;
        let part = |name| object.get(name).filter(|part| !part.is_null());
        let name = part("projection").and_then(Value::as_str);
        let name = name.ok_or_else(|| invalid("projection", "the projection is a name"))?;
        let projection = ProjectionName::new(name).map_err(|error| {
            let code = ErrorCode::parse(error.code()).unwrap_or(ErrorCode::InvalidQuery);
            ErrorBody::new(code, error.to_string()).with_details(json!({"field": "projection"}))
        })?;
        let query = Self {
            projection,
            key: part("key").map(key).transpose()?,
            condition: part("where").map(Condition::parse).transpose()?.map(Arc::new),
            order: part("order").map(order).transpose()?,
            limit: part("limit").map(limit).transpose()?,
        };
        for (name, there) in [("order", query.order.is_some()), ("limit", query.limit.is_some())] {
            if there && query.key.is_some() {
                return Err(invalid(name, "a key goes with neither order nor limit"));
            }
        }
        Ok(query)
    }

    /// The query of a subscription.
    ///
    /// # Errors
    ///
    /// `invalid_query` where there is an order and no limit.
    pub fn live(self) -> Result<Query, ErrorBody> {
        if self.order.is_some() && self.limit.is_none() {
            return Err(invalid("order", "the order of a live query needs a limit"));
        }
        let limit = self.limit;
        Ok(self.within(limit))
    }

    /// The query of a page, `limit` being what is asked of the page itself: the smaller of the two
    /// counts. Without either, a page is as large as it may be.
    pub fn paged(mut self, limit: Option<NonZeroU32>) -> Query {
        let limits = [limit, self.limit.take(), NonZeroU32::new(WINDOW_MAX)];
        let limit = limits.into_iter().flatten().min();
        let ordered = self.order.is_some();
        self.within(limit.filter(|_| ordered))
    }

    fn within(self, limit: Option<NonZeroU32>) -> Query {
        let Self { projection, key, condition, order, .. } = self;
        let window = limit.map(|limit| Window { order: order.unwrap_or_default(), limit });
        Query { projection, key, condition, window }
    }
}

impl Query {
    /// The query as the `to` of a subscription: [`WrittenQuery::parse`] and
    /// [`WrittenQuery::live`] give an equal one.
    pub fn to_json(&self) -> Value {
        let mut object = self.without_limit();
        if let Some(window) = &self.window {
            object.insert("limit".to_owned(), window.limit.get().into());
        }
        Value::Object(object)
    }

    /// The query as the `from` of a fetch, whose message has the limit.
    pub fn to_json_from(&self) -> Value {
        Value::Object(self.without_limit())
    }

    fn without_limit(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("projection".to_owned(), self.projection.as_str().into());
        if let Some(key) = &self.key {
            object.insert("key".to_owned(), key.as_str().into());
        }
        if let Some(condition) = &self.condition {
            object.insert("where".to_owned(), condition.to_json());
        }
        if let Some(window) = &self.window {
            let mut order = Map::new();
            if let Some(by) = &window.order.by {
                order.insert("by".to_owned(), by.as_str().into());
            }
            order.insert("direction".to_owned(), window.order.direction.as_str().into());
            object.insert("order".to_owned(), Value::Object(order));
        }
        object
    }
}

impl OrderDirection {
    /// The direction as it appears on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ascending => "ascending",
            Self::Descending => "descending",
        }
    }
}

fn invalid(part: &'static str, message: &'static str) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidQuery, message).with_details(json!({ "field": part }))
}

fn key(json: &Value) -> Result<DocumentKey, ErrorBody> {
    let key = json.as_str().ok_or_else(|| invalid("key", "a key is a text"))?;
    DocumentKey::new(key).map_err(|error| {
        ErrorBody::new(ErrorCode::InvalidQuery, error.to_string())
            .with_details(json!({"field": "key"}))
    })
}

fn order(json: &Value) -> Result<Order, ErrorBody> {
    const WHY: &str = "an order is {\"by\": field, \"direction\": \"ascending\" or \"descending\"}, each optional";
    let object = json.as_object().ok_or_else(|| invalid("order", WHY))?;
    let part = |name| object.get(name).filter(|part| !part.is_null());
    let by = part("by").map(|by| by.as_str().and_then(FieldPath::new));
    let direction = match part("direction").map(Value::as_str) {
        None | Some(Some("ascending")) => OrderDirection::Ascending,
        Some(Some("descending")) => OrderDirection::Descending,
        Some(_) => return Err(invalid("order", WHY)),
    };
    match by {
        Some(None) => Err(invalid("order", WHY)),
        by => Ok(Order { by: by.flatten(), direction }),
    }
}

fn limit(json: &Value) -> Result<NonZeroU32, ErrorBody> {
    json.as_u64()
        .and_then(|limit| u32::try_from(limit).ok())
        .and_then(NonZeroU32::new)
        .filter(|limit| limit.get() <= WINDOW_MAX)
        .ok_or_else(|| invalid("limit", "a limit is a whole number from 1 to 1000"))
}
