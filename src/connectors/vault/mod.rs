//! The `vault` connector: dynamic secrets of Vault and OpenBao, each read with a token of its own.
//!
//! A grant is a token role named after it. A claim makes a token through that role, reads the secret with it and
//! forgets it; ending the role's tokens ends every lease that they hold. Nothing that is kept is a secret.
//! See `docs/connectors/vault.md`.

mod check;
mod client;
mod config;
mod grant;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;

use self::{
    client::Client,
    config::{Parameters, Plan, Settings},
};
use super::{
    BuildError, Parts,
    call::{limit, within},
};
use crate::{
    domain::{
        capability::{Description, RevocationClass},
        catalog::TargetConfig,
        grant::{Claim, Intent, Recipe},
        secret::Minted,
    },
    ports::{
        clock::Clock,
        connector::{BadParameters, Connector, Fault, Finding, Found, Presence, Wish},
    },
};

/// Name of the connector in configuration.
pub const KIND: &str = "vault";

/// Speaks to one server.
pub struct Vault {
    settings: Settings,
    client: Client,
    limit: Duration,
    clock: Arc<dyn Clock>,
    /// What the catalog was seen to ask for, for [`Connector::check`] and [`Connector::sweep`].
    seen: Mutex<Vec<Parameters>>,
}

/// From configuration. Connects to nothing yet.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    let settings = Settings::read(config)?;
    let limit = limit(config);
    let client = Client::new(&settings, settings.token_path(config)?, limit)
        .map_err(|text| BuildError::settings(config, format!("settings: {text}")))?;
    Ok(Arc::new(Vault { settings, client, limit, clock: Arc::clone(&parts.clock), seen: Mutex::default() }))
}

fn parse(parameters: &Value) -> Result<Parameters, Fault> {
    Parameters::read(parameters).map_err(|e| Fault::Refused(e.0))
}

impl Vault {
    fn seen(&self) -> Vec<Parameters> {
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, Fault>> + Send) -> Result<T, Fault> {
        within(self.limit, "the server", call).await
    }
}

#[async_trait]
impl Connector for Vault {
    fn describe(&self) -> Description {
        Description {
            kind: KIND.into(),
            summary: "A dynamic secret of Vault or OpenBao, read for you and ended with its lease.".into(),
            revocation_class: RevocationClass::Immediate,
            native_expiry: true,
            read_back: true,
            cuts_sessions: false,
            mints_secrets: true,
            replaces_copies: true,
            residual_window_seconds: 0,
            residual_window: "None in Vault: every lease is gone when the grant counts as ended. Whether the engine's \
                              revocation also ends sessions that are open at the system behind it is up to its \
                              revocation statements."
                .into(),
            enforcement_seconds: 5,
            rights: check::needed(&self.seen()),
            after_crash: "Nothing that is needed to end a grant is kept but its name: role, tokens and leases are found \
                          by it. The token is in no file, log or database. The sweep lists roles and tokens that bear a \
                          grant's name and our mark."
                .into(),
        }
    }

    fn validate(&self, parameters: &Value) -> Result<(), BadParameters> {
        let parameters = Parameters::read(parameters)?;
        if let Ok(mut seen) = self.seen.lock()
            && !seen.contains(&parameters)
        {
            seen.push(parameters);
        }
        Ok(())
    }

    async fn check(&self) -> Vec<Finding> {
        let seen = self.seen();
        let looked = self.within(async { Ok(check::check(&self.client, &self.settings, &seen).await) }).await;
        looked.unwrap_or_else(|fault| {
            vec![Finding { name: "reachable".into(), ok: false, detail: fault.to_string(), fix: None }]
        })
    }

    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault> {
        grant::recipe(wish.grant, &self.settings, &parse(&wish.parameters)?)
    }

    async fn activate(&self, intent: &Intent) -> Result<Value, Fault> {
        parse(&intent.parameters)?;
        self.within(grant::activate(&self.client, intent, self.clock.now())).await
    }

    async fn mint(&self, intent: &Intent, claim: &Claim) -> Result<Minted, Fault> {
        let parameters = parse(&intent.parameters)?;
        let minting = grant::mint(&self.client, intent, claim, &self.settings, &parameters, self.clock.now());
        self.within(minting).await
    }

    async fn revoke(&self, recipe: &Recipe) -> Result<(), Fault> {
        let plan = Plan::read(recipe)?;
        self.within(grant::revoke(&self.client, &plan)).await
    }

    async fn verify(&self, recipe: &Recipe) -> Presence {
        let asked = async { Ok(grant::verify(&self.client, &Plan::read(recipe)?).await) };
        self.within(asked).await.unwrap_or_else(|fault| Presence::Unknown(fault.to_string()))
    }

    async fn sweep(&self) -> Result<Vec<Found>, Fault> {
        let mut paths: Vec<String> = self.seen().into_iter().map(|p| p.path).collect();
        paths.sort_unstable();
        paths.dedup();
        self.within(grant::sweep(&self.client, &self.settings, &paths)).await
    }

    fn places(&self) -> Vec<Vec<String>> {
        let it = &self.settings;
        let namespace = it.namespace.clone().unwrap_or_default();
        vec![vec![KIND.to_owned(), it.address.origin().ascii_serialization(), namespace, it.mark.clone()]]
    }
}
