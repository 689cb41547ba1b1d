//! A real SCIM server that we did not write: `scim2-server` from PyPI, in memory, on a free loopback port.

use std::{path::PathBuf, process::Stdio, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

use crate::crash_child::{client, free_port};

/// The bearer token that it takes.
pub const TOKEN: &str = "downstream-secret-canary-7f3a";

/// A running server; it ends with this value.
pub struct ScimServer {
    dir: tempfile::TempDir,
    port: u16,
    process: Option<Child>,
    http: reqwest::Client,
}

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/scim2-server")
}

impl ScimServer {
    /// Start it with nothing in it.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        let mut server = Self { dir, port: free_port(), process: None, http: client() };
        server.run().await;
        server
    }

    async fn run(&mut self) {
        let program = program();
        assert!(program.exists(), "{} is missing: run `make deps`", program.display());
        let port = self.port.to_string();
        let process = Command::new(program)
            .args(["--port", &port, "--bearer-token", TOKEN])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let up = async {
            while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), up).await.expect("the SCIM server does not come up");
    }

    /// Send it a signal by name.
    pub async fn signal(&self, name: &str) {
        let pid = self.process.as_ref().and_then(Child::id).expect("it runs").to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().await.unwrap();
        assert!(sent.success(), "kill -s {name} {pid}");
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/v2", self.port)
    }

    /// Settings of an application, source or target that speaks to it.
    pub fn settings(&self) -> Value {
        json!({"url": self.url(), "token_file": self.dir.path().join("token"), "allow_loopback": true})
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url())).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.header("content-type", "application/scim+json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    /// All users.
    pub async fn users(&self) -> Vec<Value> {
        let (status, list) = self.call(Method::GET, "/Users?count=1000", None).await;
        assert_eq!(status, 200, "{list}");
        list["Resources"].as_array().cloned().unwrap_or_default()
    }

    /// The user of that name.
    pub async fn user(&self, name: &str) -> Option<Value> {
        self.users().await.into_iter().find(|u| u["userName"] == name)
    }

    /// Make a user by hand; its id.
    pub async fn plant(&self, user: Value) -> String {
        let mut user = user;
        user["schemas"] = json!(["urn:ietf:params:scim:schemas:core:2.0:User"]);
        let (status, made) = self.call(Method::POST, "/Users", Some(user)).await;
        assert_eq!(status, 201, "{made}");
        made["id"].as_str().unwrap().to_owned()
    }

    /// Make a group; its id.
    pub async fn make_group(&self, name: &str) -> String {
        let group = json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": name});
        let (status, made) = self.call(Method::POST, "/Groups", Some(group)).await;
        assert_eq!(status, 201, "{made}");
        made["id"].as_str().unwrap().to_owned()
    }

    /// Ids of the members of a group.
    pub async fn members(&self, group: &str) -> Vec<String> {
        let (status, group) = self.call(Method::GET, &format!("/Groups/{group}"), None).await;
        assert_eq!(status, 200, "{group}");
        let members = group["members"].as_array().cloned().unwrap_or_default();
        members.iter().map(|m| m["value"].as_str().unwrap().to_owned()).collect()
    }

    /// Change something by hand.
    pub async fn patch(&self, path: &str, operation: Value) {
        let body = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [operation]});
        let (status, answer) = self.call(Method::PATCH, path, Some(body)).await;
        assert!(status < 300, "{status} {answer}");
    }
}
