//! The plan of a query: where its documents are looked up. Whatever the plan does not decide, the
//! condition does, document by document.

use std::cmp::Reverse;

use tidewire_eventstore::DocumentKey;
use tidewire_protocol::query::{Condition, FieldPath, Order, OrderDirection, Query, SortKey};

use super::QueryError;
use crate::{Definition, documents::Scan};

/// Where the documents of a query are looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// The document of this key, and no other.
    Key(DocumentKey),
    /// In this order.
    Scan(Scan),
}

/// Whether the documents of a projection can be asked this: whether it declares the fields, and has
/// an index in the order that is asked for.
///
/// # Errors
///
/// [`QueryError::UnknownField`] and [`QueryError::UnindexedOrder`].
pub fn check(query: &Query, definition: &Definition) -> Result<(), QueryError> {
    plan(query, definition).map(drop)
}

/// Whether the documents of a query are looked up in an index.
pub fn needs_index(query: &Query, definition: &Definition) -> bool {
    matches!(plan(query, definition), Ok(Plan::Scan(Scan::Index { .. })))
}

pub(super) fn plan(query: &Query, definition: &Definition) -> Result<Plan, QueryError> {
    let named = query.condition.as_deref().map(Condition::fields).unwrap_or_default();
    let order = query.window.as_ref().map(|window| &window.order);
    let by = order.and_then(|order| order.by.as_ref());
    for field in named.into_iter().chain(by) {
        if !definition.knows(field) {
            return Err(QueryError::UnknownField {
                field: field.clone(),
                known: known(definition),
            });
        }
    }
    let equal = query.condition.as_deref().map(Condition::equalities).unwrap_or_default();
    let scan = match (by, order) {
        (Some(by), Some(order)) => ordered(by, order.direction, &equal, definition)?,
        (_, order) => unordered(order, &equal, definition),
    };
    Ok(match &query.key {
        Some(key) => Plan::Key(key.clone()),
        None => Plan::Scan(scan),
    })
}

/// The index that ends with `by` and begins with as many fields as it has that can only have one
/// value: within those its entries are in the order of `by`, equal ones in that of their keys.
fn ordered(
    by: &FieldPath,
    direction: OrderDirection,
    equal: &[(&FieldPath, &SortKey)],
    definition: &Definition,
) -> Result<Scan, QueryError> {
    let fitting = (0..).zip(&definition.indexes).filter_map(|(number, index)| {
        let (last, first) = index.fields.split_last()?;
        (last == by).then_some(())?;
        let prefix = prefix(first, equal);
        (prefix.len() == first.len()).then_some((number, prefix))
    });
    let best = fitting.min_by_key(|(_, prefix)| Reverse(prefix.len()));
    let (index, prefix) = best.ok_or_else(|| QueryError::UnindexedOrder { by: by.clone() })?;
    Ok(Scan::Index { index, prefix: joined(&prefix), direction })
}

/// By key, or in no order: the index that narrows the documents down the most.
fn unordered(
    order: Option<&Order>,
    equal: &[(&FieldPath, &SortKey)],
    definition: &Definition,
) -> Scan {
    let direction = order.map(|order| order.direction).unwrap_or_default();
    let fitting = (0..).zip(&definition.indexes).filter_map(|(number, index)| {
        let prefix = prefix(&index.fields, equal);
        // Entries that are all equal are in the order of their keys, upwards.
        let keeps_order = prefix.len() == index.fields.len();
        let fits = order.is_none() || keeps_order && direction == OrderDirection::Ascending;
        (fits && !prefix.is_empty()).then_some((number, prefix))
    });
    match fitting.min_by_key(|(_, prefix)| Reverse(prefix.len())) {
        Some((index, prefix)) => {
            Scan::Index { index, prefix: joined(&prefix), direction: OrderDirection::Ascending }
        }
        None => Scan::Keys(direction),
    }
}

/// The values of the first of `fields`, for as long as each can have one value only.
fn prefix<'a>(fields: &[FieldPath], equal: &[(&FieldPath, &'a SortKey)]) -> Vec<&'a SortKey> {
    let value = |field| equal.iter().find(|(of, _)| *of == field).map(|(_, value)| *value);
    fields.iter().map_while(value).collect()
}

/// The keys of single values, one after another, are the key of all of them.
fn joined(values: &[&SortKey]) -> SortKey {
    SortKey::from_bytes(values.iter().flat_map(|value| value.as_bytes()).copied().collect())
}

fn known(definition: &Definition) -> Vec<FieldPath> {
    let indexed = definition.indexes.iter().flat_map(|index| &index.fields);
    let mut known: Vec<_> = definition.fields.iter().chain(indexed).cloned().collect();
    known.sort();
    known.dedup();
    known
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
