//! Temporary membership of IAM users in groups of one AWS account.
//!
//! IAM keeps a membership once and bears no mark, so grants on it are counted in the ledger (`connectors::membership`).
//! Never makes a user or a group, and never takes out a member that no grant has put in.

mod config;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};

use self::config::{Parameters, Settings};
use super::{
    BuildError, Parts,
    aws::{Account, Arn, finding, judged, look_at_caller},
    membership::{Counted, Seat, Seen, shared},
};
use crate::{
    domain::{
        capability::{Description, RevocationClass, Rights},
        catalog::TargetConfig,
        grant::{Claim, Intent, Recipe, Shared, object_name},
        id::GrantId,
        secret::Minted,
        time::Timestamp,
    },
    ports::{
        connector::{BadParameters, Connector, Fault, Finding, Found, Presence, Wish},
        holdings::Holdings,
    },
};

/// The kind's name in configuration.
pub const KIND: &str = "aws_iam_group";

/// Name of a user that never exists.
const PROBE: &str = "tidegate-check";

/// Groups of one account.
pub struct AwsIamGroup {
    target: String,
    settings: Settings,
    groups: Vec<Arn>,
    account: Account,
    counted: Counted,
    ledger: Arc<dyn Holdings>,
}

/// One user's place in one group.
struct Place<'a> {
    account: &'a Account,
    group: String,
    user: String,
}

/// From configuration.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    let bad = |text: String| BuildError::settings(config, text);
    let (settings, groups) = Settings::read(config).map_err(bad)?;
    let partition = groups.first().map(Arn::partition).unwrap_or_default().to_owned();
    let account = Account::new(&settings.broker, &partition, config, parts).map_err(bad)?;
    Ok(Arc::new(AwsIamGroup {
        target: config.id.to_string(),
        settings,
        groups,
        account,
        counted: Counted::new(config.id.to_string(), Arc::clone(&parts.holdings)),
        ledger: Arc::clone(&parts.holdings),
    }))
}

/// The natural key of a membership: neither name can hold a slash.
fn key(group: &str, user: &str) -> String {
    format!("{group}/{user}")
}

impl AwsIamGroup {
    /// The place that a recipe is about.
    fn place(&self, recipe: &Recipe) -> Result<Place<'_>, Fault> {
        let shared = shared(recipe)?;
        let unreadable = || Fault::Refused("the recipe cannot be read: its key is not group/user".into());
        let (group, user) = shared.key.split_once('/').ok_or_else(unreadable)?;
        Ok(Place { account: &self.account, group: group.to_owned(), user: user.to_owned() })
    }

    async fn look_at(&self, group: &Arn) -> Result<Vec<Finding>, Fault> {
        let name = group.name();
        let Some(members) = self.account.group_members(name).await? else {
            let fix = format!("aws iam create-group --group-name {name}");
            return Ok(vec![finding(&format!("group {name}"), false, "there is no such group".into(), fix)]);
        };
        let mut findings =
            vec![finding(&format!("group {name}"), true, format!("{} members", members.len()), String::new())];
        // Neither has an effect: the user does not exist.
        let add = self.account.add_to_group(name, PROBE).await;
        let remove = self.account.remove_from_group(name, PROBE).await;
        let list = self.account.groups_of(PROBE).await.map(drop);
        for (right, answer) in
            [("iam:AddUserToGroup", add), ("iam:RemoveUserFromGroup", remove), ("iam:ListGroupsForUser", list)]
        {
            let (ok, detail) = judged(right, answer)?;
            let fix = format!("attach to the broker: {}", config::rights(std::slice::from_ref(group)));
            findings.push(finding(&format!("may change {name}: {right}"), ok, detail, fix));
        }
        Ok(findings)
    }
}

#[async_trait]
impl Seat for Place<'_> {
    async fn look(&self) -> Result<Seen, Fault> {
        let groups = self.account.groups_of(&self.user).await?;
        let present = groups.as_ref().is_some_and(|groups| groups.contains(&self.group));
        let details = json!({ "user_exists": groups.is_some(), "listed": present });
        Ok(Seen { present, marks: BTreeSet::new(), details })
    }

    async fn take(&self, _grant: GrantId, _until: Timestamp) -> Result<(), Fault> {
        let taken = self.account.add_to_group(&self.group, &self.user).await;
        crate::failpoint::hit("aws_iam_group.taken");
        Ok(taken?)
    }

    async fn leave(&self, _grant: GrantId, last: bool) -> Result<(), Fault> {
        if last {
            self.account.remove_from_group(&self.group, &self.user).await?;
            crate::failpoint::hit("aws_iam_group.left");
        }
        Ok(())
    }
}

#[async_trait]
impl Connector for AwsIamGroup {
    fn describe(&self) -> Description {
        let window = self.settings.propagation_seconds;
        Description {
            kind: KIND.into(),
            summary: "Temporary membership of an IAM user in a group of an AWS account".into(),
            revocation_class: RevocationClass::Propagating,
            native_expiry: false,
            read_back: true,
            cuts_sessions: false,
            mints_secrets: false,
            replaces_copies: false,
            residual_window_seconds: window,
            residual_window: format!(
                "AWS asks for a user's groups at every call, and hears of a change within seconds as a rule; {window} s \
                 are counted. With the broker dead the membership stays: the entitlement must say allow_no_backstop."
            ),
            enforcement_seconds: 30,
            rights: Rights::statements(
                "For the broker's user or role. Whoever may change a group's members may give its rights to any user of \
                 the account.",
                "json",
                config::rights(&self.groups),
            ),
            after_crash: "The user in the group. IAM bears no mark: the grant's intent in the ledger names group and \
                          user, and the membership is taken away by it. Members that no grant has put in are not \
                          touched, so one that was planted by hand is not taken for ours."
                .into(),
        }
    }

    fn validate(&self, parameters: &Value) -> Result<(), BadParameters> {
        Parameters::read(parameters, &self.settings).map(|_| ())
    }

    async fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let of = self.groups.first().map(Arn::account).unwrap_or_default();
        if look_at_caller(&self.account, of, &mut findings).await.is_none() {
            return findings;
        }
        for group in &self.groups {
            match self.look_at(group).await {
                Ok(found) => findings.extend(found),
                Err(e) => {
                    let fix = format!("attach to the broker: {}", config::rights(std::slice::from_ref(group)));
                    findings.push(finding(&format!("group {}", group.name()), false, e.to_string(), fix));
                }
            }
        }
        findings
    }

    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault> {
        let wanted = Parameters::read(&wish.parameters, &self.settings).map_err(|e| Fault::Refused(e.0))?;
        let user = self.settings.user_of(&wish.holder_name).map_err(Fault::Refused)?;
        let group = wanted.group.name().to_owned();
        if self.account.groups_of(&user).await?.is_none() {
            return Err(Fault::Refused(format!("the account has no IAM user `{user}`")));
        }
        let place = Place { account: &self.account, group: group.clone(), user: user.clone() };
        let shared: Shared = self.counted.prior(key(&group, &user), &place).await?;
        Ok(Recipe { grant: wish.grant, object: object_name(wish.grant), data: json!({ "shared": shared }) })
    }

    async fn activate(&self, intent: &Intent) -> Result<Value, Fault> {
        self.counted.open(intent, &self.place(&intent.recipe)?).await
    }

    async fn mint(&self, _intent: &Intent, _claim: &Claim) -> Result<Minted, Fault> {
        Err(Fault::Refused("a membership has no credential: it holds as it is".into()))
    }

    async fn revoke(&self, recipe: &Recipe) -> Result<(), Fault> {
        self.counted.close(recipe, &self.place(recipe)?).await
    }

    /// IAM answers from many copies, so one "absent" is asked for again after a while.
    async fn verify(&self, recipe: &Recipe) -> Presence {
        let place = match self.place(recipe) {
            Ok(place) => place,
            Err(e) => return Presence::Unknown(e.to_string()),
        };
        let Presence::Absent(first) = self.counted.verify(recipe, &place).await else {
            return self.counted.verify(recipe, &place).await;
        };
        tokio::time::sleep(Duration::from_secs(u64::from(self.settings.between_looks_seconds))).await;
        match self.counted.verify(recipe, &place).await {
            Presence::Absent(second) => Presence::Absent(json!({
                "looks": [first, second],
                "seconds_between": self.settings.between_looks_seconds,
            })),
            other => other,
        }
    }

    /// What the ledger knows of the groups' members; the others are nobody's business here.
    async fn sweep(&self) -> Result<Vec<Found>, Fault> {
        let mut found = Vec::new();
        for group in &self.groups {
            for user in self.account.group_members(group.name()).await?.unwrap_or_default() {
                let key = key(group.name(), &user);
                for held in self.ledger.holdings(&self.target, &key).await?.iter().filter(|h| !h.was_there) {
                    let shared = Shared { key: key.clone(), was_there: false };
                    found.push(Found {
                        object: object_name(held.grant),
                        grant: held.grant,
                        native_expiry: None,
                        data: json!({ "shared": shared }),
                    });
                }
            }
        }
        Ok(found)
    }
}
