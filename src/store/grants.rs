//! Grants and claims: conditional updates, fenced by the epoch; the due index is the only work queue.

use sqlx::{any::AnyRow, query};

use super::{
    Page, Store, StoreError, Tx,
    row::{Reader, readable, to_json},
};
use crate::domain::{
    grant::{Claim, EndReason, Grant, GrantState, Recipe},
    id::{GrantId, IdentityId, RequestId},
    time::{Timestamp, Ttl},
};

macro_rules! columns {
    () => {
        "id, request_id, holder_id, entitlement, target, state, ttl, start_at, not_after, parameters, recipe, \
         activated_at, applied, end_reason, revoking_at, ended_at, evidence, attempts, last_error, claims, \
         max_claims, due_at, epoch, correlation_id, created_at"
    };
}

fn grant(row: &AnyRow) -> Result<Grant, StoreError> {
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
    fn of(row: &AnyRow, error: StoreError) -> Self {
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
}

impl Store {
    /// One grant.
    pub async fn grant(&self, id: GrantId) -> Result<Option<Grant>, StoreError> {
        let row = query(concat!("SELECT ", columns!(), " FROM grants WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(grant).transpose()
    }

    /// The grants of a request, in the order of its entitlements.
    pub async fn grants_of(&self, request: RequestId) -> Result<Vec<Grant>, StoreError> {
        let rows = query(concat!("SELECT ", columns!(), " FROM grants WHERE request_id = $1 ORDER BY id"))
            .bind(request.to_string())
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, grant))
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
            columns!(),
            " FROM grants WHERE holder_id = $4 AND id < $1 AND ($2 = '' OR state = $2) \
             AND ($3 = 0 OR state NOT IN ('ended', 'failed')) ORDER BY id DESC LIMIT $5"
        );
        const ALL: &str = concat!(
            "SELECT ",
            columns!(),
            " FROM grants WHERE id < $1 AND ($2 = '' OR state = $2) \
             AND ($3 = 0 OR state NOT IN ('ended', 'failed')) AND $4 = '' ORDER BY id DESC LIMIT $5"
        );
        let rows = query(if filter.holder.is_some() { OF_HOLDER } else { ALL })
            .bind(after.unwrap_or("~"))
            .bind(filter.state.map_or("", GrantState::as_str))
            .bind(i64::from(filter.live))
            .bind(filter.holder.map(|h| h.to_string()).unwrap_or_default())
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(Page::read(&rows, limit, "id", grant))
    }

    /// How many grants an identity holds that are not final, counted up to `most`.
    pub async fn live_grants_of(&self, holder: IdentityId, most: u32) -> Result<u32, StoreError> {
        const SQL: &str = "SELECT count(*) AS n FROM (SELECT 1 FROM grants WHERE holder_id = $1 \
                           AND state NOT IN ('ended', 'failed') LIMIT $2) AS live";
        let row = query(SQL).bind(holder.to_string()).bind(i64::from(most)).fetch_one(&self.inner.readers).await?;
        Reader::new("grants", &row).number("n")
    }

    /// Grants at one target that are not final, by id, after the cursor: for the sweep. Also those that do not decode.
    pub async fn live_at_target(
        &self,
        target: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Result<Grant, Unreadable>>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            columns!(),
            " FROM grants WHERE target = $1 AND state NOT IN ('ended', 'failed') AND id > $2 ORDER BY id LIMIT $3"
        ))
        .bind(target)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.inner.readers)
        .await?;
        Ok(rows.iter().map(|row| grant(row).map_err(|error| Unreadable::of(row, error))).collect())
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

    /// The earliest instant at which a grant of the target wants attention.
    pub async fn next_due(&self, target: &str) -> Result<Option<Timestamp>, StoreError> {
        let row = query("SELECT min(due_at) AS due FROM grants WHERE target = $1 AND due_at IS NOT NULL")
            .bind(target)
            .fetch_one(&self.inner.readers)
            .await?;
        Reader::new("grants", &row).optional_instant("due")
    }

    /// How many grants are quarantined, and since when the oldest overdue one has been due.
    pub async fn revocation_health(&self) -> Result<(u64, Option<Timestamp>), StoreError> {
        let row = query(
            "SELECT (SELECT count(*) FROM grants WHERE state = 'quarantined' \
             AND state IN ('revoking', 'quarantined')) AS quarantined, \
             (SELECT min(revoking_at) FROM grants WHERE state IN ('revoking', 'quarantined')) AS oldest",
        )
        .fetch_one(&self.inner.readers)
        .await?;
        let r = Reader::new("grants", &row);
        Ok((r.number("quarantined")?, r.optional_instant("oldest")?))
    }
}

impl Tx {
    /// Keep a new grant, unless a kill switch falls on it or on who asked: then false, and nothing is written.
    pub async fn insert_grant(&mut self, g: &Grant, requester: IdentityId) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO grants (id, request_id, holder_id, entitlement, target, state, ttl, start_at, \
                           not_after, parameters, recipe, attempts, claims, max_claims, due_at, epoch, \
                           correlation_id, created_at, shared_key) \
                           SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 0, $12, $13, $14, $15, $16, $18 \
                           WHERE NOT EXISTS (SELECT 1 FROM locks WHERE lifted_at IS NULL AND ( \
                           (kind = 'identity' AND (value = $3 OR value = $17 \
                           OR value = (SELECT owner_id FROM identities WHERE id = $3))) \
                           OR (kind = 'target' AND value = $5) OR (kind = 'entitlement' AND value = $4)))";
        let written = self
            .execute(
                query(SQL)
                    .bind(g.id.to_string())
                    .bind(g.request.to_string())
                    .bind(g.holder.to_string())
                    .bind(g.entitlement.to_string())
                    .bind(g.target.to_string())
                    .bind(g.state.as_str())
                    .bind(i64::from(g.ttl.seconds()))
                    .bind(g.start_at.map(Timestamp::micros))
                    .bind(g.not_after.map(Timestamp::micros))
                    .bind(g.parameters.to_string())
                    .bind(g.recipe.as_ref().map(to_json))
                    .bind(g.max_claims.map(i64::from))
                    .bind(g.due_at.map(Timestamp::micros))
                    .bind(g.epoch)
                    .bind(g.correlation.to_string())
                    .bind(g.created_at.micros())
                    .bind(requester.to_string())
                    .bind(g.recipe.as_ref().and_then(Recipe::shared).map(|shared| shared.key)),
            )
            .await?;
        Ok(written == 1)
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

    /// `activating → active`, unless an end was asked for or a kill switch fell meanwhile ([`StoreError::Conflict`]).
    pub async fn record_active(
        &mut self,
        id: GrantId,
        epoch: i64,
        applied: &serde_json::Value,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE grants SET state = 'active', applied = $1, activated_at = $2, due_at = not_after, \
                 last_error = NULL WHERE id = $3 AND epoch = $4 AND state = 'activating' AND end_reason IS NULL \
                 AND NOT EXISTS (SELECT 1 FROM locks WHERE lifted_at IS NULL AND ( \
                 (kind = 'identity' AND value = grants.holder_id) OR (kind = 'target' AND value = grants.target) \
                 OR (kind = 'entitlement' AND value = grants.entitlement)))",
            )
            .bind(applied.to_string())
            .bind(at.micros())
            .bind(id.to_string())
            .bind(epoch),
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
            columns!()
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

    /// Begin to end live grants now, for a reason. One being activated ends as soon as the target has answered;
    /// one not started never starts. Answers the grants touched, as they are now.
    pub async fn begin_end(
        &mut self,
        which: EndScope<'_>,
        reason: EndReason,
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
                     state = CASE WHEN state = 'active' THEN 'revoking' WHEN state = 'scheduled' THEN 'ended' \
                             ELSE state END \
                     WHERE state IN ('scheduled', 'activating', 'active') AND end_reason IS NULL AND ",
                    $condition,
                    " RETURNING previous_state, ",
                    columns!()
                )
            };
        }
        let (sql, value) = match which {
            EndScope::Grant(id) => (end_where!("id = $3"), id.to_string()),
            EndScope::Holder(id) => (
                end_where!("(holder_id = $3 OR holder_id IN (SELECT id FROM identities WHERE owner_id = $3))"),
                id.to_string(),
            ),
            EndScope::Target(name) => (end_where!("target = $3"), name.to_owned()),
            EndScope::Entitlement(name) => (end_where!("entitlement = $3"), name.to_owned()),
        };
        let rows = self.write_returning(query(sql).bind(reason.as_str()).bind(now.micros()).bind(value)).await?;
        Ok(rows.iter().map(|row| grant(row).map_err(|error| Unreadable::of(row, error))).collect())
    }

    /// An activation that did not come to be: `activating → revoking`, due at once.
    pub async fn abandon_activation(
        &mut self,
        id: GrantId,
        epoch: i64,
        reason: EndReason,
        error: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE grants SET state = 'revoking', end_reason = coalesce(end_reason, $1), last_error = $2, \
                 revoking_at = $3, due_at = $3, epoch = epoch + 1 WHERE id = $4 AND epoch = $5 AND state = 'activating'",
            )
            .bind(reason.as_str())
            .bind(error)
            .bind(now.micros())
            .bind(id.to_string())
            .bind(epoch),
        )
        .await
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

    /// `revoking → ended | failed`: verified absent, with evidence.
    pub async fn record_ended(
        &mut self,
        id: GrantId,
        epoch: i64,
        state: GrantState,
        evidence: &serde_json::Value,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE grants SET state = $1, evidence = $2, ended_at = $3, due_at = NULL \
                 WHERE id = $4 AND epoch = $5 AND state = 'revoking'",
            )
            .bind(state.as_str())
            .bind(evidence.to_string())
            .bind(at.micros())
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

    /// Count a claim of an active grant and take the next serial; [`StoreError::Conflict`] if it is not to be had.
    pub async fn insert_claim(
        &mut self,
        id: GrantId,
        number: u32,
        at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Claim, StoreError> {
        self.execute_one(
            query(
                "UPDATE grants SET claims = $1 WHERE id = $2 AND claims = $1 - 1 AND state = 'active' \
                 AND not_after > $3 AND end_reason IS NULL AND (max_claims IS NULL OR claims < max_claims)",
            )
            .bind(i64::from(number))
            .bind(id.to_string())
            .bind(at.micros()),
        )
        .await?;
        let rows = self
            .write_returning(
                query("INSERT INTO claims (grant_id, number, at, expires_at) VALUES ($1, $2, $3, $4) RETURNING serial")
                    .bind(id.to_string())
                    .bind(i64::from(number))
                    .bind(at.micros())
                    .bind(expires_at.micros()),
            )
            .await?;
        let row = rows.first().ok_or(StoreError::Conflict)?;
        let serial = Reader::new("claims", row).number("serial")?;
        Ok(Claim { serial, number, at })
    }
}

/// Which grants to end.
#[derive(Debug, Clone, Copy)]
pub enum EndScope<'a> {
    /// One.
    Grant(GrantId),
    /// All of an identity and of the workloads and agents that it answers for.
    Holder(IdentityId),
    /// All on a target.
    Target(&'a str),
    /// All of an entitlement.
    Entitlement(&'a str),
}
