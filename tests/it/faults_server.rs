//! The ground gives way under a running server: its database is locked, full, gone and back; it is told to end, its
//! clients hang up, its target does not answer.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    connectors_postgres::World as Target,
    crash_child::{Child, Home, PROGRAM, Start},
    servers::postgres::{Postgres, shared},
    world::{Db, World, want},
};

fn plain_config() -> Value {
    json!({"limits": {"lease_slack_seconds": 1}})
}

fn unavailable(answer: &(StatusCode, Value)) -> bool {
    answer.0 == StatusCode::SERVICE_UNAVAILABLE
        && answer.1["type"].as_str().is_some_and(|t| t.ends_with("/ledger-unavailable"))
}

/// Ask with a key, again and again, as a patient client does, until it is answered.
async fn ask_patiently(child: &Child, key: &str, within: Duration) -> anyhow::Result<Value> {
    let until = Instant::now() + within;
    let body = json!({"entitlements": ["tokens:orders-read"], "duration": 3600, "reason": "order 4411 is stuck"});
    loop {
        let request = child.http.post(format!("{}/v1/requests", child.url)).bearer_auth(child.token("ana"));
        let answer = request.header("Idempotency-Key", key).json(&body).send().await?;
        let status = answer.status();
        let value: Value = answer.json().await.unwrap_or_default();
        if status.is_success() {
            return Ok(value);
        }
        ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "{key}: {status} {value}");
        ensure!(Instant::now() < until, "{key} is not answered within {within:?}: {value}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Every key made one request with one grant, and none of them happened twice.
async fn each_key_once(home: &Home, child: &Child, keys: usize) -> anyhow::Result<()> {
    let rows = home
        .rows(
            "SELECT r.id, CAST((SELECT count(*) FROM grants g WHERE g.request_id = r.id) AS TEXT), \
             CAST((SELECT count(*) FROM audit_events e WHERE e.request_id = r.id AND e.action = 'request.created') AS TEXT), r.state \
             FROM requests r WHERE r.id IN (SELECT request_id FROM idempotency_keys)",
        )
        .await?;
    ensure!(rows.len() == keys, "{} requests for {keys} keys", rows.len());
    // The eleventh live grant on needs approval.
    let once = |r: &&Vec<String>| r[1] == if r[3] == "approved" { "1" } else { "0" } && r[2] == "1";
    let other: Vec<_> = rows.iter().filter(|r| !once(r)).collect();
    ensure!(other.is_empty(), "{other:?}");
    home.verify_log(child).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_sqlite_is_said_and_survived() {
    let world = World::on(Db::Sqlite).await;
    let mut other = SqliteConnection::connect(&world.database.url).await.unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let error = world.ask("ana", want("tokens:orders-read", 600)).await.unwrap_err();
    assert_eq!(error.to_string(), "the database is locked by another process");
    assert!(matches!(&error, tidegate::broker::BrokerError::Store(e) if e.is_transient()), "{error:?}");
    other.execute("ROLLBACK").await.unwrap();
    assert!(world.actions().await.is_empty(), "nothing was recorded");
    world.open("ana", "tokens:orders-read", 600).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_postgres_is_said_and_survived() {
    let world = World::on(Db::Postgres).await;
    let (_, database) = world.database.url.rsplit_once('/').unwrap();
    let mut other = shared().admin(database).await;
    other.execute("BEGIN; LOCK TABLE requests IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let ana = world.who("ana").await;
    let Err(error) = world.broker.ask(&ana, want("tokens:orders-read", 600)).await else { panic!("it is locked") };
    assert_eq!(error.to_string(), "the database is locked by another process");
    other.execute("ROLLBACK").await.unwrap();
    assert!(world.actions().await.is_empty(), "nothing was recorded");
    world.open("ana", "tokens:orders-read", 600).await;
}

/// No file of the server may grow: as on a full disk, without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_and_survived() {
    full_disk().await.unwrap();
}

async fn full_disk() -> anyhow::Result<()> {
    let home = Home::new(Db::Sqlite, &plain_config(), "").await;
    // The signal that goes with it would end the server; a disk that is full sends none.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PROGRAM]);
    home.arguments(&mut command);
    let Start::Up(child) = home.spawn(command).await? else { anyhow::bail!("it does not start: {}", home.log()) };
    let short = child.ask("directory:readers", 2).await?;
    let pid = child.process.id().context("it runs")?.to_string();
    let limit = async |bytes: &str| {
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status().await?;
        ensure!(set.success(), "prlimit is needed (package util-linux)");
        Ok(())
    };
    // What is there may be written again, so a few changes may still go in.
    let wal = fs::metadata(home.data().join("tidegate.db-wal"))?.len();
    limit(&wal.to_string()).await?;
    let mut confirmed = 0;
    let until = Instant::now() + Duration::from_secs(20);
    let refused = loop {
        let body = json!({"entitlements": ["tokens:orders-read"], "duration": 600, "reason": "x".repeat(900)});
        let answer = child.call(http::Method::POST, "/v1/requests", "ana", Some(body)).await?;
        if !answer.0.is_success() {
            break answer;
        }
        confirmed += 1;
        ensure!(Instant::now() < until, "it never fills up");
    };
    ensure!(unavailable(&refused), "{refused:?}");
    ensure!(child.get("/v1/me", "ana").await.is_ok(), "reading goes on");
    // What is due meanwhile must wait, not vanish.
    sleep(Duration::from_secs(2)).await;
    limit("unlimited").await?;
    let mut keys = 0;
    for n in 0..3 {
        ask_patiently(&child, &format!("after-{n}"), Duration::from_secs(15)).await?;
        keys += 1;
    }
    let grants = child.settled(Duration::from_secs(30)).await?;
    let ended = grants.iter().find(|g| g["id"] == short["grants"][0]["id"]).context("the short one")?;
    ensure!(ended["state"] == "ended" && ended["evidence"].is_object(), "{ended}");
    let lost = home.rows("SELECT id FROM requests WHERE state = 'approved'").await?.len();
    ensure!(lost > confirmed + keys, "{lost} requests, and more were confirmed");
    each_key_once(&home, &child, keys).await?;
    child.kill().await;
    Ok(())
}

/// The same on a file system that really is full, where this user may mount one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_file_system_is_said_and_survived() {
    full_file_system().await.unwrap();
}

async fn full_file_system() -> anyhow::Result<()> {
    let home = Home::new(Db::Sqlite, &plain_config(), "").await;
    fs::create_dir_all(home.data())?;
    let own = ["--mount", "--map-root-user"];
    let mut possible = Command::new("unshare");
    possible.args(own).args(["mount", "-t", "tmpfs", "tmpfs"]).arg(home.data());
    if !possible.output().await.is_ok_and(|out| out.status.success()) {
        // Some containers forbid it; the test with a limit on file sizes runs everywhere.
        return Ok(());
    }
    let mut command = Command::new("unshare");
    command.args(own).args(["sh", "-c", "mount -t tmpfs -o size=6m tmpfs \"$0\" && exec \"$@\""]);
    command.arg(home.data()).arg(PROGRAM);
    home.arguments(&mut command);
    let Start::Up(child) = home.spawn(command).await? else { anyhow::bail!("it does not start: {}", home.log()) };
    // Seen from outside of its mounts.
    let root = format!("/proc/{}/root", child.process.id().context("it runs")?);
    let ballast = std::path::Path::new(&root).join(home.data().strip_prefix("/")?).join("ballast");
    child.ask("tokens:orders-read", 600).await?;
    let filled = fs::write(&ballast, vec![0; 8 << 20]);
    ensure!(filled.is_err(), "the file system is not full");
    let mut confirmed = 1;
    let refused = loop {
        let body = json!({"entitlements": ["tokens:orders-read"], "duration": 600, "reason": "x".repeat(900)});
        let answer = child.call(http::Method::POST, "/v1/requests", "ana", Some(body)).await?;
        if !answer.0.is_success() {
            break answer;
        }
        confirmed += 1;
        ensure!(confirmed < 2000, "it never fills up");
    };
    ensure!(unavailable(&refused), "{refused:?}");
    let detail = refused.1["detail"].as_str().unwrap_or_default();
    ensure!(detail == "the database is full", "{detail}");
    fs::remove_file(&ballast)?;
    ask_patiently(&child, "after", Duration::from_secs(15)).await?;
    let requests = child.get("/v1/requests?limit=200", "eve").await?;
    let count = requests["items"].as_array().context("a list")?.len();
    ensure!(count == confirmed + 1 || !requests["next"].is_null(), "{count} requests, {confirmed} + 1 were confirmed");
    child.kill().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_and_comes_back_loses_and_doubles_nothing() {
    gone_and_back().await.unwrap();
}

async fn gone_and_back() -> anyhow::Result<()> {
    const CLIENTS: usize = 4;
    const EACH: usize = 25;
    let server = Arc::new(Postgres::dedicated(&["fsync=off", "max_connections=60"]));
    let mut home = Home::new(Db::Sqlite, &plain_config(), "").await;
    home.database = Some(format!("postgres://postgres@127.0.0.1:{}/{}", server.port(), server.fresh_database().await));
    let child = Arc::new(home.up().await?);
    let short = child.ask("directory:readers", 2).await?;
    let asking: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let child = Arc::clone(&child);
            tokio::spawn(async move {
                for n in 0..EACH {
                    ask_patiently(&child, &format!("key-{client}-{n}"), Duration::from_mins(1)).await?;
                    sleep(Duration::from_millis(30)).await;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    sleep(Duration::from_millis(300)).await;
    let stopping = Arc::clone(&server);
    tokio::task::spawn_blocking(move || stopping.stop()).await?;
    let body = json!({"entitlements": ["tokens:orders-read"], "duration": 600, "reason": "while it is away"});
    let refused = child.call(http::Method::POST, "/v1/requests", "ana", Some(body)).await?;
    ensure!(unavailable(&refused), "{refused:?}");
    let ready = child.http.get(format!("{}/readyz", child.url)).send().await?;
    ensure!(ready.status() == StatusCode::SERVICE_UNAVAILABLE, "ready without a database: {}", ready.status());
    let healthy = child.http.get(format!("{}/healthz", child.url)).send().await?;
    ensure!(healthy.status().is_success(), "the process itself is well");
    sleep(Duration::from_secs(2)).await;
    let starting = Arc::clone(&server);
    tokio::task::spawn_blocking(move || starting.start()).await?;
    for task in asking {
        task.await??;
    }
    let grants = child.settled(Duration::from_secs(40)).await?;
    let ended = grants.iter().find(|g| g["id"] == short["grants"][0]["id"]).context("the short one")?;
    ensure!(ended["state"] == "ended", "{ended}");
    let twice = "SELECT grant_id FROM audit_events WHERE action = 'grant.ended' GROUP BY grant_id HAVING count(*) > 1";
    ensure!(home.rows(twice).await?.is_empty(), "ended more than once");
    each_key_once(&home, &child, CLIENTS * EACH).await?;
    Ok(())
}

/// Stands before a real server and lets nobody through until it is opened.
struct Gate {
    port: u16,
    open: watch::Sender<bool>,
    knocked: Arc<AtomicBool>,
}

impl Gate {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let it = Self {
            port: listener.local_addr().unwrap().port(),
            open: watch::Sender::new(false),
            knocked: Arc::default(),
        };
        let (open, knocked) = (it.open.clone(), Arc::clone(&it.knocked));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                knocked.store(true, Ordering::Release);
                let mut open = open.subscribe();
                tokio::spawn(async move {
                    if open.wait_for(|open| *open).await.is_ok()
                        && let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await
                    {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        it
    }

    async fn knocked(&self) {
        while !self.knocked.load(Ordering::Acquire) {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A server with a PostgreSQL target behind a gate.
async fn gated(mark: &str, timeout: u64) -> (Gate, Target<'static>, Home) {
    let target = Target::new(shared()).await;
    let gate = Gate::before(shared().port()).await;
    let settings = target.settings(&json!({
        "port": gate.port, "mark": mark, "pool_size": 2, "connect_timeout_seconds": timeout,
    }));
    let mut config = plain_config();
    config["target"] = json!([{"id": "prod-db", "kind": "postgres", "timeout_seconds": timeout, "settings": settings}]);
    let entitlement = format!(
        "\n[[entitlement]]\nid = \"db:orders\"\ntarget = \"prod-db\"\ntitle = \"Orders\"\n\
         parameters = {{ roles = [\"{}\"] }}\ndefault_ttl = \"1h\"\nmax_ttl = \"4h\"\nsensitivity = 1\n\
         approvers = [\"approvers\"]\n",
        target.name("app")
    );
    let home = Home::new(Db::Sqlite, &config, &entitlement).await;
    (gate, target, home)
}

async fn roles(mark: &str) -> usize {
    let sql =
        format!("SELECT count(*) FROM pg_roles r WHERE shobj_description(r.oid, 'pg_authid') LIKE '{mark} grant %'");
    shared().ask("postgres", &sql).await.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_does_not_undo_what_it_began() {
    hangs_up().await.unwrap();
}

async fn hangs_up() -> anyhow::Result<()> {
    let (gate, _target, home) = gated("hang-up", 10).await;
    let child = home.up().await?;
    let body = json!({"entitlements": ["db:orders"], "duration": 3600, "reason": "order 4411 is stuck"});
    let call = child.call(http::Method::POST, "/v1/requests", "ana", Some(body));
    tokio::select! {
        answer = call => anyhow::bail!("answered although the target hangs: {answer:?}"),
        () = gate.knocked() => {}
    }
    // The call is dropped, and the connection with it.
    sleep(Duration::from_millis(200)).await;
    gate.open.send_replace(true);
    let grants = child.settled(Duration::from_secs(30)).await?;
    ensure!(grants.len() == 1 && grants[0]["state"] == "active", "{grants:#?}");
    ensure!(roles("hang-up").await == 1, "one role for one grant");
    home.verify_log(&child).await?;
    let path = format!("/v1/grants/{}/release", grants[0]["id"].as_str().context("no id")?);
    child.post(&path, "ana", json!({})).await?;
    child.settled(Duration::from_secs(30)).await?;
    ensure!(roles("hang-up").await == 0, "released");
    child.kill().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_end_it_finishes_or_hands_over() {
    ends_gracefully().await.unwrap();
}

async fn ends_gracefully() -> anyhow::Result<()> {
    let mut outcomes = BTreeMap::new();
    // The target answers in time, or never.
    for (mark, answers) in [("end-in-time", true), ("end-never", false)] {
        let (gate, _target, home) = gated(mark, 3).await;
        let mut child = home.up().await?;
        let bystander = child.ask("tokens:orders-read", 3600).await?;
        let url = format!("{}/v1/requests", child.url);
        let body = json!({"entitlements": ["db:orders"], "duration": 3600, "reason": "order 4411 is stuck"});
        let asking = tokio::spawn(child.http.post(url).bearer_auth(child.token("ana")).json(&body).send());
        tokio::time::timeout(Duration::from_secs(10), gate.knocked()).await?;
        child.signal("TERM").await;
        sleep(Duration::from_millis(500)).await;
        gate.open.send_replace(answers);
        let status =
            tokio::time::timeout(Duration::from_secs(45), child.process.wait()).await.context("never ends")??;
        ensure!(status.code() == Some(0), "{mark}: {status}: {}", home.log());
        let _ = asking.await?;

        gate.open.send_replace(true);
        let child = home.up().await?;
        let grants = child.settled(Duration::from_secs(40)).await?;
        let state = |id: &Value| grants.iter().find(|g| g["id"] == *id).map(|g| g["state"].clone());
        ensure!(state(&bystander["grants"][0]["id"]) == Some(json!("active")), "{mark}: {grants:#?}");
        let db = grants.iter().find(|g| g["target"] == "prod-db").context("it was recorded before the call")?;
        ensure!(roles(mark).await == usize::from(db["state"] == "active"), "{mark}: {db}");
        ensure!(db["state"] == "active" || db["evidence"].is_object(), "{mark}: {db}");
        outcomes.insert(mark, db["state"].clone());
        home.verify_log(&child).await?;
        child.kill().await;
    }
    ensure!(outcomes["end-in-time"] == "active", "what could be finished was: {outcomes:?}");
    ensure!(outcomes["end-never"] == "failed", "what could not was taken back: {outcomes:?}");
    Ok(())
}

/// The target is away while grants come due: they end as soon as it is back, and others do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_away_harms_only_itself() {
    target_away().await.unwrap();
}

async fn target_away() -> anyhow::Result<()> {
    let (gate, target, home) = gated("away", 1).await;
    gate.open.send_replace(true);
    let child = home.up().await?;
    let grant = child.ask("db:orders", 600).await?["grants"][0].clone();
    ensure!(grant["state"] == "active" && roles("away").await == 1, "{grant}");
    // New connections wait; those of the pool are cut by the server.
    gate.open.send_replace(false);
    let cut = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
        target.name("broker")
    );
    shared().ask("postgres", &cut).await;
    let path = format!("/v1/grants/{}/release", grant["id"].as_str().context("no id")?);
    child.post(&path, "ana", json!({})).await?;
    let before = Instant::now();
    let other = child.ask("tokens:orders-read", 600).await?;
    ensure!(other["grants"][0]["state"] == "active" && before.elapsed() < Duration::from_secs(2), "{other}");
    ensure!(roles("away").await == 1, "it cannot be gone yet");
    gate.open.send_replace(true);
    let grants = child.settled(Duration::from_mins(1)).await?;
    let ended = grants.iter().find(|g| g["id"] == grant["id"]).context("the grant")?;
    ensure!(ended["state"] == "ended" && ended["attempts"].as_u64() > Some(0), "{ended}");
    ensure!(roles("away").await == 0, "gone for good");
    child.kill().await;
    Ok(())
}
