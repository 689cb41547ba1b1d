//! Bring one account to what it should be, and read back what it is then.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{super::bulkhead::Purpose, Downstream, wanted::Wanted};
use crate::{
    domain::{
        account::{Account, Desired},
        id::IdentityId,
    },
    ports::{
        application::{Application, Changed, Created, Key},
        connector::Fault,
    },
    store::Store,
};

/// Something that was done there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    Created,
    Adopted,
    Updated(Vec<String>),
    Joined(String),
    Left(String),
    Deactivated,
    Ordered(Vec<String>),
    Deleted,
}

impl Deed {
    pub(super) const fn action(&self) -> &'static str {
        match self {
            Self::Created => "account.created",
            Self::Adopted => "account.adopted",
            Self::Updated(_) => "account.updated",
            Self::Joined(_) => "account.joined",
            Self::Left(_) => "account.left",
            Self::Deactivated => "account.deactivated",
            Self::Ordered(_) => "devices.ordered",
            Self::Deleted => "account.deleted",
        }
    }

    pub(super) fn details(&self) -> Value {
        match self {
            Self::Updated(attributes) => json!({"attributes": attributes}),
            Self::Ordered(devices) => json!({"devices": devices}),
            Self::Joined(group) | Self::Left(group) => json!({"group": group}),
            _ => json!({}),
        }
    }
}

/// What was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Verified(Value),
    /// The application said that it is done, and it does not look so.
    Differs(String),
}

/// What came of it, whether it went through or not: what was done stays done.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    pub(super) remote_id: Option<String>,
    pub(super) deeds: Vec<Deed>,
}

/// One account on its way.
pub(super) struct Alignment<'a> {
    pub(super) app: &'a Downstream,
    pub(super) speaks: &'a dyn Application,
    pub(super) ledger: &'a Store,
    /// The ledger's key of the account.
    pub(super) key: &'a str,
    /// The ledger's name for it there.
    pub(super) remote_id: Option<&'a str>,
    /// Groups there that are lent: left as they are.
    pub(super) lent: &'a BTreeSet<String>,
    pub(super) done: Aligned,
}

impl Alignment<'_> {
    /// Do it.
    pub(super) async fn run(&mut self, wanted: &Wanted) -> Result<Verdict, Fault> {
        self.done.remote_id = self.remote_id.map(str::to_owned);
        match wanted {
            Wanted::Present(desired) => self.present(desired).await,
            Wanted::Inactive { external_id, user_name, also_known_as } => {
                self.inactive(external_id, user_name.as_deref(), also_known_as.as_deref()).await
            }
            Wanted::Deleted { external_id } => self.deleted(external_id).await,
            Wanted::Nothing => Ok(Verdict::Verified(json!({}))),
        }
    }

    async fn read(&self, purpose: Purpose, id: &str) -> Result<Option<Account>, Fault> {
        self.app.call(purpose, self.speaks.read(id)).await
    }

    async fn find(&self, purpose: Purpose, key: Key<'_>) -> Result<Option<Account>, Fault> {
        self.app.call(purpose, self.speaks.find(key)).await
    }

    /// The account that is somebody's already, unless the ledger knows it as another's: that one is not touched.
    async fn look_up(
        &self,
        purpose: Purpose,
        external_id: &str,
        also_known_as: Option<&str>,
        user_name: Option<&str>,
    ) -> Result<Option<Account>, Fault> {
        let Some(found) = self.candidate(purpose, external_id, also_known_as, user_name).await? else {
            return Ok(None);
        };
        let known = self.ledger.account_by_remote(&self.app.config.id, &found.remote_id).await;
        let known = known.map_err(|e| Fault::Unavailable(format!("the ledger could not be asked whose it is: {e}")))?;
        match known.filter(|row| row.key != self.key) {
            None => Ok(Some(found)),
            // Found by a name that is another's by now: none that this one could have left behind.
            Some(_) if purpose == Purpose::Revoke && found.external_id.as_deref() != Some(external_id) => Ok(None),
            Some(row) => Err(Fault::Foreign(format!("the account {} is that of {} already", found.remote_id, row.key))),
        }
    }

    /// The account that is somebody's by our name for it, or by the name at sign-in, with or without the source's own id.
    async fn candidate(
        &self,
        purpose: Purpose,
        external_id: &str,
        also_known_as: Option<&str>,
        user_name: Option<&str>,
    ) -> Result<Option<Account>, Fault> {
        if let Some(found) = self.find(purpose, Key::ExternalId(external_id)).await? {
            return Ok(Some(found));
        }
        // What a source calls somebody proves nothing alone: another source may call them the same.
        if let Some((other, name)) = also_known_as.zip(user_name)
            && let Some(found) = self.find(purpose, Key::ExternalId(other)).await?
            && found.user_name.to_lowercase() == name.to_lowercase()
        {
            return Ok(Some(found));
        }
        let Some(user_name) = user_name else { return Ok(None) };
        let Some(found) = self.find(purpose, Key::UserName(user_name)).await? else { return Ok(None) };
        match found.external_id.as_deref() {
            None => Ok(Some(found)),
            // The name is somebody else's by now, so the account is none that this one could have left behind.
            Some(id) if purpose == Purpose::Revoke && id.parse::<IdentityId>().is_ok() => Ok(None),
            Some(id) if id.parse::<IdentityId>().is_ok() => Err(Fault::Foreign(format!(
                "the user name `{user_name}` is that of the account {} of somebody else ({id})",
                found.remote_id
            ))),
            Some(_) if self.app.config.adopt_claimed => Ok(Some(found)),
            Some(_) => Err(Fault::Foreign(format!(
                "the account {} of that user name bears an external id that is not ours; set `adopt_claimed = true` if \
                 it is to be taken over",
                found.remote_id
            ))),
        }
    }

    async fn present(&mut self, desired: &Desired) -> Result<Verdict, Fault> {
        let mut found = match self.remote_id {
            Some(id) => self.read(Purpose::Issue, id).await?,
            None => None,
        };
        if found.is_none() {
            self.done.remote_id = None;
            let (known, name) = (desired.also_known_as.as_deref(), desired.user_name.as_str());
            found = self.look_up(Purpose::Issue, &desired.external_id, known, Some(name)).await?;
            if let Some(found) = &found {
                self.adopt(found);
            }
        }
        let is = match found {
            Some(is) => is,
            None => match self.create(desired).await? {
                Ok(made) => made,
                Err(why) => return Ok(Verdict::Differs(why)),
            },
        };
        let differences = desired.differences(&is);
        if !differences.is_empty() {
            match self.app.call(Purpose::Issue, self.speaks.update(&is, desired, &differences)).await? {
                Changed::Done => {
                    self.done.deeds.push(Deed::Updated(differences.into_iter().map(|d| d.attribute).collect()));
                }
                Changed::Gone => return Ok(Verdict::Differs("it went away while it was changed".to_owned())),
            }
        }
        self.groups(desired, &is.remote_id).await?;
        crate::failpoint::hit("sync.after_call");
        let Some(now) = self.read(Purpose::Issue, &is.remote_id).await? else {
            return Ok(Verdict::Differs("the account does not show".to_owned()));
        };
        let left: Vec<String> = desired.differences(&now).into_iter().map(|d| d.attribute).collect();
        if !left.is_empty() {
            return Ok(Verdict::Differs(format!("read back, it still differs in {}", left.join(", "))));
        }
        let groups = match self.memberships(&is.remote_id).await? {
            Ok(groups) => groups,
            Err(missing) => return Err(Fault::Refused(missing)),
        };
        let fits = |g: &String| groups.contains(g) == desired.groups.contains(g) || self.lent.contains(g);
        if let Some(wrong) = self.app.config.groups.values().find(|g| !fits(g)) {
            return Ok(Verdict::Differs(format!("read back, the membership in `{wrong}` is not as it should be")));
        }
        Ok(Verdict::Verified(json!({
            "remote_id": now.remote_id, "external_id": now.external_id, "active": now.active, "groups": groups,
            "lent": self.lent,
        })))
    }

    fn adopt(&mut self, found: &Account) {
        self.done.remote_id = Some(found.remote_id.clone());
        self.done.deeds.push(Deed::Adopted);
    }

    /// The account, or why it does not show.
    async fn create(&mut self, desired: &Desired) -> Result<Result<Account, String>, Fault> {
        crate::failpoint::hit("sync.before_create");
        let created = self.app.call(Purpose::Issue, self.speaks.create(desired)).await?;
        crate::failpoint::hit("sync.after_create");
        let found = match &created {
            Created::Made(Some(id)) => self.read(Purpose::Issue, id).await?,
            Created::Made(None) => self.find(Purpose::Issue, Key::ExternalId(&desired.external_id)).await?,
            // Our own of an earlier try whose answer was lost, or somebody made one by hand a moment ago.
            Created::Taken => {
                let (known, name) = (desired.also_known_as.as_deref(), desired.user_name.as_str());
                self.look_up(Purpose::Issue, &desired.external_id, known, Some(name)).await?
            }
        };
        match (created, found) {
            (Created::Made(_), Some(made)) => {
                self.done.remote_id = Some(made.remote_id.clone());
                self.done.deeds.push(Deed::Created);
                Ok(Ok(made))
            }
            (Created::Taken, Some(there)) => {
                self.adopt(&there);
                Ok(Ok(there))
            }
            (Created::Made(id), None) => {
                self.done.remote_id = id;
                Ok(Err("it said that the account was made, and does not show it".to_owned()))
            }
            (Created::Taken, None) => {
                Err(Fault::Refused(format!("it says that `{}` is taken, and does not show by whom", desired.user_name)))
            }
        }
    }

    /// Mapped groups that the account is in, or the name of one that is not there.
    async fn memberships(&self, remote_id: &str) -> Result<Result<BTreeSet<String>, String>, Fault> {
        let mut groups = BTreeSet::new();
        for name in self.app.config.groups.values().collect::<BTreeSet<_>>() {
            match self.app.call(Purpose::Issue, self.speaks.group(name)).await? {
                Some(group) if group.members.contains(remote_id) => {
                    groups.insert(name.clone());
                }
                Some(_) => {}
                None => return Ok(Err(format!("it has no group `{name}`; make it there, or take it out of `groups`"))),
            }
        }
        Ok(Ok(groups))
    }

    async fn groups(&mut self, desired: &Desired, remote_id: &str) -> Result<(), Fault> {
        let app = self.app;
        for name in app.config.groups.values().collect::<BTreeSet<_>>() {
            if self.lent.contains(name) {
                continue;
            }
            let group = app.call(Purpose::Issue, self.speaks.group(name)).await?;
            let group = group.ok_or_else(|| {
                Fault::Refused(format!("it has no group `{name}`; make it there, or take it out of `groups`"))
            })?;
            match (desired.groups.contains(name), group.members.contains(remote_id)) {
                (true, false) => {
                    app.call(Purpose::Issue, self.speaks.join(&group.remote_id, remote_id)).await?;
                    self.done.deeds.push(Deed::Joined(name.clone()));
                }
                (false, true) => {
                    app.call(Purpose::Revoke, self.speaks.leave(&group.remote_id, remote_id)).await?;
                    self.done.deeds.push(Deed::Left(name.clone()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn inactive(
        &mut self,
        external_id: &str,
        user_name: Option<&str>,
        also_known_as: Option<&str>,
    ) -> Result<Verdict, Fault> {
        let mut found = match self.remote_id {
            Some(id) => self.read(Purpose::Revoke, id).await?,
            None => None,
        };
        if found.is_none() {
            // Also if the ledger knows one: it may have been made again under another id.
            found = self.look_up(Purpose::Revoke, external_id, also_known_as, user_name).await?;
        }
        let Some(is) = found else {
            self.done.remote_id = None;
            return Ok(Verdict::Verified(json!({"found": false, "looked_for": external_id})));
        };
        self.done.remote_id = Some(is.remote_id.clone());
        if is.active {
            self.app.call(Purpose::Revoke, self.speaks.deactivate(&is)).await?;
            self.done.deeds.push(Deed::Deactivated);
        }
        // The account first: with it nobody enrols another device.
        let taken = self.app.call(Purpose::Revoke, self.speaks.take_back(&is, true)).await?;
        if !taken.ordered.is_empty() {
            self.done.deeds.push(Deed::Ordered(taken.ordered));
        }
        crate::failpoint::hit("sync.after_call");
        let mut shown = match self.read(Purpose::Revoke, &is.remote_id).await? {
            Some(now) if now.active => return Ok(Verdict::Differs("read back, it is still active".to_owned())),
            Some(now) => json!({"remote_id": now.remote_id, "active": false}),
            None => json!({"remote_id": is.remote_id, "found": false}),
        };
        if !taken.open.is_empty() {
            let open = taken.open.join(", ");
            return Ok(Verdict::Differs(format!("not confirmed to be taken back: {open}")));
        }
        if let Value::Object(shown) = &mut shown
            && !taken.evidence.is_empty()
        {
            shown.insert("taken_back".to_owned(), Value::Array(taken.evidence));
        }
        Ok(Verdict::Verified(shown))
    }

    async fn deleted(&mut self, external_id: &str) -> Result<Verdict, Fault> {
        let found = match self.remote_id {
            Some(id) => self.read(Purpose::Revoke, id).await?,
            None => self.find(Purpose::Revoke, Key::ExternalId(external_id)).await?,
        };
        if let Some(is) = found {
            self.app.call(Purpose::Revoke, self.speaks.delete(&is.remote_id)).await?;
            self.done.deeds.push(Deed::Deleted);
            if self.read(Purpose::Revoke, &is.remote_id).await?.is_some() {
                return Ok(Verdict::Differs("read back, it is still there".to_owned()));
            }
        }
        self.done.remote_id = None;
        Ok(Verdict::Verified(json!({"found": false, "looked_for": external_id})))
    }
}
