//! A server in a process of its own, which can be killed and started again on what it left behind.

use std::{
    fs,
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child as Process, Command},
    time::{Instant, sleep},
};

use crate::{servers, world::Db};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");

/// What survives a crash: data directory, database, configuration, address.
pub struct Home {
    pub dir: tempfile::TempDir,
    pub port: u16,
    /// `None`: an SQLite file in the data directory.
    pub database: Option<String>,
}

/// A running server.
pub struct Child {
    pub process: Process,
    pub url: String,
    pub people: Value,
    /// Where sources push, and the token of one.
    pub scim: Value,
    pub http: reqwest::Client,
}

/// How a start went.
pub enum Start {
    Up(Box<Child>),
    /// It ended before it said where it listens.
    Died(ExitStatus),
}

/// A port below those that the system gives to outgoing connections, so that it is free again after a restart.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 11_000 + u16::try_from(std::process::id() % 97).unwrap() * 200;
    for _ in 0..200 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 200;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// Talks to the servers under test, which are on loopback.
#[allow(clippy::disallowed_methods, reason = "a test's client calls nobody but the server that the test started")]
pub fn client() -> reqwest::Client {
    tidegate::keys::init_crypto();
    reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap()
}

/// A copy of the shipped policies with more entitlements.
pub fn policies(to: &Path, more: &str) {
    fs::create_dir_all(to).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    for entry in fs::read_dir(shipped).unwrap().flatten().filter(|e| e.path().is_file()) {
        let mut text = fs::read_to_string(entry.path()).unwrap();
        if entry.file_name() == "catalog.toml" {
            text.push_str(more);
        }
        fs::write(to.join(entry.file_name()), text).unwrap();
    }
}

impl Home {
    /// Where the server's configuration is `config`, with policies beside it.
    pub async fn new(db: Db, config: &Value, more_entitlements: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        policies(&dir.path().join("policies"), more_entitlements);
        let mut config = config.clone();
        config["policies"] = json!("policies");
        fs::write(dir.path().join("tidegate.toml"), toml::to_string(&config).unwrap()).unwrap();
        let database = match db {
            Db::Sqlite => None,
            Db::Postgres => {
                let server = servers::postgres::shared();
                let name = server.fresh_database().await;
                Some(format!("postgres://postgres@127.0.0.1:{}/{name}", server.port()))
            }
        };
        Self { dir, port: free_port(), database }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("tidegate.toml")
    }

    /// What the server said on its standard error, over all starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// `tidegate dev` here, not started yet.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        self.arguments(&mut command);
        command
    }

    /// The arguments of `tidegate dev` here.
    pub fn arguments(&self, command: &mut Command) {
        let stderr = fs::OpenOptions::new().append(true).create(true).open(self.dir.path().join("stderr")).unwrap();
        command.args(["dev", "--json", "--port", &self.port.to_string()]);
        command.arg("--data").arg(self.data()).arg("--config").arg(self.config());
        if let Some(url) = &self.database {
            command.args(["--database", url]);
        }
        command.env_remove("TIDEGATE_FAILPOINT").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        command.kill_on_drop(true);
    }

    /// Start, to crash at that point.
    pub async fn start(&self, failpoint: Option<&str>) -> anyhow::Result<Start> {
        let mut command = self.command();
        if let Some(point) = failpoint {
            command.env("TIDEGATE_FAILPOINT", point);
        }
        self.spawn(command).await
    }

    /// Start, and nothing may go wrong.
    pub async fn up(&self) -> anyhow::Result<Child> {
        match self.start(None).await? {
            Start::Up(child) => Ok(*child),
            Start::Died(status) => bail!("the server does not start ({status}): {}", self.log()),
        }
    }

    /// Wait until it says where it listens.
    pub async fn spawn(&self, mut command: Command) -> anyhow::Result<Start> {
        let mut process = command.spawn().context("the server cannot be started")?;
        let out = process.stdout.take().context("no standard output")?;
        let mut line = String::new();
        let mut out = BufReader::new(out);
        let read = out.read_line(&mut line);
        tokio::time::timeout(Duration::from_secs(30), read).await.context("the server does not come up")??;
        if line.is_empty() {
            return Ok(Start::Died(process.wait().await?));
        }
        let access: Value = serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))?;
        let url = access["url"].as_str().context("no url")?.to_owned();
        let http = client();
        Ok(Start::Up(Box::new(Child {
            process,
            url,
            people: access["people"].clone(),
            scim: access["scim"].clone(),
            http,
        })))
    }

    /// Ask the ledger's database itself.
    pub async fn ledger(&self) -> anyhow::Result<AnyConnection> {
        sqlx::any::install_default_drivers();
        let url = match &self.database {
            Some(url) => url.clone(),
            None => format!("sqlite://{}", self.data().join("tidegate.db").display()),
        };
        Ok(AnyConnection::connect(&url).await?)
    }

    /// Rows of the ledger, every column as text.
    pub async fn rows(&self, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        let mut ledger = self.ledger().await?;
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut ledger).await?;
        ledger.close().await?;
        let texts = |row: &sqlx::any::AnyRow| (0..row.len()).map(|i| row.try_get::<String, _>(i)).collect();
        Ok(rows.iter().map(texts).collect::<Result<_, _>>()?)
    }

    /// The whole log is exported and verified by the program, as anybody would do it.
    pub async fn verify_log(&self, child: &Child) -> anyhow::Result<()> {
        let size = self.rows("SELECT CAST(size AS TEXT) FROM audit_head").await?[0][0].clone();
        let within = Instant::now() + Duration::from_secs(10);
        loop {
            // There is none yet if the crash came before the first one.
            let note = child.text("/v1/audit/checkpoint").await.unwrap_or_default();
            if note.lines().nth(1) == Some(size.as_str()) {
                break;
            }
            ensure!(Instant::now() < within, "the log of {size} events is not sealed: {note}");
            sleep(Duration::from_millis(100)).await;
        }
        let file = self.dir.path().join("log.jsonl");
        let token = self.dir.path().join("eve.token");
        fs::write(&token, child.token("eve"))?;
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&token, fs::Permissions::from_mode(0o600))?;
        }
        let mut export = Command::new(PROGRAM);
        export.args(["audit", "export", "--server", &child.url, "--token-file"]).arg(&token).arg("--out").arg(&file);
        let mut verify = Command::new(PROGRAM);
        verify.args(["audit", "verify"]).arg(&file);
        // From elsewhere than the file.
        verify.arg("--key").arg(self.verifier_key(child).await?);
        let pin = self.pin();
        if pin.exists() {
            verify.arg("--pin").arg(pin);
        }
        for mut command in [export, verify] {
            let out = command.env_remove("TIDEGATE_FAILPOINT").stdin(Stdio::null()).output().await?;
            let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            ensure!(out.status.success(), "the audit log does not verify: {said}");
        }
        Ok(())
    }

    /// The key that the server signs with, as it says itself.
    async fn verifier_key(&self, child: &Child) -> anyhow::Result<String> {
        let event = &child.get("/v1/audit?limit=1", "eve").await?["items"][0]["event"]["id"];
        let proof = child.get(&format!("/v1/audit/proof/{}", event.as_str().context("no event")?), "eve").await?;
        Ok(proof["verifier_key"].as_str().context("no key")?.to_owned())
    }

    /// A checkpoint that was put aside before the crash: the log must still contain it after it.
    pub fn pin(&self) -> PathBuf {
        self.dir.path().join("pin")
    }
}

impl Child {
    pub fn token(&self, who: &str) -> &str {
        self.people[who]["token"].as_str().expect("a seeded person")
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        who: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(self.token(who));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    pub async fn get(&self, path: &str, who: &str) -> anyhow::Result<Value> {
        let (status, value) = self.call(Method::GET, path, who, None).await?;
        ensure!(status.is_success(), "GET {path}: {status} {value}");
        Ok(value)
    }

    pub async fn post(&self, path: &str, who: &str, body: Value) -> anyhow::Result<Value> {
        let (status, value) = self.call(Method::POST, path, who, Some(body)).await?;
        ensure!(status.is_success(), "POST {path}: {status} {value}");
        Ok(value)
    }

    /// Change a person as their source does.
    pub async fn scim_patch(&self, id: &str, operation: Value) -> anyhow::Result<()> {
        let (url, token) =
            (self.scim["url"].as_str().context("no url")?, self.scim["token"].as_str().context("no token")?);
        let schemas = ["urn:ietf:params:scim:api:messages:2.0:PatchOp"];
        let request = self.http.patch(format!("{url}/Users/{id}")).bearer_auth(token);
        let answer = request.json(&json!({"schemas": schemas, "Operations": [operation]})).send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "PATCH: {status} {}", answer.text().await.unwrap_or_default());
        Ok(())
    }

    /// A document that is no JSON, as eve sees it.
    pub async fn text(&self, path: &str) -> anyhow::Result<String> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(self.token("eve"));
        Ok(request.send().await?.error_for_status()?.text().await?)
    }

    pub async fn bytes(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let response = self.http.get(format!("{}{path}", self.url)).send().await?;
        Ok(response.error_for_status()?.bytes().await?.to_vec())
    }

    /// Ask for one entitlement as ana; the request.
    pub async fn ask(&self, entitlement: &str, seconds: u32) -> anyhow::Result<Value> {
        let body = json!({"entitlements": [entitlement], "duration": seconds, "reason": "order 4411 is stuck"});
        self.post("/v1/requests", "ana", body).await
    }

    /// The request's one grant, once it is active: a target that was too busy to be asked is asked again by the broker.
    pub async fn active(&self, request: &Value) -> anyhow::Result<String> {
        let mut grant = request["grants"][0].clone();
        let id = grant["id"].as_str().context("no id")?.to_owned();
        let until = Instant::now() + Duration::from_secs(30);
        while matches!(grant["state"].as_str(), Some("scheduled" | "activating")) && Instant::now() < until {
            sleep(Duration::from_millis(200)).await;
            grant = self.get(&format!("/v1/grants/{id}"), "ana").await?;
        }
        ensure!(grant["state"] == "active", "not active: {grant}");
        Ok(id)
    }

    /// Does a token still work, by introspection?
    pub async fn introspect(&self, token: &str) -> anyhow::Result<bool> {
        let request = self.http.post(format!("{}/oauth/introspect", self.url)).bearer_auth(self.token("eve"));
        let answer: Value = request.form(&[("token", token)]).send().await?.error_for_status()?.json().await?;
        answer["active"].as_bool().context("introspection gives no answer")
    }

    /// All grants, by the API.
    pub async fn grants(&self) -> anyhow::Result<Vec<Value>> {
        let list = self.get("/v1/grants?limit=200", "eve").await?;
        ensure!(list["next"].is_null(), "more grants than one page");
        Ok(list["items"].as_array().context("no list")?.clone())
    }

    /// Wait until every grant is final, or active for some time to come.
    pub async fn settled(&self, within: Duration) -> anyhow::Result<Vec<Value>> {
        let until = Instant::now() + within;
        loop {
            let grants = self.grants().await?;
            let open = |g: &&Value| match g["state"].as_str() {
                Some("ended" | "failed") => false,
                Some("active") => g["remaining"].as_u64().is_none_or(|left| left < 60) || !g["end_reason"].is_null(),
                _ => true,
            };
            let Some(left) = grants.iter().find(open) else { return Ok(grants) };
            ensure!(Instant::now() < until, "not settled within {within:?}: {left}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Wait for the end that a failpoint makes.
    pub async fn killed(&mut self, within: Duration) -> anyhow::Result<()> {
        let status = tokio::time::timeout(within, self.process.wait()).await.context("it was never reached")??;
        ensure!(status.signal() == Some(9), "it ended by itself: {status}");
        Ok(())
    }

    /// End it as `kill -9` does.
    pub async fn kill(mut self) {
        let _ = self.process.kill().await;
    }

    /// Send a signal by name.
    pub async fn signal(&self, name: &str) {
        let pid = self.process.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
        assert!(sent.success(), "kill -s {name} {pid}");
    }
}
