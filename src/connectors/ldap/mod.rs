//! The `ldap` connector: temporary membership in groups of OpenLDAP, Active Directory and whatever behaves like them.
//!
//! A directory keeps a membership once, whoever gave it, so grants on it are counted in the ledger. Who was a member
//! before is never put out. See `docs/connectors/ldap.md`.

mod check;
mod client;
mod config;
mod group;
mod identity;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::{FutureExt, future::BoxFuture};
use serde_json::Value;

use self::{
    client::Client,
    config::{Data, Parameters, Settings, Style},
    group::Membership,
};
use super::{
    BuildError, Parts,
    call::{limit, within},
    membership::Counted,
};
use crate::{
    domain::{
        capability::{Description, RevocationClass},
        catalog::TargetConfig,
        grant::{Claim, Intent, Recipe, object_name},
        secret::Minted,
        time::Timestamp,
    },
    ports::{
        clock::Clock,
        connector::{BadParameters, Connector, Fault, Finding, Found, Presence, Wish},
    },
};

/// Name of the connector in configuration.
pub const KIND: &str = "ldap";

/// For how long the names that were found for a grant are taken for those of today.
const NAMES_HOLD: Duration = Duration::from_mins(1);

/// Speaks to one directory.
pub struct Directory {
    settings: Settings,
    client: Client,
    counted: Counted,
    limit: Duration,
    clock: Arc<dyn Clock>,
    /// Groups that the catalog was seen to name, for [`Connector::check`].
    groups: Mutex<BTreeSet<String>>,
}

/// From configuration. Connects to nothing yet.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    let settings = Settings::read(config)?;
    let limit = limit(config);
    let client =
        Client::new(&settings, limit).map_err(|text| BuildError::settings(config, format!("settings: {text}")))?;
    Ok(Arc::new(Directory {
        settings,
        client,
        counted: Counted::new(config.id.to_string(), Arc::clone(&parts.holdings)),
        limit,
        clock: Arc::clone(&parts.clock),
        groups: Mutex::default(),
    }))
}

impl Directory {
    fn membership(&self, data: Data) -> Membership<'_> {
        Membership {
            client: &self.client,
            settings: &self.settings,
            clock: self.clock.as_ref(),
            data,
            found_now: false,
            alias: None,
        }
    }

    /// Boxed: a call to a directory has much to remember.
    fn within<'a, T: 'a>(
        &self,
        call: impl Future<Output = Result<T, Fault>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Fault>> {
        within(self.limit, "the directory", call).boxed()
    }

    /// What says to end by itself must do so, or nothing would end it with the broker dead.
    async fn must_end_by_itself(&self, membership: &Membership<'_>, applied: &Value) -> Result<(), Fault> {
        let standing = applied.get("was_member").and_then(Value::as_bool).unwrap_or_default();
        if !self.settings.time_limited || standing || membership.ttl().await?.is_some() {
            return Ok(());
        }
        Err(Fault::Refused(
            "the directory shows no end of the membership, and `time_limited` says that it has one".into(),
        ))
    }
}

#[async_trait]
impl Connector for Directory {
    fn describe(&self) -> Description {
        let (class, residual, enforcement) = match self.settings.style {
            Style::Openldap => (
                RevocationClass::Immediate,
                "The directory shows the end at once. A system that keeps a copy of the group goes by it until it asks \
                 again.",
                5,
            ),
            Style::ActiveDirectory => (
                RevocationClass::Propagating,
                "The domain controller that was asked shows the end at once, others when it has been replicated. A \
                 Kerberos ticket carries its groups until it expires; with time-limited membership it expires no later \
                 than the membership would have.",
                5,
            ),
        };
        Description {
            kind: KIND.into(),
            summary: "Temporary membership in a group of an LDAP directory.".into(),
            revocation_class: class,
            native_expiry: self.settings.time_limited,
            read_back: true,
            cuts_sessions: false,
            mints_secrets: false,
            replaces_copies: true,
            residual_window_seconds: self.settings.residual_window_seconds(),
            residual_window: residual.into(),
            enforcement_seconds: enforcement,
            rights: check::needed(&self.settings),
            after_crash:
                "The intent names group and member; a repeat finds them. The sweep lists what bears our mark; a \
                          mark without a live grant is ended. Without marks there is nothing to list: then each live \
                          grant is looked at, and nothing else."
                    .into(),
        }
    }

    fn validate(&self, parameters: &Value) -> Result<(), BadParameters> {
        let parameters = Parameters::read(parameters, &self.settings)?;
        if let Ok(mut seen) = self.groups.lock() {
            seen.insert(parameters.group);
        }
        Ok(())
    }

    async fn check(&self) -> Vec<Finding> {
        let groups = self.groups.lock().map(|seen| seen.clone()).unwrap_or_default();
        let looked = self.within(async { Ok(check::check(&self.client, &self.settings, &groups).await) }).await;
        looked.unwrap_or_else(|fault| {
            vec![Finding { name: "reachable".into(), ok: false, detail: fault.to_string(), fix: None }]
        })
    }

    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault> {
        let wanted = Parameters::read(&wish.parameters, &self.settings).map_err(|e| Fault::Refused(e.0))?;
        self.within(async {
            let mut data = group::find(&self.client, &self.settings, &wish.holder_name, &wanted.group).await?;
            let key = data.shared.key.clone();
            let place = Membership { found_now: true, ..self.membership(data.clone()) };
            data.shared = self.counted.prior(key, &place).await?;
            let data = serde_json::to_value(data).map_err(|e| Fault::Refused(e.to_string()))?;
            Ok(Recipe { grant: wish.grant, object: object_name(wish.grant), data })
        })
        .await
    }

    async fn activate(&self, intent: &Intent) -> Result<Value, Fault> {
        let membership = self.membership(group::data(&intent.recipe)?);
        let made = Timestamp::from_micros(i64::try_from(intent.recipe.grant.ulid().timestamp_ms()).unwrap_or(0) * 1000);
        self.within(async {
            // What was asked for long ago is opened under the name of today.
            let old = self.clock.now().since(made) > NAMES_HOLD;
            let membership = if old { membership.named_today().await? } else { membership };
            let applied = self.counted.open(intent, &membership).await?;
            self.must_end_by_itself(&membership, &applied).await?;
            Ok(applied)
        })
        .await
    }

    async fn mint(&self, _intent: &Intent, _claim: &Claim) -> Result<Minted, Fault> {
        Err(Fault::Refused("a membership has no credential: it holds as it is".into()))
    }

    async fn revoke(&self, recipe: &Recipe) -> Result<(), Fault> {
        let membership = self.membership(group::data(recipe)?);
        self.within(self.counted.close(recipe, &membership)).await
    }

    async fn verify(&self, recipe: &Recipe) -> Presence {
        let asked = async {
            let membership = self.membership(group::data(recipe)?);
            Ok(self.counted.verify(recipe, &membership).await)
        };
        self.within(asked).await.unwrap_or_else(|fault| Presence::Unknown(fault.to_string()))
    }

    async fn sweep(&self) -> Result<Vec<Found>, Fault> {
        self.within(group::sweep(&self.client, &self.settings)).await
    }

    fn places(&self) -> Vec<Vec<String>> {
        vec![self.settings.place()]
    }
}
