//! `tidegate dev`: everything on one machine, without configuration, for trying out. Loopback only.

use std::{
    io::Write,
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::{
    compose::{Policies, Setup, compose},
    directory_file::DirectoryFile,
    fake_slack, serve, tour,
};
use crate::{
    broker::{Broker, DepartureLimit, Settings},
    config::{Config, NotifierConfig},
    domain::{catalog::TargetConfig, identity::IdentityKind, time::Ttl},
    edge::{Limits, Portal},
    lifecycle,
    ports::{clock::SystemClock, entropy::SystemEntropy},
    store::Options,
    telemetry::{self, LogFormat},
    worker::Rhythm,
};

/// How to start.
#[derive(Debug, Clone, Default)]
pub struct DevOptions {
    /// Print one line of JSON instead of a banner.
    pub json: bool,
    /// Where to listen on 127.0.0.1; 0 for any free port.
    pub port: u16,
    /// Keep everything in this directory; a temporary one if missing.
    pub data: Option<PathBuf>,
    /// Another database than the embedded one.
    pub database: Option<String>,
    /// More targets, other policies.
    pub config: Option<PathBuf>,
    /// Start a Slack of its own beside it.
    pub fake_slack: bool,
    /// Play the whole story and end.
    pub tour: bool,
}

/// The people and workloads to try things out with.
const SEED: &str = include_str!("seed.toml");
/// Tokens made by a start last until the next working day.
const TOKEN_TTL: Ttl = Ttl::seconds_or_one(24 * 3600);

/// The source whose token `tidegate dev` prints.
const DEV_SOURCE: &str = "dev";

/// Whom `tidegate dev` begins with.
pub fn seed_directory() -> anyhow::Result<DirectoryFile> {
    toml::from_str(SEED).context("the seed directory")
}

/// Targets that need no other server.
pub fn seed_targets() -> Vec<TargetConfig> {
    [("dev-token", "token"), ("dev-ssh", "ssh"), ("dev-directory", "directory")]
        .into_iter()
        .map(|(id, kind)| {
            let mut settings = Map::new();
            if kind == "token" {
                settings.insert("verifiers".to_owned(), json!("introspect"));
            }
            TargetConfig { id: id.into(), kind: kind.to_owned(), concurrency: 16, timeout_seconds: 10, settings }
        })
        .collect()
}

/// Start, say where, and serve until asked to end; or play the tour.
pub async fn dev(options: DevOptions) -> anyhow::Result<()> {
    telemetry::init_logs(LogFormat::Plain, if options.tour { "error" } else { "warn" });
    let prometheus = telemetry::init_metrics();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
        .await
        .with_context(|| format!("cannot listen on 127.0.0.1:{}; try --port 0", options.port))?;
    let address = listener.local_addr()?;
    let url = format!("http://{address}");
    // Lives as long as the server: dropped, it is erased.
    let scratch;
    let data_dir = if let Some(dir) = &options.data {
        std::path::absolute(dir)?
    } else {
        scratch = tempfile::Builder::new().prefix("tidegate-dev-").tempdir().context("no temporary directory")?;
        scratch.path().to_owned()
    };
    let (mut parts, limits) = setup(&options, &data_dir, &url)?;
    let fake = if options.fake_slack { Some(fake_slack::beside(&mut parts).await?) } else { None };
    let composed = compose(parts).await?;
    if let Some(doubt) = composed.custody.doubt() {
        anyhow::ensure!(
            options.config.is_none() && options.database.is_none(),
            "{doubt}, and it has targets or a database of its own; run `tidegate resume` if you are sure"
        );
        // Trying things out on a copy is what this mode is for, as long as nothing but this machine is touched.
        tracing::warn!(doubt, "taking charge of this ledger");
        composed.broker.take_charge("tidegate dev").await?;
        composed.custody.settle(composed.broker.store()).await?;
    }
    let mut access = seed(&composed.broker, &data_dir, &url).await?;
    if let Some(fake) = &fake {
        fake.populate(&composed.broker, &access).await?;
        if let Some(access) = access.as_object_mut() {
            access.insert("slack".to_owned(), json!({"url": fake.url()}));
        }
    }
    if options.json {
        say_json(&access)?;
    } else if !options.tour {
        say_banner(&access, &data_dir, &url, options.data.is_some())?;
    }
    let closing = composed.broker.closing().clone();
    let touring = options.tour.then(|| {
        let url = url.clone();
        tokio::spawn(async move {
            let result = tour::play(&url, &access).await;
            closing.cancel();
            result
        })
    });
    let end = {
        let closing = composed.broker.closing().clone();
        async move {
            tokio::select! {
                () = lifecycle::asked_to_end() => {}
                () = closing.cancelled() => {}
            }
        }
    };
    let portal = portal(&listener)?;
    serve::run(composed, listener, prometheus, limits, portal, &data_dir, end).await?;
    match touring {
        Some(touring) => touring.await.context("the tour panicked")?,
        None => Ok(()),
    }
}

/// One click among the seeded people; this listens on loopback alone.
fn portal(listener: &TcpListener) -> anyhow::Result<Portal> {
    let address = listener.local_addr()?;
    let people = seed_directory()?.identities.into_iter().filter(|i| i.kind == IdentityKind::Person);
    Ok(Portal {
        origins: vec![format!("http://{address}"), format!("http://localhost:{}", address.port())],
        choices: people.map(|i| i.name).collect(),
        provider: None,
    })
}

fn setup(options: &DevOptions, data_dir: &Path, url: &str) -> anyhow::Result<(Setup, Limits)> {
    let mut limits = Limits { per_identity: None, per_source: None, per_address: None, ..Limits::default() };
    let mut targets = seed_targets();
    let (mut applications, mut sources) = (Vec::new(), Vec::new());
    let mut policies = Policies::Seed;
    let mut notifiers: Vec<NotifierConfig> = Vec::new();
    let mut slack_config = None;
    let mut rhythm = Rhythm::default();
    // Whoever tries things out makes and removes people all day: that is no mass change.
    let departures = DepartureLimit { least: u64::MAX, ..DepartureLimit::default() };
    let mut settings = Settings { max_live_grants: None, departures, ..Settings::default() };
    if let Some(file) = &options.config {
        let config = Config::read(file)?;
        targets.retain(|seeded| !config.targets.iter().any(|t| t.id == seeded.id));
        settings = serve::lifecycle_settings(&config, settings)?;
        limits = serve::limits_of(&config, limits);
        rhythm = serve::rhythm_of(&config)?;
        targets.extend(config.targets);
        applications = config.applications;
        sources = config.sources;
        if config.policies.exists() {
            policies = Policies::Directory(config.policies);
        }
        notifiers = config.notifiers;
        slack_config = config.slack;
        settings.max_live_grants = config.limits.max_live_grants;
        if let Some(slack) = config.limits.lease_slack() {
            settings.lease_slack = slack;
        }
    }
    let database = match &options.database {
        Some(url) => Options::new(url.clone()),
        None => Options::sqlite(&data_dir.join("tidegate.db")),
    };
    let setup = Setup {
        database,
        data_dir: data_dir.to_owned(),
        policies,
        targets,
        applications,
        sources,
        notifiers,
        slack: slack_config,
        issuer: url.to_owned(),
        settings,
        rhythm,
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy::new()),
        observe: false,
        wrap: None,
    };
    Ok((setup, limits))
}

/// Make the seeded identities where they are missing and give each a fresh secret; there is no default one.
async fn seed(broker: &Arc<Broker>, data_dir: &Path, url: &str) -> anyhow::Result<Value> {
    let file = seed_directory()?;
    let seeded = file.apply(broker.store(), broker.entropy(), broker.now()).await?;
    let tokens = data_dir.join("tokens");
    std::fs::create_dir_all(&tokens)?;
    let (mut people, mut workloads) = (Map::new(), Map::new());
    for entry in &file.identities {
        let Some(id) = seeded.get(&entry.name) else { continue };
        let made = broker.create_token_at_console(*id, "tidegate dev", TOKEN_TTL).await?;
        let secret = made.token.expose();
        write_private(&tokens.join(format!("{}.token", entry.name)), secret)?;
        if entry.kind == IdentityKind::Person {
            people.insert(entry.name.clone(), json!({"id": id, "token": secret}));
        } else {
            write_private(&tokens.join(format!("{}.id", entry.name)), &id.to_string())?;
            workloads.insert(entry.name.clone(), json!({"client_id": id, "client_secret": secret}));
        }
    }
    // The seeded people and groups are a source's, so that whoever tries SCIM out can move and deactivate them; who
    // administers stays here.
    let source = broker.create_source_token_at_console(DEV_SOURCE, TOKEN_TTL).await?;
    broker.hand_over_to_source(DEV_SOURCE).await?;
    write_private(&tokens.join("scim.token"), source.token.expose())?;
    Ok(json!({
        "url": url,
        "people": people,
        "workloads": workloads,
        "scim": {"url": format!("{url}/scim/v2"), "token": source.token.expose()},
    }))
}

pub(super) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

fn say_json(access: &Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{access}")?;
    out.flush()?;
    Ok(())
}

fn say_banner(access: &Value, data_dir: &Path, url: &str, kept: bool) -> anyhow::Result<()> {
    let tokens = data_dir.join("tokens");
    let fate = if kept { "kept in --data" } else { "erased when it ends" };
    let people: Vec<&String> =
        access.get("people").and_then(Value::as_object).into_iter().flat_map(Map::keys).collect();
    let mut err = std::io::stderr().lock();
    writeln!(err, "tidegate dev {}  NOT FOR PRODUCTION  ({fate}; Ctrl-C ends it)", env!("CARGO_PKG_VERSION"))?;
    writeln!(err, "  Portal   {url}/    (one click signs you in as any of the people)")?;
    writeln!(err, "  API      {url}/v1    OpenAPI {url}/openapi.json")?;
    writeln!(err, "  SCIM     {url}/scim/v2    token in {}/scim.token", tokens.display())?;
    writeln!(err, "  People   {people:?}: ana asks, ben approves, eve administers; workload deploy-bot")?;
    if let Some(slack) = access.pointer("/slack/url").and_then(Value::as_str) {
        writeln!(err, "  Slack    {slack}  (a fake one, on which to be anybody)")?;
    }
    writeln!(err, "  Tokens   {}/<name>.token  (this machine, 24 h)", tokens.display())?;
    writeln!(err, "  Try      export TIDEGATE_SERVER={url} TIDEGATE_TOKEN_FILE={}/ana.token", tokens.display())?;
    writeln!(err, "           tidegate ls entitlements")?;
    writeln!(
        err,
        "           tidegate request tokens:orders-read --reason \"look at order 4411\" --for 10m -y --wait"
    )?;
    writeln!(err, "           tidegate dev --tour     plays the whole story by itself")?;
    Ok(())
}
