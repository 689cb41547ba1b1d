//! Grants that begin to end, all of a kind with one statement.

use sqlx::query;

use super::{
    StoreError, Tx,
    grants::{Unreadable, grant, grant_columns},
    row::Reader,
};
use crate::domain::{
    grant::{EndReason, Grant},
    id::{CorrelationId, GrantId, IdentityId},
    time::Timestamp,
};

/// Which grants to end.
#[derive(Debug, Clone, Copy)]
pub enum EndScope<'a> {
    /// One.
    Grant(GrantId),
    /// All of an identity and of the workloads and agents that it answers for.
    Holder(IdentityId),
    /// All of an identity and of the agents that act for it; workloads keep what they hold.
    Person(IdentityId),
    /// All on a target.
    Target(&'a str),
    /// All of an entitlement.
    Entitlement(&'a str),
}

impl Tx {
    /// Begin to end live grants now, for a reason. One being activated ends as soon as the target has answered;
    /// one not started never starts. Answers the grants touched, as they are now.
    pub async fn begin_end(
        &mut self,
        which: EndScope<'_>,
        reason: EndReason,
        cause: CorrelationId,
        now: Timestamp,
    ) -> Result<Vec<Result<Grant, Unreadable>>, StoreError> {
        macro_rules! end_where {
            ($condition:literal) => {
                concat!(
                    "UPDATE grants SET end_reason = $1, previous_state = state, \
                     revoking_at = CASE WHEN state = 'active' THEN $2 ELSE revoking_at END, \
                     due_at = CASE WHEN state = 'activating' THEN due_at WHEN state = 'scheduled' THEN NULL ELSE $2 END, \
                     ended_at = CASE WHEN state = 'scheduled' THEN $2 ELSE NULL END, \
                     epoch = CASE WHEN state = 'activating' THEN epoch ELSE epoch + 1 END, \
                     ended_by = CASE WHEN correlation_id = $3 THEN NULL ELSE $3 END, \
                     state = CASE WHEN state = 'active' THEN 'revoking' WHEN state = 'scheduled' THEN 'ended' \
                             ELSE state END \
                     WHERE state IN ('scheduled', 'activating', 'active') AND end_reason IS NULL AND ",
                    $condition,
                    " RETURNING previous_state, ",
                    grant_columns!()
                )
            };
        }
        let (sql, value) = match which {
            EndScope::Grant(id) => (end_where!("id = $4"), id.to_string()),
            EndScope::Holder(id) => (
                end_where!("(holder_id = $4 OR holder_id IN (SELECT id FROM identities WHERE owner_id = $4))"),
                id.to_string(),
            ),
            EndScope::Person(id) => (
                end_where!(
                    "(holder_id = $4 OR holder_id IN (SELECT id FROM identities WHERE owner_id = $4 AND kind = 'agent'))"
                ),
                id.to_string(),
            ),
            EndScope::Target(name) => (end_where!("target = $4"), name.to_owned()),
            EndScope::Entitlement(name) => (end_where!("entitlement = $4"), name.to_owned()),
        };
        let sql = query(sql).bind(reason.as_str()).bind(now.micros()).bind(cause.to_string()).bind(value);
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
