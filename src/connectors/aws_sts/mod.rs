//! Sessions of AWS roles (STS `AssumeRole`), denied by grant.
//!
//! AWS cannot take a session back. Every session carries the grant's name as its source identity, and the role carries
//! a deny for that name which takes effect at the grant's end, or as soon as it is revoked. A session that nobody knows
//! of, because the broker died while it was minted, is denied by the same name. Never touches any other policy.

mod check;
mod config;
mod deny;

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_sts::types::{PolicyDescriptorType, Tag};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::{
    config::{LONGEST_CHAINED, Parameters, SHORTEST, Settings},
    deny::{Deny, last_session_ends},
};
use super::{
    BuildError, Parts,
    aws::{Account, ApiError, Arn},
    call::{limit, within},
};
use crate::{
    domain::{
        capability::{Description, RevocationClass, Rights},
        catalog::TargetConfig,
        grant::{Claim, Intent, Recipe, grant_of_object, object_name},
        id::GrantId,
        secret::{Minted, Secret},
        time::{Timestamp, Ttl},
    },
    ports::{
        clock::Clock,
        connector::{BadParameters, Connector, DRIFT, Fault, Finding, Found, Presence, Wish},
        revocations::Revocations,
    },
};

/// The kind's name in configuration.
pub const KIND: &str = "aws_sts";

/// Calls at once of one sweep.
const WIDTH: usize = 8;

/// Roles of one account.
pub struct AwsSts {
    settings: Settings,
    roles: Vec<Arn>,
    account: Account,
    limit: std::time::Duration,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Revocations>,
}

/// What a recipe of this kind holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Data {
    role: String,
    /// What the deny bears; the target's, where an older recipe does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    /// Of an orphan, which the ledger does not know: when the last session that it may have has expired by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sessions_end: Option<Timestamp>,
}

/// What is at the role under a grant's name.
enum AtRole {
    Nothing,
    Ours(Deny),
    Foreign,
}

/// From configuration.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    let settings = |text: String| BuildError::settings(config, text);
    let (read, roles) = Settings::read(config).map_err(settings)?;
    let Some(first) = roles.first() else { return Err(settings("settings: `roles` names no role".into())) };
    let account = Account::new(&read.broker, first, config, parts).map_err(settings)?;
    Ok(Arc::new(AwsSts {
        settings: read,
        roles,
        account,
        limit: limit(config),
        clock: Arc::clone(&parts.clock),
        ledger: Arc::clone(&parts.revocations),
    }))
}

fn data(recipe: &Recipe) -> Result<(Data, Arn), Fault> {
    let unreadable = |e: &dyn std::fmt::Display| Fault::Refused(format!("the recipe cannot be read: {e}"));
    let data = Data::deserialize(&recipe.data).map_err(|e| unreadable(&e))?;
    let role = data.role.parse().map_err(|e: String| unreadable(&e))?;
    Ok((data, role))
}

fn drifted(mut evidence: Value) -> Value {
    let said = evidence.get("deny").cloned();
    if let (Some(fields), Some(said)) = (evidence.as_object_mut(), said) {
        fields.insert(DRIFT.into(), said);
    }
    evidence
}

fn foreign(role: &Arn, policy: &str) -> Fault {
    Fault::Foreign(format!("the policy {policy} of the role {} is not what Tidegate writes", role.name()))
}

impl AwsSts {
    fn parameters(&self, parameters: &Value) -> Result<Parameters, Fault> {
        Parameters::read(parameters, &self.settings).map_err(|e| Fault::Refused(e.0))
    }

    fn mark<'a>(&'a self, data: &'a Data) -> &'a str {
        data.mark.as_deref().unwrap_or(&self.settings.mark)
    }

    async fn at_role(&self, role: &Arn, recipe: &Recipe, data: &Data) -> Result<AtRole, Fault> {
        let found = self.account.role_policy(role.name(), &recipe.object).await?;
        Ok(found.map_or(AtRole::Nothing, |text| {
            Deny::read(&text, recipe.grant, self.mark(data)).map_or(AtRole::Foreign, AtRole::Ours)
        }))
    }

    async fn put(&self, role: &Arn, grant: GrantId, data: &Data, deny: Deny) -> Result<(), ApiError> {
        let (name, document) = (object_name(grant), deny.document(grant, self.mark(data)));
        let put = || self.account.put_role_policy(role.name(), &name, &document);
        match put().await {
            // The role's policies have 10,240 characters together. What has outlived its sessions makes room.
            Err(e) if e.code == "LimitExceeded" && self.collect(role).await.is_ok_and(|n| n > 0) => put().await,
            other => other,
        }
    }

    /// Our denies of a role, with the grants that they are of.
    async fn denies(&self, role: &Arn) -> Result<Vec<(GrantId, Deny)>, ApiError> {
        let names = self.account.role_policies(role.name()).await?.unwrap_or_default();
        let ours = names.into_iter().filter_map(|name| {
            let grant = grant_of_object(&name).filter(|grant| object_name(*grant) == name)?;
            Some((grant, name))
        });
        let read = stream::iter(ours).map(|(grant, name)| async move {
            let text = self.account.role_policy(role.name(), &name).await?;
            Ok(text.and_then(|text| Deny::read(&text, grant, &self.settings.mark)).map(|deny| (grant, deny)))
        });
        let read: Vec<Option<(GrantId, Deny)>> = read.buffer_unordered(WIDTH).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    /// Delete the denies that have outlived the last session that they are for; how many.
    async fn collect(&self, role: &Arn) -> Result<usize, ApiError> {
        self.collect_of(role, &self.denies(role).await?).await
    }

    async fn collect_of(&self, role: &Arn, denies: &[(GrantId, Deny)]) -> Result<usize, ApiError> {
        let now = self.clock.now();
        let over = denies.iter().filter(|(_, deny)| matches!(deny, Deny::Now(until) if *until <= now));
        let names: Vec<String> = over.map(|(grant, _)| object_name(*grant)).collect();
        let deleted = names.len();
        let delete = |name: String| async move { self.account.delete_role_policy(role.name(), &name).await };
        stream::iter(names).map(delete).buffer_unordered(WIDTH).try_collect::<Vec<()>>().await?;
        Ok(deleted)
    }

    /// When the last session of the grant has expired by itself; `None` if none was ever minted.
    async fn sessions_end(&self, data: &Data, grant: GrantId) -> Result<Option<Timestamp>, Fault> {
        let last = within(self.limit, "the ledger", self.ledger.last_expiry(grant)).await?;
        Ok(last.map(last_session_ends).max(data.sessions_end))
    }

    async fn looked_at(&self, recipe: &Recipe) -> Result<Presence, Fault> {
        let (data, role) = data(recipe)?;
        let ends = self.sessions_end(&data, recipe.grant).await?;
        let at_role = self.at_role(&role, recipe, &data).await?;
        let now = self.clock.now();
        let live = ends.is_some_and(|ends| ends > now);
        let evidence = |deny: &str| {
            json!({
                "role": role.as_str(),
                "account": self.account.number(),
                "policy": recipe.object,
                "deny": deny,
                "sessions_end": ends,
                "propagation_seconds": self.settings.propagation_seconds,
            })
        };
        Ok(match at_role {
            AtRole::Ours(Deny::Now(until)) if !live || ends.is_some_and(|ends| until >= ends) => {
                Presence::Absent(evidence("in force"))
            }
            AtRole::Ours(Deny::Now(_)) => Presence::Present(evidence("ends before the last session")),
            AtRole::Ours(Deny::From(_)) => Presence::Present(evidence("not in force")),
            AtRole::Nothing if !live => Presence::Absent(evidence(if ends.is_some() {
                "every session has expired"
            } else {
                "no session was minted"
            })),
            AtRole::Nothing if self.account.role(role.name()).await?.is_none() => {
                Presence::Absent(evidence("the role does not exist, so no session of it works"))
            }
            // Without it, nothing but the broker ends the sessions.
            AtRole::Nothing => Presence::Present(drifted(evidence("missing"))),
            AtRole::Foreign if !live => Presence::Absent(evidence("another policy has its name; no session lives")),
            AtRole::Foreign => Presence::Present(drifted(evidence("another policy has its name"))),
        })
    }

    async fn assume(&self, wanted: &Parameters, intent: &Intent, claim: &Claim) -> Result<Minted, Fault> {
        let name = format!("{}.{}", intent.recipe.object, claim.number);
        let mut tags = vec![("tidegate:holder", config::tag(&intent.holder_name))];
        tags.push(("tidegate:entitlement", config::tag(&intent.entitlement)));
        tags.push(("tidegate:grant", intent.recipe.grant.to_string()));
        tags.extend(wanted.session_tags.iter().map(|(k, v)| (k.as_str(), v.clone())));
        let mut made = Vec::with_capacity(tags.len());
        for (key, value) in tags {
            made.push(Tag::builder().key(key).value(value).build().map_err(|e| Fault::Refused(e.to_string()))?);
        }
        let said = self
            .account
            .assume_role(|call| {
                // Of this very call: tries before it may have taken their time, and the deny has its own end.
                let left = intent.not_after.seconds_since(self.clock.now().max(claim.at));
                let lasting = left.min(wanted.session).max(SHORTEST);
                let arns = wanted.policy_arns.iter().map(|a| PolicyDescriptorType::builder().arn(a.as_str()).build());
                let arns: Vec<_> = arns.collect();
                call.role_arn(wanted.role.as_str())
                    .role_session_name(&name)
                    .source_identity(&intent.recipe.object)
                    .duration_seconds(i32::try_from(lasting.seconds()).unwrap_or(3600))
                    .set_policy(wanted.session_policy.clone())
                    .set_policy_arns((!arns.is_empty()).then_some(arns))
                    .set_tags(Some(made.clone()))
            })
            .await
            .map_err(explained)?;
        crate::failpoint::hit("aws_sts.mint.called");
        let keys = said.credentials().ok_or_else(|| Fault::Unavailable("AWS minted no credentials".into()))?;
        let expires = Timestamp::from_seconds(keys.expiration().secs());
        let mut public = Map::new();
        public.insert("access_key_id".into(), json!(keys.access_key_id()));
        public.insert("role".into(), json!(wanted.role.as_str()));
        public.insert("account".into(), json!(wanted.role.account()));
        public.insert("session_name".into(), json!(name));
        public.insert("source_identity".into(), json!(intent.recipe.object));
        if let Some(region) = self.settings.holder_region.as_ref().or(self.settings.broker.region.as_ref()) {
            public.insert("region".into(), json!(region));
        }
        let secrets = vec![
            ("secret_access_key".into(), Secret::new(keys.secret_access_key().to_owned())),
            ("session_token".into(), Secret::new(keys.session_token().to_owned())),
        ];
        Ok(Minted { public, secrets, expires_at: expires.min(intent.not_after) })
    }
}

/// AWS's refusals of a session, with what to do.
fn explained(e: ApiError) -> Fault {
    let hint = match e.code.as_str() {
        "PackedPolicyTooLarge" => "; session policy, policy ARNs and tags are too large together: shorten them",
        "AccessDenied" => {
            "; the role's trust policy must allow the broker sts:AssumeRole, sts:SetSourceIdentity and sts:TagSession"
        }
        "RegionDisabledException" => "; activate STS in that region, or set another `settings.broker.region`",
        _ => "",
    };
    let fault = Fault::from(e);
    match fault {
        Fault::Refused(text) => Fault::Refused(format!("{text}{hint}")),
        other => other,
    }
}

#[async_trait]
impl Connector for AwsSts {
    fn describe(&self) -> Description {
        let window = self.settings.propagation_seconds;
        Description {
            kind: KIND.into(),
            summary: "Short-lived credentials of an AWS role, denied by name when the grant ends".into(),
            revocation_class: RevocationClass::Propagating,
            native_expiry: true,
            read_back: true,
            cuts_sessions: false,
            mints_secrets: true,
            replaces_copies: false,
            residual_window_seconds: window,
            residual_window: format!(
                "AWS cannot take a session back. Ended early, it is denied everything as soon as the role's deny has \
                 reached every place of AWS, which takes seconds as a rule and is counted as {window} s. At the \
                 grant's own end the deny is long there. A session that the holder opened from it in another role \
                 lives on, for an hour at most."
            ),
            enforcement_seconds: 60,
            rights: Rights::statements(
                "For the broker's user or role. Each role's trust policy must allow it sts:AssumeRole, \
                 sts:SetSourceIdentity and sts:TagSession, too. Who may write a role's inline policies may do what \
                 that role may be made to do: give each role a permissions boundary, and let none of them change its \
                 own policies.",
                "json",
                config::rights(&self.roles),
            ),
            after_crash: "The grant's deny at its role, which the sweep lists by its name, and perhaps a session that \
                          nobody knows of: it bears the grant's name, so the deny is for it, too; it ends with the \
                          grant, and by itself after its own time. Every session is in CloudTrail under the grant's \
                          name."
                .into(),
        }
    }

    fn validate(&self, parameters: &Value) -> Result<(), BadParameters> {
        Parameters::read(parameters, &self.settings).map(|_| ())
    }

    async fn check(&self) -> Vec<Finding> {
        check::check(&self.account, &self.roles, &self.settings).await
    }

    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault> {
        let wanted = self.parameters(&wish.parameters)?;
        let name = wanted.role.name();
        let Some(role) = self.account.role(name).await? else {
            return Err(Fault::Refused(format!("there is no role {}", wanted.role)));
        };
        if wanted.session.seconds() > role.max_session {
            let most = Ttl::seconds_or_one(role.max_session);
            return Err(Fault::Refused(format!(
                "sessions of {name} last {most} at most, and `session` is {}: lower it, or run: aws iam update-role \
                 --role-name {name} --max-session-duration {}",
                wanted.session,
                wanted.session.seconds()
            )));
        }
        if wanted.session > LONGEST_CHAINED && self.account.caller().await?.is_in_a_role() {
            return Err(Fault::Refused(format!(
                "the broker is in a role itself, so that sessions last {LONGEST_CHAINED} at most: lower `session`, or \
                 give the broker a user"
            )));
        }
        let data = Data { role: wanted.role.to_string(), mark: Some(self.settings.mark.clone()), sessions_end: None };
        let data = serde_json::to_value(data).map_err(|e| Fault::Refused(e.to_string()))?;
        Ok(Recipe { grant: wish.grant, object: object_name(wish.grant), data })
    }

    async fn activate(&self, intent: &Intent) -> Result<Value, Fault> {
        self.parameters(&intent.parameters)?;
        let (data, role) = data(&intent.recipe)?;
        let end = Timestamp::from_seconds(intent.not_after.seconds());
        match self.at_role(&role, &intent.recipe, &data).await? {
            AtRole::Foreign => return Err(foreign(&role, &intent.recipe.object)),
            AtRole::Ours(Deny::Now(_)) => {
                return Err(Fault::Refused("the grant was ended: its deny is in force".into()));
            }
            AtRole::Ours(Deny::From(at)) if at == end => {}
            AtRole::Nothing | AtRole::Ours(Deny::From(_)) => {
                self.put(&role, intent.recipe.grant, &data, Deny::From(end)).await.map_err(|e| {
                    if e.code == "LimitExceeded" {
                        Fault::Refused(format!(
                            "the role {} has no room for another deny, without which nothing is opened: AWS gives its \
                             inline policies 10,240 characters. Wait until grants on it have ended, make its own \
                             policies managed ones, or use a second role",
                            role.name()
                        ))
                    } else {
                        e.into()
                    }
                })?;
            }
        }
        crate::failpoint::hit("aws_sts.activate.called");
        Ok(json!({
            "role": role.as_str(),
            "policy": intent.recipe.object,
            "source_identity": intent.recipe.object,
            "denied_from": end,
        }))
    }

    async fn mint(&self, intent: &Intent, claim: &Claim) -> Result<Minted, Fault> {
        let wanted = self.parameters(&intent.parameters)?;
        let (data, role) = data(&intent.recipe)?;
        let now = self.clock.now().max(claim.at);
        if intent.not_after.seconds_since(now).seconds() == 0 || intent.not_after <= now {
            return Err(Fault::Refused("less than a second is left of the grant".into()));
        }
        // Written at activation; nothing is minted that it is not there for.
        let end = Timestamp::from_seconds(intent.not_after.seconds());
        match self.at_role(&role, &intent.recipe, &data).await? {
            AtRole::Ours(Deny::From(at)) if at <= end => {}
            AtRole::Ours(Deny::Now(_)) => {
                return Err(Fault::Refused("the grant was ended: its deny is in force".into()));
            }
            AtRole::Foreign => return Err(foreign(&role, &intent.recipe.object)),
            AtRole::Nothing | AtRole::Ours(Deny::From(_)) => {
                // Nothing was minted: the claim does not count.
                return Err(Fault::Refused("the role does not show the grant's deny yet; claim again".into()));
            }
        }
        self.assume(&wanted, intent, claim).await
    }

    async fn revoke(&self, recipe: &Recipe) -> Result<(), Fault> {
        let (data, role) = data(recipe)?;
        let ends = self.sessions_end(&data, recipe.grant).await?;
        let live = ends.filter(|ends| *ends > self.clock.now());
        let done = match (self.at_role(&role, recipe, &data).await?, live) {
            (AtRole::Foreign, Some(_)) => return Err(foreign(&role, &recipe.object)),
            (AtRole::Foreign | AtRole::Nothing, None) => Ok(()),
            (AtRole::Ours(Deny::Now(until)), Some(ends)) if until >= ends => Ok(()),
            (AtRole::Ours(_), None) => self.account.delete_role_policy(role.name(), &recipe.object).await,
            (AtRole::Ours(_) | AtRole::Nothing, Some(ends)) => {
                self.put(&role, recipe.grant, &data, Deny::Now(ends)).await
            }
        };
        crate::failpoint::hit("aws_sts.revoke.denied");
        match done {
            // The role is gone, and every session of it with it.
            Err(e) if e.is_missing() => Ok(()),
            other => Ok(other?),
        }
    }

    async fn verify(&self, recipe: &Recipe) -> Presence {
        self.looked_at(recipe).await.unwrap_or_else(|e| Presence::Unknown(e.to_string()))
    }

    /// Each role once, and several at once: the whole sweep is one call, with one time-out.
    async fn sweep(&self) -> Result<Vec<Found>, Fault> {
        let looks = stream::iter(self.roles.clone()).map(|role| async move {
            let denies = self.denies(&role).await?;
            self.collect_of(&role, &denies).await?;
            Ok::<_, ApiError>((role, denies))
        });
        let looked: Vec<_> = looks.buffer_unordered(WIDTH).try_collect().await?;
        let mut found = Vec::new();
        let each =
            looked.iter().flat_map(|(role, denies)| denies.iter().map(move |(grant, deny)| (role, *grant, *deny)));
        for (role, grant, deny) in each {
            // A deny in force is not access: it stays until the last session has expired.
            let Deny::From(at) = deny else { continue };
            let mark = Some(self.settings.mark.clone());
            let data = Data { role: role.to_string(), mark, sessions_end: Some(last_session_ends(at)) };
            let data = serde_json::to_value(data).map_err(|e| Fault::Refused(e.to_string()))?;
            found.push(Found { object: object_name(grant), grant, native_expiry: Some(at), data });
        }
        Ok(found)
    }

    fn places(&self) -> Vec<Vec<String>> {
        let of = |role: &Arn| vec![KIND.to_owned(), role.to_string(), self.settings.mark.clone()];
        self.roles.iter().map(of).collect()
    }
}
