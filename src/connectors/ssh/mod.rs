//! Short-lived OpenSSH user certificates from our own authority, and the list of those that were revoked.
//!
//! Nothing is created on the hosts: they trust the authority and read the revocation list. A certificate's serial is
//! in the ledger before it is signed, so every certificate that exists can be revoked. Private keys are made for one
//! claim, handed over once and never stored. Sessions that are open are not cut: the list is read at login only.

mod certificate;
mod config;
pub mod krl;
mod publish;

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use self::{
    certificate::Content,
    config::{Parameters, Settings, authority_name},
    publish::Publisher,
};
use super::{
    BuildError, Parts,
    call::{limit, within},
    copies::{self, Copies},
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
        connector::{BadParameters, Connector, Fault, Finding, Found, Presence, Publication, Wish},
        entropy::Entropy,
        signer::Ed25519Key,
    },
};

/// The kind's name in configuration.
pub const KIND: &str = "ssh";

/// Hosts' clocks may be late by this much.
const SKEW_SECONDS: u32 = 60;

/// The authority of one target.
pub struct Ssh {
    settings: Settings,
    limit: Duration,
    entropy: Arc<dyn Entropy>,
    ca: Arc<dyn Ed25519Key>,
    /// The line for `TrustedUserCAKeys`.
    ca_line: String,
    publisher: Arc<Publisher>,
}

/// From configuration. Publishes an empty revocation list if there is none, and the right one as soon as it can.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    let settings: Settings = super::settings(config)?;
    let name = authority_name(&config.id);
    let ca = parts.keys.ssh_ca(&name).map_err(|e| BuildError::settings(config, e.to_string()))?;
    let (ca_bytes, ca_line) = certificate::authority(ca.as_ref(), &format!("tidegate-{name}"))
        .map_err(|e| BuildError::settings(config, format!("the authority's key cannot be written: {e}")))?;
    let path = match &settings.krl_file {
        Some(path) if path.is_absolute() && path.file_name().is_some() => path.clone(),
        Some(_) => return Err(BuildError::settings(config, "`krl_file` must be the absolute path of a file")),
        None => {
            let dir = parts.data_dir.join("ssh");
            let made = DirBuilder::new().recursive(true).mode(0o755).create(&dir);
            made.map_err(|e| BuildError::settings(config, format!("cannot make {}: {e}", dir.display())))?;
            dir.join(format!("{name}.krl"))
        }
    };
    let publisher = Arc::new(Publisher {
        target: config.id.to_string(),
        path,
        ca: ca_bytes,
        limit: limit(config),
        clock: Arc::clone(&parts.clock),
        entropy: Arc::clone(&parts.entropy),
        ledger: Arc::clone(&parts.revocations),
        writing: Arc::new(Mutex::new(())),
        asked: AtomicU64::new(0),
        served: AtomicU64::new(0),
    });
    // What an older ledger says would take serials off the published list.
    let start = !parts.observing;
    if start && let Err(error) = publisher.write_first() {
        // The other targets must not wait for this one's directory; `check` says it too, and every call tries again.
        tracing::warn!(krl = %publisher.path.display(), %error, "there is no revocation list yet");
    }
    if let (true, Ok(runtime)) = (start, tokio::runtime::Handle::try_current()) {
        let publisher = Arc::clone(&publisher);
        runtime.spawn(async move {
            if let Err(error) = publisher.publish().await {
                tracing::warn!(krl = %publisher.path.display(), %error, "the revocation list was not published at start");
            }
        });
    }
    let entropy = Arc::clone(&parts.entropy);
    Ok(Arc::new(Ssh { settings, limit: limit(config), entropy, ca, ca_line, publisher }))
}

impl Ssh {
    /// Is every copy of the grant that has not expired on the published list?
    async fn listed(&self, recipe: &Recipe, revoked: &[u64], last: Timestamp) -> Presence {
        let (krl, sha256) = match self.publisher.read().await {
            Ok(read) => read,
            Err(e) => return Presence::Unknown(e),
        };
        let missing: Vec<u64> = revoked.iter().copied().filter(|s| !krl.serials.contains(*s)).collect();
        let evidence = json!({
            "key_id": recipe.object,
            "serials": revoked,
            "not_on_the_list": missing,
            "krl": { "sha256": sha256, "version": krl.version, "entries": krl.serials.entries() },
            "last_copy_expires_at": last,
            "open_sessions": "not cut",
        });
        if missing.is_empty() { Presence::Absent(evidence) } else { Presence::Present(evidence) }
    }
}

#[async_trait]
impl Connector for Ssh {
    fn describe(&self) -> Description {
        let fetch = self.settings.krl_fetch_seconds;
        let heard = match fetch {
            0 => "Hosts refuse new logins as soon as the revocation list is published.".to_owned(),
            s => format!("Hosts refuse new logins once they have fetched the new revocation list, within {s} s."),
        };
        Description {
            kind: KIND.into(),
            summary: "Logins with short-lived OpenSSH certificates".into(),
            revocation_class: RevocationClass::Propagating,
            native_expiry: true,
            read_back: true,
            cuts_sessions: false,
            mints_secrets: true,
            residual_window_seconds: fetch,
            residual_window: format!("{heard} Sessions that are open go on."),
            enforcement_seconds: SKEW_SECONDS,
        }
    }

    fn validate(&self, parameters: &Value) -> Result<(), BadParameters> {
        Parameters::parse(parameters).map(|_| ())
    }

    async fn check(&self) -> Vec<Finding> {
        let path = self.publisher.path.display().to_string();
        let dir = self.publisher.path.parent().map(|d| d.display().to_string()).unwrap_or_default();
        let published = self.publisher.publish().await;
        let read = self.publisher.read().await;
        vec![
            Finding { name: "certificate authority".into(), ok: true, detail: self.ca_line.clone(), fix: None },
            Finding {
                name: "revocation list can be published".into(),
                ok: published.is_ok(),
                detail: published.as_ref().map_or_else(ToString::to_string, |()| path.clone()),
                fix: published.is_err().then(|| format!("install -d -m 755 -o <user of tidegate> {dir}")),
            },
            Finding {
                name: "revocation list can be read back".into(),
                ok: read.is_ok(),
                detail: read.map_or_else(|e| e, |(list, _)| format!("version {}", list.version)),
                fix: None,
            },
        ]
    }

    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault> {
        Parameters::parse(&wish.parameters).map_err(|e| Fault::Refused(e.to_string()))?;
        Ok(Recipe { grant: wish.grant, object: object_name(wish.grant), data: json!({}) })
    }

    async fn activate(&self, intent: &Intent) -> Result<Value, Fault> {
        let wanted = Parameters::parse(&intent.parameters).map_err(|e| Fault::Refused(e.to_string()))?;
        Ok(json!({ "principals": wanted.principals, "not_after": intent.not_after }))
    }

    async fn mint(&self, intent: &Intent, claim: &Claim) -> Result<Minted, Fault> {
        let wanted = Parameters::parse(&intent.parameters).map_err(|e| Fault::Refused(e.to_string()))?;
        if claim.serial == 0 {
            return Err(Fault::Refused("serial 0 could not be revoked".into()));
        }
        let before = Timestamp::from_seconds(intent.not_after.seconds());
        if before <= claim.at {
            return Err(Fault::Refused("less than a second is left of the grant".into()));
        }
        if claim.number > 1 {
            // The earlier copy is revoked in the ledger already; the hosts must hear of it before a new one exists.
            self.publisher.publish().await?;
        }
        let key_id = format!("{} {}", intent.recipe.object, printable(&intent.holder_name));
        let content = Content { serial: claim.serial, key_id: &key_id, at: claim.at, before, parameters: &wanted };
        let issued = certificate::issue(self.ca.as_ref(), self.entropy.as_ref(), &content)?;
        let mut public = Map::new();
        public.insert("certificate".into(), json!(issued.certificate));
        public.insert("public_key".into(), json!(issued.public_key));
        public.insert("principals".into(), json!(wanted.principals));
        public.insert("serial".into(), json!(claim.serial));
        public.insert("key_id".into(), json!(key_id));
        if let Some(host) = &self.settings.host {
            public.insert("host".into(), json!(host));
        }
        Ok(Minted { public, secrets: vec![("private_key".into(), issued.private_key)], expires_at: before })
    }

    async fn revoke(&self, _recipe: &Recipe) -> Result<(), Fault> {
        self.publisher.publish().await
    }

    async fn verify(&self, recipe: &Recipe) -> Presence {
        let publisher = &self.publisher;
        let now = publisher.clock.now();
        let asked = copies::of_grant(publisher.ledger.as_ref(), &publisher.target, recipe.grant, now);
        match within(self.limit, "the ledger", asked).await {
            Ok(Copies::None) => Presence::Absent(json!({ "key_id": recipe.object, "minted": 0 })),
            Ok(Copies::Expired(last)) => {
                Presence::Absent(json!({ "key_id": recipe.object, "last_copy_expired_at": last }))
            }
            Ok(Copies::Revoked(revoked, last)) => {
                let serials: Vec<u64> = revoked.iter().map(|issued| issued.serial).collect();
                self.listed(recipe, &serials, last).await
            }
            Ok(Copies::Live(last)) => {
                Presence::Present(json!({ "key_id": recipe.object, "last_copy_expires_at": last }))
            }
            Err(e) => Presence::Unknown(e.to_string()),
        }
    }

    fn leaves_objects(&self) -> bool {
        false
    }

    async fn sweep(&self) -> Result<Vec<Found>, Fault> {
        // No host can be asked which certificates exist. What can drift is the published list: set it right.
        self.publisher.publish().await.map(|()| Vec::new())
    }

    async fn publication(&self, name: &str) -> Option<Publication> {
        match name {
            "ca.pub" => {
                let body = format!("{}\n", self.ca_line).into_bytes();
                Some(Publication { content_type: "text/plain; charset=utf-8", body })
            }
            "krl" => {
                let body = match self.publisher.fresh().await {
                    Ok(body) => body,
                    // The ledger is away: what was published last is better than nothing, for a host without a list
                    // refuses every key login.
                    Err(_) => tokio::fs::read(&self.publisher.path).await.ok()?,
                };
                Some(Publication { content_type: "application/octet-stream", body })
            }
            _ => None,
        }
    }
}

/// A holder's name as it may stand in a host's log.
fn printable(name: &str) -> String {
    name.chars().take(100).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}
