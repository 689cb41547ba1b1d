//! What follows when an identity changes, whoever changes it: SCIM, a feed, an administrator, the clock. One way in, so
//! that no surface can forget a consequence.
//!
//! Everything here writes into a change under way and has no other effect; after the commit, call
//! [`Broker::wake`]. What need not be in that commit is done right after it by whichever broker comes first: see
//! [`Broker::attend`].

mod attend;
mod breaker;
mod heard;
mod leaver;
mod mover;
mod newcomer;
mod tidy;

pub use breaker::AcceptedView;
pub(crate) use heard::Told;
pub use heard::{Heard, Hearing};
pub(crate) use newcomer::Adoptee;
pub use tidy::UnusedRule;

use serde_json::{Value, json};

use super::{Broker, BrokerError, record::Cause};
use crate::{
    domain::{
        audit::Event,
        id::IdentityId,
        identity::{Group, Identity, Origin},
        scim::Document,
    },
    store::{self, Joiner, Recheck, StoreError, Tx},
};

/// What a change of an identity came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing that anybody decides by: a name for people to read.
    Edited,
    /// Facts that decisions rest on: what it holds and asks for is decided again.
    Moved,
    /// It is gone: all it holds and asked for ends.
    Left,
    /// It is back; nothing that it held is.
    Returned,
}

impl Change {
    /// What it comes to that `before` is `after`.
    pub(crate) fn of(before: &Identity, after: &Identity) -> Self {
        let decided_by = |i: &Identity| (i.name.clone(), i.owner, i.contract_end, i.attributes.clone(), i.orphaned_at);
        match (before.active, after.active) {
            (true, false) => Self::Left,
            (false, true) => Self::Returned,
            _ if decided_by(before) == decided_by(after) => Self::Edited,
            _ => Self::Moved,
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Edited | Self::Moved => "identity.updated",
            Self::Left => "identity.deactivated",
            Self::Returned => "identity.reactivated",
        }
    }
}

impl Broker {
    /// Record that somebody joins: from this commit on it can ask, without having signed in.
    pub(crate) async fn record_joiner(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        new: &Identity,
        details: Value,
    ) -> Result<(), BrokerError> {
        tx.insert_identity(new, cause.now).await?;
        self.note(tx, self.joiner_event(cause, new, details)?)?;
        self.record_downstream(tx, cause, &[new.id], false).await
    }

    /// Record that somebody joins whom nobody here could be, with what was said of them, in one commit with others.
    /// `false`: somebody here could be them, and nothing was written.
    pub(crate) async fn join(
        &self,
        cause: &Cause,
        new: &Identity,
        document: &Document,
        details: &Value,
    ) -> Result<bool, BrokerError> {
        let applications = self.downstreams.keys().map(ToString::to_string);
        let joiner =
            Joiner::new(new.clone(), self.settings.users, document, applications, cause.correlation, cause.now);
        let mut change = store::Change { joiner: Some(joiner), ..store::Change::default() };
        self.note(&mut change, self.joiner_event(cause, new, details.clone())?)?;
        match self.store.write(change).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    /// That somebody joined.
    fn joiner_event(&self, cause: &Cause, new: &Identity, mut details: Value) -> Result<Event, BrokerError> {
        if let Value::Object(details) = &mut details {
            // Names of people stay out of the log: they can be forgotten, and it cannot.
            if new.kind.is_non_human() {
                details.insert("name".to_owned(), json!(new.name));
            }
            details.insert("kind".to_owned(), json!(new.kind));
            details.insert("origin".to_owned(), json!(new.origin));
            details.insert("owner".to_owned(), json!(new.owner));
        }
        let action = if new.kind.is_non_human() { "workload.registered" } else { "identity.created" };
        let mut event = self.event(cause, action, details)?;
        event.subject = Some(new.id);
        Ok(event)
    }

    /// Record that `before` is to be `after`, with everything that follows from it in the same commit. If a source takes
    /// away too many at once it is [`BrokerError::Held`]: take the change back and tell the source to come again.
    pub(crate) async fn record_change(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        before: &Identity,
        after: &Identity,
        mut details: Value,
    ) -> Result<Change, BrokerError> {
        let change = Change::of(before, after);
        // A contract that is over from now on is a departure by another word: the clock carries it out at once.
        let over = |i: &Identity| i.contract_end.is_some_and(|end| end <= cause.now);
        if change == Change::Left || (after.active && over(after) && !over(before)) {
            self.count_departure(tx, cause, before, after.deleted_at.is_some()).await?;
        } else if let Some(source) = after.source.filter(|_| after.active && cause.is_source()) {
            tx.forget_held(source, after.id).await?;
        }
        let adopted = before.source.is_none() && after.source.is_some();
        let after = &if adopted { taken_over(before, after) } else { after.clone() };
        // Looked at again after the commit also when it left: what another change was opening in that very moment.
        let recheck = matches!(change, Change::Moved | Change::Left).then_some(cause.recheck());
        tx.update_identity(after, recheck, cause.now).await?;
        if let Value::Object(details) = &mut details {
            details.insert("changed".to_owned(), changed(before, after));
        }
        let mut event = self.event(cause, change.action(), details)?;
        event.subject = Some(after.id);
        self.note(tx, event)?;
        if adopted {
            let mut event = self.event(cause, "identity.adopted", json!({"source": after.source}))?;
            event.subject = Some(after.id);
            self.note(tx, event)?;
        }
        if change == Change::Left {
            self.record_leaver(tx, cause, after).await?;
        }
        self.record_downstream(tx, cause, &[after.id], change == Change::Left).await?;
        Ok(change)
    }

    /// Record that somebody is no longer there at all: it leaves every group and ends all it holds; its name is free again.
    pub(crate) async fn record_deletion(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        before: &Identity,
        details: Value,
    ) -> Result<(), BrokerError> {
        let after = Identity { active: false, deleted_at: Some(cause.now), ..before.clone() };
        self.record_change(tx, cause, before, &after, details).await?;
        tx.forget_document(before.id).await?;
        for group in tx.standing_groups(before.id).await? {
            self.record_member(tx, cause, &group, before.id, false).await?;
            tx.touch_group(group.id, cause.now).await?;
        }
        Ok(())
    }

    /// Record that somebody is, or is no longer, a standing member of a group; false if it was so already.
    pub(crate) async fn record_member(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        group: &Group,
        identity: IdentityId,
        member: bool,
    ) -> Result<bool, BrokerError> {
        Ok(self.record_members(tx, cause, group, &[identity], member).await? > 0)
    }

    /// The same of many, with a few statements for all of them; how many changed.
    pub(crate) async fn record_members(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        group: &Group,
        identities: &[IdentityId],
        member: bool,
    ) -> Result<usize, BrokerError> {
        let changed = if member {
            tx.add_standing(group.id, identities, Some(cause.recheck()), cause.now).await?
        } else {
            tx.remove_standing(group.id, identities, cause.recheck()).await?
        };
        let action = if member { "membership.added" } else { "membership.removed" };
        for identity in &changed {
            let mut event = self.event(cause, action, json!({"group": group.name, "group_id": group.id}))?;
            event.subject = Some(*identity);
            self.note(tx, event)?;
        }
        // Whoever is no longer in a group may have lost their place in an application.
        self.record_downstream(tx, cause, &changed, !member).await?;
        Ok(changed.len())
    }

    /// After the commit of such a change: what became due is looked at now.
    pub(crate) fn wake(&self) {
        crate::failpoint::hit("lifecycle.recorded");
        self.due.notify_waiters();
    }
}

/// A source answers for it from now on: nobody else has to, and what was only until then is over.
fn taken_over(before: &Identity, after: &Identity) -> Identity {
    let until_then = before.origin == Origin::Jit && after.contract_end == before.contract_end;
    let contract_end = after.contract_end.filter(|_| !until_then);
    Identity {
        answer_by: None,
        orphaned_at: None,
        owner: after.owner.filter(|_| before.origin != Origin::Jit),
        contract_end,
        ..after.clone()
    }
}

impl Cause {
    /// Decide again what somebody holds, because of this.
    pub(crate) const fn recheck(&self) -> Recheck {
        Recheck { cause: self.correlation, at: self.now }
    }
}

/// Names of the fields that differ; values stay out of the log, for they are about people.
fn changed(before: &Identity, after: &Identity) -> Value {
    let pairs = [
        ("name", before.name != after.name),
        ("display_name", before.display_name != after.display_name),
        ("email", before.email != after.email),
        ("active", before.active != after.active),
        ("owner", before.owner != after.owner),
        ("backup_owner", before.backup_owner != after.backup_owner),
        ("contract_end", before.contract_end != after.contract_end),
        ("attributes", before.attributes != after.attributes),
        ("source", before.source != after.source),
        ("external_id", before.external_id != after.external_id),
        ("deleted", before.deleted_at != after.deleted_at),
        ("orphaned", before.orphaned_at != after.orphaned_at),
    ];
    pairs.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}
