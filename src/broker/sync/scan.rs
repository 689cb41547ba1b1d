//! Compare a whole application with the directory. Pages stream through: what is kept is one page, and sixteen bytes for
//! each account that was seen.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::json;

use super::{
    super::{Broker, BrokerError, bulkhead::Purpose, record::Cause},
    Downstream,
    view::{Action, Item, Report},
    wanted::{Wanted, wanted},
};
use crate::{
    domain::{
        account::{Account, AccountState, Desired, Difference, OrphanPolicy},
        id::{CorrelationId, IdentityId},
        provision::MadeBy,
        time::Timestamp,
    },
    ports::connector::Fault,
    store::{AT_ONCE, AccountRow, Facts, SyncRun},
};

/// Identities looked at in one go.
const IDENTITIES: u32 = 500;

/// So many of them are asked about at most before the run says that it goes on.
const ASKED: usize = 50;

/// What a comparison may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// Nothing.
    Plan,
    /// What is to be done is marked, and done by the worker.
    Apply,
    /// What the ledger knows of the accounts is brought up to date.
    Verify,
    /// Only what differs is noted.
    Drift,
}

impl Verb {
    pub(super) fn parse(text: &str) -> Option<Self> {
        [("plan", Self::Plan), ("apply", Self::Apply), ("verify", Self::Verify), ("drift", Self::Drift)]
            .into_iter()
            .find_map(|(name, verb)| (name == text).then_some(verb))
    }
}

/// One account of the page, with whose it is.
struct Seen {
    account: Account,
    row: Option<AccountRow>,
    facts: Option<Facts>,
}

/// What a page leaves to be written.
#[derive(Default)]
struct Writes {
    due: Vec<IdentityId>,
    /// Those of whom something is to be taken away.
    urgent: Vec<IdentityId>,
    orphans: Vec<String>,
    /// Whose account which one is, found by name.
    adopted: Vec<(IdentityId, String)>,
    states: Vec<(AccountRow, AccountState, serde_json::Value)>,
}

struct Scan<'a> {
    app: &'a Downstream,
    verb: Verb,
    cause: Cause,
    /// Members of the mapped groups there.
    members: BTreeMap<String, BTreeSet<String>>,
    seen: HashSet<u128>,
    report: Report,
    writes: Writes,
}

impl Broker {
    /// Compare, and mark or note what the verb allows.
    pub(super) async fn scan(&self, app: &Downstream, verb: Verb, run: &SyncRun) -> Result<Report, BrokerError> {
        let Some(speaks) = &app.speaks else { return self.scan_by_hand(app, verb, run).await };
        let mut scan = Scan {
            app,
            verb,
            cause: Cause { actor: run.actor, via: "sync", correlation: run.correlation, now: self.now() },
            members: BTreeMap::new(),
            seen: HashSet::new(),
            report: Report::default(),
            writes: Writes::default(),
        };
        for name in app.config.groups.values().cloned().collect::<BTreeSet<_>>() {
            let group = app.call(Purpose::Issue, speaks.group(&name)).await?;
            scan.members.insert(name, group.map(|g| g.members).unwrap_or_default());
        }
        let (mut after, mut first) = (None::<String>, None);
        loop {
            let page = app.call(Purpose::Issue, speaks.page(after.as_deref())).await?;
            let begins = page.accounts.first().map(|a| a.remote_id.clone());
            if begins.is_some() && begins == first {
                return Err(Fault::Unavailable("its list of accounts begins again and again".to_owned()).into());
            }
            first = begins;
            for part in page.accounts.chunks(AT_ONCE) {
                for seen in self.whose(app, part).await? {
                    self.look_at(&mut scan, seen).await?;
                }
            }
            self.write(&mut scan).await?;
            self.renew(run).await?;
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        self.look_for_missing(&mut scan, run).await?;
        Ok(scan.report)
    }

    /// Whose accounts these are.
    async fn whose(&self, app: &Downstream, accounts: &[Account]) -> Result<Vec<Seen>, BrokerError> {
        let now = self.now();
        let id = &app.config.id;
        let ids: Vec<&str> = accounts.iter().map(|a| a.remote_id.as_str()).collect();
        let known = self.store.accounts_by_remote(id, &ids, now).await?;
        let mut known: BTreeMap<String, (AccountRow, Option<Facts>)> =
            known.into_iter().filter_map(|(row, facts)| Some((row.remote_id.clone()?, (row, facts)))).collect();
        let mut seen = Vec::with_capacity(accounts.len());
        for account in accounts {
            let (row, facts) = match known.remove(&account.remote_id) {
                Some((row, facts)) => (Some(row), facts),
                None => (None, self.holder(app, account, now).await?),
            };
            seen.push(Seen { account: account.clone(), row, facts });
        }
        Ok(seen)
    }

    /// Whose an account is that the ledger does not know: by our name for it, or by the name at sign-in.
    async fn holder(&self, app: &Downstream, account: &Account, now: Timestamp) -> Result<Option<Facts>, BrokerError> {
        let claimed = account.external_id.as_deref();
        if let Some(id) = claimed.and_then(|id| id.parse::<IdentityId>().ok()) {
            return Ok(self.store.facts(id, now).await?);
        }
        let named = self.store.facts_by_name(&account.user_name, now).await?;
        let may_be = |f: &Facts| {
            let same = claimed.is_none() || claimed == f.subject.identity.external_id.as_deref();
            (same || app.config.adopt_claimed) && app.config.scope.holds(&f.subject, &f.standing)
        };
        Ok(named.filter(may_be))
    }

    async fn look_at(&self, scan: &mut Scan<'_>, seen: Seen) -> Result<(), BrokerError> {
        scan.report.read += 1;
        let Seen { account, row, facts } = seen;
        let Some(facts) = facts else {
            scan.orphan(&account, row.as_ref());
            return Ok(());
        };
        let identity = &facts.subject.identity;
        // An account by name is not the one that is looked for if the ledger knows another.
        let row = match row {
            Some(row) => Some(row),
            None => self.store.account(&scan.app.config.id, &identity.id.to_string()).await?,
        };
        scan.seen.insert(identity.id.ulid().0);
        let now = scan.cause.now;
        match wanted(&scan.app.config, &facts, row.as_ref(), true, now) {
            Wanted::Present(desired) => {
                let mut differences = desired.differences(&account);
                if !scan.app.config.groups.is_empty() {
                    let lent = self.lent(scan.app, &facts).await?;
                    differences.extend(scan.group_differences(&desired, &account.remote_id, &lent));
                }
                let adopted = row.as_ref().and_then(|r| r.remote_id.as_deref()) == Some(account.remote_id.as_str());
                let (action, reason) = match (adopted, differences.is_empty()) {
                    (false, _) => (Action::Adopt, "an account of that name is there, and is nobody's yet"),
                    (true, false) if !account.active => (Action::Update, "it is inactive, and its holder is not"),
                    (true, false) => (Action::Update, "it differs"),
                    (true, true) => return scan.fine(row.as_ref()),
                };
                scan.found(&facts, row, &account, action, reason, differences)
            }
            Wanted::Inactive { .. } if account.active => {
                let reason = if facts.subject.identity.active {
                    "its holder does not belong here any more"
                } else {
                    "its holder is deactivated"
                };
                scan.found(&facts, row, &account, Action::Deactivate, reason, Vec::new())
            }
            Wanted::Deleted { .. } => {
                scan.found(&facts, row, &account, Action::Delete, "it has been inactive for long enough", Vec::new())
            }
            Wanted::Inactive { .. } => {
                let open = self.left_open(scan, &account, row.as_ref()).await?;
                if open.is_empty() {
                    return scan.fine(row.as_ref());
                }
                let differences = open.into_iter().map(|what| Difference {
                    attribute: "device".to_owned(),
                    is: Some(what),
                    should: None,
                });
                let reason = "not all that hangs on it is confirmed to be taken back";
                scan.found(&facts, row, &account, Action::Deactivate, reason, differences.collect())
            }
            Wanted::Nothing => {
                scan.report.outside += 1;
                Ok(())
            }
        }
    }

    /// What hangs on an inactive account and is not confirmed to be taken back: asked where it is not known.
    async fn left_open(
        &self,
        scan: &Scan<'_>,
        account: &Account,
        row: Option<&AccountRow>,
    ) -> Result<Vec<String>, BrokerError> {
        let known = row.is_some_and(|r| matches!(r.state, AccountState::Aligned | AccountState::Corrected));
        match &scan.app.speaks {
            Some(speaks) if !known => Ok(scan.app.call(Purpose::Issue, speaks.take_back(account, false)).await?.open),
            _ => Ok(Vec::new()),
        }
    }

    /// Who should have an account, and was not listed: asked about one by one, for lists miss the newest.
    async fn look_for_missing(&self, scan: &mut Scan<'_>, run: &SyncRun) -> Result<(), BrokerError> {
        let app = scan.app;
        let Some(speaks) = &app.speaks else { return Ok(()) };
        let mut after = String::new();
        loop {
            let now = self.now();
            let page = self.store.scope_page(&app.config.id, &after, IDENTITIES, now).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.0.subject.identity.id.to_string();
            for (at, (facts, row)) in page.into_iter().enumerate() {
                // Each may take as long as a call may.
                if at % ASKED == ASKED - 1 {
                    self.renew(run).await?;
                }
                let identity = &facts.subject.identity;
                if scan.seen.contains(&identity.id.ulid().0) {
                    continue;
                }
                let known = row.as_ref().and_then(|r| r.remote_id.clone());
                let listed = match &known {
                    Some(id) => app.call(Purpose::Issue, speaks.read(id)).await?,
                    None => None,
                };
                if let Some(account) = listed {
                    self.look_at(scan, Seen { account, row, facts: Some(facts) }).await?;
                    continue;
                }
                if matches!(wanted(&app.config, &facts, row.as_ref(), false, now), Wanted::Present(_)) {
                    let reason = if known.is_some() { "it was there, and is gone" } else { "it is not there" };
                    scan.missing(&facts, row, reason);
                }
            }
            self.write(scan).await?;
            self.renew(run).await?;
        }
    }

    /// People know how the accounts stand there; what the ledger knows is compared.
    async fn scan_by_hand(&self, app: &Downstream, verb: Verb, run: &SyncRun) -> Result<Report, BrokerError> {
        let mut scan = Scan {
            app,
            verb,
            cause: Cause { actor: run.actor, via: "sync", correlation: run.correlation, now: self.now() },
            members: BTreeMap::new(),
            seen: HashSet::new(),
            report: Report::default(),
            writes: Writes::default(),
        };
        let mut after = String::new();
        loop {
            let now = self.now();
            let page = self.store.scope_page(&app.config.id, &after, IDENTITIES, now).await?;
            let Some(last) = page.last() else { return Ok(scan.report) };
            after = last.0.subject.identity.id.to_string();
            for (facts, row) in page {
                scan.report.read += 1;
                let wanted = wanted(&app.config, &facts, row.as_ref(), false, now);
                let pushed = row.as_ref().and_then(|r| r.pushed.as_deref());
                let action = match &wanted {
                    _ if pushed == Some(wanted.hash().as_str()) => Action::None,
                    Wanted::Present(_) if pushed.is_none() => Action::Create,
                    Wanted::Present(_) => Action::Update,
                    Wanted::Inactive { .. } if row.is_some() => Action::Deactivate,
                    Wanted::Deleted { .. } => Action::Delete,
                    Wanted::Inactive { .. } | Wanted::Nothing => Action::None,
                };
                if action == Action::None {
                    scan.report.aligned += 1;
                    continue;
                }
                let identity = &facts.subject.identity;
                let item = Item {
                    identity: Some(identity.id.to_string()),
                    name: identity.name.clone(),
                    remote_id: None,
                    action,
                    reason: "nobody has said that it is done".to_owned(),
                    differences: Vec::new(),
                };
                scan.report.add(item);
                if verb == Verb::Apply {
                    scan.writes.due.push(identity.id);
                }
            }
            self.write(&mut scan).await?;
            self.renew(run).await?;
        }
    }

    async fn write(&self, scan: &mut Scan<'_>) -> Result<(), BrokerError> {
        let writes = std::mem::take(&mut scan.writes);
        if writes.due.is_empty() && writes.urgent.is_empty() && writes.orphans.is_empty() && writes.states.is_empty() {
            return Ok(());
        }
        let id = &scan.app.config.id;
        let (cause, now) = (&scan.cause, self.now());
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                tx.accounts_due(id, &writes.urgent, true, cause.correlation, now).await?;
                tx.accounts_due(id, &writes.due, false, cause.correlation, now).await?;
                for (identity, remote) in &writes.adopted {
                    tx.know_account(id, *identity, remote).await?;
                }
                for remote in &writes.orphans {
                    tx.orphan_due(id, remote, cause.correlation, now).await?;
                }
                let mut verified = 0;
                for (row, state, details) in &writes.states {
                    let fine = *state == AccountState::Aligned;
                    if !tx.account_state(row, *state, fine.then_some(now)).await? {
                        continue;
                    }
                    verified += u64::from(fine);
                    let action = if fine { "account.verified" } else { "account.drift" };
                    self.note_account(&mut tx, cause, action, row, details.clone())?;
                }
                Ok::<_, BrokerError>(verified)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                scan.report.verified += result?;
                scan.report.marked += (writes.due.len() + writes.urgent.len() + writes.orphans.len()) as u64;
                self.wake();
                return Ok(());
            }
        }
    }

    /// A correlation for what begins by the clock.
    pub(super) fn fresh_correlation(&self, now: Timestamp) -> Result<CorrelationId, BrokerError> {
        Ok(CorrelationId::new(self.entropy.ulid(now)?))
    }
}

impl Scan<'_> {
    /// As it should be.
    #[allow(clippy::unnecessary_wraps, reason = "the last step of a look that can fail")]
    fn fine(&mut self, row: Option<&AccountRow>) -> Result<(), BrokerError> {
        self.report.aligned += 1;
        if self.verb == Verb::Verify
            && let Some(row) = row
            && !matches!(row.state, AccountState::Aligned | AccountState::Corrected)
        {
            self.writes.states.push((row.clone(), AccountState::Aligned, json!({"read_back": "as it should be"})));
        }
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, reason = "the last step of a look that can fail")]
    fn found(
        &mut self,
        facts: &Facts,
        row: Option<AccountRow>,
        account: &Account,
        action: Action,
        reason: &str,
        differences: Vec<Difference>,
    ) -> Result<(), BrokerError> {
        let identity = &facts.subject.identity;
        if let Some(row) = row {
            // Values are about people and stay out of the log.
            let differs: Vec<&str> = differences.iter().map(|d| d.attribute.as_str()).collect();
            self.drifted(row, json!({"action": action, "reason": reason, "differs": differs}));
        }
        if self.verb == Verb::Apply {
            let urgent = matches!(action, Action::Deactivate | Action::Delete);
            if urgent {
                self.writes.urgent.push(identity.id);
            } else {
                self.writes.due.push(identity.id);
            }
            // Where the sync makes accounts, whoever works on it finds it by itself.
            let by = self.app.config.provision.made_by(&facts.subject, &facts.standing);
            if action == Action::Adopt && by != MadeBy::Sync {
                self.writes.adopted.push((identity.id, account.remote_id.clone()));
            }
        }
        self.report.add(Item {
            identity: Some(identity.id.to_string()),
            name: identity.name.clone(),
            remote_id: Some(account.remote_id.clone()),
            action,
            reason: reason.to_owned(),
            differences,
        });
        Ok(())
    }

    fn missing(&mut self, facts: &Facts, row: Option<AccountRow>, reason: &str) {
        let identity = &facts.subject.identity;
        if let Some(row) = row {
            self.drifted(row, json!({"action": Action::Create, "reason": reason}));
        }
        if self.verb == Verb::Apply {
            self.writes.due.push(identity.id);
        }
        self.report.add(Item {
            identity: Some(identity.id.to_string()),
            name: identity.name.clone(),
            remote_id: None,
            action: Action::Create,
            reason: reason.to_owned(),
            differences: Vec::new(),
        });
    }

    /// What was known to be right, and is not.
    fn drifted(&mut self, row: AccountRow, details: serde_json::Value) {
        let known = matches!(row.state, AccountState::Aligned | AccountState::Corrected);
        if known && self.verb != Verb::Plan {
            self.writes.states.push((row, AccountState::Drifted, details));
        }
    }

    fn orphan(&mut self, account: &Account, row: Option<&AccountRow>) {
        if !account.active {
            self.report.outside += 1;
            return;
        }
        let deactivate = self.app.config.orphans == OrphanPolicy::Deactivate || row.is_some();
        let (action, reason) = if deactivate {
            (Action::Deactivate, "it is nobody's")
        } else {
            (Action::Orphan, "it is nobody's; set `orphans = \"deactivate\"` if such are to be deactivated")
        };
        if deactivate && self.verb == Verb::Apply {
            self.writes.orphans.push(account.remote_id.clone());
        }
        self.report.add(Item {
            identity: None,
            name: account.user_name.clone(),
            remote_id: Some(account.remote_id.clone()),
            action,
            reason: reason.to_owned(),
            differences: Vec::new(),
        });
    }

    fn group_differences(&self, desired: &Desired, remote_id: &str, lent: &BTreeSet<String>) -> Vec<Difference> {
        let mapped = self.members.iter().filter(|(name, _)| !lent.contains(*name));
        let differing = mapped.filter_map(|(name, members)| {
            let (is, should) = (members.contains(remote_id), desired.groups.contains(name));
            let word = |member: bool| member.then(|| name.clone());
            let differs = is != should;
            differs.then(|| Difference { attribute: "groups".to_owned(), is: word(is), should: word(should) })
        });
        differing.collect()
    }
}

impl From<&SyncRun> for Cause {
    fn from(run: &SyncRun) -> Self {
        Self { actor: run.actor, via: "sync", correlation: run.correlation, now: run.started_at }
    }
}

/// A fault of an application as the answer of a verb.
pub(super) fn fault_text(error: &BrokerError) -> String {
    match error {
        BrokerError::Target(Fault::Unavailable(why) | Fault::Refused(why) | Fault::Foreign(why)) => why.clone(),
        other => other.to_string(),
    }
}
