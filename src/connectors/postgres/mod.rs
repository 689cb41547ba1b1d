//! The `postgres` connector: a temporary login role a grant, with rights by membership in fixed roles.
//!
//! It never gives rights to the temporary role itself, never creates a role without its comment in the same
//! transaction, never touches a role that lacks it, and never sends a password in a statement.
//! See `docs/connectors/postgres.md`.

mod check;
mod client;
mod config;
mod revoke;
mod role;
mod scram;
mod verify;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;

pub use self::config::{Parameters, Settings, Tls};
use self::{client::Client, role::Plan};
use crate::{
    domain::{
        capability::{Description, RevocationClass},
        grant::{Claim, Intent, Recipe},
        secret::Minted,
    },
    ports::{
        connector::{BadParameters, Connector, Fault, Finding, Found, Presence, Wish},
        entropy::Entropy,
    },
};

/// Name of the connector in configuration.
pub const KIND: &str = "postgres";

/// Speaks to one PostgreSQL server.
pub struct Postgres {
    settings: Settings,
    client: Client,
    entropy: Arc<dyn Entropy>,
    /// Fixed roles that the catalog was seen to name, for [`Connector::check`].
    roles: Mutex<BTreeSet<String>>,
}

impl Postgres {
    /// Read the target's settings. Connects to nothing yet.
    pub fn new(
        settings: &serde_json::Map<String, serde_json::Value>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, BadParameters> {
        let settings = Settings::read(settings)?;
        Ok(Self { client: Client::new(&settings), settings, entropy, roles: Mutex::default() })
    }

    /// Fixed roles that the catalog was seen to name.
    fn roles(&self) -> BTreeSet<String> {
        self.roles.lock().map(|seen| seen.clone()).unwrap_or_default()
    }

    fn parameters(&self, parameters: &serde_json::Value) -> Result<Parameters, Fault> {
        Parameters::read(parameters, &self.settings).map_err(|e| Fault::Refused(e.0))
    }
}

#[async_trait]
impl Connector for Postgres {
    fn describe(&self) -> Description {
        Description {
            kind: KIND.into(),
            summary: "A PostgreSQL login of your own, made for this grant and dropped at its end.".into(),
            revocation_class: RevocationClass::Immediate,
            native_expiry: true,
            read_back: true,
            cuts_sessions: true,
            mints_secrets: true,
            replaces_copies: true,
            residual_window_seconds: 0,
            residual_window: "None: open sessions are cut before the grant counts as ended. Without the broker, the \
                              server itself refuses the password after the end (VALID UNTIL, password login only), \
                              and sessions that are open then stay until the broker is back."
                .into(),
            enforcement_seconds: 5,
            rights: check::rights(&self.settings, &self.roles()),
            after_crash:
                "A role without login, or with one and a password that nobody has, under the grant's name and \
                          with its comment, and with `VALID UNTIL`. It is revoked by its name; the sweep lists every \
                          role that bears our comment. A crash while ending leaves a role without login between two \
                          steps, each of which may be repeated."
                    .into(),
        }
    }

    fn validate(&self, parameters: &serde_json::Value) -> Result<(), BadParameters> {
        let parameters = Parameters::read(parameters, &self.settings)?;
        if let Ok(mut seen) = self.roles.lock() {
            seen.extend(parameters.roles);
        }
        Ok(())
    }

    async fn check(&self) -> Vec<Finding> {
        check::check(&self.client, &self.settings, &self.roles()).await
    }

    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault> {
        self.parameters(&wish.parameters)?;
        role::recipe(wish.grant, &self.settings)
    }

    async fn activate(&self, intent: &Intent) -> Result<serde_json::Value, Fault> {
        role::activate(&self.client, intent, &self.parameters(&intent.parameters)?).await
    }

    async fn mint(&self, intent: &Intent, _claim: &Claim) -> Result<Minted, Fault> {
        let parameters = self.parameters(&intent.parameters)?;
        role::mint(&self.client, self.entropy.as_ref(), intent, &self.settings, &parameters).await
    }

    async fn revoke(&self, recipe: &Recipe) -> Result<(), Fault> {
        revoke::revoke(&self.client, &Plan::read(recipe)?).await
    }

    async fn verify(&self, recipe: &Recipe) -> Presence {
        match Plan::read(recipe) {
            Ok(plan) => verify::verify(&self.client, &plan, self.entropy.as_ref()).await,
            Err(e) => Presence::Unknown(e.to_string()),
        }
    }

    async fn sweep(&self) -> Result<Vec<Found>, Fault> {
        verify::sweep(&self.client, &self.settings).await
    }

    fn places(&self) -> Vec<Vec<String>> {
        let it = &self.settings;
        vec![vec![KIND.to_owned(), it.host.to_lowercase(), it.port.to_string(), it.mark.clone()]]
    }
}
