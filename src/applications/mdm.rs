//! Device managers: SCIM for their users and groups, and orders for the devices of whoever is gone.
//!
//! There is no standard for such orders, so the paths are settings. What is relied on: a list of somebody's devices, each
//! with an id and a state, and a place to post an order to. An order is done when the list says so, or lists it no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{BuildError, scim::ScimApplication};
use crate::{
    domain::{
        account::{Account, ApplicationConfig, Desired, Difference},
        time::Timestamp,
    },
    ports::{
        application::{AccountPage, Application, Changed, Created, Key, RemoteGroup, TakenBack},
        clock::Clock,
        connector::{Fault, Finding},
    },
    scim_client::{ScimClient, Settings},
};

/// The kind's name in configuration.
pub const KIND: &str = "mdm";

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Company data goes, the device stays its owner's.
    #[default]
    Retire,
    /// Nobody can use it.
    Lock,
    /// Everything goes.
    Wipe,
}

impl Order {
    const fn verb(self) -> &'static str {
        match self {
            Self::Retire => "retire",
            Self::Lock => "lock",
            Self::Wipe => "wipe",
        }
    }

    const fn done(self) -> &'static [&'static str] {
        match self {
            // More than was ordered is done too.
            Self::Retire => &["retired", "wiped"],
            Self::Lock => &["locked", "retired", "wiped"],
            Self::Wipe => &["wiped"],
        }
    }
}

/// How devices are asked for. `{user_name}`, `{user_id}`, `{external_id}`, `{id}` and `{order}` are put in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceSettings {
    /// Where the device manager's own interface is.
    url: url::Url,
    /// File with its token; that of SCIM if missing.
    token_file: Option<std::path::PathBuf>,
    /// What is ordered of somebody who is gone.
    #[serde(default)]
    order: Order,
    /// Path and query of the list of somebody's devices.
    #[serde(default = "DeviceSettings::list")]
    list: String,
    /// Path that orders are posted to.
    #[serde(default = "DeviceSettings::send")]
    send: String,
    /// Where a device's state stands.
    #[serde(default = "DeviceSettings::state")]
    state: String,
    /// States that say that the order is done.
    #[serde(default)]
    done: BTreeSet<String>,
    /// States that say that it is under way: it is not given again.
    #[serde(default = "DeviceSettings::pending")]
    pending: BTreeSet<String>,
}

impl DeviceSettings {
    fn list() -> String {
        "devices?user={user_name}".to_owned()
    }

    fn send() -> String {
        "devices/{id}/{order}".to_owned()
    }

    fn state() -> String {
        "state".to_owned()
    }

    fn pending() -> BTreeSet<String> {
        ["pending", "retire_pending", "lock_pending", "wipe_pending"].map(str::to_owned).into()
    }
}

/// A device as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Device {
    id: String,
    state: String,
}

/// Accounts as in any SCIM application, and devices beside them.
pub struct DeviceManager {
    accounts: ScimApplication,
    devices: ScimClient,
    settings: DeviceSettings,
}

impl DeviceManager {
    /// From configuration.
    pub fn new(config: &ApplicationConfig, clock: &Arc<dyn Clock>) -> Result<Self, BuildError> {
        let mut config = config.clone();
        let given = config.settings.remove("devices").ok_or_else(|| {
            BuildError::new(&config, "`settings.devices` is missing: where are orders for devices given?")
        })?;
        let mut settings: DeviceSettings =
            serde_json::from_value(given).map_err(|e| BuildError::new(&config, format!("settings.devices: {e}")))?;
        if settings.done.is_empty() {
            settings.done = settings.order.done().iter().map(|s| (*s).to_owned()).collect();
        }
        let mut same: Settings = serde_json::from_value(Value::Object(config.settings.clone()))
            .map_err(|e| BuildError::new(&config, format!("settings: {e}")))?;
        same.url = settings.url.clone();
        same.token_file = settings.token_file.clone().or(same.token_file);
        let timeout = Duration::from_secs(u64::from(config.timeout_seconds.max(1)));
        let devices = ScimClient::new(&same, timeout, Arc::clone(clock))
            .map_err(|e| BuildError::new(&config, format!("settings.devices: {e}")))?;
        Ok(Self { accounts: ScimApplication::new(&config, Arc::clone(clock))?, devices, settings })
    }

    async fn list(&self, values: &BTreeMap<&str, &str>) -> Result<Vec<Device>, Fault> {
        let (path, query) = place(&self.settings.list, values);
        let body = self.devices.ask("GET", &path, &query).await?;
        let items = match &body {
            Value::Array(items) => Some(items),
            Value::Object(whole) => ["value", "items", "devices", "Resources", "results"]
                .iter()
                .find_map(|name| whole.get(*name).and_then(Value::as_array)),
            _ => None,
        };
        // What is no list proves nothing.
        let items = items.ok_or_else(|| Fault::Unavailable("its answer is no list of devices".to_owned()))?;
        items.iter().map(|item| self.device(item)).collect()
    }

    fn device(&self, item: &Value) -> Result<Device, Fault> {
        let text = |name: &str| match item.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let id = text("id").filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| Fault::Unavailable("it lists a device without an id".to_owned()))?;
        Ok(Device { id, state: text(&self.settings.state).unwrap_or_default() })
    }
}

/// Path and query of a template. Values go in whole, so that none of them can lead elsewhere.
fn place(template: &str, values: &BTreeMap<&str, &str>) -> (Vec<String>, Vec<(String, String)>) {
    let fill = |part: &str| {
        values.iter().fold(part.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    };
    let (path, query) = template.split_once('?').unwrap_or((template, ""));
    let path = path.split('/').filter(|p| !p.is_empty()).map(fill).collect();
    let query = query.split('&').filter_map(|pair| pair.split_once('='));
    (path, query.map(|(name, value)| (name.to_owned(), fill(value))).collect())
}

#[async_trait]
impl Application for DeviceManager {
    async fn check(&self) -> Vec<Finding> {
        self.accounts.check().await
    }

    fn busy_until(&self) -> Option<Timestamp> {
        self.accounts.busy_until().max(self.devices.busy_until())
    }

    async fn find(&self, key: Key<'_>) -> Result<Option<Account>, Fault> {
        self.accounts.find(key).await
    }

    async fn read(&self, remote_id: &str) -> Result<Option<Account>, Fault> {
        self.accounts.read(remote_id).await
    }

    async fn create(&self, desired: &Desired) -> Result<Created, Fault> {
        self.accounts.create(desired).await
    }

    async fn update(&self, is: &Account, desired: &Desired, what: &[Difference]) -> Result<Changed, Fault> {
        self.accounts.update(is, desired, what).await
    }

    async fn deactivate(&self, is: &Account) -> Result<Changed, Fault> {
        self.accounts.deactivate(is).await
    }

    async fn take_back(&self, is: &Account, order: bool) -> Result<TakenBack, Fault> {
        let external_id = is.external_id.as_deref().unwrap_or_default();
        let values = BTreeMap::from([
            ("user_name", is.user_name.as_str()),
            ("user_id", &is.remote_id),
            ("external_id", external_id),
        ]);
        let before = self.list(&values).await?;
        let mut taken = TakenBack::default();
        if order {
            let (done, pending) = (&self.settings.done, &self.settings.pending);
            for device in before.iter().filter(|d| !done.contains(&d.state) && !pending.contains(&d.state)) {
                let mut values = values.clone();
                values.extend([("id", device.id.as_str()), ("order", self.settings.order.verb())]);
                let (path, query) = place(&self.settings.send, &values);
                self.devices.ask("POST", &path, &query).await?;
                taken.ordered.push(device.id.clone());
            }
        }
        let now = if taken.ordered.is_empty() { before.clone() } else { self.list(&values).await? };
        for device in &before {
            match now.iter().find(|d| d.id == device.id) {
                Some(there) if !self.settings.done.contains(&there.state) => taken.open.push(device.id.clone()),
                there => taken.evidence.push(json!({
                    "device": device.id, "state": there.map_or("not listed", |d| d.state.as_str()),
                })),
            }
        }
        Ok(taken)
    }

    async fn delete(&self, remote_id: &str) -> Result<Changed, Fault> {
        self.accounts.delete(remote_id).await
    }

    async fn page(&self, after: Option<&str>) -> Result<AccountPage, Fault> {
        self.accounts.page(after).await
    }

    async fn group(&self, name: &str) -> Result<Option<RemoteGroup>, Fault> {
        self.accounts.group(name).await
    }

    async fn join(&self, group: &str, remote_id: &str) -> Result<(), Fault> {
        self.accounts.join(group, remote_id).await
    }

    async fn leave(&self, group: &str, remote_id: &str) -> Result<(), Fault> {
        self.accounts.leave(group, remote_id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_into_one_segment_and_one_parameter() {
        let values = BTreeMap::from([("user_name", "a/b&c=d"), ("id", "7"), ("order", "wipe")]);
        let (path, query) = place("users/{user_name}/devices?filter=owner eq '{user_name}'&top=5", &values);
        assert_eq!(path, ["users", "a/b&c=d", "devices"]);
        assert_eq!(query, [("filter".to_owned(), "owner eq 'a/b&c=d'".to_owned()), ("top".to_owned(), "5".to_owned())]);
        assert_eq!(place("devices/{id}/{order}", &values).0, ["devices", "7", "wipe"]);
    }
}
