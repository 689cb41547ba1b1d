//! Downstream applications: accounts kept aligned with the directory, and the proof that they are.
//!
//! A change of an identity marks its accounts due in its own commit; a worker finds out what each should be from the
//! directory as it is then, brings it there, reads it back, and records what it read. Nothing is queued but "look at
//! it", so a worker that dies, or comes late, does what is right now and never what was right then.

mod align;
mod explain;
mod hand;
mod intake;
mod runs;
mod scan;
pub mod view;
mod wanted;
mod work;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use super::{
    Broker, BrokerError,
    bulkhead::{Bulkhead, Purpose},
    record::Cause,
};
use crate::{
    domain::{
        account::{ApplicationConfig, ApplicationId},
        catalog::TargetConfig,
        id::IdentityId,
        roster::SourceConfig,
        time::Timestamp,
    },
    ports::{application::Application, clock::Clock, connector::Fault, roster::Roster},
    store::Tx,
};

pub(crate) use intake::Upstream;
pub use work::Work;

/// An application and what speaks to it.
pub(crate) struct Downstream {
    pub(crate) config: ApplicationConfig,
    /// `None`: people keep it by hand.
    pub(crate) speaks: Option<Arc<dyn Application>>,
    pub(crate) bulkhead: Bulkhead,
    /// Targets that give temporary membership in its groups: what they gave is theirs to take away.
    pub(crate) lends: Vec<String>,
}

/// All of them, by name.
pub(crate) type Downstreams = BTreeMap<ApplicationId, Arc<Downstream>>;

/// An application as it is handed to the broker.
pub struct ApplicationParts {
    /// Its configuration.
    pub config: ApplicationConfig,
    /// What speaks to it; `None` if people keep it by hand.
    pub speaks: Option<Arc<dyn Application>>,
    /// Targets that give temporary membership in its groups.
    pub lends: Vec<String>,
}

/// A source as it is handed to the broker.
pub struct SourceParts {
    /// Its configuration.
    pub config: SourceConfig,
    /// What reads it.
    pub roster: Arc<dyn Roster>,
}

impl Downstream {
    pub(crate) fn new(parts: ApplicationParts, clock: &Arc<dyn Clock>) -> Self {
        let limits = TargetConfig {
            id: Arc::clone(&parts.config.id),
            kind: parts.config.kind.clone(),
            concurrency: parts.config.concurrency,
            timeout_seconds: parts.config.timeout_seconds,
            settings: serde_json::Map::new(),
        };
        Self {
            config: parts.config,
            speaks: parts.speaks,
            bulkhead: Bulkhead::new(&limits, Arc::clone(clock)),
            lends: parts.lends,
        }
    }

    /// One call, under the application's limits.
    async fn call<T>(&self, purpose: Purpose, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.bulkhead.call(purpose, call).await
    }

    /// Why it is left alone at the moment with what is called for that, if it is.
    fn held_back(&self, purpose: Purpose) -> Option<String> {
        let busy = self.speaks.as_ref().and_then(|a| a.busy_until());
        let busy = busy.map(|until| format!("it asked to be left alone until {until}"));
        busy.or_else(|| self.bulkhead.held_back_for(purpose))
    }

    /// Longer than any work on one account takes.
    fn lease(&self, slack: Duration) -> Duration {
        let calls = 12_u32.saturating_add(u32::try_from(self.config.groups.len()).unwrap_or(1000).saturating_mul(3));
        self.bulkhead.timeout().saturating_mul(calls).saturating_add(slack)
    }
}

impl Broker {
    pub(crate) fn downstream(&self, id: &str) -> Result<&Arc<Downstream>, BrokerError> {
        self.downstreams.get(id).ok_or(BrokerError::NotFound("application"))
    }

    /// Names of the applications.
    pub fn application_ids(&self) -> Vec<ApplicationId> {
        self.downstreams.keys().cloned().collect()
    }

    /// They changed: from the commit of that change on, their accounts are due; first of all if something may be taken
    /// away.
    pub(crate) async fn record_downstream(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        identities: &[IdentityId],
        takes_away: bool,
    ) -> Result<(), BrokerError> {
        for id in self.downstreams.keys() {
            tx.accounts_due(id, identities, takes_away, cause.correlation, cause.now).await?;
        }
        Ok(())
    }

    /// Somebody was seen for the first time: where that makes an account, it is due.
    pub(crate) async fn record_first_login(
        &self,
        tx: &mut Tx,
        identity: IdentityId,
        at: Timestamp,
    ) -> Result<(), BrokerError> {
        let waiting = self.downstreams.values().filter(|app| app.config.provision.waits_for_logins());
        for app in waiting {
            let correlation = self.fresh_correlation(at)?;
            tx.accounts_due(&app.config.id, &[identity], false, correlation, at).await?;
        }
        Ok(())
    }

    fn account_lease(&self, app: &Downstream, now: Timestamp) -> Timestamp {
        now.plus_std(app.lease(self.settings.lease_slack))
    }
}
