//! What an account should be now: from the directory, the mapping and the scope, and nothing else.

use std::collections::BTreeSet;

use ring::digest;
use serde_json::json;

use super::{super::BrokerError, Broker, Downstream};
use crate::{
    domain::{
        account::{ApplicationConfig, Desired},
        identity::Identity,
        provision::MadeBy,
        time::Timestamp,
    },
    store::{AccountRow, Facts},
};

/// What an account should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// There, active, and like this.
    Present(Desired),
    /// If it is there, nobody can sign in with it. By this name it is known if the ledger does not know it.
    Inactive {
        external_id: String,
        /// Under which it may be taken over, because its holder belongs here.
        user_name: Option<String>,
        also_known_as: Option<String>,
    },
    /// Deleted: it has been inactive for long enough.
    Deleted { external_id: String },
    /// None of our business.
    Nothing,
}

impl Wanted {
    /// A hash of it: the same as long as the same is wanted.
    pub(super) fn hash(&self) -> String {
        let text = match self {
            Self::Present(desired) => serde_json::to_string(desired).unwrap_or_default(),
            Self::Inactive { .. } => "inactive".to_owned(),
            Self::Deleted { .. } => "deleted".to_owned(),
            Self::Nothing => String::new(),
        };
        hex::encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
    }

    pub(super) const fn verb(&self) -> &'static str {
        match self {
            Self::Present(_) => "present",
            Self::Inactive { .. } => "inactive",
            Self::Deleted { .. } => "deleted",
            Self::Nothing => "nothing",
        }
    }

    /// For people: what it should be.
    pub(super) fn details(&self) -> serde_json::Value {
        match self {
            Self::Present(desired) => json!(desired),
            other => json!({"should_be": other.verb()}),
        }
    }
}

fn is_here(identity: &Identity) -> bool {
    identity.active && identity.deleted_at.is_none()
}

/// What somebody's account should be. `row` is what the ledger knows of it; `there`: it was seen at the application.
pub(super) fn wanted(
    config: &ApplicationConfig,
    facts: &Facts,
    row: Option<&AccountRow>,
    there: bool,
    now: Timestamp,
) -> Wanted {
    let identity = &facts.subject.identity;
    let belongs = config.scope.holds(&facts.subject, &facts.standing);
    if belongs && is_here(identity) {
        let kept = there || row.is_some_and(|r| r.remote_id.is_some() || r.pushed.is_some());
        let made = match config.provision.made_by(&facts.subject, &facts.standing) {
            MadeBy::Sync => true,
            MadeBy::Login => facts.seen,
            MadeBy::Nobody => false,
        };
        if !kept && !made {
            return Wanted::Nothing;
        }
        return Wanted::Present(config.desired(&facts.subject, &facts.standing));
    }
    // An account was or may have been made: a row that is not new stands for a try.
    let known = row.is_some_and(|r| r.remote_id.is_some() || r.pushed.is_some() || r.epoch > 1);
    if !known && !belongs {
        return Wanted::Nothing;
    }
    let external_id = identity.id.to_string();
    let since = row.and_then(|r| r.deactivated_at);
    if since.zip(config.delete_after).is_some_and(|(since, after)| since.plus(after) <= now) {
        return Wanted::Deleted { external_id };
    }
    // A deleted identity has given its name away.
    let by_name = belongs && identity.deleted_at.is_none();
    Wanted::Inactive {
        external_id,
        user_name: by_name.then(|| identity.name.clone()),
        also_known_as: identity.external_id.clone().filter(|_| belongs),
    }
}

impl Broker {
    /// Groups there that somebody is in by a temporary membership of the ledger: neither added nor removed from here.
    pub(super) async fn lent(&self, app: &Downstream, facts: &Facts) -> Result<BTreeSet<String>, BrokerError> {
        let mut lent = BTreeSet::new();
        // In the built-in directory, in a group that is one there.
        for (ours, theirs) in &app.config.groups {
            let ours = ours.to_lowercase();
            if facts.subject.groups.contains(&ours) && !facts.standing.contains(&ours) {
                lent.insert(theirs.clone());
            }
        }
        if app.lends.is_empty() {
            return Ok(lent);
        }
        for (target, parameters) in self.store.live_parameters(facts.subject.identity.id).await? {
            if app.lends.contains(&target)
                && let Some(group) = parameters.get("group").and_then(serde_json::Value::as_str)
            {
                lent.insert(group.to_owned());
            }
        }
        Ok(lent)
    }
}
