//! The `scim_group` connector: temporary membership in a group of an application that speaks SCIM.
//!
//! The application keeps a membership once, whoever gave it, so grants on it are counted in the ledger, and who was a
//! member before is never put out. It knows no end of a membership: an entitlement on it must say `allow_no_backstop`.
//! The sync of accounts knows what is lent here and leaves it alone. See `docs/connectors/scim_group.md`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    BuildError, Parts,
    call::{limit, within},
    membership::{Counted, Seat, Seen},
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
        application::Key,
        connector::{BadParameters, Connector, Fault, Finding, Found, Presence, Wish},
    },
    scim_client::{ScimClient, Settings},
};

/// Name of the connector in configuration.
pub const KIND: &str = "scim_group";

/// Speaks to one application.
pub struct ScimGroup {
    client: ScimClient,
    url: String,
    counted: Counted,
    limit: Duration,
}

/// Parameters of an entitlement.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Display name of the group there.
    group: String,
}

/// What a recipe of this kind holds. Ids, for names change.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Data {
    group: String,
    group_id: String,
    user_id: String,
    shared: Shared,
}

/// From configuration. Connects to nothing yet.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    let settings: Settings = super::settings(config)?;
    let limit = limit(config);
    // One call of the connector is several of HTTP.
    let client = ScimClient::new(&settings, limit, Arc::clone(&parts.clock))
        .map_err(|e| BuildError::settings(config, format!("settings: {e}")))?;
    let counted = Counted::new(config.id.to_string(), Arc::clone(&parts.holdings));
    let url = settings.url.as_str().trim_end_matches('/').to_owned();
    Ok(Arc::new(ScimGroup { client, url, counted, limit }))
}

fn data(recipe: &Recipe) -> Result<Data, Fault> {
    Data::deserialize(&recipe.data).map_err(|e| Fault::Refused(format!("the recipe cannot be read: {e}")))
}

fn parse(parameters: &Value) -> Result<Parameters, BadParameters> {
    let it: Parameters = super::parameters(parameters)?;
    if it.group.trim().is_empty() || it.group.len() > 255 {
        return Err(BadParameters("`group` must name a group, in at most 255 characters".into()));
    }
    Ok(it)
}

/// One account in one group.
struct Membership<'a> {
    client: &'a ScimClient,
    data: Data,
}

impl Membership<'_> {
    async fn is_in(&self) -> Result<Option<bool>, Fault> {
        let group = self.client.group_by_id(&self.data.group_id).await?;
        Ok(group.map(|g| g.members.contains(&self.data.user_id)))
    }
}

#[async_trait]
impl Seat for Membership<'_> {
    /// Asked twice: a server that answers from a copy is found out by the second answer more often than by the first.
    async fn look(&self) -> Result<Seen, Fault> {
        let (first, second) = (self.is_in().await?, self.is_in().await?);
        if first != second {
            return Err(Fault::Unavailable("two answers in a row differ".into()));
        }
        Ok(Seen {
            present: second.unwrap_or(false),
            details: json!({
                "group": self.data.group, "group_id": self.data.group_id, "account": self.data.user_id,
                "group_there": second.is_some(), "asked": 2,
            }),
            ..Seen::default()
        })
    }

    async fn take(&self, _grant: GrantId, _until: Timestamp) -> Result<(), Fault> {
        if self.is_in().await? == Some(true) {
            return Ok(());
        }
        self.client.add_members(&self.data.group_id, &[&self.data.user_id]).await?;
        crate::failpoint::hit("scim_group.take.called");
        Ok(())
    }

    async fn leave(&self, _grant: GrantId, last: bool) -> Result<(), Fault> {
        // A group or member that is gone is done, and some servers refuse to remove whoever is not in.
        if last && self.is_in().await? == Some(true) {
            self.client.remove_members(&self.data.group_id, &[&self.data.user_id]).await?;
            crate::failpoint::hit("scim_group.leave.called");
        }
        Ok(())
    }
}

impl ScimGroup {
    fn membership(&self, data: Data) -> Membership<'_> {
        Membership { client: &self.client, data }
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, Fault>> + Send) -> Result<T, Fault> {
        within(self.limit, "the application", call).await
    }

    async fn find(&self, wish: &Wish) -> Result<Data, Fault> {
        let wanted = parse(&wish.parameters).map_err(|e| Fault::Refused(e.0))?;
        let group = self.client.group(&wanted.group).await?;
        let group = group.ok_or_else(|| Fault::Refused(format!("the application has no group `{}`", wanted.group)))?;
        let id = wish.holder.to_string();
        let account = match self.client.find_user(Key::ExternalId(&id), &[]).await? {
            Some(account) => Some(account),
            None => self.client.find_user(Key::UserName(&wish.holder_name), &[]).await?,
        };
        let account = account.filter(|a| a.active).ok_or_else(|| {
            Fault::Refused(format!("the application has no active account of `{}`", wish.holder_name))
        })?;
        let key = format!("{}/{}", group.id, account.remote_id);
        Ok(Data {
            group: wanted.group,
            group_id: group.id,
            user_id: account.remote_id,
            shared: Shared { key, was_there: false },
        })
    }
}

#[async_trait]
impl Connector for ScimGroup {
    fn describe(&self) -> Description {
        Description {
            kind: KIND.into(),
            summary: "Temporary membership in a group of an application that speaks SCIM.".into(),
            revocation_class: RevocationClass::Immediate,
            native_expiry: false,
            read_back: true,
            cuts_sessions: false,
            mints_secrets: false,
            replaces_copies: true,
            residual_window_seconds: 0,
            residual_window: "The application shows the end at once. What it opens sessions for may last as long as \
                              the sessions."
                .into(),
            enforcement_seconds: 5,
            rights: Rights::none(
                "The token must be allowed to read users and groups, and to change the members of the groups of the catalog.",
            ),
            after_crash:
                "A member without a mark. The intent names group and account by id; a repeat finds them, and what was \
                          taken is counted again from the ledger."
                    .into(),
        }
    }

    fn validate(&self, parameters: &Value) -> Result<(), BadParameters> {
        parse(parameters).map(|_| ())
    }

    async fn check(&self) -> Vec<Finding> {
        let features = self.within(self.client.ask_features()).await;
        let ok = features.is_ok();
        let detail = match &features {
            Ok(features) => format!("patch: {:?}, filter: {:?}", features.patch, features.filter),
            Err(fault) => fault.to_string(),
        };
        let fix = (!ok).then(|| "see whether `url` and the token are right, and whether it is up".to_owned());
        vec![Finding { name: "answers".into(), ok, detail, fix }]
    }

    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault> {
        self.within(async {
            let mut data = self.find(wish).await?;
            let key = data.shared.key.clone();
            data.shared = self.counted.prior(key, &self.membership(data.clone())).await?;
            let data = serde_json::to_value(data).map_err(|e| Fault::Refused(e.to_string()))?;
            Ok(Recipe { grant: wish.grant, object: object_name(wish.grant), data })
        })
        .await
    }

    async fn activate(&self, intent: &Intent) -> Result<Value, Fault> {
        let membership = self.membership(data(&intent.recipe)?);
        self.within(self.counted.open(intent, &membership)).await
    }

    async fn mint(&self, _intent: &Intent, _claim: &Claim) -> Result<Minted, Fault> {
        Err(Fault::Refused("a membership has no credential: it holds as it is".into()))
    }

    async fn revoke(&self, recipe: &Recipe) -> Result<(), Fault> {
        let membership = self.membership(data(recipe)?);
        self.within(self.counted.close(recipe, &membership)).await
    }

    async fn verify(&self, recipe: &Recipe) -> Presence {
        let asked = async {
            let membership = self.membership(data(recipe)?);
            Ok(self.counted.verify(recipe, &membership).await)
        };
        self.within(asked).await.unwrap_or_else(|fault| Presence::Unknown(fault.to_string()))
    }

    /// A member bears no mark, so there is nothing to find: what the ledger forgot, the sync of accounts finds.
    async fn sweep(&self) -> Result<Vec<Found>, Fault> {
        Ok(Vec::new())
    }

    fn leaves_objects(&self) -> bool {
        false
    }

    fn places(&self) -> Vec<Vec<String>> {
        vec![vec![KIND.to_owned(), self.url.clone()]]
    }
}
