//! `kill -9` at every step of the protocol, for every connector, on both databases. After a restart nothing at the
//! target may be unaccounted for, and ledger, audit log and target say the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    os::unix::process::ExitStatusExt,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use serde_json::{Value, json};
use sqlx::ConnectOptions;

use tidegate::ports::clock::{Clock, SystemClock};

use crate::{
    connectors_aws::is_denied,
    crash_child::{Child, Home, Start},
    crash_far::{Far, Servers},
    servers::{moto, postgres::shared},
    world::Db,
};

/// Cases at once: mostly they wait, for the lease of the one that died; more would starve the tests beside them.
const AT_ONCE: usize = 5;
/// Seconds that a target may take. Many brokers share few cores, and a call that is late would not be about a crash.
const TIMEOUT: u64 = 3;
/// A server with a disk of its own, six brokers and two cores: a claim is seven calls.
const TIMEOUT_VAULT: u64 = 5;
/// Three time-outs for the lease, one for the call, the rest for a slow machine.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Token,
    Ssh,
    Directory,
    Postgres,
    Vault,
    Ldap,
    AwsSts,
    AwsIamGroup,
    ScimGroup,
}

const KINDS: [Kind; 9] = [
    Kind::Token,
    Kind::Ssh,
    Kind::Directory,
    Kind::Postgres,
    Kind::Vault,
    Kind::Ldap,
    Kind::AwsSts,
    Kind::AwsIamGroup,
    Kind::ScimGroup,
];

/// Reached by every connector. The first time that a point of opening is reached is the bystander's.
const POINTS: [&str; 22] = [
    "ask.recorded@2",
    "open.before_call@2",
    "open.after_call@2",
    "open.recorded@2",
    "decide.recorded",
    "extend.recorded",
    "extend.called",
    "end.recorded",
    "lock.recorded",
    "lock.part_recorded",
    "reap.before_revoke",
    "reap.after_revoke",
    "reap.after_verify",
    "reap.recorded",
    "reap.after_revoke@2",
    "reap.recorded@3",
    // While it starts, while it opens, while it ends.
    "store.before_commit@3",
    "store.after_commit@3",
    "store.before_commit@13",
    "store.after_commit@13",
    "store.before_commit@19",
    "store.after_commit@19",
];
const CLAIM_POINTS: [&str; 4] = ["claim.recorded", "claim.recorded@2", "claim.minted", "claim.minted@2"];
const POSTGRES_POINTS: [&str; 7] = [
    "postgres.activate.called@2",
    "postgres.activate.called@3",
    "postgres.mint.called@2",
    "postgres.revoke.nologin",
    "postgres.revoke.cut",
    "postgres.revoke.cleaned",
    "postgres.revoke.dropped",
];
const VAULT_POINTS: [&str; 7] = [
    "vault.activate.called@2",
    "vault.activate.called@3",
    "vault.mint.token@2",
    "vault.mint.read@2",
    "vault.revoke.tokens",
    "vault.revoke.role",
    "vault.revoke.leases",
];
const LDAP_POINTS: [&str; 4] = ["ldap.take.called@2", "ldap.take.called@3", "ldap.leave.called", "ldap.leave.called@2"];

const AWS_STS_POINTS: [&str; 4] =
    ["aws_sts.activate.called@2", "aws_sts.activate.called@3", "aws_sts.mint.called@2", "aws_sts.revoke.denied"];
const SCIM_GROUP_POINTS: [&str; 2] = ["scim_group.take.called@2", "scim_group.leave.called"];
const AWS_IAM_GROUP_POINTS: [&str; 3] = ["aws_iam_group.taken@2", "aws_iam_group.taken@4", "aws_iam_group.left"];

impl Kind {
    fn points(self) -> impl Iterator<Item = &'static str> {
        let claims: &[&str] = if self.mints() { &CLAIM_POINTS } else { &[] };
        let own: &[&str] = match self {
            Self::Postgres => &POSTGRES_POINTS,
            Self::Vault => &VAULT_POINTS,
            Self::Ldap => &LDAP_POINTS,
            Self::AwsSts => &AWS_STS_POINTS,
            Self::AwsIamGroup => &AWS_IAM_GROUP_POINTS,
            Self::ScimGroup => &SCIM_GROUP_POINTS,
            Self::Token | Self::Ssh | Self::Directory => &[],
        };
        POINTS.iter().chain(claims).chain(own).copied()
    }

    const fn mints(self) -> bool {
        !matches!(self, Self::Directory | Self::Ldap | Self::AwsIamGroup | Self::ScimGroup)
    }

    const fn target(self) -> &'static str {
        match self {
            Self::Token => "dev-token",
            Self::Ssh => "dev-ssh",
            Self::Directory => "dev-directory",
            Self::Postgres => "prod-db",
            Self::Vault => "prod-vault",
            Self::Ldap => "corp-ldap",
            Self::AwsSts | Self::AwsIamGroup => "prod-aws",
            Self::ScimGroup => "wiki",
        }
    }

    /// Granted by policy, and one that a person approves.
    const fn entitlements(self) -> (&'static str, &'static str) {
        match self {
            Self::Token => ("tokens:orders-read", "tokens:orders-admin"),
            Self::Ssh => ("ssh:web-login", "ssh:deploy"),
            Self::Directory => ("directory:readers", "directory:oncall"),
            Self::Postgres => ("db:orders", "db:orders-admin"),
            Self::Vault => ("vault:orders", "vault:orders-admin"),
            Self::Ldap => ("ldap:ops", "ldap:odd"),
            Self::AwsSts | Self::AwsIamGroup => ("aws:orders", "aws:orders-admin"),
            Self::ScimGroup => ("wiki:editors", "wiki:admins"),
        }
    }
}

/// A credential that was handed over.
struct Held {
    grant: String,
    number: u64,
    credential: Value,
}

/// What the driver knows when the server dies.
#[derive(Default)]
struct Seen {
    /// Opened and claimed before anything is torn: it must not notice.
    bystander: Option<String>,
    held: Vec<Held>,
}

struct Case {
    kind: Kind,
    home: Home,
    far: Option<Far>,
    mark: String,
}

impl Case {
    async fn new(kind: Kind, point: &str, db: Db, servers: &Arc<Servers>) -> Self {
        let mut targets = vec![];
        for (id, kind) in [("dev-token", "token"), ("dev-ssh", "ssh"), ("dev-directory", "directory")] {
            let settings = if kind == "token" { json!({"verifiers": "introspect"}) } else { json!({}) };
            targets.push(json!({"id": id, "kind": kind, "timeout_seconds": TIMEOUT, "settings": settings}));
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let mark = format!("{point}-{db:?}").to_lowercase().chars().map(plain).collect::<String>();
        let mut entitlements = String::new();
        let far = Far::new(kind, servers).await;
        if let Some(far) = &far {
            let (name, settings, parameters) = far.described(&mark);
            let id = kind.target();
            let timeout = if kind == Kind::Vault { TIMEOUT_VAULT } else { TIMEOUT };
            targets.push(json!({"id": id, "kind": name, "timeout_seconds": timeout, "settings": settings}));
            let (everyday, elevated) = kind.entitlements();
            for ((entitlement, sensitivity), parameters) in [(everyday, 1), (elevated, 2)].into_iter().zip(parameters) {
                let line = json!({"entitlement": [{
                    "id": entitlement, "target": id, "title": "Orders", "parameters": parameters, "default_ttl": "1h",
                    "max_ttl": "4h", "sensitivity": sensitivity, "approvers": ["approvers"],
                    "allow_no_backstop": matches!(
                        kind,
                        Kind::Ldap | Kind::AwsSts | Kind::AwsIamGroup | Kind::ScimGroup
                    ),
                }]});
                let _ = write!(entitlements, "\n{}", toml::to_string(&line).unwrap());
            }
        }
        let config = json!({"limits": {"lease_slack_seconds": 0}, "target": targets});
        Self { kind, home: Home::new(db, &config, &entitlements).await, far, mark }
    }

    async fn claim(&self, child: &Child, grant: &str, seen: &mut Seen) -> anyhow::Result<()> {
        if self.kind.mints() {
            let once = child.post(&format!("/v1/grants/{grant}/credential"), "ana", json!({})).await?;
            let number = once["claim"].as_u64().context("no number")?;
            seen.held.push(Held { grant: grant.to_owned(), number, credential: once["credential"].clone() });
        }
        Ok(())
    }

    /// Every verb once. Ends early, with an error, when the server dies.
    async fn story(&self, child: &Child, seen: &mut Seen) -> anyhow::Result<()> {
        let (everyday, elevated) = self.kind.entitlements();
        let bystander = child.active(&child.ask(everyday, 3600).await?).await?;
        seen.bystander = Some(bystander.clone());
        self.claim(child, &bystander, seen).await?;

        let mine = child.active(&child.ask(everyday, 600).await?).await?;
        self.claim(child, &mine, seen).await?;
        if let Ok(note) = child.text("/v1/audit/checkpoint").await {
            fs::write(self.home.pin(), note)?;
        }
        let by = json!({"duration": 60, "reason": "it takes longer"});
        child.post(&format!("/v1/grants/{mine}/extend"), "ana", by).await?;
        child.post(&format!("/v1/grants/{mine}/release"), "ana", json!({})).await?;

        let pending = child.ask(elevated, 1200).await?;
        let path = format!("/v1/requests/{}/approve", pending["id"].as_str().context("no id")?);
        let approved = child.active(&child.post(&path, "ben", json!({"comment": "go ahead"})).await?).await?;
        self.claim(child, &approved, seen).await?;

        // Ends by itself: here, or while nobody is there to end it.
        child.ask(everyday, 1).await?;

        let lock = json!({"kind": "entitlement", "value": elevated, "reason": "crash matrix"});
        child.post("/v1/locks", "eve", lock).await?;
        Ok(())
    }

    /// Crash at the point, start again, and look at everything.
    async fn run(&self, point: &str) -> anyhow::Result<()> {
        let mut seen = Seen::default();
        match self.home.start(Some(point)).await? {
            Start::Died(status) => ensure!(status.signal() == Some(9), "ended by itself: {status}"),
            Start::Up(mut child) => {
                let told = self.story(&child, &mut seen).await;
                // Long enough for all that the story left to be done.
                if let Err(never) = child.killed(Duration::from_secs(30)).await {
                    told?;
                    return Err(never);
                }
            }
        }
        let child = self.home.up().await?;
        let grants = child.settled(SETTLED_WITHIN).await?;
        self.accounted_for(&child, &grants, &seen).await?;
        self.home.verify_log(&child).await?;

        // The way to the end is open, too.
        for grant in grants.iter().filter(|g| g["state"] == "active") {
            let path = format!("/v1/grants/{}/release", grant["id"].as_str().context("no id")?);
            child.post(&path, "ana", json!({})).await?;
        }
        let ended = child.settled(SETTLED_WITHIN).await?;
        let live = ended.iter().find(|g| g["state"] == "active");
        ensure!(live.is_none(), "released and still active: {live:?}");
        self.accounted_for(&child, &ended, &Seen { bystander: None, held: seen.held }).await.context("at the end")?;
        child.kill().await;
        Ok(())
    }

    /// Ledger, audit log and target say the same.
    async fn accounted_for(&self, child: &Child, grants: &[Value], seen: &Seen) -> anyhow::Result<()> {
        for grant in grants {
            let over = grant["state"] != "active";
            ensure!(!over || grant["evidence"].is_object(), "over without evidence: {grant}");
        }
        let id = |g: &Value| g["id"].as_str().unwrap_or_default().to_owned();
        let live: BTreeMap<String, u64> = grants
            .iter()
            .filter(|g| g["state"] == "active")
            .map(|g| (id(g), g["claims"].as_u64().unwrap_or(0)))
            .collect();
        if let Some(bystander) = &seen.bystander {
            ensure!(live.contains_key(bystander), "the bystander was hurt: {grants:#?}");
        }
        self.ledger_and_log_agree(grants).await?;
        self.at_the_target(child, &live).await?;
        for held in &seen.held {
            let expected = live.get(&held.grant) == Some(&held.number);
            let works = self.works(child, held).await?;
            ensure!(works == expected, "copy {} of {} works: {works}; {grants:#?}", held.number, held.grant);
        }
        let swept = child.post(&format!("/v1/targets/{}/sweep", self.kind.target()), "eve", json!({})).await?;
        for what in ["orphans_ended", "orphans_left", "missing", "wider"] {
            ensure!(swept[what].as_array().is_some_and(Vec::is_empty), "drift: {swept}");
        }
        Ok(())
    }

    async fn ledger_and_log_agree(&self, grants: &[Value]) -> anyhow::Result<()> {
        let mut log: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let events = "SELECT grant_id, action FROM audit_events WHERE grant_id IS NOT NULL ORDER BY seq";
        for row in self.home.rows(events).await? {
            log.entry(row[0].clone()).or_default().push(row[1].clone());
        }
        ensure!(log.len() == grants.len(), "the log knows {} grants, the ledger {}", log.len(), grants.len());
        for grant in grants {
            let id = grant["id"].as_str().context("no id")?;
            let events = log.get(id).with_context(|| format!("{id} is not in the log"))?;
            let count = |action: &str| events.iter().filter(|e| *e == action).count() as u64;
            let moved =
                |e: &&String| !matches!(e.as_str(), "grant.claimed" | "grant.extended" | "grant.extension_undone");
            let last = events.iter().rfind(moved).context("no event")?;
            let state = grant["state"].as_str().context("no state")?;
            ensure!(*last == format!("grant.{state}"), "{id} is {state}, and the log says {events:?}");
            ensure!(count("grant.activating") == 1 && count("grant.active") <= 1, "{id}: {events:?}");
            ensure!(count("grant.ended") + count("grant.failed") <= 1, "{id} ended more than once: {events:?}");
            ensure!(grant["claims"].as_u64() == Some(count("grant.claimed")), "claims of {id}: {events:?} {grant}");
        }
        let claims = "SELECT grant_id FROM claims WHERE number > (SELECT g.claims FROM grants g WHERE g.id = grant_id)";
        ensure!(self.home.rows(claims).await?.is_empty(), "claims that are not counted");
        let lost = "SELECT id FROM requests r WHERE state = 'approved' \
                    AND (SELECT count(*) FROM grants g WHERE g.request_id = r.id) <> 1";
        ensure!(self.home.rows(lost).await?.is_empty(), "approved requests without their grant");
        Ok(())
    }

    /// What the target itself shows is exactly what is live.
    async fn at_the_target(&self, child: &Child, live: &BTreeMap<String, u64>) -> anyhow::Result<()> {
        let expected: BTreeSet<String> = live.keys().cloned().collect();
        match self.kind {
            Kind::Token => {}
            Kind::Directory => {
                let rows = self.home.rows("SELECT grant_id FROM memberships WHERE grant_id <> ''").await?;
                let found: BTreeSet<String> = rows.into_iter().flatten().collect();
                ensure!(found == expected, "memberships {found:?}, live {expected:?}");
            }
            Kind::Ssh => {
                let ca: ssh_key::PublicKey =
                    String::from_utf8(child.bytes("/published/dev-ssh/ca.pub").await?)?.trim().parse()?;
                let krl = child.bytes("/published/dev-ssh/krl").await?;
                let krl = tidegate::connectors::ssh::krl::read(&krl, &ca.to_bytes()?)?;
                let claims = "SELECT CAST(serial AS TEXT), grant_id, CAST(number AS TEXT) FROM claims";
                for row in self.home.rows(claims).await? {
                    let (serial, number): (u64, u64) = (row[0].parse()?, row[2].parse()?);
                    let good = live.get(&row[1]) == Some(&number);
                    let listed = krl.serials.contains(serial);
                    ensure!(listed != good, "serial {serial} of {} is listed: {listed}", row[1]);
                }
            }
            Kind::Postgres => {
                let sql = format!(
                    "SELECT coalesce(string_agg(rolname, ',' ORDER BY rolname), '') FROM pg_roles r \
                     WHERE shobj_description(r.oid, 'pg_authid') LIKE '{} grant %'",
                    self.mark
                );
                let found = shared().ask("postgres", &sql).await.unwrap_or_default();
                let role = |id: &String| id.replace("grt_", "tg_").to_lowercase();
                let expected = expected.iter().map(role).collect::<Vec<_>>().join(",");
                ensure!(found == expected, "roles {found}, live {expected}");
            }
            Kind::Vault | Kind::Ldap => match &self.far {
                Some(Far::Vault(world)) => {
                    let found = world.grants().await;
                    let role = |id: &String| id.replace("grt_", "tg-").to_lowercase();
                    ensure!(found == expected.iter().map(role).collect(), "token roles {found:?}, live {expected:?}");
                    // A claim that was torn may have left none; more than one for a live grant there never is.
                    let claimed = live.values().filter(|claims| **claims > 0).count();
                    let logins = world.logins().await;
                    ensure!(logins as usize <= claimed, "{logins} logins at the far system, {claimed} claimed");
                }
                Some(Far::Ldap(world)) => {
                    let found = world.consistent_grants().await?;
                    ensure!(found == expected, "memberships {found:?}, live {expected:?}");
                }
                _ => ensure!(false, "no target"),
            },
            Kind::AwsSts => {
                let Some(Far::Aws(aws)) = &self.far else { bail!("no role") };
                let role = &aws.names[0];
                let found = moto::shared().policies(role).await;
                let open = |id: &String| id.replace("grt_", "tg-").to_lowercase();
                let expected: BTreeSet<String> = expected.iter().map(open).collect();
                let now = SystemClock::new().now();
                let open: BTreeSet<String> = found
                    .iter()
                    .filter(|(name, text)| !is_denied([*text], name, now))
                    .map(|(n, _)| n.clone())
                    .collect();
                ensure!(open == expected, "open {open:?}, live {expected:?}");
            }
            Kind::AwsIamGroup => {
                let Some(Far::Aws(aws)) = &self.far else { bail!("no groups") };
                let rows = self.home.rows("SELECT entitlement FROM grants WHERE state = 'active'").await?;
                let held: BTreeSet<String> = rows.into_iter().flatten().collect();
                for (group, entitlement) in aws.names.iter().zip(["aws:orders", "aws:orders-admin"]) {
                    let is_in = moto::shared().members(group).await.contains(&aws.user);
                    ensure!(is_in == held.contains(entitlement), "{entitlement}: member {is_in}, live {held:?}");
                }
            }
            Kind::ScimGroup => {
                let Some(Far::Scim(scim)) = &self.far else { bail!("no groups") };
                let rows = self.home.rows("SELECT entitlement FROM grants WHERE state = 'active'").await?;
                let held: BTreeSet<String> = rows.into_iter().flatten().collect();
                for (group, entitlement) in scim.groups.iter().zip(["wiki:editors", "wiki:admins"]) {
                    let is_in = scim.is_in(&group.1).await;
                    ensure!(is_in == held.contains(entitlement), "{entitlement}: member {is_in}, live {held:?}");
                }
            }
        }
        Ok(())
    }

    /// Does a copy still open anything?
    async fn works(&self, child: &Child, held: &Held) -> anyhow::Result<bool> {
        let field = |name: &str| held.credential[name].as_str().with_context(|| format!("no {name}"));
        match (self.kind, &self.far) {
            (Kind::Token, _) => child.introspect(field("token")?).await,
            (_, Some(Far::Postgres(target))) => {
                let options = shared().options(field("username")?, field("password")?, &target.database);
                Ok(options.connect().await.is_ok())
            }
            (Kind::AwsSts, Some(Far::Aws(aws))) => {
                let policies = moto::shared().policies(&aws.names[0]).await;
                Ok(!is_denied(policies.values(), field("source_identity")?, SystemClock::new().now()))
            }
            (_, Some(Far::Vault(_))) => {
                let options = shared().options(field("username")?, field("password")?, "postgres");
                Ok(options.connect().await.is_ok())
            }
            (Kind::Ssh, _) => {
                let certificate: ssh_key::Certificate = field("certificate")?.parse()?;
                let row = format!("SELECT grant_id FROM claims WHERE serial = {}", certificate.serial());
                ensure!(
                    self.home.rows(&row).await? == [[held.grant.clone()]],
                    "a serial that the ledger does not know"
                );
                let ca: ssh_key::PublicKey =
                    String::from_utf8(child.bytes("/published/dev-ssh/ca.pub").await?)?.trim().parse()?;
                let krl = child.bytes("/published/dev-ssh/krl").await?;
                let krl = tidegate::connectors::ssh::krl::read(&krl, &ca.to_bytes()?)?;
                Ok(!krl.serials.contains(certificate.serial()))
            }
            _ => Ok(false),
        }
    }
}

async fn matrix(db: Db) {
    let only = std::env::var("CRASH_ONLY").unwrap_or_default();
    let cells = KINDS
        .into_iter()
        .flat_map(|kind| kind.points().map(move |point| (kind, point)))
        .filter(|(kind, point)| format!("{kind:?} {point}").contains(&only));
    let servers = Arc::new(Servers::default());
    let servers = &servers;
    let results: Vec<(String, anyhow::Result<()>, String)> = futures::stream::iter(cells)
        .map(|(kind, point)| async move {
            let case = Case::new(kind, point, db, servers).await;
            let result = case.run(point).await;
            (format!("{kind:?} × {point} × {db:?}"), result, case.home.log())
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let all = results.len();
    let broken: Vec<String> = results
        .into_iter()
        .filter_map(|(cell, result, log)| result.err().map(|why| format!("{cell}: {why:#}\n{log}")))
        .collect();
    assert!(broken.is_empty(), "{} of {all} cells are broken:\n\n{}", broken.len(), broken.join("\n\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_every_step_forgets_nothing_on_sqlite() {
    matrix(Db::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_every_step_forgets_nothing_on_postgres() {
    matrix(Db::Postgres).await;
}

/// A point that nobody names in the matrix would never be tried.
#[test]
fn every_failpoint_is_in_the_matrix() {
    fn visit(dir: &std::path::Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            if entry.path().is_dir() {
                visit(&entry.path(), found);
                continue;
            }
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let names = text.split("failpoint::hit(\"").skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(str::to_owned));
        }
    }
    let mut found = BTreeSet::new();
    visit(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let bare = |point: &str| point.split('@').next().unwrap_or_default().to_owned();
    let mut tried: BTreeSet<String> = KINDS.into_iter().flat_map(Kind::points).map(bare).collect();
    // Points of what is no grant are tried beside what they are about.
    for tests in [
        include_str!("ledger_faults.rs"),
        include_str!("lifecycle_postgres.rs"),
        include_str!("sync_crash.rs"),
        include_str!("sync_faults.rs"),
    ] {
        let names = tests.split('"').map(bare).filter(|name| found.contains(name));
        tried.extend(names);
    }
    assert_eq!(found, tried);
}
