//! Decoding of rows: every failure names table, row and column, and harms only that row.

use std::{fmt::Display, str::FromStr};

use serde::de::DeserializeOwned;
use sqlx::{Row, any::AnyRow};

use super::StoreError;
use crate::domain::time::Timestamp;

/// A row of a named table, read column by column.
pub(super) struct Reader<'r> {
    table: &'static str,
    row: &'r AnyRow,
}

impl<'r> Reader<'r> {
    pub(super) const fn new(table: &'static str, row: &'r AnyRow) -> Self {
        Self { table, row }
    }

    fn corrupt(&self, column: &str, why: impl Display) -> StoreError {
        let id = ["id", "seq", "grant_id", "name"]
            .iter()
            .find_map(|c| {
                let text = self.row.try_get::<String, _>(*c).ok();
                text.or_else(|| self.row.try_get::<i64, _>(*c).ok().map(|n| n.to_string()))
            })
            .unwrap_or_default();
        StoreError::Corrupt { table: self.table, id, what: format!("{column}: {why}") }
    }

    pub(super) fn text(&self, column: &str) -> Result<String, StoreError> {
        self.row.try_get(column).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn optional_text(&self, column: &str) -> Result<Option<String>, StoreError> {
        self.row.try_get(column).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn integer(&self, column: &str) -> Result<i64, StoreError> {
        self.row.try_get(column).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn optional_integer(&self, column: &str) -> Result<Option<i64>, StoreError> {
        self.row.try_get(column).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        self.row.try_get(column).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, StoreError> {
        T::try_from(self.integer(column)?).map_err(|_| self.corrupt(column, "out of range"))
    }

    pub(super) fn flag(&self, column: &str) -> Result<bool, StoreError> {
        Ok(self.integer(column)? != 0)
    }

    pub(super) fn instant(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.integer(column).map(Timestamp::from_micros)
    }

    pub(super) fn optional_instant(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.optional_integer(column)?.map(Timestamp::from_micros))
    }

    /// A text that parses: an id, an enum.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, StoreError> {
        self.text(column)?.parse().map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn optional_parsed<T: FromStr<Err: Display>>(&self, column: &str) -> Result<Option<T>, StoreError> {
        self.optional_text(column)?.map(|t| t.parse().map_err(|e| self.corrupt(column, e))).transpose()
    }

    /// An enum by its stored name.
    pub(super) fn named<T>(&self, column: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
        let text = self.text(column)?;
        parse(&text).ok_or_else(|| self.corrupt(column, format!("unknown value `{text}`")))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn optional_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        self.optional_text(column)?.map(|t| serde_json::from_str(&t).map_err(|e| self.corrupt(column, e))).transpose()
    }
}

/// What decodes of some rows; the others are logged and counted.
pub(super) fn readable<T>(rows: &[AnyRow], decode: impl Fn(&AnyRow) -> Result<T, StoreError>) -> Vec<T> {
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        match decode(row) {
            Ok(item) => items.push(item),
            Err(error) => {
                metrics::counter!("tidegate_corrupt_rows_total").increment(1);
                tracing::error!(error = %error, "a row is left out of a list");
            }
        }
    }
    items
}

/// JSON for a column; the values stored are our own types, which always serialise.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
