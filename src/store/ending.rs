//! Grants that begin to end: one, those of a person, or part by part all that a kill switch falls on.

use sqlx::query;

use super::{
    Store, StoreError, Tx,
    grants::{Unreadable, grant, grant_columns},
    row::Reader,
    sweep::LivePlace,
};
use crate::domain::{
    grant::{EndReason, Grant},
    id::{CorrelationId, GrantId, IdentityId},
    time::Timestamp,
};

/// Which grants to end, all with one change.
#[derive(Debug, Clone, Copy)]
pub enum EndScope {
    /// One.
    Grant(GrantId),
    /// All of an identity and of the agents that act for it; workloads keep what they hold.
    Person(IdentityId),
}

/// Which grants to end, however many they are: part by part.
#[derive(Debug, Clone, Copy)]
pub enum WideScope<'a> {
    /// All of an identity and of the workloads and agents that it answers for.
    Holder(IdentityId),
    /// All on a target.
    Target(&'a str),
    /// All of an entitlement on a target.
    Entitlement {
        /// Where.
        target: &'a str,
        /// Which.
        name: &'a str,
    },
}

/// Grants that may be ended together: from one place to another, in the order of entitlements and ids.
#[derive(Debug, Clone)]
pub struct Part {
    from: LivePlace,
    to: LivePlace,
}

/// What has begun and is not ending yet. Says twice that it is not final, for that is what the index of live grants
/// says: no look goes through the history.
macro_rules! live {
    () => {
        "state NOT IN ('ended', 'failed') AND state IN ('scheduled', 'activating', 'active') AND end_reason IS NULL AND "
    };
}

macro_rules! end_where {
    ($condition:expr) => {
        concat!(
            "UPDATE grants SET end_reason = $1, previous_state = state, \
             revoking_at = CASE WHEN state = 'active' THEN $2 ELSE revoking_at END, \
             due_at = CASE WHEN state = 'activating' THEN due_at WHEN state = 'scheduled' THEN NULL ELSE $2 END, \
             ended_at = CASE WHEN state = 'scheduled' THEN $2 ELSE NULL END, \
             epoch = CASE WHEN state = 'activating' THEN epoch ELSE epoch + 1 END, \
             ended_by = CASE WHEN correlation_id = $3 THEN NULL ELSE $3 END, \
             state = CASE WHEN state = 'active' THEN 'revoking' WHEN state = 'scheduled' THEN 'ended' \
                     ELSE state END \
             WHERE ",
            live!(),
            $condition,
            " RETURNING previous_state, ",
            grant_columns!()
        )
    };
}

macro_rules! part_where {
    ($condition:literal) => {
        concat!(
            "SELECT entitlement, id FROM grants WHERE ",
            live!(),
            $condition,
            " AND (entitlement, id) > ($3, $4) ORDER BY entitlement, id LIMIT $5"
        )
    };
}

macro_rules! end_part_where {
    ($condition:literal) => {
        end_where!(concat!($condition, " AND (entitlement, id) > ($6, $7) AND (entitlement, id) <= ($8, $9)"))
    };
}

impl Store {
    /// The next grants to end, after those of the part before; none if all are ending.
    pub async fn part_to_end(
        &self,
        which: WideScope<'_>,
        before: Option<Part>,
        limit: u32,
    ) -> Result<Option<Part>, StoreError> {
        let (sql, first, second) = match which {
            WideScope::Holder(id) => (
                part_where!(
                    "(holder_id = $1 OR holder_id IN (SELECT i.id FROM identities i WHERE i.owner_id = $1)) AND $2 = ''"
                ),
                id.to_string(),
                String::new(),
            ),
            WideScope::Target(name) => (part_where!("target = $1 AND $2 = ''"), name.to_owned(), String::new()),
            WideScope::Entitlement { target, name } => {
                (part_where!("target = $1 AND entitlement = $2"), target.to_owned(), name.to_owned())
            }
        };
        let from = before.map(|part| part.to).unwrap_or_default();
        let rows = query(sql)
            .bind(first)
            .bind(second)
            .bind(from.entitlement.clone())
            .bind(from.id.clone())
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        rows.last().map(|last| Ok(Part { from, to: LivePlace::of(last)? })).transpose()
    }
}

impl Tx {
    /// Begin to end live grants now, for a reason. One being activated ends as soon as the target has answered;
    /// one not started never starts. Answers the grants touched, as they are now.
    pub async fn begin_end(
        &mut self,
        which: EndScope,
        reason: EndReason,
        cause: CorrelationId,
        now: Timestamp,
    ) -> Result<Vec<Result<Grant, Unreadable>>, StoreError> {
        let (sql, value) = match which {
            EndScope::Grant(id) => (end_where!("id = $4"), id.to_string()),
            EndScope::Person(id) => (
                end_where!(
                    "(holder_id = $4 OR holder_id IN (SELECT id FROM identities WHERE owner_id = $4 AND kind = 'agent'))"
                ),
                id.to_string(),
            ),
        };
        let sql = query(sql).bind(reason.as_str()).bind(now.micros()).bind(cause.to_string()).bind(value);
        let rows = self.write_returning(sql).await?;
        Ok(rows.iter().map(|row| grant(row).map_err(|error| Unreadable::of(row, error))).collect())
    }

    /// The same for one part of many.
    pub async fn begin_end_of(
        &mut self,
        which: WideScope<'_>,
        part: &Part,
        reason: EndReason,
        cause: CorrelationId,
        now: Timestamp,
    ) -> Result<Vec<Result<Grant, Unreadable>>, StoreError> {
        let (sql, first, second) = match which {
            WideScope::Holder(id) => (
                end_part_where!(
                    "(holder_id = $4 OR holder_id IN (SELECT i.id FROM identities i WHERE i.owner_id = $4)) AND $5 = ''"
                ),
                id.to_string(),
                String::new(),
            ),
            WideScope::Target(name) => (end_part_where!("target = $4 AND $5 = ''"), name.to_owned(), String::new()),
            WideScope::Entitlement { target, name } => {
                (end_part_where!("target = $4 AND entitlement = $5"), target.to_owned(), name.to_owned())
            }
        };
        let sql = query(sql).bind(reason.as_str()).bind(now.micros()).bind(cause.to_string()).bind(first).bind(second);
        let sql = sql.bind(part.from.entitlement.clone()).bind(part.from.id.clone());
        let sql = sql.bind(part.to.entitlement.clone()).bind(part.to.id.clone());
        let rows = self.write_returning(sql).await?;
        Ok(rows.iter().map(|row| grant(row).map_err(|error| Unreadable::of(row, error))).collect())
    }

    /// An activation that did not come to be: `activating → revoking`, due at once. Answers the call that had asked for
    /// its end meanwhile, if one had.
    pub async fn abandon_activation(
        &mut self,
        id: GrantId,
        epoch: i64,
        reason: EndReason,
        error: &str,
        now: Timestamp,
    ) -> Result<Option<(EndReason, Option<CorrelationId>)>, StoreError> {
        const SQL: &str = "UPDATE grants SET state = 'revoking', end_reason = coalesce(end_reason, $1), \
                           last_error = $2, revoking_at = $3, due_at = $3, epoch = epoch + 1 \
                           WHERE id = $4 AND epoch = $5 AND state = 'activating' RETURNING end_reason, ended_by";
        let rows = self
            .write_returning(
                query(SQL).bind(reason.as_str()).bind(error).bind(now.micros()).bind(id.to_string()).bind(epoch),
            )
            .await?;
        let row = rows.first().ok_or(StoreError::Conflict)?;
        let r = Reader::new("grants", row);
        Ok(EndReason::parse(&r.text("end_reason")?).zip(Some(r.optional_parsed("ended_by")?)))
    }
}
