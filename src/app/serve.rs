//! `tidegate serve`, `check`, `bootstrap`, `resume`.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::net::TcpListener;

use super::{
    compose::{Composed, Policies, Setup, compose},
    directory_file::DirectoryFile,
};
use crate::{
    broker::{DepartureLimit, Settings, UnusedRule},
    config::Config,
    domain::{scim::declared::declare, time::Ttl},
    edge::{EdgeParts, Limits, Portal, Rate, router_with},
    lifecycle,
    ports::{clock::SystemClock, entropy::SystemEntropy},
    store::Options,
    telemetry::{self, LogFormat},
    worker::Rhythm,
};

/// How long closing waits for what is in flight; the rest is taken over when its lease runs out.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between the word that an account is not used and its end.
const UNUSED_GRACE: Duration = Duration::from_secs(14 * 86_400);
/// Token keys are replaced after this long.
const KEY_AGE: Ttl = Ttl::seconds_or_one(30 * 86_400);

fn setup_of(config: &Config) -> anyhow::Result<Setup> {
    let listen = config.listen;
    let issuer = config.public_url.as_ref().map_or_else(|| format!("http://{listen}"), ToString::to_string);
    let rhythm = rhythm_of(config)?;
    let defaults = Settings::default();
    Ok(Setup {
        database: Options::new(config.database_url()?),
        data_dir: config.data_dir.clone(),
        policies: Policies::Directory(config.policies.clone()),
        targets: config.targets.clone(),
        applications: config.applications.clone(),
        sources: config.sources.clone(),
        notifiers: config.notifiers.clone(),
        slack: config.slack.clone(),
        issuer: issuer.trim_end_matches('/').to_owned(),
        settings: Settings {
            max_pending: config.limits.max_pending.unwrap_or(defaults.max_pending),
            max_live_grants: config.limits.max_live_grants.or(defaults.max_live_grants),
            access_token_ttl: config.limits.access_token_ttl.unwrap_or(defaults.access_token_ttl),
            lease_slack: config.limits.lease_slack().unwrap_or(defaults.lease_slack),
            session_idle: config.sign_in.as_ref().and_then(|s| s.idle).unwrap_or(defaults.session_idle),
            session_ttl: config.sign_in.as_ref().and_then(|s| s.longest).unwrap_or(defaults.session_ttl),
            ..lifecycle_settings(config, defaults)?
        },
        rhythm,
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy::new()),
        observe: false,
        wrap: None,
    })
}

/// When periodic tasks run.
pub(super) fn rhythm_of(config: &Config) -> anyhow::Result<Rhythm> {
    let mut rhythm = Rhythm::default();
    let given = &config.schedules;
    for (name, text, place) in [
        ("sweep", &given.sweep, &mut rhythm.sweep),
        ("prune", &given.prune, &mut rhythm.prune),
        ("tidy", &given.tidy, &mut rhythm.tidy),
    ] {
        if let Some(text) = text {
            *place = text.parse().with_context(|| format!("schedules.{name}"))?;
        }
    }
    Ok(rhythm)
}

/// What the configuration says of identities.
pub(super) fn lifecycle_settings(config: &Config, defaults: Settings) -> anyhow::Result<Settings> {
    let given = &config.lifecycle;
    let limit = defaults.departures;
    Ok(Settings {
        orphan_grace: given.orphan_grace.map_or(defaults.orphan_grace, Ttl::as_std),
        departures: DepartureLimit {
            percent: given.departures_percent.unwrap_or(limit.percent),
            least: given.departures_least.unwrap_or(limit.least),
            window: given.departures_window.map_or(limit.window, Ttl::as_std),
        },
        unused: given.unused_after.map(|after| UnusedRule {
            after: after.as_std(),
            grace: given.unused_grace.map_or(UNUSED_GRACE, Ttl::as_std),
            of_sources: given.unused_of_sources,
        }),
        erase_after: given.erase_after.map(Ttl::as_std),
        jit: config.jit.clone(),
        users: declare(&config.scim_extensions).map_err(anyhow::Error::msg)?,
        ..defaults
    })
}

/// How much is let in.
pub(super) fn limits_of(config: &Config, defaults: Limits) -> Limits {
    let rate = |given: Option<u32>| given.filter(|n| *n > 0).map(|n| Rate::new(n, n.saturating_mul(2)));
    let mut limits = defaults;
    limits.per_identity = rate(config.limits.requests_per_second).or(limits.per_identity);
    limits.per_source = rate(config.limits.scim_requests_per_second).or(limits.per_source);
    limits
}

/// Run the server until it is asked to end.
pub async fn serve(config: &Config) -> anyhow::Result<()> {
    telemetry::init_logs(LogFormat::Json, "info");
    let prometheus = telemetry::init_metrics();
    let setup = setup_of(config)?;
    let data_dir = setup.data_dir.clone();
    let composed = compose(setup).await?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    if !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "listening beyond loopback without TLS: put a TLS-terminating proxy in front");
    }
    let limits = limits_of(config, Limits { behind_proxy: config.behind_proxy, ..Limits::default() });
    let portal = portal_of(config)?;
    run(composed, listener, prometheus, limits, portal, &data_dir, lifecycle::asked_to_end()).await
}

/// The portal is there if there is a way to sign in to it.
fn portal_of(config: &Config) -> anyhow::Result<Portal> {
    let Some(sign_in) = &config.sign_in else { return Ok(Portal::default()) };
    let origin = match &config.public_url {
        Some(url) => url.origin().ascii_serialization(),
        None => format!("http://{}", config.listen),
    };
    let provider = sign_in.provider()?;
    Ok(Portal { origins: vec![origin], choices: Vec::new(), provider: Some(provider) })
}

/// Serve until `end`, then finish or hand over what is in flight.
pub(super) async fn run(
    composed: Composed,
    listener: TcpListener,
    prometheus: Option<metrics_exporter_prometheus::PrometheusHandle>,
    limits: Limits,
    portal: Portal,
    data_dir: &Path,
    end: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let Composed { broker, workers, signer, custody, slack } = composed;
    if let Some(doubt) = custody.doubt() {
        tracing::error!(doubt, "observing only; run `tidegate resume` when no other broker works on this ledger");
    }
    let working = tokio::spawn(workers.run());
    let talking = slack.clone().map(|slack| tokio::spawn(slack.run()));
    let last_mark = custody.clone();
    let keeping = {
        let (broker, custody, data_dir) = (Arc::clone(&broker), custody, data_dir.to_owned());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = broker.closing().cancelled() => break,
                    () = tokio::time::sleep(Duration::from_secs(2)) => {}
                }
                if broker.is_observing() {
                    if custody.settled_since(broker.store(), &data_dir).await
                        && let Err(error) = broker.take_charge("console").await
                    {
                        tracing::warn!(error = %error, "could not take charge of the ledger yet");
                    }
                    continue;
                }
                if let Ok(size) = broker.store().audit_size().await
                    && let Err(error) = custody.remember(size)
                {
                    tracing::warn!(error = %error, "the mark of the ledger could not be written");
                }
                match signer.maintain(KEY_AGE, broker.now()) {
                    Ok(true) => tracing::info!("token keys rotated"),
                    Ok(false) => {}
                    Err(error) => tracing::warn!(error = %error, "token keys could not be maintained"),
                }
            }
        })
    };
    let parts =
        EdgeParts { broker: Arc::clone(&broker), prometheus, limits, entropy: Arc::new(SystemEntropy::new()), portal };
    let app = router_with(parts, slack);
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "serving");
    let closing = broker.closing().clone();
    let ending = {
        let closing = closing.clone();
        async move {
            end.await;
            closing.cancel();
        }
    };
    let serving = axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(ending)
        .into_future();
    // Clients that keep their connections open may not hold up the end.
    let cut_off = async {
        closing.cancelled().await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    tokio::select! {
        served = serving => served.context("serving failed")?,
        () = cut_off => {}
    }
    closing.cancel();
    let patience = tokio::time::timeout(PATIENCE, working).await;
    let _ = keeping.await;
    if let Some(talking) = talking {
        let _ = tokio::time::timeout(PATIENCE, talking).await;
    }
    if !broker.is_observing()
        && let Ok(size) = broker.store().audit_size().await
        && let Err(error) = last_mark.remember(size)
    {
        tracing::warn!(error = %error, "the mark of the ledger could not be written");
    }
    let finished = broker.close(PATIENCE).await;
    if patience.is_err() || !finished {
        tracing::warn!("not everything in flight finished in time; it is taken over when its lease runs out");
    }
    tracing::info!("ended");
    Ok(())
}

/// Read everything that `serve` would read, change nothing, and say what is wrong.
pub async fn check(config: &Config) -> anyhow::Result<String> {
    let mut setup = setup_of(config)?;
    // A scratch ledger: the real one is neither opened nor made.
    let scratch = tempfile::tempdir().context("cannot make a scratch directory")?;
    setup.database = Options::sqlite(&scratch.path().join("check.db"));
    setup.data_dir = scratch.path().join("data");
    setup.observe = true;
    let composed = compose(setup).await?;
    let policy = composed.broker.policy();
    let text = format!(
        "configuration ok: {} targets, {} entitlements, policy version {}",
        composed.broker.target_ids().len(),
        policy.catalog().entitlements.len(),
        policy.version()
    );
    composed.broker.close(Duration::from_secs(1)).await;
    Ok(text)
}

/// Fill an empty ledger from a directory file and give one person a token: how the first administrator comes in.
pub async fn bootstrap(config: &Config, directory: &Path, person: &str) -> anyhow::Result<crate::broker::NewToken> {
    let text = std::fs::read_to_string(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let file: DirectoryFile =
        toml::from_str(&text).with_context(|| format!("{} is no directory", directory.display()))?;
    let composed = compose(setup_of(config)?).await?;
    anyhow::ensure!(!composed.custody.observing(), "this ledger was restored or cloned; run `tidegate resume` first");
    let broker = composed.broker;
    let seeded = file.apply(broker.store(), broker.entropy(), broker.now()).await?;
    let id = if let Some(id) = seeded.get(person) {
        *id
    } else {
        let found = broker.store().subject_by_name(person, broker.now()).await?;
        found.with_context(|| format!("there is no `{person}` in the directory"))?.identity.id
    };
    let token = broker.create_token_at_console(id, "bootstrap", Ttl::seconds_or_one(86_400)).await?;
    broker.close(Duration::from_secs(5)).await;
    Ok(token)
}

/// An administrator says go: this node is in charge of its ledger (promise P10).
pub async fn resume(config: &Config) -> anyhow::Result<String> {
    let composed = compose(setup_of(config)?).await?;
    let text = match composed.custody.doubt() {
        None => "nothing to do: this node is in charge of its ledger".to_owned(),
        Some(doubt) => {
            let who = std::env::var("USER").unwrap_or_else(|_| "somebody at the console".to_owned());
            let text = format!("in charge from now on, although {doubt}");
            composed.broker.take_charge(&who).await?;
            composed.custody.settle(composed.broker.store()).await?;
            text
        }
    };
    composed.broker.close(Duration::from_secs(5)).await;
    Ok(text)
}
