//! [`Ranking`]: the order of a query's documents as bytes, the same that the store's scans have.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use tidewire_eventstore::DocumentKey;
use tidewire_protocol::query::{Order, OrderDirection, SortKey};

/// Where a document stands in an order: what is smaller comes first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(Bytes);

/// Ranks documents by an [`Order`].
#[derive(Debug, Clone)]
pub struct Ranking(Order);

impl Ranking {
    /// Ranks by `order`.
    pub const fn new(order: Order) -> Self {
        Self(order)
    }

    /// The rank of a document. No two documents have the same.
    pub fn of(&self, key: &DocumentKey, document: &Value) -> Rank {
        let mut bytes = BytesMut::new();
        let descending = self.0.direction == OrderDirection::Descending;
        match &self.0.by {
            Some(field) => {
                // No value's bytes are the beginning of another's, so that all of them turned
                // around stand the other way round.
                let value = SortKey::of([field.of(document)]);
                let turn = if descending { 0xff } else { 0 };
                bytes.extend(value.as_bytes().iter().map(|byte| byte ^ turn));
                bytes.put_slice(key.as_str().as_bytes());
            }
            None if descending => {
                bytes.extend(key.as_str().bytes().map(|byte| !byte));
                // A key that goes on comes before one that ends here.
                bytes.put_u8(0xff);
            }
            None => bytes.put_slice(key.as_str().as_bytes()),
        }
        Rank(bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidewire_protocol::query::FieldPath;

    use super::*;

    fn ranked(order: Order, documents: &[(&str, Value)]) -> Vec<String> {
        let ranking = Ranking::new(order);
        let mut ranked: Vec<_> = documents
            .iter()
            .map(|(key, value)| {
                let key = DocumentKey::new(key).expect("a good key");
                (ranking.of(&key, value), key.to_string())
            })
            .collect();
        ranked.sort();
        ranked.into_iter().map(|(_, key)| key).collect()
    }

    #[test]
    fn equal_documents_stand_by_rising_key_whichever_way_the_order_goes() {
        let documents = [
            ("b", json!({"at": 1})),
            ("a", json!({"at": 1})),
            ("ab", json!({"at": "x"})),
            ("c", json!({"at": 2})),
            ("d", json!({})),
        ];
        let by = FieldPath::new("at");
        for (order, keys) in [
            (Order { by: by.clone(), direction: OrderDirection::Ascending }, "d a b c ab"),
            (Order { by, direction: OrderDirection::Descending }, "ab c a b d"),
            (Order { by: None, direction: OrderDirection::Ascending }, "a ab b c d"),
            (Order { by: None, direction: OrderDirection::Descending }, "d c b ab a"),
        ] {
            assert_eq!(ranked(order.clone(), &documents).join(" "), keys, "{order:?}");
        }
    }
}
