//! Grants that share access at a target, by its natural key: derived from the recipes, never kept twice.

use async_trait::async_trait;
use sqlx::{any::AnyRow, query};

use super::{Store, StoreError, row::Reader};
use crate::{
    domain::{
        grant::{Recipe, Shared},
        time::Timestamp,
    },
    ports::holdings::{Holding, Holdings, HoldingsError},
};

impl From<StoreError> for HoldingsError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

/// What does not decode in one row must not hold up the others: it counts as a grant that opened the access.
fn holding(row: &AnyRow) -> Result<Holding, StoreError> {
    let r = Reader::new("grants", row);
    let recipe: Option<Recipe> = r.optional_json("recipe").unwrap_or_default();
    Ok(Holding {
        grant: r.parsed("id")?,
        live: r.flag("live")?,
        not_after: r.optional_instant("not_after")?.unwrap_or(Timestamp::from_micros(0)),
        was_there: recipe.and_then(|recipe| recipe.shared()).is_some_and(|Shared { was_there, .. }| was_there),
    })
}

#[async_trait]
impl Holdings for Store {
    async fn holdings(&self, target: &str, key: &str) -> Result<Vec<Holding>, HoldingsError> {
        const SQL: &str = "SELECT id, not_after, recipe, \
                           CASE WHEN state IN ('activating', 'active') AND end_reason IS NULL THEN 1 ELSE 0 END AS live \
                           FROM grants WHERE target = $1 AND shared_key = $2 \
                           AND state NOT IN ('ended', 'failed') ORDER BY id";
        let rows = query(SQL).bind(target).bind(key).fetch_all(&self.inner.readers).await.map_err(StoreError::from)?;
        Ok(rows.iter().map(holding).collect::<Result<_, _>>()?)
    }
}
