//! Read a source of truth and bring the directory to what it says. What a source owns, only it changes; whom another
//! source has, or nobody outside, it does not touch.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use serde_json::json;

use super::{
    super::{
        Broker, BrokerError, SourceCtx,
        lifecycle::{Heard, Told},
        record::Cause,
    },
    view::{MOST_ITEMS, ReadingReport},
};
use crate::{
    domain::{
        id::{GroupId, IdentityId, SourceId},
        identity::{Group, Identity, Source, SourceKind, is_reserved},
        roster::{Entry, Line, Refused, SourceConfig},
        time::Timestamp,
    },
    ports::roster::Roster,
    store::{Collision, StoreError, SyncRun, Tx},
};

/// Identities changed at once; their commits are shared.
const WIDTH: usize = 16;
/// So few may always leave, or a small directory could never lose anybody.
const ALWAYS: u64 = 2;

/// Times that a step is tried again after it lost a race.
const RACES: u32 = 5;

/// A source and what reads it.
pub(crate) struct Upstream {
    pub(crate) config: SourceConfig,
    pub(crate) roster: Arc<dyn Roster>,
}

/// One change of the directory to be.
enum Step {
    Join(Box<Entry>),
    Change(Box<Identity>, Box<Entry>),
    /// No longer there.
    Vanish(Box<Identity>),
}

/// What came of one step.
enum Came {
    Done,
    Conflict(String),
    /// They may be somebody who is known, and no rule says so.
    Collides(Collision),
}

impl Broker {
    /// Read a source; carry out what it says if `apply`.
    pub(super) async fn read_source(
        &self,
        upstream: &Upstream,
        apply: bool,
        run: &SyncRun,
    ) -> Result<ReadingReport, BrokerError> {
        let source = self.source_of(&upstream.config, run).await?;
        let via = if source.kind == SourceKind::Feed { "feed" } else { "pull" };
        let ctx = SourceCtx { source, via, correlation: run.correlation, now: self.now() };
        let mut report = ReadingReport::default();
        let (steps, seen) = self.compare(upstream, &ctx, run, &mut report).await?;
        crate::failpoint::hit("source.compared");
        let mut steps = steps;
        let owned = self.add_vanished(&ctx, &seen, &mut steps, &mut report).await?;
        if run.accept || !too_many(upstream, leaving(&steps, ctx.now), owned) {
            steps = self.ask_about_vanished(upstream, &ctx, run, steps).await?;
        }
        report.left = leaving(&steps, ctx.now);
        report.joined = steps.iter().filter(|s| matches!(s, Step::Join(_))).count() as u64;
        report.changed = (steps.len() as u64).saturating_sub(report.left).saturating_sub(report.joined);
        let names = steps.iter().filter(|s| leaves(s, ctx.now)).filter_map(|s| match s {
            Step::Change(identity, _) | Step::Vanish(identity) => Some(identity.name.clone()),
            Step::Join(_) => None,
        });
        report.leavers = names.take(MOST_ITEMS).collect();
        if too_many(upstream, report.left, owned) && !run.accept {
            report.stopped = Some(format!(
                "{} of {owned} active people would be deactivated, more than {} %; if that is right, run `tidegate sync \
                 apply {} --accept`",
                report.left, upstream.config.max_leavers_percent, upstream.config.id
            ));
            if apply {
                self.note_stopped(&ctx, run, &report, owned).await?;
            }
            return Ok(report);
        }
        if apply {
            self.carry_out_steps(&ctx, run, steps, &mut report).await?;
            report.applied = true;
        }
        Ok(report)
    }

    /// The source's row; made at its first reading.
    async fn source_of(&self, config: &SourceConfig, run: &SyncRun) -> Result<Source, BrokerError> {
        if let Some(there) = self.store.source_by_name(&config.id).await? {
            if there.kind == config.kind {
                return Ok(there);
            }
            return Err(BrokerError::State(format!(
                "there is a source `{}` of another kind ({}); give this one another name",
                there.name,
                there.kind.as_str()
            )));
        }
        let now = self.now();
        let id = SourceId::new(self.entropy.ulid(now)?);
        let source = Source { id, name: config.id.to_string(), kind: config.kind };
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.insert_source(&source, now).await?;
                let details = json!({"source": source.id, "name": source.name, "kind": source.kind});
                let event = self.event(&Cause::from(run), "source.created", details)?;
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                return Ok(source);
            }
        }
    }

    /// What differs, and every name that was read.
    async fn compare(
        &self,
        upstream: &Upstream,
        ctx: &SourceCtx,
        run: &SyncRun,
        report: &mut ReadingReport,
    ) -> Result<(Vec<Step>, HashSet<String>), BrokerError> {
        let mut reading = upstream.roster.open().await?;
        let mut steps = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let lines = reading.next().await?;
            if lines.is_empty() {
                break;
            }
            let known = seen.len();
            for line in lines {
                report.read += 1;
                match line {
                    Line::Refused(refused) => {
                        match &refused.external_id {
                            Some(id) => {
                                seen.insert(id.clone());
                            }
                            // Whoever it is, they are not gone.
                            None => report.incomplete = true,
                        }
                        if report.refused.len() < MOST_ITEMS {
                            report.refused.push(refused);
                        }
                    }
                    Line::Entry(entry) => {
                        if !seen.insert(entry.external_id.clone()) {
                            if report.refused.len() < MOST_ITEMS {
                                report.refused.push(Refused {
                                    line: report.read,
                                    external_id: Some(entry.external_id.clone()),
                                    field: "external_id".to_owned(),
                                    problem: "is there twice; the first is taken".to_owned(),
                                });
                            }
                            continue;
                        }
                        match self.step_for(ctx, entry).await? {
                            Some(step) => steps.push(step),
                            None => report.unchanged += 1,
                        }
                    }
                }
            }
            self.renew(run).await?;
            // A directory that begins again and again has no end.
            if seen.len() == known && ctx.source.kind == SourceKind::ScimPull {
                report.incomplete = true;
                break;
            }
        }
        // A source that tells of nobody is broken rather than empty.
        report.incomplete |= report.read == 0 || !reading.is_whole();
        Ok((steps, seen))
    }

    async fn step_for(&self, ctx: &SourceCtx, entry: Box<Entry>) -> Result<Option<Step>, BrokerError> {
        let Some(there) = self.store.of_source(ctx.source.id, &entry.external_id).await? else {
            // Whoever left before we heard of them is nobody to us.
            return Ok(entry.active.then_some(Step::Join(entry)));
        };
        let groups_differ = match &entry.groups {
            Some(wanted) => {
                let has = self.store.standing_of_source(ctx.source.id, there.id).await?;
                let has: BTreeSet<String> = has.into_iter().map(|g| g.name.to_lowercase()).collect();
                has != wanted.iter().map(|g| g.to_lowercase()).collect()
            }
            None => false,
        };
        let differs = groups_differ || updated(&there, &entry) != there;
        Ok(differs.then(|| Step::Change(Box::new(there), entry)))
    }

    /// Who is active, owned by the source, and was not read. How many active ones it owns.
    async fn add_vanished(
        &self,
        ctx: &SourceCtx,
        seen: &HashSet<String>,
        steps: &mut Vec<Step>,
        report: &mut ReadingReport,
    ) -> Result<u64, BrokerError> {
        let (mut owned, mut after) = (0, String::new());
        loop {
            let page = self.store.owned_by_source(ctx.source.id, &after, 1000).await?;
            let Some(last) = page.last() else { break };
            after = last.id.to_string();
            owned += page.len() as u64;
            if !report.incomplete {
                let gone = page.into_iter().filter(|i| i.external_id.as_ref().is_none_or(|id| !seen.contains(id)));
                steps.extend(gone.map(|i| Step::Vanish(Box::new(i))));
            }
        }
        Ok(owned)
    }

    /// Whoever was not listed may be there all the same: a directory that can be asked is asked about each of them.
    async fn ask_about_vanished(
        &self,
        upstream: &Upstream,
        ctx: &SourceCtx,
        run: &SyncRun,
        steps: Vec<Step>,
    ) -> Result<Vec<Step>, BrokerError> {
        let ask = async |step: Step| -> Result<Option<Step>, BrokerError> {
            let Step::Vanish(identity) = &step else { return Ok(Some(step)) };
            let Some(external_id) = &identity.external_id else { return Ok(Some(step)) };
            match upstream.roster.ask(external_id).await? {
                Some(Line::Entry(entry)) => self.step_for(ctx, entry).await,
                Some(Line::Refused(_)) => Ok(None),
                None => Ok(Some(step)),
            }
        };
        let mut kept = Vec::with_capacity(steps.len());
        let mut asked = stream::iter(steps).map(ask).buffer_unordered(WIDTH);
        let mut since = 0_u32;
        while let Some(step) = asked.next().await {
            kept.extend(step?);
            since += 1;
            if since.is_multiple_of(500) {
                self.renew(run).await?;
            }
        }
        Ok(kept)
    }

    async fn carry_out_steps(
        &self,
        ctx: &SourceCtx,
        run: &SyncRun,
        steps: Vec<Step>,
        report: &mut ReadingReport,
    ) -> Result<(), BrokerError> {
        // Who leaves goes first: names that they give free are free for who joins.
        let (leaving, staying): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|s| leaves(s, ctx.now));
        for part in [leaving, staying] {
            let mut work = stream::iter(part).map(|step| self.take_step(ctx, run, step)).buffer_unordered(WIDTH);
            let mut since = 0_u32;
            while let Some(came) = work.next().await {
                crate::failpoint::hit("source.step");
                if let Came::Conflict(text) = came?
                    && report.conflicts.len() < MOST_ITEMS
                {
                    report.conflicts.push(text);
                }
                since += 1;
                if since.is_multiple_of(500) {
                    self.renew(run).await?;
                }
            }
        }
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = tx.source_seen(ctx.source.id, self.now()).await.map_err(BrokerError::from);
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        self.wake();
        Ok(())
    }

    async fn take_step(&self, ctx: &SourceCtx, run: &SyncRun, step: Step) -> Result<Came, BrokerError> {
        let cause = Cause { actor: run.actor, ..Cause::from(ctx) };
        let mut races = 0;
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = self.write_step(&mut tx, ctx, &cause, &step).await;
            match tx.end(written).await {
                None => {}
                // Two steps made the same group, or another source the same person: the next look sees it.
                Some(Err(BrokerError::Store(StoreError::Duplicate))) if races < RACES => races += 1,
                // Somebody else changed it meanwhile: the next reading sees what is left to do.
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Ok(Came::Done),
                Some(Ok(Came::Collides(collision))) => {
                    self.record_collision(&cause, &collision).await?;
                    let id = collision.external_id.as_deref().unwrap_or_default();
                    let text = known_already(&collision.name, id);
                    return Ok(Came::Conflict(format!(
                        "{text}, until somebody decides (`tidegate review collisions`)"
                    )));
                }
                Some(Ok(Came::Conflict(text))) => {
                    // Whom it is about is in the report of the run, and not in the log.
                    let next = format!("tidegate sync ls; the report of run {} says whom", run.id);
                    let details = json!({"source": ctx.source.name, "run": run.id, "next": next});
                    let event = self.event(&cause, "source.conflict", details)?;
                    self.note_alone(event).await?;
                    return Ok(Came::Conflict(text));
                }
                Some(result) => return result,
            }
        }
    }

    async fn write_step(&self, tx: &mut Tx, ctx: &SourceCtx, cause: &Cause, step: &Step) -> Result<Came, BrokerError> {
        match step {
            Step::Vanish(identity) => {
                let after = Identity { active: false, ..(**identity).clone() };
                self.record_change(tx, cause, identity, &after, json!({"source": ctx.source.name, "gone": true}))
                    .await?;
            }
            Step::Join(entry) | Step::Change(_, entry) => {
                match self.record_heard(tx, ctx, cause, &Heard::from(&**entry)).await? {
                    Told::Done(hearing) => {
                        if let Some(id) = hearing.whose() {
                            return self.align_groups(tx, ctx, cause, id, entry).await;
                        }
                    }
                    Told::Collides(collision) => return Ok(Came::Collides(collision)),
                    Told::Taken => return Ok(Came::Conflict(known_already(&entry.name, &entry.external_id))),
                }
            }
        }
        Ok(Came::Done)
    }

    /// Standing memberships in the groups of this source, and of no other.
    async fn align_groups(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        cause: &Cause,
        identity: IdentityId,
        entry: &Entry,
    ) -> Result<Came, BrokerError> {
        let Some(wanted) = &entry.groups else { return Ok(Came::Done) };
        let mut keep = BTreeSet::new();
        for name in wanted {
            let group = match tx.group_by_name(name).await? {
                Some(group) if group.source == Some(ctx.source.id) && !is_reserved(name) => group,
                Some(group) => {
                    return Ok(Came::Conflict(format!("the group `{}` belongs to somebody else", group.name)));
                }
                None if is_reserved(name) => {
                    return Ok(Came::Conflict(format!(
                        "members of `{name}` administer or audit this broker: no feed or directory fills it"
                    )));
                }
                None => {
                    let id = GroupId::new(self.entropy.ulid(cause.now)?);
                    let group = Group { source: Some(ctx.source.id), ..Group::new(id, name.as_str(), cause.now) };
                    tx.insert_group(&group).await?;
                    let details = json!({"group": group.name, "group_id": group.id, "source": ctx.source.name});
                    let event = self.event(cause, "group.created", details)?;
                    self.note(tx, event)?;
                    group
                }
            };
            keep.insert(group.id);
            self.record_member(tx, cause, &group, identity, true).await?;
        }
        for group in self.store.standing_of_source(ctx.source.id, identity).await? {
            if !keep.contains(&group.id) {
                self.record_member(tx, cause, &group, identity, false).await?;
            }
        }
        Ok(Came::Done)
    }

    async fn note_stopped(
        &self,
        ctx: &SourceCtx,
        run: &SyncRun,
        report: &ReadingReport,
        owned: u64,
    ) -> Result<(), BrokerError> {
        tracing::error!(
            source = ctx.source.name,
            left = report.left,
            owned,
            "a source would deactivate too many people: stopped"
        );
        let details = json!({"source": ctx.source.name, "would_leave": report.left, "of": owned, "run": run.id});
        let event = self.event(&Cause::from(run), "source.stopped", details)?;
        self.note_alone(event).await
    }
}

fn leaving(steps: &[Step], now: Timestamp) -> u64 {
    steps.iter().filter(|s| leaves(s, now)).count() as u64
}

/// A contract that is over is a departure by another word.
fn is_over(end: Option<Timestamp>, now: Timestamp) -> bool {
    end.is_some_and(|end| end <= now)
}

/// Would so many of those whom it owns leave that people are asked first?
fn too_many(upstream: &Upstream, left: u64, owned: u64) -> bool {
    left > ALWAYS && left.saturating_mul(100) > owned.saturating_mul(u64::from(upstream.config.max_leavers_percent))
}

fn leaves(step: &Step, now: Timestamp) -> bool {
    match step {
        Step::Vanish(_) => true,
        Step::Change(before, entry) => before.active && (!entry.active || is_over(entry.contract_end, now)),
        Step::Join(_) => false,
    }
}

/// Somebody as the source has it now.
fn updated(before: &Identity, entry: &Entry) -> Identity {
    Identity {
        name: entry.name.clone(),
        display_name: entry.display_name.clone().unwrap_or_else(|| entry.name.clone()),
        email: entry.email.clone(),
        active: entry.active,
        contract_end: entry.contract_end,
        attributes: entry.attributes.clone(),
        ..before.clone()
    }
}

fn known_already(name: &str, external_id: &str) -> String {
    format!("`{name}` ({external_id}) is known from somewhere else, or under another external id: nothing is merged")
}
