//! Sweep: list what bears our mark at a target and compare it with the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::json;

use super::{Broker, BrokerError, Ctx, bulkhead::Purpose, lock::only_admins, record::Cause, view::SweepView};
use crate::{
    domain::{
        grant::{Grant, GrantState, Recipe},
        id::{CorrelationId, GrantId},
    },
    ports::connector::{DRIFT, Found, Presence},
};

/// A native expiry this little beyond the grant's end is rounding.
const ROUNDING: Duration = Duration::from_secs(60);

impl Broker {
    /// Sweep one target by hand: administrators only.
    pub async fn sweep_target(self: &Arc<Self>, ctx: &Ctx, id: &str) -> Result<SweepView, BrokerError> {
        only_admins(ctx)?;
        self.may_change()?;
        self.sweep(&Cause::from(ctx), id).await
    }

    /// Sweep one target by the clock.
    pub async fn sweep_by_clock(self: &Arc<Self>, id: &str) -> Result<SweepView, BrokerError> {
        self.may_change()?;
        let now = self.now();
        let correlation = CorrelationId::new(self.entropy.ulid(now)?);
        self.sweep(&Cause::worker(correlation, now), id).await
    }

    async fn sweep(self: &Arc<Self>, cause: &Cause, id: &str) -> Result<SweepView, BrokerError> {
        let target = self.target_of(id).ok_or(BrokerError::NotFound("target"))?;
        // The ledger is read before and after the target: what was made or ended in between is not drift.
        let (before, _) = self.live_at(id).await?;
        let found = target.bulkhead.call(Purpose::Revoke, target.connector.sweep()).await?;
        let (after, unreadable) = self.live_at(id).await?;
        let mut view = SweepView {
            target: id.to_owned(),
            found: found.len() as u64,
            orphans_ended: Vec::new(),
            orphans_left: Vec::new(),
            missing: Vec::new(),
            wider: Vec::new(),
        };
        let seen: BTreeSet<GrantId> = found.iter().map(|f| f.grant).collect();
        for object in &found {
            match after.get(&object.grant).or_else(|| before.get(&object.grant)) {
                // Nobody knows how long it may last: left alone until its end begins.
                None if unreadable.contains(&object.grant) => {}
                None if self.is_live_elsewhere(id, object.grant).await => {
                    let object = &object.object;
                    tracing::warn!(
                        target = id,
                        object,
                        "found access of another target's live grant: two targets share this place"
                    );
                }
                None => self.end_orphan(cause, id, object, &mut view).await?,
                Some(grant) => {
                    let end = grant.not_after.map(|end| end.plus_std(ROUNDING));
                    if object.native_expiry.zip(end).is_some_and(|(native, end)| native > end) {
                        view.wider.push(object.object.clone());
                        let details = json!({"object": object.object, "lasts_until": object.native_expiry, "granted_until": grant.not_after});
                        self.drift(cause, grant, "wider", details).await?;
                    }
                }
            }
        }
        if target.description.read_back && target.connector.leaves_objects() {
            self.find_missing(cause, &before, &after, &seen, &mut view).await?;
        }
        metrics::counter!("tidegate_sweeps_total", "target" => id.to_owned()).increment(1);
        Ok(view)
    }

    /// Is it a grant of another target, and not over? Two targets on one server see each other's access.
    async fn is_live_elsewhere(&self, target: &str, grant: GrantId) -> bool {
        // What does not decode has no recipe to be ended by: then the sweep is what ends it.
        let known = self.store.grant(grant).await.unwrap_or_default();
        known.is_some_and(|grant| &*grant.target != target && !grant.state.is_terminal())
    }

    /// Grants that are not final, and ids of those that do not decode and are not ending: what ends and does not
    /// decode has no recipe, so what the sweep finds of it is ended as an orphan.
    async fn live_at(&self, target: &str) -> Result<(BTreeMap<GrantId, Grant>, BTreeSet<GrantId>), BrokerError> {
        let (mut live, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        let mut after = String::new();
        loop {
            let page = self.store.live_at_target(target, &after, 1000).await?;
            if page.is_empty() {
                return Ok((live, unreadable));
            }
            for row in page {
                match row {
                    Ok(grant) => {
                        after = grant.id.to_string();
                        live.insert(grant.id, grant);
                    }
                    Err(row) => {
                        tracing::error!(error = %row.error, "a live grant does not decode");
                        unreadable.extend(row.id.parse::<GrantId>().ok().filter(|_| !row.ending));
                        after = row.id;
                    }
                }
            }
        }
    }

    async fn end_orphan(
        self: &Arc<Self>,
        cause: &Cause,
        target: &str,
        object: &Found,
        view: &mut SweepView,
    ) -> Result<(), BrokerError> {
        let details = json!({"object": object.object, "native_expiry": object.native_expiry});
        self.note_object(cause, "orphan.found", target, object.grant, details).await?;
        tracing::warn!(target, object = object.object, "found access with our mark and no live grant");
        let recipe = Recipe { grant: object.grant, object: object.object.clone(), data: object.data.clone() };
        match self.revoke_and_verify(target, &recipe, true).await {
            Ok(evidence) => {
                view.orphans_ended.push(object.object.clone());
                let details = json!({"object": object.object, "evidence": evidence});
                self.note_object(cause, "orphan.revoked", target, object.grant, details).await
            }
            Err(why) => {
                tracing::error!(target, object = object.object, error = why, "an orphan could not be ended");
                view.orphans_left.push(object.object.clone());
                Ok(())
            }
        }
    }

    /// Live grants that the listing did not show: asked about one by one, for lists miss the newest.
    async fn find_missing(
        &self,
        cause: &Cause,
        before: &BTreeMap<GrantId, Grant>,
        after: &BTreeMap<GrantId, Grant>,
        seen: &BTreeSet<GrantId>,
        view: &mut SweepView,
    ) -> Result<(), BrokerError> {
        for (id, grant) in after {
            let settled = |g: &Grant| g.state == GrantState::Active;
            if seen.contains(id) || !settled(grant) || !before.get(id).is_some_and(settled) {
                continue;
            }
            let (Some(recipe), Ok(target)) = (&grant.recipe, self.target_for(grant)) else { continue };
            let verify = async { Ok(target.connector.verify(recipe).await) };
            match target.bulkhead.call(Purpose::Revoke, verify).await {
                Ok(Presence::Absent(evidence)) => {
                    view.missing.push(id.to_string());
                    self.drift(cause, grant, "missing", evidence).await?;
                }
                Ok(Presence::Present(evidence)) if evidence.get(DRIFT).is_some() => {
                    view.missing.push(id.to_string());
                    self.drift(cause, grant, "altered", evidence).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn drift(
        &self,
        cause: &Cause,
        grant: &Grant,
        kind: &str,
        details: serde_json::Value,
    ) -> Result<(), BrokerError> {
        tracing::warn!(grant = %grant.id, target = %grant.target, kind, "the target and the ledger disagree");
        metrics::counter!("tidegate_drift_total", "kind" => kind.to_owned()).increment(1);
        let details = json!({"kind": kind, "seen": details});
        self.note_alone(self.grant_event(cause, "grant.drift", grant, details)?).await
    }

    pub(super) async fn note_object(
        &self,
        cause: &Cause,
        action: &str,
        target: &str,
        grant: GrantId,
        details: serde_json::Value,
    ) -> Result<(), BrokerError> {
        let mut event = self.event(cause, action, details)?;
        event.grant = Some(grant);
        event.target = Some(target.to_owned());
        self.note_alone(event).await
    }
}
