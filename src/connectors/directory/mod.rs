//! Temporary membership in a group of the built-in directory.
//!
//! Each grant has its own row beside whatever the source of truth says, so memberships are counted and the last grant
//! out ends it. This connector removes only the row of the grant in question; a standing membership is never touched.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    BuildError, Parts,
    call::{limit, within},
};
use crate::{
    domain::{
        capability::{Description, RevocationClass, Rights},
        catalog::TargetConfig,
        grant::{Claim, Intent, Recipe, object_name},
        id::IdentityId,
        identity::{ADMIN_GROUP, AUDITOR_GROUP},
        secret::Minted,
    },
    ports::{
        connector::{BadParameters, Connector, Fault, Finding, Found, Presence, Wish},
        directory::{Directory, DirectoryError},
    },
};

/// The kind's name in configuration.
pub const KIND: &str = "directory";

/// Settings of a target of kind `directory`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Allow entitlements on the groups that administer and audit Tidegate itself.
    #[serde(default)]
    allow_tidegate_groups: bool,
}

/// Parameters of an entitlement.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Name of the group.
    group: String,
}

/// What a recipe of this kind holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Data {
    group: String,
    identity: IdentityId,
    /// Was the holder a member by the source of truth when the grant was decided? For the record: a standing
    /// membership is never removed, whatever stands here.
    #[serde(default)]
    was_standing: Option<bool>,
}

/// Opens and closes temporary memberships.
pub struct TemporaryMembership {
    settings: Settings,
    limit: Duration,
    directory: Arc<dyn Directory>,
}

/// From configuration.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    let settings = super::settings(config)?;
    Ok(Arc::new(TemporaryMembership { settings, limit: limit(config), directory: Arc::clone(&parts.directory) }))
}

impl From<DirectoryError> for Fault {
    fn from(e: DirectoryError) -> Self {
        match e {
            DirectoryError::NoSuchGroup(_) => Self::Refused(e.to_string()),
            DirectoryError::Unavailable(_) => Self::Unavailable(e.to_string()),
        }
    }
}

impl TemporaryMembership {
    fn parse(&self, parameters: &Value) -> Result<Parameters, BadParameters> {
        let it: Parameters = super::parameters(parameters)?;
        if it.group.trim().is_empty() || it.group.len() > 255 {
            return Err(BadParameters("`group` must name a group, in at most 255 characters".into()));
        }
        let own = [ADMIN_GROUP, AUDITOR_GROUP].iter().any(|name| it.group.trim().eq_ignore_ascii_case(name));
        if own && !self.settings.allow_tidegate_groups {
            return Err(BadParameters(format!(
                "`group`: membership in `{}` is power over Tidegate itself; set `allow_tidegate_groups = true` in the \
                 target's settings if that is wanted",
                it.group
            )));
        }
        Ok(it)
    }

    async fn ask<T>(&self, call: impl Future<Output = Result<T, DirectoryError>> + Send) -> Result<T, Fault> {
        within(self.limit, "the directory", call).await
    }
}

fn data(recipe: &Recipe) -> Result<Data, Fault> {
    Data::deserialize(&recipe.data).map_err(|e| Fault::Refused(format!("the recipe cannot be read: {e}")))
}

#[async_trait]
impl Connector for TemporaryMembership {
    fn describe(&self) -> Description {
        Description {
            kind: KIND.into(),
            summary: "Temporary membership in a group of the built-in directory".into(),
            revocation_class: RevocationClass::Immediate,
            native_expiry: true,
            read_back: true,
            cuts_sessions: false,
            mints_secrets: false,
            replaces_copies: false,
            residual_window_seconds: 0,
            residual_window: "Decisions after the end do not see the membership. A system that copied the group \
                              elsewhere keeps it until it synchronises."
                .into(),
            enforcement_seconds: 5,
            rights: Rights::none("None: the directory is Tidegate's own. The group must exist."),
            after_crash:
                "A row whose grant was not recorded as active is listed by the sweep, for every row bears its \
                          grant, and removed; until then it ends by its own expiry."
                    .into(),
        }
    }

    fn validate(&self, parameters: &Value) -> Result<(), BadParameters> {
        self.parse(parameters).map(|_| ())
    }

    async fn check(&self) -> Vec<Finding> {
        let rows = self.ask(self.directory.temporary()).await;
        vec![Finding {
            name: "directory".into(),
            ok: rows.is_ok(),
            detail: rows.map_or_else(|e| e.to_string(), |rows| format!("{} temporary memberships", rows.len())),
            fix: None,
        }]
    }

    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault> {
        let wanted = self.parse(&wish.parameters).map_err(|e| Fault::Refused(e.to_string()))?;
        let now = self.ask(self.directory.membership(&wanted.group, wish.holder, wish.grant)).await?;
        let data = Data { group: wanted.group, identity: wish.holder, was_standing: Some(now.standing) };
        let data = serde_json::to_value(data).map_err(|e| Fault::Refused(e.to_string()))?;
        Ok(Recipe { grant: wish.grant, object: object_name(wish.grant), data })
    }

    async fn activate(&self, intent: &Intent) -> Result<Value, Fault> {
        let data = data(&intent.recipe)?;
        let grant = intent.recipe.grant;
        self.ask(self.directory.add(&data.group, data.identity, grant, intent.not_after)).await?;
        let now = self.ask(self.directory.membership(&data.group, data.identity, grant)).await?;
        if !now.by_this_grant {
            return Err(Fault::Unavailable("the directory accepted the membership and does not show it".into()));
        }
        Ok(json!({
            "group": data.group,
            "was_standing": data.was_standing,
            "temporary_memberships": now.temporary,
            "not_after": intent.not_after,
        }))
    }

    async fn mint(&self, _intent: &Intent, _claim: &Claim) -> Result<Minted, Fault> {
        Err(Fault::Refused("a membership has no credential: it holds as it is".into()))
    }

    async fn revoke(&self, recipe: &Recipe) -> Result<(), Fault> {
        let data = data(recipe)?;
        let removed = self.directory.remove(&data.group, data.identity, recipe.grant);
        let removed = within(self.limit, "the directory", async {
            match removed.await {
                // The group is gone, and every membership with it.
                Err(DirectoryError::NoSuchGroup(_)) => Ok(()),
                other => other,
            }
        });
        removed.await
    }

    async fn verify(&self, recipe: &Recipe) -> Presence {
        let data = match data(recipe) {
            Ok(data) => data,
            Err(e) => return Presence::Unknown(e.to_string()),
        };
        let asked = self.directory.membership(&data.group, data.identity, recipe.grant);
        let answer = tokio::time::timeout(self.limit, asked).await;
        let evidence = |row: &str, standing: Option<bool>, temporary: Option<u32>| {
            json!({
                "group": data.group,
                "row_of_this_grant": row,
                "standing": standing,
                "was_standing": data.was_standing,
                "temporary_by_other_grants": temporary,
            })
        };
        match answer {
            Ok(Ok(now)) if now.by_this_grant => {
                Presence::Present(evidence("present", Some(now.standing), Some(now.temporary.saturating_sub(1))))
            }
            Ok(Ok(now)) => Presence::Absent(evidence("absent", Some(now.standing), Some(now.temporary))),
            Ok(Err(DirectoryError::NoSuchGroup(_))) => {
                Presence::Absent(evidence("absent, the group does not exist", None, None))
            }
            Ok(Err(e)) => Presence::Unknown(e.to_string()),
            Err(_) => Presence::Unknown(format!("the directory did not answer within {} s", self.limit.as_secs())),
        }
    }

    async fn sweep(&self) -> Result<Vec<Found>, Fault> {
        let rows = self.ask(self.directory.temporary()).await?;
        let found = rows.into_iter().map(|(group, identity, grant)| Found {
            object: object_name(grant),
            grant,
            native_expiry: None,
            data: json!({ "group": group, "identity": identity }),
        });
        Ok(found.collect())
    }
}
