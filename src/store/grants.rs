//! Grants and claims: conditional updates, fenced by the epoch; the due index is the only work queue.

use sqlx::{any::AnyRow, query};

use super::{
    Page, Store, StoreError, Tx,
    change::{self, NewGrant},
    reads::HolderKey,
    row::{Reader, readable, to_json},
};
use crate::domain::{
    grant::{EndReason, Grant, GrantState, Recipe},
    id::{GrantId, IdentityId, RequestId},
    time::{Timestamp, Ttl},
};

macro_rules! grant_columns {
    () => {
        "id, request_id, holder_id, entitlement, target, state, ttl, start_at, not_after, parameters, recipe, \
         activated_at, applied, end_reason, revoking_at, ended_at, evidence, attempts, last_error, claims, \
         max_claims, due_at, epoch, correlation_id, ended_by, created_at"
    };
}
pub(super) use grant_columns;

pub(super) fn grant(row: &AnyRow) -> Result<Grant, StoreError> {
    let r = Reader::new("grants", row);
    Ok(Grant {
        id: r.parsed("id")?,
        request: r.parsed("request_id")?,
        holder: r.parsed("holder_id")?,
        entitlement: r.text("entitlement")?.into(),
        target: r.text("target")?.into(),
        state: r.named("state", GrantState::parse)?,
        ttl: Ttl::seconds_or_one(r.number("ttl")?),
        start_at: r.optional_instant("start_at")?,
        not_after: r.optional_instant("not_after")?,
        parameters: r.json("parameters")?,
        recipe: r.optional_json("recipe")?,
        activated_at: r.optional_instant("activated_at")?,
        applied: r.optional_json("applied")?,
        end_reason: match r.optional_text("end_reason")? {
            None => None,
            Some(_) => Some(r.named("end_reason", EndReason::parse)?),
        },
        revoking_at: r.optional_instant("revoking_at")?,
        ended_at: r.optional_instant("ended_at")?,
        evidence: r.optional_json("evidence")?,
        attempts: r.number("attempts")?,
        last_error: r.optional_text("last_error")?,
        claims: r.number("claims")?,
        max_claims: r.optional_integer("max_claims")?.and_then(|n| u32::try_from(n).ok()),
        due_at: r.optional_instant("due_at")?,
        epoch: r.integer("epoch")?,
        correlation: r.parsed("correlation_id")?,
        ended_by: r.optional_parsed("ended_by")?,
        created_at: r.instant("created_at")?,
    })
}

/// A grant that a worker has leased, with the state it was in before.
#[derive(Debug, Clone)]
pub struct Due {
    /// As it is now, under the worker's epoch.
    pub grant: Grant,
    /// Before the worker took it.
    pub previous: GrantState,
}

/// A row that does not decode, among those that an update touched. It harms only itself.
#[derive(Debug)]
pub struct Unreadable {
    /// Its id.
    pub id: String,
    /// The update changed its state.
    pub changed: bool,
    /// It is on its way out.
    pub ending: bool,
    /// What is wrong with it.
    pub error: StoreError,
}

impl Unreadable {
    pub(super) fn of(row: &AnyRow, error: StoreError) -> Self {
        let r = Reader::new("grants", row);
        let state = |column| r.optional_text(column).ok().flatten();
        let (id, now) = (r.text("id").unwrap_or_default(), state("state"));
        let ending = now
            .as_deref()
            .and_then(GrantState::parse)
            .is_some_and(|s| s != GrantState::Active && s.may_exist_at_target());
        Self { id, changed: state("previous_state") != now, ending, error }
    }
}

/// Which grants to list. Newest first.
#[derive(Debug, Clone, Default)]
pub struct GrantFilter {
    /// Only in this state.
    pub state: Option<GrantState>,
    /// Only held by this identity.
    pub holder: Option<IdentityId>,
    /// Only those that are not final.
    pub live: bool,
    /// Only those that are final.
    pub over: bool,
}

impl Store {
    /// One grant.
    pub async fn grant(&self, id: GrantId) -> Result<Option<Grant>, StoreError> {
        self.inner.reads.grants.rows(id).await?.first().map(grant).transpose()
    }

    /// The grants of a request, in the order of its entitlements.
    pub async fn grants_of(&self, request: RequestId) -> Result<Vec<Grant>, StoreError> {
        Ok(readable(&self.inner.reads.grants_of.rows(request).await?, grant))
    }

    /// Grants, newest first, before the cursor.
    pub async fn grants(
        &self,
        filter: &GrantFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Grant>, StoreError> {
        const OF_HOLDER: &str = concat!(
            "SELECT ",
            grant_columns!(),
            " FROM grants WHERE holder_id = $4 AND id < $1 AND ($2 = '' OR state = $2) \
             AND ($3 = 0 OR state NOT IN ('ended', 'failed')) ORDER BY id DESC LIMIT $5"
        );
        const ALL: &str = concat!(
            "SELECT ",
            grant_columns!(),
            " FROM grants WHERE id < $1 AND ($2 = '' OR state = $2) \
             AND ($3 = 0 OR state NOT IN ('ended', 'failed')) AND $4 = '' ORDER BY id DESC LIMIT $5"
        );
        // What is live is found by its own index, however long the history is.
        const LIVE: &str = concat!(
            "SELECT ",
            grant_columns!(),
            " FROM grants WHERE state NOT IN ('ended', 'failed') AND id < $1 AND ($2 = '' OR state = $2) AND $3 = 1 \
             AND $4 = '' ORDER BY id DESC LIMIT $5"
        );
        const OVER: &str = concat!(
            "SELECT ",
            grant_columns!(),
            " FROM grants WHERE state IN ('ended', 'failed') AND id < $1 AND ($2 = '' OR state = $2) AND $3 = 0 \
             AND $4 = '' ORDER BY id DESC LIMIT $5"
        );
        const OVER_OF_HOLDER: &str = concat!(
            "SELECT ",
            grant_columns!(),
            " FROM grants WHERE holder_id = $4 AND id < $1 AND state IN ('ended', 'failed') AND ($2 = '' OR state = $2) \
             AND $3 = 0 ORDER BY id DESC LIMIT $5"
        );
        let sql = match filter.holder {
            Some(_) if filter.over => OVER_OF_HOLDER,
            Some(_) => OF_HOLDER,
            None if filter.over => OVER,
            None if filter.live => LIVE,
            None => ALL,
        };
        let rows = query(sql)
            .bind(after.unwrap_or("~"))
            .bind(filter.state.map_or("", GrantState::as_str))
            .bind(i64::from(filter.live && !filter.over))
            .bind(filter.holder.map(|h| h.to_string()).unwrap_or_default())
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(Page::read(&rows, limit, "id", grant))
    }

    /// Grants that an identity holds or is to hold, whose time is not up and whose end nobody asked for; by id, after the
    /// cursor.
    pub async fn open_grants_of(
        &self,
        holder: IdentityId,
        now: Timestamp,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Grant>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            grant_columns!(),
            " FROM grants WHERE holder_id = $1 AND state NOT IN ('ended', 'failed') \
             AND state NOT IN ('revoking', 'quarantined') AND end_reason IS NULL \
             AND (not_after IS NULL OR not_after > $2) AND id > $3 ORDER BY id LIMIT $4"
        );
        let rows = query(SQL)
            .bind(holder.to_string())
            .bind(now.micros())
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(Page::read(&rows, limit, "id", grant))
    }

    /// How many grants an identity holds that are not final, counted up to `most`.
    pub async fn live_grants_of(&self, holder: IdentityId, most: u32) -> Result<u32, StoreError> {
        let rows = self.inner.reads.live_grants.rows(HolderKey { holder, most }).await?;
        let live = rows.first().map(|row| Reader::new("grants", row).number::<u32>("live")).transpose()?;
        Ok(live.unwrap_or(0).min(most))
    }

    /// The earliest instant at which a grant of the target wants attention.
    pub async fn next_due(&self, target: &str) -> Result<Option<Timestamp>, StoreError> {
        let row = query("SELECT min(due_at) AS due FROM grants WHERE target = $1 AND due_at IS NOT NULL")
            .bind(target)
            .fetch_one(&self.inner.readers)
            .await?;
        Reader::new("grants", &row).optional_instant("due")
    }

    /// Names of targets that have grants which are not final, whether configured or not. One look at the index for
    /// each target, however many grants there are.
    pub async fn targets_in_use(&self) -> Result<Vec<String>, StoreError> {
        let mut targets: Vec<String> = Vec::new();
        loop {
            let row = query("SELECT min(target) AS target FROM grants WHERE due_at IS NOT NULL AND target > $1")
                .bind(targets.last().cloned().unwrap_or_default())
                .fetch_one(&self.inner.readers)
                .await?;
            match Reader::new("grants", &row).optional_text("target")? {
                Some(target) => targets.push(target),
                None => return Ok(targets),
            }
        }
    }
}

impl Tx {
    /// Keep new grants, unless a kill switch falls on one or on who asked, its holder is deactivated, or holds as many
    /// as it may: then false, and the change must not be kept.
    pub async fn insert_grants(&mut self, grants: &[NewGrant]) -> Result<bool, StoreError> {
        let rows: Vec<&NewGrant> = grants.iter().collect();
        let kept = change::insert_grants(self.connection_to_write()?, &rows).await;
        Ok(kept.map_err(|e| self.broke(e))?.len() == grants.len())
    }

    /// `scheduled → activating`: the intent is durable from the commit on.
    pub async fn record_intent(
        &mut self,
        id: GrantId,
        epoch: i64,
        recipe: &Recipe,
        not_after: Timestamp,
        lease_until: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE grants SET state = 'activating', recipe = $1, not_after = $2, due_at = $3, shared_key = $6 \
                 WHERE id = $4 AND epoch = $5 AND state = 'scheduled' AND end_reason IS NULL",
            )
            .bind(to_json(recipe))
            .bind(not_after.micros())
            .bind(lease_until.micros())
            .bind(id.to_string())
            .bind(epoch)
            .bind(recipe.shared().map(|shared| shared.key)),
        )
        .await
    }

    /// Take up to `limit` due grants of one target: lease them, raise their epoch, and begin to end those whose time
    /// is up or whose activation was abandoned. Rows that do not decode come back as errors, one each.
    pub async fn lease_due(
        &mut self,
        target: &str,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Result<Due, Unreadable>>, StoreError> {
        const SQL: &str = concat!(
            "UPDATE grants SET previous_state = state, \
             state = CASE WHEN state IN ('activating', 'active', 'quarantined') THEN 'revoking' ELSE state END, \
             end_reason = CASE WHEN end_reason IS NOT NULL OR state = 'scheduled' THEN end_reason \
                               WHEN state = 'activating' THEN 'refused' ELSE 'expired' END, \
             revoking_at = CASE WHEN revoking_at IS NOT NULL OR state = 'scheduled' THEN revoking_at ELSE $1 END, \
             due_at = $2, epoch = epoch + 1 \
             WHERE id IN (SELECT id FROM grants WHERE target = $3 AND due_at <= $1 ORDER BY due_at LIMIT $4) \
             AND due_at <= $1 RETURNING previous_state, ",
            grant_columns!()
        );
        let rows = self
            .write_returning(
                query(SQL).bind(now.micros()).bind(lease_until.micros()).bind(target).bind(i64::from(limit)),
            )
            .await?;
        Ok(rows
            .iter()
            .map(|row| {
                let previous = Reader::new("grants", row).named("previous_state", GrantState::parse);
                let due = previous.and_then(|previous| Ok(Due { grant: grant(row)?, previous }));
                due.map_err(|error| Unreadable::of(row, error))
            })
            .collect())
    }

    /// A scheduled grant that will not start: straight to its end, for nothing was opened.
    pub async fn drop_scheduled(
        &mut self,
        id: GrantId,
        epoch: i64,
        reason: EndReason,
        error: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE grants SET state = $1, end_reason = $2, last_error = $3, ended_at = $4, due_at = NULL \
                 WHERE id = $5 AND epoch = $6 AND state = 'scheduled'",
            )
            .bind(reason.terminal().as_str())
            .bind(reason.as_str())
            .bind(error)
            .bind(now.micros())
            .bind(id.to_string())
            .bind(epoch),
        )
        .await
    }

    /// Look again later; the state stays, or a revocation that failed often becomes `quarantined`.
    pub async fn postpone(
        &mut self,
        id: GrantId,
        epoch: i64,
        due_at: Timestamp,
        attempts: u32,
        quarantine: bool,
        error: &str,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE grants SET due_at = $1, attempts = $2, last_error = $3, \
                 state = CASE WHEN $4 = 1 AND state = 'revoking' THEN 'quarantined' ELSE state END \
                 WHERE id = $5 AND epoch = $6",
            )
            .bind(due_at.micros())
            .bind(i64::from(attempts))
            .bind(error)
            .bind(i64::from(quarantine))
            .bind(id.to_string())
            .bind(epoch),
        )
        .await
    }

    /// A named person answers for a quarantined grant: `quarantined → ended`.
    pub async fn record_attested(
        &mut self,
        id: GrantId,
        state: GrantState,
        evidence: &serde_json::Value,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE grants SET state = $1, evidence = $2, ended_at = $3, due_at = NULL, epoch = epoch + 1 \
                 WHERE id = $4 AND state = 'quarantined'",
            )
            .bind(state.as_str())
            .bind(evidence.to_string())
            .bind(at.micros())
            .bind(id.to_string()),
        )
        .await
    }

    /// The last claim made no copy: one more than was allowed may be made.
    pub async fn allow_another_claim(&mut self, id: GrantId, number: u32) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE grants SET max_claims = max_claims + 1 \
                 WHERE id = $1 AND claims = $2 AND state = 'active' AND max_claims IS NOT NULL",
            )
            .bind(id.to_string())
            .bind(i64::from(number)),
        )
        .await
    }

    /// Move the end of an active grant; the former end must still stand.
    pub async fn extend_grant(
        &mut self,
        id: GrantId,
        from: Timestamp,
        to: Timestamp,
        ttl: Ttl,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE grants SET not_after = $1, due_at = $1, ttl = $2 \
                 WHERE id = $3 AND state = 'active' AND not_after = $4 AND end_reason IS NULL",
            )
            .bind(to.micros())
            .bind(i64::from(ttl.seconds()))
            .bind(id.to_string())
            .bind(from.micros()),
        )
        .await
    }
}
