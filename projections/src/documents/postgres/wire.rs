//! Columns of rows as PostgreSQL has them on the wire: moments as microseconds, and none copied
//! where that is not needed.

use bytes::Bytes;
use sqlx::{Row as _, ValueRef as _, postgres::PgRow};
use tidewire_eventstore::{DocumentKey, GlobalPosition, Timestamp};

use super::fault::Failure;
use crate::StoreError;

/// Microseconds from 1970 to 2000-01-01, where PostgreSQL's moments begin.
const POSTGRES_BEGINS: i64 = 946_684_800_000_000;

/// A number below 2^53, as PostgreSQL has it.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The bytes of a column as the server sent them, which prepared statements do in binary.
pub(super) fn optional(row: &PgRow, column: usize) -> Result<Option<&[u8]>, Failure> {
    let value = row.try_get_raw(column).map_err(corrupt)?;
    if value.is_null() { Ok(None) } else { value.as_bytes().map(Some).map_err(corrupt) }
}

fn required(row: &PgRow, column: usize) -> Result<&[u8], Failure> {
    optional(row, column)?.ok_or_else(|| corrupt(format!("nothing in column {column}")))
}

pub(super) fn bytes(row: &PgRow, column: usize) -> Result<Bytes, Failure> {
    Ok(Bytes::copy_from_slice(required(row, column)?))
}

pub(super) fn text(row: &PgRow, column: usize) -> Result<&str, Failure> {
    std::str::from_utf8(required(row, column)?).map_err(corrupt)
}

pub(super) fn optional_text(row: &PgRow, column: usize) -> Result<Option<&str>, Failure> {
    optional(row, column)?.map(|bytes| std::str::from_utf8(bytes).map_err(corrupt)).transpose()
}

/// A bigint that a constraint keeps from being negative.
pub(super) fn unsigned(row: &PgRow, column: usize) -> Result<u64, Failure> {
    let number = i64::from_be_bytes(required(row, column)?.try_into().map_err(corrupt)?);
    u64::try_from(number).map_err(corrupt)
}

pub(super) fn position(row: &PgRow, column: usize) -> Result<GlobalPosition, Failure> {
    unsigned(row, column).map(GlobalPosition::new)
}

pub(super) fn key(row: &PgRow, column: usize) -> Result<DocumentKey, Failure> {
    DocumentKey::new(text(row, column)?).map_err(corrupt)
}

pub(super) fn boolean(row: &PgRow, column: usize) -> Result<bool, Failure> {
    Ok(required(row, column)? != [0])
}

/// A `timestamptz`.
pub(super) fn moment(row: &PgRow, column: usize) -> Result<Timestamp, Failure> {
    let micros = i64::from_be_bytes(required(row, column)?.try_into().map_err(corrupt)?);
    Ok(Timestamp::from_micros(micros.saturating_add(POSTGRES_BEGINS)))
}

pub(super) fn corrupt(error: impl std::fmt::Display) -> Failure {
    StoreError::Corrupt { reason: error.to_string() }.into()
}
