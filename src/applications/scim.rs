//! Applications that speak SCIM 2.0.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::BuildError;
use crate::{
    domain::{
        account::{Account, ApplicationConfig, Desired, Difference},
        time::Timestamp,
    },
    ports::{
        application::{AccountPage, Application, Changed, Created, Key, RemoteGroup},
        clock::Clock,
        connector::{Fault, Finding},
    },
    scim_client::{ScimClient, Settings, account},
};

/// The kind's name in configuration.
pub const KIND: &str = "scim";

/// Accounts are users, groups are groups.
#[derive(Debug)]
pub struct ScimApplication {
    client: ScimClient,
    paths: Vec<String>,
}

impl ScimApplication {
    /// From configuration.
    pub fn new(config: &ApplicationConfig, clock: Arc<dyn Clock>) -> Result<Self, BuildError> {
        let settings: Settings = serde_json::from_value(serde_json::Value::Object(config.settings.clone()))
            .map_err(|e| BuildError::new(config, format!("settings: {e}")))?;
        let timeout = Duration::from_secs(u64::from(config.timeout_seconds.max(1)));
        let client = ScimClient::new(&settings, timeout, clock).map_err(|e| BuildError::new(config, e.to_string()))?;
        Ok(Self { client, paths: config.mapping.paths() })
    }
}

#[async_trait]
impl Application for ScimApplication {
    async fn check(&self) -> Vec<Finding> {
        let (ok, detail) = match self.client.ask_features().await {
            Ok(features) => (true, format!("patch: {:?}, filter: {:?}", features.patch, features.filter)),
            Err(fault) => (false, fault.to_string()),
        };
        let fix = (!ok).then(|| "see whether `url` and the token are right, and whether it is up".to_owned());
        vec![Finding { name: "answers".to_owned(), ok, detail, fix }]
    }

    fn busy_until(&self) -> Option<Timestamp> {
        self.client.busy_until()
    }

    async fn find(&self, key: Key<'_>) -> Result<Option<Account>, Fault> {
        self.client.find_user(key, &self.paths).await
    }

    async fn read(&self, remote_id: &str) -> Result<Option<Account>, Fault> {
        self.client.read_user(remote_id, &self.paths).await
    }

    async fn create(&self, desired: &Desired) -> Result<Created, Fault> {
        self.client.create_user(desired).await
    }

    async fn update(&self, is: &Account, desired: &Desired, what: &[Difference]) -> Result<Changed, Fault> {
        self.client.update_user(is, desired, what).await
    }

    async fn deactivate(&self, is: &Account) -> Result<Changed, Fault> {
        self.client.deactivate_user(&is.remote_id).await
    }

    async fn delete(&self, remote_id: &str) -> Result<Changed, Fault> {
        self.client.delete_user(remote_id).await
    }

    async fn page(&self, after: Option<&str>) -> Result<AccountPage, Fault> {
        let page = self.client.page("Users", after).await?;
        let accounts = page.resources.iter().filter_map(|user| account(user, &self.paths)).collect();
        Ok(AccountPage { accounts, next: page.next })
    }

    async fn group(&self, name: &str) -> Result<Option<RemoteGroup>, Fault> {
        let group = self.client.group(name).await?;
        Ok(group.map(|g| RemoteGroup { remote_id: g.id, members: g.members }))
    }

    async fn join(&self, group: &str, remote_id: &str) -> Result<(), Fault> {
        self.client.add_members(group, &[remote_id]).await
    }

    async fn leave(&self, group: &str, remote_id: &str) -> Result<(), Fault> {
        self.client.remove_members(group, &[remote_id]).await
    }
}
