//! The use-cases, one file a verb: authorise, decide, write state + audit event + outbox in one transaction.
//!
//! Every surface calls these verbs and has no rules of its own. The broker names no adapter: it holds connectors by
//! target, and knows nothing of HTTP.

mod ask;
mod attest;
mod audit;
mod authenticate;
mod bulkhead;
mod cancel;
mod claim;
mod comment;
mod context;
mod decide;
mod delivery;
mod end;
mod error;
mod extend;
mod favourite;
mod inbox;
pub mod input;
mod insights;
pub(crate) mod lifecycle;
mod lock;
mod log;
mod oauth;
mod observe;
mod open;
mod page_view;
mod permissions;
mod person;
mod policy_history;
mod read;
mod reap;
mod record;
mod render;
pub mod review;
pub mod scim;
mod seal;
mod session;
mod sightings;
mod sign_in;
mod simulate;
pub mod slack;
mod source;
mod source_token;
mod source_view;
mod sweep;
mod sync;
mod target;
mod token;
pub mod view;
mod workload;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lru::LruCache;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use claim::Handover;
pub use context::{Ctx, InSession};
pub use error::BrokerError;
pub use lifecycle::{AcceptedView, Heard, Hearing, UnusedRule};
pub use oauth::IssuedToken;
pub use observe::{Late, Readiness};
pub use reap::Outcome;
pub use seal::CheckpointSigner;
pub use session::{Arrival, NewSession, Visit};
pub use sign_in::{DeviceSignIn, NoToken, SignInRequest};
pub use source::SourceCtx;
pub use source_token::NewSourceToken;
pub use sync::{ApplicationParts, SourceParts, Work, view as sync_view};
pub use token::NewToken;

use crate::{
    domain::{
        capability::Description,
        catalog::{TargetConfig, TargetId},
        id::{IdentityId, SourceId},
        jit::JitRule,
        scim::{core::USERS, schema::ResourceType},
        time::{Timestamp, Ttl},
    },
    policy::{PolicyEngine, PolicySet},
    ports::{clock::Clock, connector::Connector, entropy::Entropy, signer::Signer},
    store::{HeldDeparture, Store},
};
use bulkhead::Bulkhead;

/// Bounds and durations of the broker; the defaults suit production.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests one identity may have pending.
    pub max_pending: u32,
    /// Grants one identity may hold at once; `None` for no bound.
    pub max_live_grants: Option<u32>,
    /// How far ahead a start may lie.
    pub max_start_ahead: Ttl,
    /// How long a decided grant may wait for its target before it fails.
    pub start_window: Duration,
    /// How long a verb waits for activation before it answers `activating`.
    pub activation_wait: Duration,
    /// Beyond three times the target's time-out: after this, whoever was opening or ending a grant is taken for dead.
    pub lease_slack: Duration,
    /// Revocation is tried again after this, doubling…
    pub backoff_first: Duration,
    /// …up to this, for ever.
    pub backoff_last: Duration,
    /// Tries after which a revocation is quarantined and alerted.
    pub quarantine_after: u32,
    /// Lifetime of a workload's access token.
    pub access_token_ttl: Ttl,
    /// Longest lifetime of personal tokens and client secrets.
    pub max_token_ttl: Ttl,
    /// How long a workload or agent that nobody answers for may go on, until the clock ends it.
    pub orphan_grace: Duration,
    /// When a source takes away more people than it should.
    pub departures: DepartureLimit,
    /// When accounts that nobody uses end; never if missing.
    pub unused: Option<UnusedRule>,
    /// What is known of people is forgotten so long after they are gone; never if missing.
    pub erase_after: Option<Duration>,
    /// Who may have an account made at the first login.
    pub jit: Vec<JitRule>,
    /// Users as SCIM speaks of them: with the extensions that were declared.
    pub users: &'static ResourceType,
    /// A session in the portal that is not used for this long ends…
    pub session_idle: Ttl,
    /// …and after this long it ends in any case.
    pub session_ttl: Ttl,
    /// Names of the notifiers that get messages from the outbox.
    pub notifiers: Vec<String>,
    /// Whom to ask in Slack; `None` without Slack.
    pub slack: Option<slack::SlackSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_pending: 100,
            max_live_grants: Some(1000),
            max_start_ahead: Ttl::seconds_or_one(30 * 86_400),
            start_window: Duration::from_secs(15 * 60),
            activation_wait: Duration::from_secs(12),
            lease_slack: Duration::from_secs(20),
            backoff_first: Duration::from_secs(5),
            backoff_last: Duration::from_secs(15 * 60),
            quarantine_after: 5,
            access_token_ttl: Ttl::seconds_or_one(3600),
            max_token_ttl: Ttl::seconds_or_one(366 * 86_400),
            orphan_grace: Duration::from_secs(7 * 86_400),
            departures: DepartureLimit::default(),
            unused: None,
            erase_after: None,
            jit: Vec::new(),
            users: &USERS,
            session_idle: Ttl::seconds_or_one(3600),
            session_ttl: Ttl::seconds_or_one(12 * 3600),
            notifiers: Vec::new(),
            slack: None,
        }
    }
}

/// How many people a source may take away before somebody must look.
#[derive(Debug, Clone, Copy)]
pub struct DepartureLimit {
    /// More than so many of a hundred…
    pub percent: u32,
    /// …and at least so many people…
    pub least: u64,
    /// …within this.
    pub window: Duration,
}

impl Default for DepartureLimit {
    fn default() -> Self {
        Self { percent: 10, least: 5, window: Duration::from_secs(3600) }
    }
}

impl DepartureLimit {
    /// Of how many people so many are not too many; there is no need to count further.
    pub const fn people_for(&self, gone: u64) -> u64 {
        match self.percent {
            0 => u64::MAX,
            percent => gone.saturating_mul(100).div_ceil(percent as u64),
        }
    }

    /// Are so many, of so many people, too many?
    pub const fn too_many(&self, gone: u64, people: u64) -> bool {
        gone >= self.least && gone.saturating_mul(100) > people.saturating_mul(self.percent as u64)
    }
}

/// What the broker is made of.
pub struct Parts {
    /// The ledger at rest.
    pub store: Store,
    /// Catalog and rules.
    pub policy: Arc<PolicyEngine>,
    /// Targets, each with the connector that speaks to it.
    pub targets: Vec<(TargetConfig, Arc<dyn Connector>)>,
    /// Applications that accounts are kept aligned in.
    pub applications: Vec<ApplicationParts>,
    /// Sources of truth that are read.
    pub sources: Vec<SourceParts>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Access tokens.
    pub signer: Arc<dyn Signer>,
    /// Signs checkpoints of the audit log.
    pub checkpoints: Arc<dyn CheckpointSigner>,
    /// Bounds and durations.
    pub settings: Settings,
    /// Only observe: the ledger was restored or cloned (promise P10).
    pub observing: bool,
}

pub(crate) struct Target {
    pub(crate) config: TargetConfig,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) description: Description,
    pub(crate) bulkhead: Bulkhead,
}

/// The use-cases.
pub struct Broker {
    pub(crate) store: Store,
    policy: Arc<PolicyEngine>,
    targets: BTreeMap<TargetId, Arc<Target>>,
    pub(crate) downstreams: sync::Downstreams,
    pub(crate) upstreams: BTreeMap<Arc<str>, Arc<sync::Upstream>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    signer: Arc<dyn Signer>,
    checkpoints: Arc<dyn CheckpointSigner>,
    settings: Settings,
    observing: AtomicBool,
    /// Raised when nothing new is to begin.
    closing: CancellationToken,
    /// What is in flight and must finish before the process ends.
    in_flight: TaskTracker,
    /// Names that were read a short while ago, and when.
    names: Mutex<LruCache<IdentityId, (Arc<str>, Timestamp)>>,
    /// Who was held back by the breaker and is not recorded yet.
    held: Mutex<Vec<HeldDeparture>>,
    /// Who was seen and is not recorded yet.
    sightings: sightings::Sightings,
    /// When each source was last written down as heard of.
    heard: Mutex<BTreeMap<SourceId, Timestamp>>,
    /// Loops of the workers that panicked and have not begun anew.
    down: Mutex<BTreeSet<String>>,
    /// Something is due before the next look: the reaper of every target wakes up.
    pub(crate) due: Notify,
}

impl Broker {
    /// Put together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let targets = parts
            .targets
            .into_iter()
            .map(|(config, connector)| {
                let target = Target {
                    description: connector.describe(),
                    bulkhead: Bulkhead::new(&config, Arc::clone(&parts.clock)),
                    connector,
                    config,
                };
                (Arc::clone(&target.config.id), Arc::new(target))
            })
            .collect();
        let downstreams = parts
            .applications
            .into_iter()
            .map(|a| (Arc::clone(&a.config.id), Arc::new(sync::Downstream::new(a, &parts.clock))))
            .collect();
        let upstreams = parts
            .sources
            .into_iter()
            .map(|s| (Arc::clone(&s.config.id), Arc::new(sync::Upstream { config: s.config, roster: s.roster })))
            .collect();
        Arc::new(Self {
            downstreams,
            upstreams,
            store: parts.store,
            policy: parts.policy,
            targets,
            clock: parts.clock,
            entropy: parts.entropy,
            signer: parts.signer,
            checkpoints: parts.checkpoints,
            settings: parts.settings,
            observing: AtomicBool::new(parts.observing),
            closing: CancellationToken::new(),
            in_flight: TaskTracker::new(),
            heard: Mutex::default(),
            names: Mutex::new(LruCache::new(NonZeroUsize::MIN.saturating_add(9_999))),
            held: Mutex::new(Vec::new()),
            sightings: sightings::Sightings::new(),
            down: Mutex::default(),
            due: Notify::new(),
        })
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The source of randomness.
    pub fn entropy(&self) -> &dyn Entropy {
        self.entropy.as_ref()
    }

    /// The policy set in force.
    pub fn policy(&self) -> Arc<PolicySet> {
        self.policy.current()
    }

    /// The engine, for reloading.
    pub fn policy_engine(&self) -> &PolicyEngine {
        &self.policy
    }

    /// Names of the configured targets.
    pub fn target_ids(&self) -> Vec<TargetId> {
        self.targets.keys().cloned().collect()
    }

    pub(crate) fn target_of(&self, id: &str) -> Option<&Arc<Target>> {
        self.targets.get(id)
    }

    /// The ledger, for workers and for tools that look at it from outside.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The bounds that it works under.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Grows with every commit.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.store.committed()
    }

    /// Does it only observe?
    pub fn is_observing(&self) -> bool {
        self.observing.load(Ordering::Acquire)
    }

    /// Nothing new may begin while observing or closing.
    pub(crate) fn may_change(&self) -> Result<(), BrokerError> {
        if self.closing.is_cancelled() {
            return Err(BrokerError::Closing);
        }
        if self.is_observing() {
            return Err(BrokerError::Observing);
        }
        Ok(())
    }

    /// Raised when the process is to end.
    pub const fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Let nothing new begin, then wait for what is in flight, at most `patience`. What is left is taken over by
    /// whoever finds its lease expired.
    pub async fn close(&self, patience: Duration) -> bool {
        self.closing.cancel();
        self.in_flight.close();
        let finished = tokio::time::timeout(patience, self.in_flight.wait()).await.is_ok();
        self.store.close().await;
        finished
    }

    /// Run something that closing waits for.
    pub fn track<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.in_flight.spawn(task)
    }

    pub(crate) const fn in_flight(&self) -> &TaskTracker {
        &self.in_flight
    }
}
