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
        grant::{Grant, Recipe},
        id::{CorrelationId, GrantId},
        time::Timestamp,
    },
    ports::connector::{DRIFT, Found, Presence},
    store::LivePlace,
};

/// A native expiry this little beyond the grant's end is rounding.
const ROUNDING: Duration = Duration::from_secs(60);
/// Objects that are looked up together.
const BATCH: usize = 256;
/// Active grants read together.
const PAGE: u32 = 256;

/// What the ledger knows of the grant that an object leads to.
enum Known {
    /// Not final, or only just; maybe at another target.
    Grant(Box<Grant>),
    /// It does not decode, and is not ending.
    Unreadable,
}

impl Broker {
    /// Sweep one target by hand: administrators only.
    pub async fn sweep_target(self: &Arc<Self>, ctx: &Ctx, id: &str) -> Result<SweepView, BrokerError> {
        only_admins(ctx)?;
        self.may_change()?;
        self.not_locked(ctx).await?;
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
        // What was ended or made while the target was read is not drift: the ledger is asked afterwards, and answers
        // also what became final since then.
        let begun = self.now();
        let found = target.bulkhead.call(Purpose::Revoke, target.connector.sweep()).await?;
        let mut view = SweepView {
            target: id.to_owned(),
            found: found.len() as u64,
            orphans_ended: Vec::new(),
            orphans_left: Vec::new(),
            missing: Vec::new(),
            wider: Vec::new(),
        };
        for objects in found.chunks(BATCH) {
            let known = self.known_among(objects, begun).await?;
            for object in objects {
                match known.get(&object.grant) {
                    Some(Known::Grant(grant)) if *grant.target == *id => {
                        self.look_wider(cause, grant, object, &mut view).await?;
                    }
                    // Two targets on one server see each other's access.
                    Some(Known::Grant(grant)) if !grant.state.is_terminal() => {
                        let object = &object.object;
                        tracing::warn!(
                            target = id,
                            object,
                            "found access of another target's live grant: two targets share this place"
                        );
                    }
                    // Nobody knows how long it may last: left alone until its end begins.
                    Some(Known::Unreadable) => {}
                    _ => self.end_orphan(cause, id, object, &mut view).await?,
                }
            }
        }
        if target.description.read_back && target.connector.leaves_objects() {
            let seen: BTreeSet<GrantId> = found.into_iter().map(|object| object.grant).collect();
            self.find_missing(cause, id, begun, &seen, &mut view).await?;
        }
        metrics::counter!("tidegate_sweeps_total", "target" => id.to_owned()).increment(1);
        Ok(view)
    }

    /// What the ledger knows of the grants that objects lead to. What ends and does not decode has no recipe, so what
    /// the sweep finds of it is ended as an orphan.
    async fn known_among(&self, objects: &[Found], since: Timestamp) -> Result<BTreeMap<GrantId, Known>, BrokerError> {
        let ids: BTreeSet<GrantId> = objects.iter().map(|object| object.grant).collect();
        let ids: Vec<GrantId> = ids.into_iter().collect();
        let mut known = BTreeMap::new();
        for row in self.store.live_among(&ids, since).await? {
            match row {
                Ok(grant) => {
                    known.insert(grant.id, Known::Grant(Box::new(grant)));
                }
                Err(row) => {
                    tracing::error!(error = %row.error, "a live grant does not decode");
                    if let Some(id) = row.id.parse().ok().filter(|_| !row.ending) {
                        known.insert(id, Known::Unreadable);
                    }
                }
            }
        }
        Ok(known)
    }

    /// Does an object last longer than its grant?
    async fn look_wider(
        &self,
        cause: &Cause,
        grant: &Grant,
        object: &Found,
        view: &mut SweepView,
    ) -> Result<(), BrokerError> {
        let end = grant.not_after.map(|end| end.plus_std(ROUNDING));
        if object.native_expiry.zip(end).is_some_and(|(native, end)| native > end) {
            view.wider.push(object.object.clone());
            let details =
                json!({"object": object.object, "lasts_until": object.native_expiry, "granted_until": grant.not_after});
            self.drift(cause, grant, "wider", details).await?;
        }
        Ok(())
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
        crate::failpoint::hit("sweep.orphan_found");
        let recipe = Recipe { grant: object.grant, object: object.object.clone(), data: object.data.clone() };
        match self.revoke_and_verify(target, &recipe, true).await {
            Ok(evidence) => {
                crate::failpoint::hit("sweep.orphan_ended");
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

    /// Grants that were active all the while and that the listing did not show: asked about one by one, for lists miss
    /// the newest.
    async fn find_missing(
        &self,
        cause: &Cause,
        target: &str,
        begun: Timestamp,
        seen: &BTreeSet<GrantId>,
        view: &mut SweepView,
    ) -> Result<(), BrokerError> {
        let mut place = LivePlace::default();
        loop {
            let page = self.store.active_at_target(target, &mut place, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for grant in page.into_iter().flatten() {
                if seen.contains(&grant.id) || grant.activated_at.is_none_or(|at| at >= begun) {
                    continue;
                }
                let (Some(recipe), Ok(target)) = (&grant.recipe, self.target_for(&grant)) else { continue };
                let verify = async { Ok(target.connector.verify(recipe).await) };
                match target.bulkhead.call(Purpose::Revoke, verify).await {
                    Ok(Presence::Absent(evidence)) => {
                        view.missing.push(grant.id.to_string());
                        self.drift(cause, &grant, "missing", evidence).await?;
                    }
                    Ok(Presence::Present(evidence)) if evidence.get(DRIFT).is_some() => {
                        view.missing.push(grant.id.to_string());
                        self.drift(cause, &grant, "altered", evidence).await?;
                    }
                    _ => {}
                }
            }
        }
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
