//! Temporary membership of IAM users in groups of one AWS account.
//!
//! IAM keeps a membership once and bears no mark, so grants on it are counted in the ledger (`connectors::membership`).
//! Never makes a user or a group, and never takes out a member that no grant has put in.

mod config;
mod place;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};

use self::{
    config::{Parameters, Settings},
    place::{Data, Place},
};
use super::{
    BuildError, Parts,
    aws::{Account, Arn, finding, judged, look_at_caller},
    membership::Counted,
};
use crate::{
    domain::{
        capability::{Description, RevocationClass, Rights},
        catalog::TargetConfig,
        grant::{Claim, Intent, Recipe, object_name},
        secret::Minted,
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

/// From configuration.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    let bad = |text: String| BuildError::settings(config, text);
    let (settings, groups) = Settings::read(config).map_err(bad)?;
    let Some(first) = groups.first() else { return Err(bad("settings: `groups` names no group".into())) };
    let account = Account::new(&settings.broker, first, config, parts).map_err(bad)?;
    Ok(Arc::new(AwsIamGroup {
        target: config.id.to_string(),
        settings,
        groups,
        account,
        counted: Counted::new(config.id.to_string(), Arc::clone(&parts.holdings)),
        ledger: Arc::clone(&parts.holdings),
    }))
}

impl AwsIamGroup {
    fn place(&self, recipe: &Recipe) -> Result<Place<'_>, Fault> {
        Ok(Place { account: &self.account, data: Data::read(recipe)? })
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
        let user = self.account.user_id(PROBE).await.map(drop);
        let groups = self.account.groups().await.map(drop);
        for (right, answer) in [
            ("iam:AddUserToGroup", add),
            ("iam:RemoveUserFromGroup", remove),
            ("iam:ListGroupsForUser", list),
            ("iam:GetUser", user),
            ("iam:ListGroups", groups),
        ] {
            let (ok, detail) = judged(right, answer)?;
            let fix = format!("attach to the broker: {}", config::rights(std::slice::from_ref(group)));
            findings.push(finding(&format!("may change {name}: {right}"), ok, detail, fix));
        }
        Ok(findings)
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
        let Some(user_id) = self.account.user_id(&user).await? else {
            return Err(Fault::Refused(format!("the account has no IAM user `{user}`")));
        };
        let Some(group_id) = self.account.group_id(&group).await? else {
            return Err(Fault::Refused(format!("the account has no group `{group}`")));
        };
        let data = Data::new(group, user, group_id, user_id);
        let mut place = Place { account: &self.account, data };
        place.data.shared = self.counted.prior(place.data.shared.key.clone(), &place).await?;
        let data = serde_json::to_value(place.data).map_err(|e| Fault::Refused(e.to_string()))?;
        Ok(Recipe { grant: wish.grant, object: object_name(wish.grant), data })
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
        let first = match self.counted.verify(recipe, &place).await {
            Presence::Absent(first) => first,
            other => return other,
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
            let Some(members) = self.account.group_members(group.name()).await? else { continue };
            let group_id = self.account.group_id(group.name()).await?.unwrap_or_default();
            for user in members {
                let data = Data::new(group.name().to_owned(), user.name, group_id.clone(), user.id);
                // Older recipes know names only.
                for data in [data.by_names(), data] {
                    let held = self.ledger.holdings(&self.target, &data.shared.key).await?;
                    for held in held.iter().filter(|h| !h.was_there) {
                        found.push(Found {
                            object: object_name(held.grant),
                            grant: held.grant,
                            native_expiry: None,
                            data: serde_json::to_value(&data).map_err(|e| Fault::Refused(e.to_string()))?,
                        });
                    }
                }
            }
        }
        Ok(found)
    }

    fn places(&self) -> Vec<Vec<String>> {
        self.groups.iter().map(|group| vec![KIND.to_owned(), group.to_string()]).collect()
    }
}
