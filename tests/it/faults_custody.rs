//! A restored backup and a cloned node only observe, until an administrator says go (promise P10): with the program
//! itself, as it is run in production.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    process::{Child as Process, Command},
    time::{Instant, sleep},
};

use crate::{
    crash_child::{PROGRAM, client, free_port, policies},
    world::Db,
};

struct Node {
    dir: PathBuf,
    port: u16,
    http: reqwest::Client,
}

struct Running<'a> {
    node: &'a Node,
    process: Process,
}

impl Node {
    /// With its configuration in that directory; the ledger may be there already.
    fn new(dir: &Path, database: Option<&str>) -> Self {
        fs::create_dir_all(dir).unwrap();
        let port = free_port();
        let mut config = json!({
            "listen": format!("127.0.0.1:{port}"),
            // The name stays the same wherever the node runs.
            "public_url": "http://tidegate.example",
            "data_dir": "data",
            "policies": "policies",
            "limits": {"lease_slack_seconds": 1},
            "target": [
                {"id": "dev-token", "kind": "token", "timeout_seconds": 1, "settings": {"verifiers": "introspect"}},
                {"id": "dev-ssh", "kind": "ssh", "timeout_seconds": 1, "settings": {}},
                {"id": "dev-directory", "kind": "directory", "timeout_seconds": 1, "settings": {}},
            ],
        });
        if let Some(url) = database {
            config["database"] = json!(url);
        }
        policies(&dir.join("policies"), "");
        fs::write(dir.join("tidegate.toml"), toml::to_string(&config).unwrap()).unwrap();
        Self { dir: dir.to_owned(), port, http: client() }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg(verb).arg("--config").arg(self.dir.join("tidegate.toml"));
        command.env_remove("TIDEGATE_FAILPOINT").stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn output(&self, mut command: Command) -> anyhow::Result<String> {
        let out = command.output().await?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "{command:?}: {said}");
        Ok(String::from_utf8(out.stdout)?.trim().to_owned())
    }

    async fn bootstrap(&self, person: &str) -> anyhow::Result<String> {
        let mut command = self.command("bootstrap");
        command.arg("--directory").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/app/seed.toml"));
        command.args(["--person", person]);
        self.output(command).await
    }

    async fn resume(&self) -> anyhow::Result<String> {
        self.output(self.command("resume")).await
    }

    async fn serve(&self) -> anyhow::Result<Running<'_>> {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.dir.join("log"))?;
        let mut command = self.command("serve");
        let process = command.stdout(Stdio::null()).stderr(log).spawn()?;
        let running = Running { node: self, process };
        let until = Instant::now() + Duration::from_secs(20);
        while self.http.get(self.url("/healthz")).send().await.is_err() {
            ensure!(Instant::now() < until, "it does not come up: {}", fs::read_to_string(self.dir.join("log"))?);
            sleep(Duration::from_millis(50)).await;
        }
        Ok(running)
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn krl(&self) -> Vec<u8> {
        fs::read(self.dir.join("data/ssh/dev-ssh.krl")).expect("the published list")
    }
}

impl Running<'_> {
    async fn call(&self, method: Method, path: &str, token: &str, body: Value) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.node.http.request(method, self.node.url(path)).bearer_auth(token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        Ok((answer.status(), answer.json().await.unwrap_or_default()))
    }

    async fn get(&self, path: &str, token: &str) -> anyhow::Result<Value> {
        let (status, value) = self.call(Method::GET, path, token, Value::Null).await?;
        ensure!(status.is_success(), "{path}: {status} {value}");
        Ok(value)
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> anyhow::Result<Value> {
        let (status, value) = self.call(Method::POST, path, token, body).await?;
        ensure!(status.is_success(), "{path}: {status} {value}");
        Ok(value)
    }

    /// Ask for something that policy grants; the grant's id.
    async fn open(&self, token: &str, entitlement: &str, seconds: u32) -> anyhow::Result<String> {
        let request = self.post("/v1/requests", token, asking(entitlement, seconds)).await?;
        let grant = &request["grants"][0];
        ensure!(grant["state"] == "active", "{grant}");
        Ok(grant["id"].as_str().context("no id")?.to_owned())
    }

    async fn until_state(&self, token: &str, grant: &str, state: &str) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(15);
        loop {
            let now = self.get(&format!("/v1/grants/{grant}"), token).await?;
            if now["state"] == state {
                return Ok(());
            }
            ensure!(Instant::now() < until, "not {state}: {now}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// It observes: it says so, answers questions, and changes nothing.
    async fn only_observes(&self, ana: &str, eve: &str, due: &str) -> anyhow::Result<()> {
        let ready = self.node.http.get(self.node.url("/readyz")).send().await?;
        let (status, text) = (ready.status(), ready.text().await?);
        ensure!(status == StatusCode::SERVICE_UNAVAILABLE && text.contains("observing"), "readyz: {status} {text}");
        let mut refused = vec![
            ("/v1/requests".to_owned(), ana, asking("tokens:orders-read", 600)),
            (format!("/v1/grants/{due}/release"), ana, json!({})),
            (format!("/v1/grants/{due}/revoke"), eve, json!({"reason": "enough"})),
            (format!("/v1/grants/{due}/extend"), ana, json!({"duration": 60, "reason": "longer"})),
            ("/v1/locks".to_owned(), eve, json!({"kind": "target", "value": "dev-ssh", "reason": "stop"})),
        ];
        for target in ["dev-token", "dev-ssh", "dev-directory"] {
            for verb in ["sweep", "check"] {
                refused.push((format!("/v1/targets/{target}/{verb}"), eve, json!({})));
            }
        }
        for (path, who, body) in refused {
            let (status, value) = self.call(Method::POST, &path, who, body).await?;
            let observing = value["type"].as_str().is_some_and(|t| t.ends_with("/observing"));
            ensure!(status == StatusCode::SERVICE_UNAVAILABLE && observing, "{path}: {status} {value}");
        }
        // Long enough for every worker to have had its chance.
        sleep(Duration::from_secs(3)).await;
        let grant = self.get(&format!("/v1/grants/{due}"), ana).await?;
        ensure!(grant["state"] == "active" && grant["attempts"] == 0, "a due grant was touched: {grant}");
        Ok(())
    }

    /// Somebody has said go: within moments, and without a restart, it works again.
    async fn works_again(&self, ana: &str, due: &str) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(15);
        while !self.node.http.get(self.node.url("/readyz")).send().await?.status().is_success() {
            ensure!(Instant::now() < until, "it still observes");
            sleep(Duration::from_millis(100)).await;
        }
        self.until_state(ana, due, "ended").await?;
        let grant = self.open(ana, "directory:readers", 600).await?;
        self.post(&format!("/v1/grants/{grant}/release"), ana, json!({})).await?;
        self.until_state(ana, &grant, "ended").await
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.process.id().context("it runs")?.to_string();
        Command::new("kill").arg(pid).status().await?;
        let status = tokio::time::timeout(Duration::from_secs(30), self.process.wait()).await??;
        ensure!(status.success(), "{status}: {}", fs::read_to_string(self.node.dir.join("log"))?);
        Ok(())
    }
}

fn asking(entitlement: &str, seconds: u32) -> Value {
    json!({"entitlements": [entitlement], "duration": seconds, "reason": "order 4411 is stuck"})
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
    fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
}

async fn cloned_node() -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let original = Node::new(&home.path().join("original"), None);
    let (ana, eve) = (original.bootstrap("ana").await?, original.bootstrap("eve").await?);
    let running = original.serve().await?;
    let due = running.open(&ana, "tokens:orders-read", 5).await?;
    running.stop().await?;
    let there = home.path().join("clone");
    copy(&original.dir.join("data"), &there.join("data"));
    let clone = Node::new(&there, None);
    sleep(Duration::from_secs(5)).await;

    let observing = clone.serve().await?;
    observing.only_observes(&ana, &eve, &due).await?;
    observing.stop().await?;
    // A restart is no permission.
    let observing = clone.serve().await?;
    observing.only_observes(&ana, &eve, &due).await?;
    let said = clone.resume().await?;
    ensure!(said.contains("in charge from now on"), "{said}");
    observing.works_again(&ana, &due).await?;
    observing.stop().await?;

    // The original was not asked, and is in charge of its own ledger.
    let running = original.serve().await?;
    running.works_again(&ana, &due).await?;
    running.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloned_node_only_observes_until_told_to_go() {
    cloned_node().await.unwrap();
}

/// The database is put back, on either kind; with SQLite also the whole data directory.
async fn restored(db: Db, everything: bool) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    let backup = home.path().join("backup");
    let dir = home.path().join("node");
    let database = match db {
        Db::Sqlite => None,
        Db::Postgres => Some(crate::servers::postgres::shared().fresh_database().await),
    };
    let url = database
        .as_ref()
        .map(|name| format!("postgres://postgres@127.0.0.1:{}/{name}", crate::servers::postgres::shared().port()));
    let node = Node::new(&dir, url.as_deref());
    let (ana, eve) = (node.bootstrap("ana").await?, node.bootstrap("eve").await?);
    let running = node.serve().await?;
    let due = running.open(&ana, "tokens:orders-read", 8).await?;
    let login = running.open(&ana, "ssh:web-login", 600).await?;
    running.post(&format!("/v1/grants/{login}/credential"), &ana, json!({})).await?;
    running.stop().await?;
    match &database {
        None => copy(&dir.join("data"), &backup),
        Some(name) => {
            let sql = format!("CREATE DATABASE {name}_backup TEMPLATE {name}");
            crate::servers::postgres::shared().run("postgres", &sql).await;
        }
    }

    // What the backup does not know: the login was revoked.
    let running = node.serve().await?;
    running.post(&format!("/v1/grants/{login}/release"), &ana, json!({})).await?;
    running.until_state(&ana, &login, "ended").await?;
    running.stop().await?;
    let published = node.krl();

    match &database {
        None if everything => {
            let krl = dir.join("krl");
            fs::write(&krl, &published)?;
            fs::remove_dir_all(dir.join("data"))?;
            copy(&backup, &dir.join("data"));
            // Published files live elsewhere in production, and are not put back.
            fs::rename(krl, dir.join("data/ssh/dev-ssh.krl"))?;
        }
        None => {
            for file in ["tidegate.db", "tidegate.db-wal", "tidegate.db-shm"] {
                let _ = fs::remove_file(dir.join("data").join(file));
                let _ = fs::copy(backup.join(file), dir.join("data").join(file));
            }
        }
        Some(name) => {
            let sql = [
                format!("DROP DATABASE {name}"),
                format!("CREATE DATABASE {name} TEMPLATE {name}_backup"),
                format!("DROP DATABASE {name}_backup"),
            ];
            for statement in sql {
                crate::servers::postgres::shared().run("postgres", &statement).await;
            }
        }
    }
    sleep(Duration::from_secs(4)).await;
    let observing = node.serve().await?;
    observing.only_observes(&ana, &eve, &due).await?;
    ensure!(node.krl() == published, "a revoked certificate works again: an older ledger was published");
    let said = node.resume().await?;
    ensure!(said.contains("in charge from now on"), "{said}");
    observing.works_again(&ana, &due).await?;
    observing.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_sqlite_file_only_observes_until_told_to_go() {
    restored(Db::Sqlite, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_data_directory_only_observes_until_told_to_go() {
    restored(Db::Sqlite, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_postgres_only_observes_until_told_to_go() {
    restored(Db::Postgres, false).await.unwrap();
}
