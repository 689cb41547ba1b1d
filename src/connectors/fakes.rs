//! A ledger and a directory in memory, for tests of connectors. They can be told to fail and to hang.

use std::{
    collections::{BTreeMap, BTreeSet},
    future,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    domain::{
        grant::{Claim, Intent, Shared},
        id::{GrantId, IdentityId},
        time::Timestamp,
    },
    ports::{
        directory::{Directory, DirectoryError, Membership},
        holdings::{Holding, Holdings, HoldingsError},
        revocations::{Issued, Revocations, RevocationsError},
    },
};

/// How a fake answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// With an error.
    Failing,
    /// Not at all.
    Hanging,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the store would know of minted credentials.
#[derive(Debug, Default)]
pub struct FakeLedger(Mutex<LedgerRows>);

#[derive(Debug, Default)]
struct LedgerRows {
    issued: Vec<(String, Issued)>,
    intents: Vec<(String, Shared, Holding)>,
    ended: BTreeSet<GrantId>,
    mood: Mood,
}

impl LedgerRows {
    fn superseded(&self, one: &Issued) -> bool {
        self.ended.contains(&one.grant)
            || self.issued.iter().any(|(_, other)| other.grant == one.grant && other.number > one.number)
    }
}

impl FakeLedger {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// Record a claim before it is minted, as the broker does.
    pub fn issue(&self, target: &str, intent: &Intent, at: Timestamp) -> Claim {
        let mut rows = lock(&self.0);
        let grant = intent.recipe.grant;
        let serial = u64::try_from(rows.issued.len()).unwrap_or(u64::MAX).saturating_add(1);
        let earlier = rows.issued.iter().filter(|(_, i)| i.grant == grant).count();
        let number = u32::try_from(earlier).unwrap_or(u32::MAX).saturating_add(1);
        rows.issued.push((target.to_owned(), Issued { serial, grant, number, expires_at: intent.not_after }));
        Claim { serial, number, at }
    }

    /// Record an intent before the target is called, as the broker does; again with a later end.
    pub fn intend(&self, target: &str, intent: &Intent) {
        let Some(shared) = intent.recipe.shared() else { return };
        let mut rows = lock(&self.0);
        let grant = intent.recipe.grant;
        rows.intents.retain(|(_, _, other)| other.grant != grant);
        let holding = Holding { grant, live: true, not_after: intent.not_after, was_there: shared.was_there };
        rows.intents.push((target.to_owned(), shared, holding));
    }

    /// The grant is no longer active.
    pub fn end(&self, grant: GrantId) {
        lock(&self.0).ended.insert(grant);
    }

    /// Answer like this from now on.
    pub fn set_mood(&self, mood: Mood) {
        lock(&self.0).mood = mood;
    }

    async fn mood(&self) -> Result<(), RevocationsError> {
        let mood = lock(&self.0).mood;
        match mood {
            Mood::Well => Ok(()),
            Mood::Failing => Err(RevocationsError("the fake ledger was told to fail".into())),
            Mood::Hanging => future::pending().await,
        }
    }
}

#[async_trait]
impl Revocations for FakeLedger {
    async fn revoked(&self, target: &str, now: Timestamp) -> Result<Vec<Issued>, RevocationsError> {
        self.mood().await?;
        let rows = lock(&self.0);
        let mine = rows.issued.iter().filter(|(of, i)| of == target && i.expires_at > now && rows.superseded(i));
        let mut revoked: Vec<_> = mine.map(|(_, i)| *i).collect();
        revoked.sort_by_key(|i| i.serial);
        Ok(revoked)
    }

    async fn is_live(&self, grant: GrantId, number: u32, now: Timestamp) -> Result<bool, RevocationsError> {
        self.mood().await?;
        let rows = lock(&self.0);
        let found = rows.issued.iter().find(|(_, i)| i.grant == grant && i.number == number);
        Ok(found.is_some_and(|(_, i)| i.expires_at > now && !rows.superseded(i)))
    }

    async fn last_expiry(&self, grant: GrantId) -> Result<Option<Timestamp>, RevocationsError> {
        self.mood().await?;
        let rows = lock(&self.0);
        Ok(rows.issued.iter().filter(|(_, i)| i.grant == grant).map(|(_, i)| i.expires_at).max())
    }
}

#[async_trait]
impl Holdings for FakeLedger {
    async fn holdings(&self, target: &str, key: &str) -> Result<Vec<Holding>, HoldingsError> {
        self.mood().await.map_err(|e| HoldingsError(e.0))?;
        let rows = lock(&self.0);
        let mine = rows.intents.iter().filter(|(of, shared, _)| of == target && shared.key == key);
        let mut held: Vec<Holding> = mine
            .filter(|(_, _, holding)| !rows.ended.contains(&holding.grant))
            .map(|(_, _, holding)| *holding)
            .collect();
        held.sort_by_key(|holding| holding.grant);
        Ok(held)
    }
}

/// A directory with groups, standing members and temporary rows.
#[derive(Debug, Default)]
pub struct FakeDirectory(Mutex<DirectoryRows>);

#[derive(Debug, Default)]
struct DirectoryRows {
    groups: BTreeSet<String>,
    standing: BTreeSet<(String, IdentityId)>,
    temporary: BTreeMap<(String, IdentityId, GrantId), Timestamp>,
    mood: Mood,
    deaf: bool,
}

impl FakeDirectory {
    /// With these groups and no member.
    pub fn with_groups(groups: &[&str]) -> Self {
        let groups = groups.iter().map(|g| (*g).to_owned()).collect();
        Self(Mutex::new(DirectoryRows { groups, ..DirectoryRows::default() }))
    }

    /// Make somebody a standing member.
    pub fn add_standing(&self, group: &str, identity: IdentityId) {
        lock(&self.0).standing.insert((group.to_owned(), identity));
    }

    /// Is `identity` in `group` for a decision at `now`? Temporary rows past their end do not count.
    pub fn decides(&self, group: &str, identity: IdentityId, now: Timestamp) -> bool {
        let rows = lock(&self.0);
        rows.standing.contains(&(group.to_owned(), identity))
            || rows.temporary.iter().any(|((g, i, _), end)| g == group && *i == identity && *end > now)
    }

    /// Answer like this from now on.
    pub fn set_mood(&self, mood: Mood) {
        lock(&self.0).mood = mood;
    }

    /// Say OK to every change from now on, and change nothing.
    pub fn set_deaf(&self, deaf: bool) {
        lock(&self.0).deaf = deaf;
    }

    async fn mood(&self) -> Result<(), DirectoryError> {
        let mood = lock(&self.0).mood;
        match mood {
            Mood::Well => Ok(()),
            Mood::Failing => Err(DirectoryError::Unavailable("the fake directory was told to fail".into())),
            Mood::Hanging => future::pending().await,
        }
    }
}

#[async_trait]
impl Directory for FakeDirectory {
    async fn membership(
        &self,
        group: &str,
        identity: IdentityId,
        grant: GrantId,
    ) -> Result<Membership, DirectoryError> {
        self.mood().await?;
        let rows = lock(&self.0);
        if !rows.groups.contains(group) {
            return Err(DirectoryError::NoSuchGroup(group.to_owned()));
        }
        let of_them = rows.temporary.keys().filter(|(g, i, _)| g == group && *i == identity);
        Ok(Membership {
            standing: rows.standing.contains(&(group.to_owned(), identity)),
            temporary: u32::try_from(of_them.count()).unwrap_or(u32::MAX),
            by_this_grant: rows.temporary.contains_key(&(group.to_owned(), identity, grant)),
        })
    }

    async fn add(
        &self,
        group: &str,
        identity: IdentityId,
        grant: GrantId,
        not_after: Timestamp,
    ) -> Result<(), DirectoryError> {
        self.mood().await?;
        let mut rows = lock(&self.0);
        if !rows.groups.contains(group) {
            return Err(DirectoryError::NoSuchGroup(group.to_owned()));
        }
        if !rows.deaf {
            rows.temporary.insert((group.to_owned(), identity, grant), not_after);
        }
        Ok(())
    }

    async fn remove(&self, group: &str, identity: IdentityId, grant: GrantId) -> Result<(), DirectoryError> {
        self.mood().await?;
        let mut rows = lock(&self.0);
        if !rows.deaf {
            rows.temporary.remove(&(group.to_owned(), identity, grant));
        }
        Ok(())
    }

    async fn temporary(&self) -> Result<Vec<(String, IdentityId, GrantId)>, DirectoryError> {
        self.mood().await?;
        Ok(lock(&self.0).temporary.keys().cloned().collect())
    }

    async fn group_exists(&self, group: &str) -> Result<bool, DirectoryError> {
        self.mood().await?;
        Ok(lock(&self.0).groups.contains(group))
    }
}
