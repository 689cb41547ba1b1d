//! Credential helpers with the programs that call them: the AWS command line, psql, ssh, ssh-agent and git.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    connectors_aws::credentials,
    connectors_postgres::World as Database,
    crash_child::{Child, Home, PROGRAM},
    servers::{
        moto,
        postgres::shared,
        sshd::{Sshd, login_name},
    },
    world::Db,
};

/// A server with a target of each kind that has a helper.
struct Desk {
    home: Home,
    child: Child,
    run: tempfile::TempDir,
    role: String,
    _database: Database<'static>,
}

fn entitlement(id: &str, target: &str, parameters: &str, sensitivity: u8) -> String {
    format!(
        "\n[[entitlement]]\nid = \"{id}\"\ntarget = \"{target}\"\ntitle = \"{id}\"\nparameters = {{ {parameters} }}\n\
         default_ttl = \"1h\"\nmax_ttl = \"4h\"\nsensitivity = {sensitivity}\napprovers = [\"approvers\"]\nmax_claims = 20\n"
    )
}

impl Desk {
    async fn open(audience: &str) -> Self {
        let (account, run) = (moto::shared(), tempfile::tempdir().unwrap());
        let role = account.role().await;
        let database = Database::new(shared()).await;
        let aws = json!({"roles": [role], "holder_region": "us-east-1", "broker": {
            "credentials_file": credentials(run.path(), "AKIABROKER", "secret"), "region": "us-east-1",
            "endpoint_url": account.url(),
        }});
        let krl = run.path().join("krl").display().to_string();
        let mut targets = vec![];
        for (id, kind, settings) in [
            ("prod-aws", "aws_sts", aws),
            ("prod-db", "postgres", Value::Object(database.settings(&json!({"mark": "helpers"})))),
            ("fleet", "ssh", json!({"krl_file": krl, "host": "127.0.0.1"})),
            ("dev-ssh", "ssh", json!({})),
            ("dev-token", "token", json!({"verifiers": "introspect"})),
            ("dev-directory", "directory", json!({})),
        ] {
            targets.push(json!({"id": id, "kind": kind, "settings": settings}));
        }
        let more = [
            entitlement("aws:deploy", "prod-aws", &format!("role = \"{role}\""), 1),
            entitlement("db:orders", "prod-db", &format!("roles = [\"{}\"]", database.name("app")), 1),
            entitlement("fleet:login", "fleet", &format!("principals = [\"{}\"]", login_name()), 1),
            entitlement("git:push", "dev-token", &format!("audience = \"{audience}\""), 1),
            entitlement("git:admin", "dev-token", &format!("audience = \"{audience}\""), 2),
        ];
        let home = Home::new(Db::Sqlite, &json!({"target": targets}), &more.concat()).await;
        let child = home.up().await.unwrap();
        Self { home, child, run, role, _database: database }
    }

    fn token(&self) -> PathBuf {
        let path = self.run.path().join("ana.token");
        if !path.exists() {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
            file.write_all(self.child.token("ana").as_bytes()).unwrap();
        }
        path
    }

    /// The user's session: its run-time directory, and how `tidegate` gets to its server.
    fn at_home(&self, command: &mut Command) {
        let runtime = self.run.path().join("runtime");
        let _ = fs::create_dir(&runtime);
        for name in ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "SSH_AUTH_SOCK", "TIDEGATE_TOKEN"] {
            command.env_remove(name);
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let tools = moto::tool("aws").parent().unwrap().display().to_string();
        command.env("PATH", format!("{tools}:{path}")).env("HOME", self.run.path());
        command.env("XDG_RUNTIME_DIR", runtime).env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_ENDPOINT_URL", moto::shared().url()).env("AWS_REGION", "us-east-1");
        command.env("TIDEGATE_SERVER", &self.child.url).env("TIDEGATE_TOKEN_FILE", self.token());
        command.stdin(Stdio::null());
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(if program == "tidegate" { PROGRAM } else { program });
        self.at_home(&mut command);
        command
    }

    async fn run(&self, mut command: Command) -> (i32, String, String) {
        let out: Output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
    }

    async fn tidegate(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = self.command("tidegate");
        command.args(args);
        self.run(command).await
    }

    /// What commands left in the user's run-time directory.
    fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.run.path().join("runtime")).unwrap().flatten();
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }

    async fn claims(&self, entitlement: &str) -> u64 {
        let grants = self.child.grants().await.unwrap();
        grants.iter().filter(|g| g["entitlement"] == entitlement).map(|g| g["claims"].as_u64().unwrap()).sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_aws_command_line_gets_its_keys() {
    let desk = Desk::open("https://git.example.org").await;
    let helper = ["aws-credential-process", "--target", "prod-aws"];
    let (code, out, err) = desk.tidegate(&helper).await;
    assert_eq!((code, out.as_str()), (5, ""), "{err}");
    desk.child.ask("aws:deploy", 3600).await.unwrap();
    let (code, out, err) = desk.tidegate(&helper).await;
    assert_eq!((code, err.as_str()), (0, ""), "nothing on stderr: programs may log it");
    let keys: Value = serde_json::from_str(&out).unwrap();
    let mut names: Vec<&String> = keys.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["AccessKeyId", "Expiration", "SecretAccessKey", "SessionToken", "Version"]);
    assert_eq!(keys["Version"], 1);

    let config = desk.run.path().join("aws-config");
    let process = format!("{PROGRAM} aws-credential-process --target aws:deploy");
    fs::write(&config, format!("[profile tide]\ncredential_process = {process}\nregion = us-east-1\n")).unwrap();
    for _ in 0..2 {
        let mut aws = desk.command("aws");
        aws.env("AWS_CONFIG_FILE", &config).args(["--profile", "tide", "sts", "get-caller-identity"]);
        let (code, out, err) = desk.run(aws).await;
        assert_eq!(code, 0, "{err}");
        let said: Value = serde_json::from_str(&out).unwrap();
        let role = desk.role.rsplit('/').next().unwrap();
        assert!(said["Arn"].as_str().unwrap().contains(&format!("assumed-role/{role}/tg-")), "{said}");
    }
    assert_eq!(desk.claims("aws:deploy").await, 1, "a copy that is good is used again");
    let (code, again, _) = desk.tidegate(&[&helper[..], &["--no-cache"]].concat()).await;
    assert!(code == 0 && again != out);

    // A child has its keys in a file that goes away, not in its environment.
    let script = "env | grep -c -E '^AWS_(SECRET|SESSION)'; aws sts get-caller-identity";
    let (code, out, err) = desk.tidegate(&["exec", "prod-aws", "--", "sh", "-c", script]).await;
    assert!(code == 0 && out.starts_with("0\n") && out.contains("assumed-role"), "{out}{err}");
    assert_eq!(desk.left(), ["tidegate"], "what is kept, and nothing else");
    let (_, profile, _) = desk.tidegate(&["creds", "prod-aws", "--format", "aws"]).await;
    assert!(profile.starts_with('[') && profile.contains("\naws_session_token = "), "{profile}");

    // A file that is there is nobody's to write over, and nothing is claimed for it.
    let file = desk.home.dir.path().join("credentials");
    std::fs::write(&file, "[mine]\n").unwrap();
    let out = ["creds", "prod-aws", "--format", "aws", "--out", file.to_str().unwrap()];
    let (code, _, err) = desk.tidegate(&out).await;
    assert!(code != 0 && err.contains("--force") && std::fs::read_to_string(&file).unwrap() == "[mine]\n", "{err}");
    let (code, _, err) = desk.tidegate(&[&out[..], &["--force"]].concat()).await;
    assert!(code == 0 && !std::fs::read_to_string(&file).unwrap().contains("mine"), "{err}");

    // Without a run-time directory it is kept in the user's state, where nobody else may look.
    let state = desk.home.dir.path().join("state");
    let mut keys = Vec::new();
    for _ in 0..2 {
        let mut command = desk.command("tidegate");
        command.env_remove("XDG_RUNTIME_DIR").env("XDG_STATE_HOME", &state).args(helper);
        let (code, out, err) = desk.run(command).await;
        assert_eq!(code, 0, "{err}");
        keys.push(out);
    }
    assert_eq!(keys[0], keys[1], "claimed once");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(state.join("tidegate")).unwrap());
    assert_eq!(mode & 0o777, 0o700);

    // What is kept is good for a live grant only.
    let grants = desk.child.grants().await.unwrap();
    let id = grants.iter().find(|g| g["entitlement"] == "aws:deploy").unwrap()["id"].as_str().unwrap().to_owned();
    desk.child.post(&format!("/v1/grants/{id}/release"), "ana", json!({})).await.unwrap();
    assert_eq!(desk.tidegate(&helper).await.0, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_and_ssh_are_opened_and_leave_nothing_behind() {
    let desk = Desk::open("https://git.example.org").await;
    let wish = ["--reason", "order 4411", "--for", "10m", "-y"];
    let query = ["--", "-Atc", "select current_user"];
    let (code, out, err) = desk.tidegate(&[&["psql", "prod-db"][..], &wish, &query].concat()).await;
    assert!(code == 0 && out.starts_with("tg_"), "{out}{err}");
    let (code, _, _) = desk.tidegate(&["psql", "prod-db", "--no-request", "--", "-c", "select 1/0"]).await;
    assert_eq!(code, 1, "psql's own code");
    assert_eq!(desk.left(), [""; 0]);

    let ca = desk.child.bytes("/published/fleet/ca.pub").await.unwrap();
    let sshd = Sshd::start(&ca, &desk.run.path().join("krl")).await;
    let port = sshd.port().to_string();
    let options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"];
    let options = [&["--", "-F", "none", "-p", port.as_str()][..], &options, &["echo", "in"]].concat();
    let (code, out, err) = desk.tidegate(&[&["ssh", "fleet"][..], &wish, &options].concat()).await;
    assert!(code == 0 && out.trim() == "in", "{out}{err}");
    let me = format!("{}@127.0.0.1", login_name());
    let (code, out, err) = desk.tidegate(&[&["ssh", &me, "--no-request"][..], &options].concat()).await;
    assert!(code == 0 && out.trim() == "in", "{out}{err}");
    assert_eq!(desk.left(), [""; 0]);

    // Into an agent, with an end and without a file.
    assert_eq!(desk.tidegate(&["creds", "fleet", "--format", "ssh-agent"]).await.0, 2, "there is no agent");
    let socket = desk.run.path().join("agent");
    let mut agent = desk.command("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    for _ in 0..200 {
        if socket.exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    let mut creds = desk.command("tidegate");
    creds.env("SSH_AUTH_SOCK", &socket).args(["creds", "fleet", "--format", "ssh-agent"]);
    let (code, out, err) = desk.run(creds).await;
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let mut list = desk.command("ssh-add");
    list.env("SSH_AUTH_SOCK", &socket).arg("-l");
    let (_, listed, _) = desk.run(list).await;
    assert!(listed.contains("ED25519-CERT") && listed.contains("tg-"), "{listed}");
    let mut ssh = desk.command("ssh");
    ssh.env("SSH_AUTH_SOCK", &socket).args(["-T", "-l", &login_name(), "127.0.0.1"]).args(&options[1..]);
    let (code, out, err) = desk.run(ssh).await;
    assert!(code == 0 && out.trim() == "in", "{out}{err}");
    assert_eq!(desk.left(), [""; 0]);
    let _ = agent.kill();
    let _ = agent.wait();
    sshd.stop().await;
}

/// A repository over plain HTTP that wants a password.
async fn repository() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let refs = |headers: HeaderMap| async move {
        let basic = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()?.strip_prefix("Basic "));
        let basic = basic.and_then(|b| String::from_utf8(STANDARD.decode(b).ok()?).ok()).unwrap_or_default();
        match basic.split_once(':') {
            Some(("x-access-token", token)) if token.split('.').count() == 3 => {
                (StatusCode::OK, format!("{}\trefs/heads/main\n", "a".repeat(40))).into_response()
            }
            _ => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"tide\"")]).into_response(),
        }
    };
    let router = Router::new().route("/r.git/info/refs", get(refs));
    tokio::spawn(async move { axum::serve(listener, router).await });
    origin
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_gets_a_token_for_its_host_and_no_other() {
    let origin = repository().await;
    let desk = Desk::open(&origin).await;
    let git = |target: &str, words: &[&str]| {
        let mut git = desk.command("git");
        git.env("GIT_TERMINAL_PROMPT", "0").env("GIT_CONFIG_NOSYSTEM", "1");
        git.arg("-c").arg(format!("credential.helper=!{PROGRAM} git-credential --target {target}")).args(words);
        git
    };
    let url = format!("{origin}/r.git");
    let (code, _, err) = desk.run(git("git:push", &["ls-remote", &url])).await;
    assert!(code != 0 && err.contains("no live grant") && err.contains("quit"), "{err}");
    desk.child.ask("git:push", 3600).await.unwrap();
    let (code, out, err) = desk.run(git("git:push", &["ls-remote", &url])).await;
    assert!(code == 0 && out.contains("refs/heads/main"), "{out}{err}");

    // What git says on stdin, and what it is told.
    let ask = async |operation: &str, asked: String, more: &[&str]| {
        let mut command = desk.command("tidegate");
        command.args(["git-credential", "--target", "git:push"]).args(more).arg(operation);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
        let out = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap())
    };
    let host = origin.strip_prefix("http://").unwrap().to_owned();
    let (code, said) = ask("get", format!("protocol=http\nhost={host}\n\n"), &[]).await;
    let lines: Vec<&str> = said.lines().map(|l| l.split('=').next().unwrap()).collect();
    assert_eq!((code, lines), (0, vec!["username", "password", "password_expiry_utc"]), "{said}");
    let claims = async || desk.child.grants().await.unwrap().iter().filter_map(|g| g["claims"].as_u64()).sum::<u64>();
    let before = claims().await;
    let (code, said) = ask("get", "protocol=https\nhost=evil.example.org\n\n".into(), &[]).await;
    assert_eq!((code, said.as_str()), (2, "quit=true\n"), "the token's audience is another host");
    assert_eq!(claims().await, before, "and none was minted for it");
    let (code, said) = ask("get", "protocol=https\nhost=evil.example.org\n\n".into(), &["--host", &host]).await;
    assert_eq!((code, said.as_str()), (0, ""), "another helper's business");
    assert_eq!(ask("get", "protocol=http\nhost=git.example.org\n\n".into(), &[]).await, (2, String::new()), "in clear");
    for operation in ["store", "erase", "capability"] {
        assert_eq!(ask(operation, format!("protocol=http\nhost={host}\n\n"), &[]).await, (0, String::new()));
    }

    // Asked for and not there yet: one line, with the place to look at, and an end.
    let pending = desk.child.ask("git:admin", 600).await.unwrap();
    let mut command = desk.command("tidegate");
    command.args(["aws-credential-process", "--target", "git:admin"]);
    let (code, out, err) = desk.run(command).await;
    assert_eq!((code, out.as_str(), err.lines().count()), (8, "", 1), "{err}");
    assert!(err.contains(&format!("/requests/{}", pending["id"].as_str().unwrap())), "{err}");
    drop(desk.home.log());
}
