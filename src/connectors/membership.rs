//! Membership that the target keeps only once however many grants there are on it: who is in and who was in before is
//! counted in the ledger. Shared by the connectors whose targets know members by name and cannot tell grants apart.
//!
//! Three rules keep it honest. What was there before any of our grants is never taken away. The last grant out takes
//! the membership with it. Whoever changes the target looks at the ledger again afterwards, so that a grant which
//! begins while another one ends finds its membership in place, whatever the order of the calls.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{
    domain::{
        grant::{Intent, Recipe, Shared},
        id::GrantId,
        time::Timestamp,
    },
    ports::{
        connector::{Fault, Presence},
        holdings::{Holding, Holdings, HoldingsError},
    },
};

/// How often a change is repeated because the ledger changed meanwhile.
const ROUNDS: usize = 5;

/// What the target says of one membership.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Is the member in?
    pub present: bool,
    /// Grants whose mark the target shows on it, where it can be marked.
    pub marks: BTreeSet<GrantId>,
    /// The answer itself, for evidence: an object.
    pub details: Value,
}

/// One membership at the target. Every call may be repeated.
#[async_trait]
pub trait Seat: Send + Sync {
    /// Ask the target.
    async fn look(&self) -> Result<Seen, Fault>;

    /// Make the member a member until then, if the target knows an end; already in is done. Marked for the grant, if
    /// the target can be marked.
    async fn take(&self, grant: GrantId, until: Timestamp) -> Result<(), Fault>;

    /// The same for a grant whose membership may have been overtaken by the end of another one. Time has passed since
    /// the names in the recipe were read.
    async fn restore(&self, grant: GrantId, until: Timestamp) -> Result<(), Fault> {
        self.take(grant, until).await
    }

    /// Take away the grant's mark, and the membership with it if this was the `last` grant. Not in is done.
    async fn leave(&self, grant: GrantId, last: bool) -> Result<(), Fault>;
}

/// Counts the grants on the memberships of one target.
#[derive(Clone)]
pub struct Counted {
    target: String,
    ledger: Arc<dyn Holdings>,
}

impl From<HoldingsError> for Fault {
    fn from(e: HoldingsError) -> Self {
        Self::Unavailable(e.to_string())
    }
}

/// What a recipe says of the membership.
pub fn shared(recipe: &Recipe) -> Result<Shared, Fault> {
    recipe.shared().ok_or_else(|| Fault::Refused(format!("the recipe of {} names no membership", recipe.grant)))
}

impl Counted {
    /// Of the target with that name in the configuration.
    pub fn new(target: impl Into<String>, ledger: Arc<dyn Holdings>) -> Self {
        Self { target: target.into(), ledger }
    }

    /// The prior state, for a recipe: was somebody in before any of our grants?
    ///
    /// The target is asked before the ledger. If a grant ends in between, the answer may be yes although that grant
    /// had opened it; then the member is out when this one opens, which [`Counted::open`] refuses.
    pub async fn prior(&self, key: String, seat: &dyn Seat) -> Result<Shared, Fault> {
        let seen = seat.look().await?;
        let ours =
            !seen.marks.is_empty() || self.ledger.holdings(&self.target, &key).await?.iter().any(|h| !h.was_there);
        Ok(Shared { was_there: seen.present && !ours, key })
    }

    /// Let the grant in; again is done. Answers what the target shows.
    pub async fn open(&self, intent: &Intent, seat: &dyn Seat) -> Result<Value, Fault> {
        let (grant, shared) = (intent.recipe.grant, shared(&intent.recipe)?);
        let others = self.others(&shared, grant).await?;
        if !shared.was_there {
            let last = others.iter().map(|h| h.not_after).fold(intent.not_after, Timestamp::max);
            seat.take(grant, last).await?;
        }
        let seen = seat.look().await?;
        if seen.present {
            return Ok(json!({
                "membership": shared.key,
                "was_member": shared.was_there,
                "other_grants": others.len(),
                "not_after": intent.not_after,
                "seen": seen.details,
            }));
        }
        Err(if shared.was_there {
            Fault::Refused("somebody took away the standing membership that was there a moment ago; ask again".into())
        } else {
            Fault::Unavailable("the target accepted the membership and does not show it".into())
        })
    }

    /// Let the grant out: the last one takes the membership with it. What was there before is left alone.
    pub async fn close(&self, recipe: &Recipe, seat: &dyn Seat) -> Result<(), Fault> {
        let shared = shared(recipe)?;
        if shared.was_there {
            return Ok(());
        }
        let mut others = self.others(&shared, recipe.grant).await?;
        let mut restored = BTreeSet::new();
        for _ in 0..ROUNDS {
            // What was put back for a grant that ended meanwhile goes with ours.
            for gone in restored.iter().filter(|&&grant| others.iter().all(|h| h.grant != grant)) {
                seat.leave(*gone, false).await?;
            }
            seat.leave(recipe.grant, others.is_empty()).await?;
            // Somebody who began or ended meanwhile may have been overtaken by our call.
            if let Some(last) = others.iter().max_by_key(|h| h.not_after) {
                seat.restore(last.grant, last.not_after).await?;
                restored.insert(last.grant);
            }
            let now = self.others(&shared, recipe.grant).await?;
            if now == others {
                return Ok(());
            }
            others = now;
        }
        Err(Fault::Unavailable("grants on this membership begin and end all the time".into()))
    }

    /// Is the grant out? The target is asked first, then the ledger, who else may be in.
    pub async fn verify(&self, recipe: &Recipe, seat: &dyn Seat) -> Presence {
        match self.told(recipe, seat).await {
            Ok(presence) => presence,
            Err(fault) => Presence::Unknown(fault.to_string()),
        }
    }

    async fn told(&self, recipe: &Recipe, seat: &dyn Seat) -> Result<Presence, Fault> {
        let shared = shared(recipe)?;
        let seen = seat.look().await?;
        let held = self.ledger.holdings(&self.target, &shared.key).await?;
        let others: Vec<_> = counted(&held, recipe.grant).map(|h| h.grant).collect();
        let mine = held.iter().any(|h| h.grant == recipe.grant && h.live);
        let evidence = json!({
            "membership": shared.key,
            "member": seen.present,
            "was_member": shared.was_there,
            "other_grants": others,
            "seen": seen.details,
        });
        let explained = !mine && (shared.was_there || !others.is_empty());
        Ok(if seen.marks.contains(&recipe.grant) || (seen.present && !explained) {
            Presence::Present(evidence)
        } else {
            Presence::Absent(evidence)
        })
    }

    /// Live grants beside this one that opened the membership.
    async fn others(&self, shared: &Shared, grant: GrantId) -> Result<Vec<Holding>, Fault> {
        let held = self.ledger.holdings(&self.target, &shared.key).await?;
        Ok(counted(&held, grant).copied().collect())
    }
}

fn counted(held: &[Holding], grant: GrantId) -> impl Iterator<Item = &Holding> {
    held.iter().filter(move |h| h.grant != grant && h.live && !h.was_there)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{
        connectors::fakes::FakeLedger,
        domain::{grant::object_name, id::IdentityId},
    };

    type Between = Box<dyn FnOnce(&Group) + Send>;

    /// A group with one member to be; `between` happens after the next change.
    #[derive(Default)]
    struct Group {
        until: Mutex<Option<Timestamp>>,
        between: Mutex<Option<Between>>,
    }

    impl Group {
        fn put(&self, until: Option<Timestamp>) {
            *self.until.lock().unwrap() = until;
        }

        fn until(&self) -> Option<Timestamp> {
            *self.until.lock().unwrap()
        }

        fn happens(&self) {
            let between = self.between.lock().unwrap().take();
            if let Some(what) = between {
                what(self);
            }
        }
    }

    #[async_trait]
    impl Seat for Group {
        async fn look(&self) -> Result<Seen, Fault> {
            Ok(Seen { present: self.until().is_some(), ..Seen::default() })
        }

        async fn take(&self, _grant: GrantId, until: Timestamp) -> Result<(), Fault> {
            self.put(Some(until));
            Ok(())
        }

        async fn leave(&self, _grant: GrantId, last: bool) -> Result<(), Fault> {
            if last {
                self.put(None);
            }
            self.happens();
            Ok(())
        }
    }

    struct World {
        ledger: Arc<FakeLedger>,
        counted: Counted,
        group: Group,
    }

    impl World {
        fn new() -> Self {
            let ledger = Arc::new(FakeLedger::new());
            let counted = Counted::new("t", Arc::clone(&ledger) as _);
            Self { ledger, counted, group: Group::default() }
        }

        async fn intend(&self, n: u128, end: i64) -> Intent {
            let shared = self.counted.prior("ops/ana".into(), &self.group).await.unwrap();
            let intent = intent(n, end, &shared);
            self.ledger.intend("t", &intent);
            intent
        }

        async fn open(&self, n: u128, end: i64) -> Intent {
            let intent = self.intend(n, end).await;
            self.counted.open(&intent, &self.group).await.unwrap();
            intent
        }

        async fn close(&self, intent: &Intent) -> Presence {
            self.ledger.end(intent.recipe.grant);
            self.counted.close(&intent.recipe, &self.group).await.unwrap();
            self.counted.verify(&intent.recipe, &self.group).await
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn intent(n: u128, end: i64, shared: &Shared) -> Intent {
        let grant = GrantId::new(ulid::Ulid::from_parts(1, n));
        Intent {
            recipe: Recipe { grant, object: object_name(grant), data: json!({ "shared": shared }) },
            holder: IdentityId::new(ulid::Ulid::from_parts(1, 1)),
            holder_name: "ana".into(),
            entitlement: "e".into(),
            parameters: Value::Null,
            not_after: at(end),
        }
    }

    #[tokio::test]
    async fn the_last_one_out_takes_the_membership_in_both_orders() {
        for longer_first in [false, true] {
            let w = World::new();
            let (short, long) = (w.open(1, 100).await, w.open(2, 200).await);
            assert!(!long.recipe.shared().unwrap().was_there, "the first grant is no standing membership");
            assert_eq!(w.group.until(), Some(at(200)));
            let (first, second) = if longer_first { (&long, &short) } else { (&short, &long) };
            assert!(matches!(w.close(first).await, Presence::Absent(_)));
            assert_eq!(w.group.until(), Some(second.not_after), "it lasts as long as the other grant, and no longer");
            assert!(matches!(w.counted.verify(&second.recipe, &w.group).await, Presence::Present(_)));
            assert!(matches!(w.close(second).await, Presence::Absent(_)));
            assert_eq!(w.group.until(), None);
        }
    }

    #[tokio::test]
    async fn a_standing_member_stays_one() {
        let w = World::new();
        w.group.put(Some(at(0)));
        let one = w.open(1, 100).await;
        assert!(one.recipe.shared().unwrap().was_there);
        assert_eq!(w.group.until(), Some(at(0)), "nothing is changed");
        assert!(matches!(w.close(&one).await, Presence::Absent(_)));
        assert!(w.group.until().is_some());
    }

    #[tokio::test]
    async fn a_standing_membership_that_goes_is_not_made_again() {
        let w = World::new();
        w.group.put(Some(at(0)));
        let standing = w.open(1, 100).await;
        w.group.put(None);
        assert!(matches!(w.counted.open(&standing, &w.group).await, Err(Fault::Refused(_))));
        // A grant that opens it now takes it away again, although the first one is still there.
        let ours = w.open(2, 100).await;
        assert!(!ours.recipe.shared().unwrap().was_there);
        assert!(matches!(w.close(&ours).await, Presence::Absent(_)));
        assert_eq!(w.group.until(), None);
    }

    #[tokio::test]
    async fn a_grant_that_begins_while_another_ends_keeps_its_membership() {
        let w = World::new();
        let one = w.open(1, 100).await;
        let two = intent(2, 200, &Shared { key: "ops/ana".into(), was_there: false });
        let (ledger, late) = (Arc::clone(&w.ledger), two.clone());
        // Its intent and its call come after the ending one has counted, and before its removal.
        *w.group.between.lock().unwrap() = Some(Box::new(move |group| {
            ledger.intend("t", &late);
            group.put(None);
        }));
        assert!(matches!(w.close(&one).await, Presence::Absent(_)));
        assert_eq!(w.group.until(), Some(at(200)));
        assert!(matches!(w.close(&two).await, Presence::Absent(_)));
        assert_eq!(w.group.until(), None);
    }

    #[tokio::test]
    async fn two_that_end_together_leave_nobody_in() {
        let w = World::new();
        let (one, two) = (w.open(1, 100).await, w.open(2, 100).await);
        let (ledger, other) = (Arc::clone(&w.ledger), two.recipe.grant);
        *w.group.between.lock().unwrap() = Some(Box::new(move |_| ledger.end(other)));
        assert!(matches!(w.close(&one).await, Presence::Absent(_)));
        assert_eq!(w.group.until(), None);
        assert!(matches!(w.close(&two).await, Presence::Absent(_)));
    }

    #[tokio::test]
    async fn a_target_that_does_nothing_is_not_believed() {
        let w = World::new();
        let one = w.open(1, 100).await;
        w.ledger.end(one.recipe.grant);
        assert!(matches!(w.counted.verify(&one.recipe, &w.group).await, Presence::Present(_)));
        w.ledger.set_mood(crate::connectors::fakes::Mood::Failing);
        assert!(matches!(w.counted.verify(&one.recipe, &w.group).await, Presence::Unknown(_)));
        assert!(matches!(w.counted.close(&one.recipe, &w.group).await, Err(Fault::Unavailable(_))));
    }
}
