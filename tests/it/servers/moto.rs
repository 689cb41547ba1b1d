//! A real `moto_server`, which plays STS and IAM of one AWS account, and a gate in front of it that throttles, lies,
//! hangs and breaks off as the test wants.
//!
//! As with PostgreSQL, a small shell is the server's parent and waits for the end of its own standard input.

use std::{
    collections::BTreeMap,
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use url::form_urlencoded;

use crate::crash_child::client;

pub const ACCOUNT: &str = "123456789012";

const WATCHER: &str = r#"
trap '' HUP
"$@" </dev/null >/dev/null 2>&1 &
pid=$!
cat >/dev/null
kill -CONT $pid 2>/dev/null
kill -KILL $pid 2>/dev/null
wait $pid
"#;

/// A program of the tests' own environment.
pub fn tool(name: &str) -> PathBuf {
    let target = option_env!("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let path = target.join("tools/venv/bin").join(name);
    assert!(path.exists(), "{} is missing: run `make deps`", path.display());
    path
}

/// One account; what is in it is lost when the server ends.
pub struct Moto {
    port: u16,
    no_auth: Option<u32>,
    watcher: Mutex<Option<Child>>,
}

/// The account of this run, where nobody's rights are looked at. Tests make roles, groups and users of their own.
pub fn shared() -> &'static Moto {
    static SHARED: OnceLock<Moto> = OnceLock::new();
    SHARED.get_or_init(|| Moto::start(None))
}

impl Moto {
    /// A server of its own. With a number, signatures and IAM policies are looked at after so many calls.
    pub fn start(no_auth: Option<u32>) -> Self {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let it = Self { port, no_auth, watcher: Mutex::default() };
            if it.up() {
                return it;
            }
        }
        panic!("moto_server does not start");
    }

    /// Start it (again) on its port: an empty account.
    pub fn up(&self) -> bool {
        let mut it = Command::new("/bin/sh");
        it.args(["-c", WATCHER, "watcher"]).arg(tool("moto_server")).process_group(0);
        it.args(["-H", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(n) = self.no_auth {
            it.env("INITIAL_NO_AUTH_ACTION_COUNT", n.to_string());
        }
        let child = it.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh runs");
        *self.watcher.lock().unwrap() = Some(child);
        for _ in 0..600 {
            std::thread::sleep(Duration::from_millis(50));
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
        }
        false
    }

    /// End it, and all that is in it.
    pub fn down(&self) {
        if let Some(mut watcher) = self.watcher.lock().unwrap().take() {
            drop(watcher.stdin.take());
            let _ = watcher.wait();
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Look at signatures and IAM policies from now on, or at nobody's.
    pub async fn enforce(&self, yes: bool) {
        let free = if yes { "0" } else { "1000000" };
        let answer = client().post(format!("{}/moto-api/reset-auth", self.url())).body(free).send().await.unwrap();
        assert!(answer.status().is_success());
    }

    /// An operation as somebody whose signature nobody looks at; its answer.
    pub async fn ask(&self, service: &str, key: &str, token: Option<&str>, form: &[(&str, &str)]) -> (u16, String) {
        let credential = format!("{key}/20260101/us-east-1/{service}/aws4_request");
        let authorization = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00");
        let mut request = client().post(self.url()).header(header::AUTHORIZATION, authorization).form(form);
        if let Some(token) = token {
            request = request.header("x-amz-security-token", token);
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// An operation of IAM that must succeed.
    pub async fn iam(&self, form: &[(&str, &str)]) -> String {
        let (status, text) = self.ask("iam", "AKIAADMIN", None, form).await;
        assert_eq!(status, 200, "{form:?}: {text}");
        text
    }

    /// A new role that the broker may assume; its ARN.
    pub async fn role(&self) -> String {
        let name = unique("role");
        let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
        let form = [("Action", "CreateRole"), ("RoleName", &name), ("AssumeRolePolicyDocument", trust)];
        self.iam(&form).await;
        format!("arn:aws:iam::{ACCOUNT}:role/{name}")
    }

    /// The inline policies of a role, by name.
    pub async fn policies(&self, role: &str) -> BTreeMap<String, String> {
        let role = role.rsplit('/').next().unwrap();
        let listed = self.iam(&[("Action", "ListRolePolicies"), ("RoleName", role), ("MaxItems", "1000")]).await;
        let mut policies = BTreeMap::new();
        for name in texts(&listed, "member") {
            let form = [("Action", "GetRolePolicy"), ("RoleName", role), ("PolicyName", name.as_str())];
            let (status, got) = self.ask("iam", "AKIAADMIN", None, &form).await;
            if status == 200 {
                let encoded = format!("d={}", texts(&got, "PolicyDocument").remove(0));
                let text = form_urlencoded::parse(encoded.as_bytes()).next().unwrap().1.into_owned();
                policies.insert(name, text);
            }
        }
        policies
    }

    /// The users in a group.
    pub async fn members(&self, group: &str) -> Vec<String> {
        let group = group.rsplit('/').next().unwrap();
        texts(&self.iam(&[("Action", "GetGroup"), ("GroupName", group)]).await, "UserName")
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.down();
    }
}

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The texts of all elements of that name.
pub fn texts(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let rest = xml.split(&open).skip(1);
    rest.filter_map(|r| r.split(&close).next()).filter(|t| !t.contains('<')).map(str::to_owned).collect()
}

/// How the gate answers.
#[derive(Debug, Clone, Default)]
pub enum Mode {
    /// As the server does.
    #[default]
    Pass,
    /// `503` to everything.
    Down,
    /// Not at all.
    Hangs,
    /// `Throttling` to all but every so many-th call.
    Throttles(u64),
    /// With this code to that operation.
    Refuses(&'static str, &'static str),
    /// "OK" to that operation, without an effect.
    Lies(&'static str),
    /// As the server does, but the answer to that operation never comes.
    LosesAnswer(&'static str),
    /// "OK" to every change, without an effect.
    LiesAlways,
    /// As the server does, but no answer to a change ever comes.
    LosesAnswers,
    /// As the server does, in its own time.
    Slow,
    /// Refuses every key but this one.
    Knows(String),
}

/// A way to the server that can be in a bad mood.
#[derive(Clone)]
pub struct Gate {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    behind: String,
    http: reqwest::Client,
    mode: Mutex<Mode>,
    calls: Mutex<BTreeMap<String, u64>>,
    all: AtomicU64,
}

impl Gate {
    /// In front of that server, for as long as the test's run-time lives.
    pub async fn before(moto: &Moto) -> Self {
        let shared = Arc::new(Shared {
            behind: moto.url(),
            http: client(),
            mode: Mutex::default(),
            calls: Mutex::default(),
            all: AtomicU64::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(pass).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, shared }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    /// How often that operation was called.
    pub fn calls(&self, action: &str) -> u64 {
        self.shared.calls.lock().unwrap().get(action).copied().unwrap_or(0)
    }
}

fn said(status: u16, code: &str) -> Response {
    let text = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>as the test wants</Message></Error></ErrorResponse>"
    );
    (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, "text/xml")], text).into_response()
}

fn changes(action: &str) -> bool {
    ["Put", "Delete", "Add", "Remove"].iter().any(|verb| action.starts_with(verb))
}

async fn pass(State(gate): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let action = form_urlencoded::parse(&body).find(|(k, _)| k == "Action").map_or_else(String::new, |(_, v)| v.into());
    *gate.calls.lock().unwrap().entry(action.clone()).or_default() += 1;
    let n = gate.all.fetch_add(1, Ordering::Relaxed);
    let mode = gate.mode.lock().unwrap().clone();
    let mut lost = false;
    match mode {
        Mode::Down => return said(503, "ServiceUnavailable"),
        Mode::Hangs => return std::future::pending().await,
        Mode::Throttles(every) if n % every != 0 => return said(400, "Throttling"),
        Mode::Refuses(of, code) if of == action => return said(400, code),
        Mode::Lies(of) if of == action => {
            return (StatusCode::OK, format!("<{action}Response></{action}Response>")).into_response();
        }
        Mode::LosesAnswer(of) => lost = of == action,
        Mode::LiesAlways if changes(&action) => {
            return (StatusCode::OK, format!("<{action}Response></{action}Response>")).into_response();
        }
        Mode::LosesAnswers => lost = changes(&action),
        Mode::Slow => tokio::time::sleep(Duration::from_millis(100)).await,
        Mode::Knows(key) => {
            let authorization = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
            if !authorization.contains(&format!("Credential={key}/")) {
                return said(403, "InvalidClientTokenId");
            }
        }
        _ => {}
    }
    let mut headers = headers;
    headers.remove(header::CONTENT_LENGTH);
    let Ok(answer) = gate.http.post(&gate.behind).headers(headers).body(body).send().await else {
        return said(503, "ServiceUnavailable");
    };
    if lost {
        return std::future::pending().await;
    }
    let status = answer.status();
    let kind = answer.headers().get(header::CONTENT_TYPE).cloned();
    let bytes = answer.bytes().await.unwrap_or_default();
    let mut response = (status, bytes).into_response();
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}
