//! Conditions as JSON: read with bounds, and written such that an equal one is read again.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Condition, FieldPath, SortKey};
use crate::codes::{ErrorBody, ErrorCode};

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    ///
    /// `invalid_query` for what is no condition, is too large, or uses an operator that this
    /// version does not know.
    pub fn parse(json: &Value) -> Result<Self, ErrorBody> {
        parse(json, 1, &mut 0)
    }

    /// The condition as JSON.
    pub fn to_json(&self) -> Value {
        let list = |conditions: &[Self]| conditions.iter().map(Self::to_json).collect::<Vec<_>>();
        let values = |values: &BTreeSet<SortKey>| values.iter().map(value_of).collect::<Vec<_>>();
        match self {
            Self::And(all) => json!({"and": list(all)}),
            Self::Or(any) => json!({"or": list(any)}),
            Self::Not(condition) => json!({"not": condition.to_json()}),
            Self::In(field, set) => match &values(set)[..] {
                [value] => json!({"eq": [field.as_str(), value]}),
                values => json!({"in": [field.as_str(), values]}),
            },
            Self::Less(field, value) => json!({"lt": [field.as_str(), value_of(value)]}),
            Self::AtMost(field, value) => json!({"lte": [field.as_str(), value_of(value)]}),
            Self::Greater(field, value) => json!({"gt": [field.as_str(), value_of(value)]}),
            Self::AtLeast(field, value) => json!({"gte": [field.as_str(), value_of(value)]}),
            Self::Prefix(field, text) => json!({"prefix": [field.as_str(), text]}),
            Self::Exists(field) => json!({"exists": field.as_str()}),
        }
    }
}

fn value_of(key: &SortKey) -> Value {
    key.values().into_iter().next().flatten().unwrap_or(Value::Null)
}

fn invalid(message: &'static str) -> ErrorBody {
    ErrorBody::new(ErrorCode::InvalidQuery, message).with_details(json!({"field": "where"}))
}

fn count(nodes: &mut usize) -> Result<(), ErrorBody> {
    *nodes += 1;
    if *nodes > Condition::NODES_MAX {
        Err(invalid("the condition has too many parts"))
    } else {
        Ok(())
    }
}

fn parse(json: &Value, depth: usize, nodes: &mut usize) -> Result<Condition, ErrorBody> {
    if depth > Condition::DEPTH_MAX {
        return Err(invalid("the condition is nested too deeply"));
    }
    count(nodes)?;
    let object = json.as_object().ok_or_else(|| invalid("an operator is an object"))?;
    let mut entries = object.iter();
    let (Some((operator, operand)), None) = (entries.next(), entries.next()) else {
        return Err(invalid("an operator is an object with one key"));
    };
    let kind: fn(FieldPath, SortKey) -> Condition = match operator.as_str() {
        "and" | "or" => {
            let list = operand.as_array().ok_or_else(|| invalid("and, or need a list"))?;
            let list =
                list.iter().map(|part| parse(part, depth + 1, nodes)).collect::<Result<_, _>>()?;
            let and = operator == "and";
            return Ok(if and { Condition::And(list) } else { Condition::Or(list) });
        }
        "not" => return Ok(Condition::Not(Box::new(parse(operand, depth + 1, nodes)?))),
        "eq" => |field, value| Condition::In(field, BTreeSet::from([value])),
        "in" => {
            let (field, values) = comparison(operand)?;
            let values = values.as_array().ok_or_else(|| invalid("in needs a list of values"))?;
            let values = values.iter().map(|value| scalar(value, nodes));
            return Ok(Condition::In(field, values.collect::<Result<_, _>>()?));
        }
        "prefix" => {
            let (field, value) = comparison(operand)?;
            scalar(value, nodes)?;
            let text = value.as_str().ok_or_else(|| invalid("prefix needs a text"))?;
            return Ok(Condition::Prefix(field, text.into()));
        }
        "exists" => return Ok(Condition::Exists(path(operand)?)),
        "lt" => Condition::Less,
        "lte" => Condition::AtMost,
        "gt" => Condition::Greater,
        "gte" => Condition::AtLeast,
        _ => {
            let operator = &operator[..operator.floor_char_boundary(64)];
            return Err(ErrorBody::new(ErrorCode::InvalidQuery, "an operator is not known")
                .with_details(json!({"field": "where", "operator": operator})));
        }
    };
    let (field, value) = comparison(operand)?;
    if operator != "eq" && !matches!(value, Value::Number(_) | Value::String(_)) {
        return Err(invalid("lt, lte, gt, gte need a number or a text"));
    }
    Ok(kind(field, scalar(value, nodes)?))
}

/// `[field, value]`.
fn comparison(operand: &Value) -> Result<(FieldPath, &Value), ErrorBody> {
    match operand.as_array().map(Vec::as_slice) {
        Some([field, value]) => Ok((path(field)?, value)),
        _ => Err(invalid("a comparison is a list of a field and a value")),
    }
}

fn path(json: &Value) -> Result<FieldPath, ErrorBody> {
    let field = json.as_str().ok_or_else(|| invalid("a field is a text"))?;
    FieldPath::new(field).ok_or_else(|| invalid("a field is 1 to 8 names, joined by dots"))
}

fn scalar(value: &Value, nodes: &mut usize) -> Result<SortKey, ErrorBody> {
    count(nodes)?;
    match value {
        Value::Array(_) | Value::Object(_) => {
            Err(invalid("a value is null, a boolean, a number or a text"))
        }
        Value::String(text) if text.len() > Condition::TEXT_BYTES_MAX => {
            Err(invalid("a text that fields are compared with is too long"))
        }
        _ => Ok(SortKey::of([Some(value)])),
    }
}
