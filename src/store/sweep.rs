//! What the sweep asks of the ledger: which grants the objects that were found belong to, and which are live, page by
//! page. Never all of a target at once.

use std::sync::LazyLock;

use sqlx::{any::AnyRow, query};

use super::{
    Store, StoreError,
    grants::{Unreadable, grant, grant_columns},
    row::Reader,
    rows::RowsSql,
};
use crate::domain::{grant::Grant, id::GrantId, time::Timestamp};

static AMONG: LazyLock<RowsSql> = LazyLock::new(|| {
    RowsSql::new(
        0,
        "WITH v (wanted, since) AS (VALUES ",
        2,
        concat!(
            ") SELECT ",
            grant_columns!(),
            " FROM v JOIN grants ON grants.id = v.wanted \
             WHERE state NOT IN ('ended', 'failed') OR ended_at >= v.since"
        ),
    )
});

/// A place among live grants, in the order of entitlements and ids.
#[derive(Debug, Clone, Default)]
pub struct LivePlace {
    pub(super) entitlement: String,
    pub(super) id: String,
}

impl LivePlace {
    pub(super) fn of(row: &AnyRow) -> Result<Self, StoreError> {
        let r = Reader::new("grants", row);
        Ok(Self { entitlement: r.text("entitlement")?, id: r.text("id")? })
    }
}

impl Store {
    /// Those of these grants, wherever they are, that are not final or became so since then. Also those that do not
    /// decode.
    pub async fn live_among(
        &self,
        ids: &[GrantId],
        since: Timestamp,
    ) -> Result<Vec<Result<Grant, Unreadable>>, StoreError> {
        let mut reader = self.inner.readers.acquire().await?;
        let rows = AMONG.answers(&mut reader, ids, |q, id| q.bind(id.to_string()).bind(since.micros())).await?;
        Ok(rows.iter().map(|row| grant(row).map_err(|error| Unreadable::of(row, error))).collect())
    }

    /// Up to `limit` active grants at a target beyond a place, which moves on. Also those that do not decode.
    pub async fn active_at_target(
        &self,
        target: &str,
        place: &mut LivePlace,
        limit: u32,
    ) -> Result<Vec<Result<Grant, Unreadable>>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            grant_columns!(),
            " FROM grants WHERE target = $1 AND state NOT IN ('ended', 'failed') AND state = 'active' \
             AND (entitlement, id) > ($2, $3) ORDER BY entitlement, id LIMIT $4"
        ))
        .bind(target)
        .bind(place.entitlement.clone())
        .bind(place.id.clone())
        .bind(i64::from(limit))
        .fetch_all(&self.inner.readers)
        .await?;
        if let Some(last) = rows.last() {
            *place = LivePlace::of(last)?;
        }
        Ok(rows.iter().map(|row| grant(row).map_err(|error| Unreadable::of(row, error))).collect())
    }
}
