//! Put the parts together.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;

use super::{custody::Custody, slack};
use crate::{
    applications,
    broker::{ApplicationParts, Broker, CheckpointSigner, Parts, Settings, SourceParts},
    config::{NotifierConfig, SlackConfig},
    connectors,
    domain::{
        account::ApplicationConfig,
        capability::Description,
        catalog::TargetConfig,
        checkpoint::VerifierKey,
        roster::SourceConfig,
        scim::declared::{FactKind, facts_of},
        secret::Secret,
        time::Ttl,
    },
    edge::slack::Slack,
    keys::{FileSigner, KeyFiles, checkpoint_key},
    notify::{
        log::LogNotifier,
        signing::SigningKeys,
        webhook::{self, WebhookNotifier},
    },
    policy::{PolicyEngine, TargetDirectory},
    ports::{
        clock::Clock,
        connector::{BadParameters, Connector},
        entropy::Entropy,
        notifier::Notifier,
        signer::Ed25519Key,
    },
    store::{Options, Store},
    worker::{Rhythm, Workers},
};

/// Where the rules come from.
#[derive(Debug, Clone)]
pub enum Policies {
    /// A directory, watched for changes.
    Directory(PathBuf),
    /// The ones inside the binary.
    Seed,
}

/// Everything that is needed to put a broker together.
pub struct Setup {
    /// How to open the ledger.
    pub database: Options,
    /// Keys, published files.
    pub data_dir: PathBuf,
    /// Rules.
    pub policies: Policies,
    /// Targets.
    pub targets: Vec<TargetConfig>,
    /// Applications that accounts are kept aligned in.
    pub applications: Vec<ApplicationConfig>,
    /// Sources of truth that are read.
    pub sources: Vec<SourceConfig>,
    /// Notifiers.
    pub notifiers: Vec<NotifierConfig>,
    /// Slack.
    pub slack: Option<SlackConfig>,
    /// `iss` of our tokens; also names the audit log.
    pub issuer: String,
    /// Bounds.
    pub settings: Settings,
    /// Schedules.
    pub rhythm: Rhythm,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Only look: publish nothing, change nothing at any target.
    pub observe: bool,
    /// Stands between the broker and each connector: tests make real ones lie and hang with it.
    pub wrap: Option<Wrap>,
}

/// Gives a connector, or one around it.
pub type Wrap = Box<dyn Fn(&TargetConfig, Arc<dyn Connector>) -> Arc<dyn Connector> + Send + Sync>;

/// A broker, put together and not yet running.
pub struct Composed {
    /// The use-cases.
    pub broker: Arc<Broker>,
    /// The workers; run them.
    pub workers: Workers,
    /// Token keys; they rotate by the clock.
    pub signer: Arc<FileSigner>,
    /// Who is in charge of the ledger.
    pub custody: Custody,
    /// Slack, put together and not yet running.
    pub slack: Option<Arc<Slack>>,
}

/// Longest life of a token that we sign: a verifier may meet a retired key for that long.
const LONGEST_TOKEN: Ttl = Ttl::seconds_or_one(7 * 86_400);

struct CheckpointKey {
    verifier: VerifierKey,
    key: Box<dyn Ed25519Key>,
}

impl CheckpointSigner for CheckpointKey {
    fn key(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.key.sign(message).to_vec()
    }
}

/// What policy may know of targets.
struct Known {
    targets: BTreeMap<String, (Description, Arc<dyn Connector>)>,
    declared: BTreeMap<String, FactKind>,
}

impl TargetDirectory for Known {
    fn describe(&self, target: &str) -> Option<Description> {
        self.targets.get(target).map(|(description, _)| description.clone())
    }

    fn validate(&self, target: &str, parameters: &serde_json::Value) -> Result<(), BadParameters> {
        match self.targets.get(target) {
            Some((_, connector)) => connector.validate(parameters),
            None => Err(BadParameters(format!("there is no target `{target}`"))),
        }
    }

    fn declared(&self) -> BTreeMap<String, FactKind> {
        self.declared.clone()
    }
}

/// The name under which the audit log signs: host and path of the issuer at the first start, and the same ever after.
async fn log_origin(store: &Store, issuer: &str) -> anyhow::Result<String> {
    const NAME: &str = "log_origin";
    if let Some(origin) = store.meta(NAME).await? {
        return Ok(origin);
    }
    let bare = issuer.split_once("://").map_or(issuer, |(_, rest)| rest).trim_end_matches('/');
    let origin = format!("{bare}/audit");
    store.remember(NAME, &origin).await?;
    Ok(origin)
}

/// Open the ledger and put everything together.
pub async fn compose(setup: Setup) -> anyhow::Result<Composed> {
    crate::keys::init_crypto();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&setup.data_dir)
        .with_context(|| format!("cannot make the data directory {}", setup.data_dir.display()))?;
    let store = Store::open(&setup.database).await.context("cannot open the ledger's database")?;
    let custody = Custody::establish(&store, &setup.data_dir).await?;
    let observing = setup.observe || custody.observing();
    let keys_dir = setup.data_dir.join("keys");
    let signer =
        FileSigner::open(&keys_dir, &setup.issuer, LONGEST_TOKEN, Arc::clone(&setup.entropy), setup.clock.now())
            .context("cannot open the token keys")?;
    let signer = Arc::new(signer);
    let parts = connectors::Parts {
        clock: Arc::clone(&setup.clock),
        entropy: Arc::clone(&setup.entropy),
        signer: Arc::clone(&signer) as _,
        directory: Arc::new(store.clone()),
        revocations: Arc::new(store.clone()),
        holdings: Arc::new(store.clone()),
        keys: Arc::new(KeyFiles::new(&keys_dir, Arc::clone(&setup.entropy))),
        data_dir: setup.data_dir.clone(),
        observing,
    };
    let mut targets: Vec<(TargetConfig, Arc<dyn Connector>)> = Vec::with_capacity(setup.targets.len());
    for config in setup.targets {
        anyhow::ensure!(
            !targets.iter().any(|(other, _)| other.id == config.id),
            "there are two targets of the name `{}`; rename one",
            config.id
        );
        let mut connector = connectors::build(&config, &parts)?;
        if let Some((other, _)) = targets.iter().find(|(_, other)| share_a_place(other.as_ref(), connector.as_ref())) {
            anyhow::bail!(
                "the targets `{}` and `{}` are on the same place, and each would take the other's access for its own: \
                 make them one target, or give them two marks where their kind tells them apart by that",
                other.id,
                config.id
            );
        }
        if let Some(wrap) = &setup.wrap {
            connector = wrap(&config, connector);
        }
        targets.push((config, connector));
    }
    let applications = applications_of(setup.applications, &targets, &setup.clock)?;
    let sources = sources_of(setup.sources, &applications, &setup.clock)?;
    let known = Known {
        targets: targets.iter().map(|(c, k)| (c.id.to_string(), (k.describe(), Arc::clone(k)))).collect(),
        declared: facts_of(setup.settings.users),
    };
    let policy = load_policy(&setup.policies, Box::new(known))?;
    let chat = match &setup.slack {
        Some(config) => Some((config, slack::client(config, Arc::clone(&setup.clock))?)),
        None => None,
    };
    let notifiers = notifiers(setup.notifiers, &setup.issuer, &setup.clock)?;
    let origin = log_origin(&store, &setup.issuer).await?;
    let checkpoints = checkpoint_signer(&keys_dir, &origin, setup.entropy.as_ref())?;
    let broker = Broker::new(Parts {
        store,
        policy: Arc::new(policy),
        targets,
        applications,
        sources,
        clock: setup.clock,
        entropy: setup.entropy,
        signer: Arc::clone(&signer) as _,
        checkpoints: Arc::new(checkpoints),
        settings: Settings {
            notifiers: notifiers.keys().cloned().collect(),
            slack: setup.slack.as_ref().map(slack::asking),
            ..setup.settings
        },
        observing,
    });
    let slack = match chat {
        Some((config, chat)) => Some(slack::surface(config, &broker, chat, &setup.issuer)?),
        None => None,
    };
    let node = format!("{}-{}", std::process::id(), hex::encode(random_tag(&broker)?));
    let workers = Workers { broker: Arc::clone(&broker), notifiers, rhythm: setup.rhythm, node };
    Ok(Composed { broker, workers, signer, custody, slack })
}

/// What speaks to each application. A target whose server is that of an application lends memberships there.
fn applications_of(
    configs: Vec<ApplicationConfig>,
    targets: &[(TargetConfig, Arc<dyn Connector>)],
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<ApplicationParts>> {
    let mut parts: Vec<ApplicationParts> = Vec::with_capacity(configs.len());
    for config in configs {
        anyhow::ensure!(
            !parts.iter().any(|other| other.config.id == config.id),
            "there are two applications of the name `{}`; rename one",
            config.id
        );
        scheduled(&config.id, config.schedule.as_deref())?;
        let speaks = applications::build(&config, clock)?;
        let base = |settings: &serde_json::Map<String, serde_json::Value>| {
            settings.get("url").and_then(|u| u.as_str()).map(|u| u.trim_end_matches('/').to_owned())
        };
        let own = base(&config.settings);
        let same = |target: &&(TargetConfig, Arc<dyn Connector>)| own.is_some() && base(&target.0.settings) == own;
        let lends = targets.iter().filter(same).map(|(target, _)| target.id.to_string()).collect();
        parts.push(ApplicationParts { config, speaks, lends });
    }
    Ok(parts)
}

/// What reads each source. Applications and sources are called by name alike, so the names must differ.
fn sources_of(
    configs: Vec<SourceConfig>,
    applications: &[ApplicationParts],
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<SourceParts>> {
    let mut parts: Vec<SourceParts> = Vec::with_capacity(configs.len());
    for config in configs {
        let taken =
            parts.iter().any(|s| s.config.id == config.id) || applications.iter().any(|a| a.config.id == config.id);
        anyhow::ensure!(!taken, "there are two applications or sources of the name `{}`; rename one", config.id);
        scheduled(&config.id, config.schedule.as_deref())?;
        let roster = crate::sources::build(&config, clock)?;
        parts.push(SourceParts { config, roster });
    }
    Ok(parts)
}

/// Is a place of one also the other's, or within it?
fn share_a_place(one: &dyn Connector, other: &dyn Connector) -> bool {
    let theirs = other.places();
    let same = |a: &Vec<String>| theirs.iter().any(|b| a.starts_with(b) || b.starts_with(a));
    one.places().iter().any(same)
}

fn scheduled(name: &str, schedule: Option<&str>) -> anyhow::Result<()> {
    let taken = ["tasks", "runs"].contains(&name);
    anyhow::ensure!(!taken, "`{name}` is no name for an application or source: it is taken");
    if let Some(schedule) = schedule {
        schedule.parse::<crate::worker::Schedule>().with_context(|| format!("schedule of `{name}`"))?;
    }
    Ok(())
}

fn random_tag(broker: &Broker) -> anyhow::Result<[u8; 4]> {
    let mut tag = [0; 4];
    broker.entropy().fill(&mut tag)?;
    Ok(tag)
}

fn load_policy(policies: &Policies, targets: Box<dyn TargetDirectory>) -> anyhow::Result<PolicyEngine> {
    Ok(match policies {
        Policies::Directory(dir) => PolicyEngine::load(dir, targets)?,
        Policies::Seed => PolicyEngine::from_files(crate::policy::seed::files(), targets)?,
    })
}

fn checkpoint_signer(keys: &Path, origin: &str, entropy: &dyn Entropy) -> anyhow::Result<CheckpointKey> {
    let key = checkpoint_key(keys, entropy).context("cannot open the key of the audit log")?;
    let verifier = VerifierKey::new(origin, key.public()).context("the audit log has no usable name")?;
    Ok(CheckpointKey { verifier, key: Box::new(key) })
}

pub(super) fn notifiers(
    configs: Vec<NotifierConfig>,
    source: &str,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<BTreeMap<String, Arc<dyn Notifier>>> {
    let mut notifiers: BTreeMap<String, Arc<dyn Notifier>> = BTreeMap::new();
    for config in configs {
        let notifier: Arc<dyn Notifier> = match config {
            NotifierConfig::Log => Arc::new(LogNotifier),
            NotifierConfig::Webhook { name, url, secret_file, allow_loopback } => {
                let text = std::fs::read_to_string(&secret_file)
                    .with_context(|| format!("cannot read {}", secret_file.display()))?;
                let keys = SigningKeys::parse(&Secret::new(text))?;
                let settings = webhook::Settings { name, url, keys, source: source.to_owned(), allow_loopback };
                Arc::new(WebhookNotifier::new(settings, Arc::clone(clock))?)
            }
        };
        let name = notifier.name().to_owned();
        anyhow::ensure!(notifiers.insert(name.clone(), notifier).is_none(), "there are two notifiers `{name}`");
    }
    Ok(notifiers)
}
