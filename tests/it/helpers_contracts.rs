//! Helpers and their contracts, with the programs that call them: kubectl, Docker's own library, git, the AWS command
//! line, ssh and psql, set up by `tidegate setup`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
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
    connectors_postgres::World as Database,
    crash_child::{Child, Home, PROGRAM},
    servers::{
        certificate, moto,
        postgres::Postgres,
        way::{self, Tls, Way},
    },
    world::Db,
};

/// Somebody's desk: a server, a home, and programs in the path.
struct Desk {
    home: Home,
    child: Child,
    user: tempfile::TempDir,
}

fn entitlement(id: &str, target: &str, parameters: &str, more: &str) -> String {
    format!(
        "\n[[entitlement]]\nid = \"{id}\"\ntarget = \"{target}\"\ntitle = \"{id}\"\nparameters = {{ {parameters} }}\n\
         default_ttl = \"1h\"\nmax_ttl = \"4h\"\nsensitivity = 1\napprovers = [\"approvers\"]\nmax_claims = 20\n{more}"
    )
}

impl Desk {
    /// With these targets and entitlements beside the usual ones.
    async fn open(targets: Vec<Value>, entitlements: &str) -> Self {
        let home = Home::new(Db::Sqlite, &json!({"target": targets}), entitlements).await;
        let child = home.up().await.unwrap();
        let user = tempfile::tempdir().unwrap();
        let it = Self { home, child, user };
        for dir in ["bin", "runtime", "config"] {
            fs::create_dir(it.path(dir)).unwrap();
        }
        for name in ["tidegate", "docker-credential-tidegate"] {
            symlink(PROGRAM, it.path("bin").join(name)).unwrap();
        }
        fs::write(it.path("token"), it.child.token("ana")).unwrap();
        fs::set_permissions(it.path("token"), fs::Permissions::from_mode(0o600)).unwrap();
        it
    }

    fn path(&self, name: &str) -> PathBuf {
        self.user.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut it = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        let tools = moto::tool("aws").parent().unwrap().display().to_string();
        it.env_clear().env("PATH", format!("{}:{tools}:{path}", self.path("bin").display()));
        it.env("HOME", self.user.path()).env("XDG_CONFIG_HOME", self.path("config"));
        it.env("XDG_RUNTIME_DIR", self.path("runtime")).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        it.env("TIDEGATE_SERVER", &self.child.url).env("TIDEGATE_TOKEN_FILE", self.path("token"));
        it.stdin(Stdio::null());
        it
    }

    async fn ran(&self, mut command: Command) -> (i32, String, String) {
        let out = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
    }

    async fn run(&self, program: &str, args: &[&str]) -> (i32, String, String) {
        let mut command = self.command(program);
        command.args(args);
        self.ran(command).await
    }

    async fn tidegate(&self, args: &[&str]) -> (i32, String, String) {
        self.run("tidegate", args).await
    }

    async fn claims(&self, entitlement: &str) -> u64 {
        let grants = self.child.grants().await.unwrap();
        grants.iter().filter(|g| g["entitlement"] == entitlement).map(|g| g["claims"].as_u64().unwrap()).sum()
    }
}

fn tokens() -> Value {
    json!({"id": "dev-token", "kind": "token", "settings": {"verifiers": "introspect"}})
}

/// A certificate for 127.0.0.1, and a way that speaks TLS with it to a server in clear.
async fn over_tls(router: Router) -> (tempfile::TempDir, u16) {
    let dir = tempfile::tempdir().unwrap();
    certificate::issue(dir.path(), "127.0.0.1");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let way = Way::reading("127.0.0.1", port, Some(Tls::of(dir.path(), false)), way::HONEST).await;
    (dir, way.port)
}

fn is_token(text: &str) -> bool {
    text.split('.').count() == 3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_gets_its_token() {
    let hello = |headers: HeaderMap| async move {
        let bearer = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
        if bearer.is_some_and(is_token) { "hello".into_response() } else { StatusCode::UNAUTHORIZED.into_response() }
    };
    let (tls, port) = over_tls(Router::new().route("/hello", get(hello))).await;
    let kube = entitlement("kube:view", "dev-token", "audience = \"https://kube.example.org\"", "");
    let desk = Desk::open(vec![tokens()], &kube).await;

    // A file of our own beside the one that is there.
    let (code, _, err) = desk.tidegate(&["setup", "kube", "--target", "kube:view", "--write", "-y"]).await;
    assert!(code == 0 && err.contains("KUBECONFIG="), "{err}");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "certificate-authority": tls.path().join("ca.pem"),
        }}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "tidegate-kube-view"}}],
    });
    fs::write(desk.path(".kube/config"), config.to_string()).unwrap();
    let kubectl = || {
        let mut it = desk.command("kubectl");
        let at = desk.user.path().display();
        it.env("KUBECONFIG", format!("{at}/.kube/config:{at}/.kube/tidegate.yaml")).args(["get", "--raw", "/hello"]);
        it
    };
    let (code, _, err) = desk.ran(kubectl()).await;
    assert!(code != 0 && err.contains("no live grant"), "{err}");
    desk.child.ask("kube:view", 3600).await.unwrap();
    for _ in 0..2 {
        let (code, out, err) = desk.ran(kubectl()).await;
        assert_eq!((code, out.as_str()), (0, "hello"), "{err}");
    }
    assert_eq!(desk.claims("kube:view").await, 1, "a copy that is good is used again");

    // Exactly this, in the version that the client names.
    let helper = ["kube-credential", "--target", "kube:view"];
    for version in ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"] {
        let mut command = desk.command("tidegate");
        let info = json!({"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": false}});
        command.env("KUBERNETES_EXEC_INFO", info.to_string()).args(helper);
        let (code, out, err) = desk.ran(command).await;
        assert_eq!((code, err.as_str()), (0, ""));
        let said: Value = serde_json::from_str(&out).unwrap();
        let mut names: Vec<&String> = said.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["apiVersion", "kind", "status"]);
        assert_eq!((&said["apiVersion"], &said["kind"]), (&json!(version), &json!("ExecCredential")));
        let mut names: Vec<&String> = said["status"].as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["expirationTimestamp", "token"]);
    }
    let (_, same, _) = desk.tidegate(&["creds", "kube:view", "--format", "kube"]).await;
    assert_eq!(serde_json::from_str::<Value>(&same).unwrap()["kind"], "ExecCredential");
    let mut old = desk.command("tidegate");
    old.env("KUBERNETES_EXEC_INFO", r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#).args(helper);
    assert_eq!(desk.ran(old).await.0, 2);
    // What is no session of AWS is not claimed for AWS.
    let before = desk.claims("kube:view").await;
    assert_eq!(desk.tidegate(&["aws-credential-process", "--target", "kube:view"]).await.0, 2);
    assert_eq!(desk.claims("kube:view").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_gets_a_token_for_its_registry_and_no_other() {
    let pull = entitlement("registry:pull", "dev-token", "audience = \"https://registry.example.org\"", "");
    let desk = Desk::open(vec![tokens()], &pull).await;
    // Docker's own library for Python speaks to the helper as Docker does.
    let python = |code: &str| {
        let mut it = desk.command(moto::tool("python").to_str().unwrap());
        it.arg("-c").arg(format!(
            "import json\nfrom docker.credentials import Store\nfrom docker.credentials.errors import *\n\
             s = Store('tidegate')\ntry:\n    print(json.dumps({code}))\nexcept CredentialsNotFound:\n    print('none')\n\
             except StoreError as e:\n    print('error', e)\n"
        ));
        it
    };
    let asked = "s.get('registry.example.org')";
    assert_eq!(desk.ran(python(asked)).await.1, "none\n");
    desk.child.ask("registry:pull", 3600).await.unwrap();
    for registry in ["registry.example.org", "https://registry.example.org/v2/"] {
        let (code, out, err) = desk.ran(python(&format!("s.get('{registry}')"))).await;
        assert_eq!(code, 0, "{err}");
        let said: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&said["ServerURL"], &said["Username"]), (&json!(registry), &json!("x-access-token")));
        assert!(is_token(said["Secret"].as_str().unwrap()), "{said}");
        assert_eq!(said.as_object().unwrap().len(), 3);
    }
    assert_eq!(desk.claims("registry:pull").await, 1);
    assert_eq!(desk.ran(python("s.get('evil.example.org')")).await.1, "none\n");
    let (_, refused, _) = desk.ran(python("s.get('http://registry.example.org')")).await;
    assert!(refused.starts_with("error") && refused.contains("in clear"), "{refused}");
    let (_, known, _) = desk.ran(python("s.list()")).await;
    assert_eq!(known, "{\"https://registry.example.org\": \"x-access-token\"}\n");
    let (_, stored, _) = desk.ran(python("s.store('registry.example.org', 'ana', 'secret') and 1")).await;
    assert!(stored.starts_with("error") && stored.contains("keeps no passwords"), "{stored}");
    assert_eq!(desk.ran(python("s.erase('registry.example.org')")).await.1, "null\n");
    // It is ended by its name, and what was kept of it is handed to nobody.
    let (code, _, err) = desk.tidegate(&["end", "registry:pull", "--wait"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(desk.ran(python(asked)).await.1, "none\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_aws_and_ssh_are_set_up_beside_what_is_theirs() {
    static REFS: LazyLock<String> = LazyLock::new(|| format!("{}\trefs/heads/main\n", "a".repeat(40)));
    let refs = |headers: HeaderMap| async move {
        let basic = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()?.strip_prefix("Basic "));
        let basic = basic.and_then(|b| String::from_utf8(STANDARD.decode(b).ok()?).ok()).unwrap_or_default();
        match basic.split_once(':') {
            Some(("x-access-token", token)) if is_token(token) => REFS.as_str().into_response(),
            _ => (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Basic realm=\"tide\"")]).into_response(),
        }
    };
    let (tls, port) = over_tls(Router::new().route("/r.git/info/refs", get(refs))).await;
    let host = format!("127.0.0.1:{port}");
    let account = moto::shared();
    let role = account.role().await;
    let aws = json!({"roles": [role], "broker": {"region": "us-east-1", "endpoint_url": account.url()}});
    let targets = vec![
        tokens(),
        json!({"id": "prod-aws", "kind": "aws_sts", "settings": aws}),
        json!({"id": "fleet", "kind": "ssh", "settings": {}}),
    ];
    let entitlements = [
        entitlement("git:push", "dev-token", &format!("audience = \"https://{host}\""), ""),
        entitlement("aws:deploy", "prod-aws", &format!("role = \"{role}\""), ""),
        entitlement("fleet:login", "fleet", "principals = [\"web\"]", ""),
    ];
    let desk = Desk::open(targets, &entitlements.concat()).await;

    // Only shown, then written after the difference was shown; again is nothing new.
    fs::write(desk.path(".gitconfig"), "[user]\n\tname = Ana\n").unwrap();
    let git = ["setup", "git", "--target", "git:push", "--host", &host];
    let (code, shown, _) = desk.tidegate(&git).await;
    assert!(code == 0 && shown.contains("git-credential --target git:push"), "{shown}");
    assert!(!fs::read_to_string(desk.path(".gitconfig")).unwrap().contains("tidegate"));
    let (code, _, err) = desk.tidegate(&[&git[..], &["--write"]].concat()).await;
    assert!(code == 2 && err.contains("+ [credential") && err.contains("-y"), "nobody can be asked: {err}");
    let (code, _, err) = desk.tidegate(&[&git[..], &["--write", "-y"]].concat()).await;
    assert!(code == 0 && err.contains("written"), "{err}");
    let written = fs::read_to_string(desk.path(".gitconfig")).unwrap();
    assert!(written.starts_with("[user]\n\tname = Ana\n"), "{written}");
    let (_, _, err) = desk.tidegate(&[&git[..], &["--write"]].concat()).await;
    assert!(err.contains("says so already"), "{err}");
    assert_eq!(fs::read_to_string(desk.path(".gitconfig")).unwrap(), written);
    desk.child.ask("git:push", 3600).await.unwrap();
    let ca = format!("http.sslCAInfo={}", tls.path().join("ca.pem").display());
    let (code, out, err) = desk.run("git", &["-c", &ca, "ls-remote", &format!("https://{host}/r.git")]).await;
    assert!(code == 0 && out.contains("refs/heads/main"), "{out}{err}");

    let (code, _, err) = desk.tidegate(&["setup", "aws", "--write", "-y"]).await;
    assert_eq!(code, 0, "{err}");
    let read = ["configure", "get", "credential_process", "--profile", "tidegate-aws-deploy"];
    let (_, process, err) = desk.run("aws", &read).await;
    assert!(process.ends_with(" aws-credential-process --target aws:deploy\n"), "{process}{err}");

    fs::create_dir_all(desk.path(".ssh")).unwrap();
    fs::write(desk.path(".ssh/config"), "User ana\nHost other\n  Port 2222\n").unwrap();
    let ssh = ["setup", "ssh", "--target", "fleet:login", "--host", "*.example.org", "--write", "-y"];
    let (code, _, err) = desk.tidegate(&ssh).await;
    assert_eq!(code, 2, "a pattern is not plain: {err}");
    let ssh = ["setup", "ssh", "--target", "fleet:login", "--host", "web.example.org", "--write", "-y"];
    let (code, _, err) = desk.tidegate(&ssh).await;
    assert_eq!(code, 0, "{err}");
    let file = desk.path(".ssh/config").display().to_string();
    for (host, port) in [("web.example.org", "port 22\n"), ("other", "port 2222\n")] {
        let (code, out, err) = desk.run("ssh", &["-G", "-F", &file, host]).await;
        assert!(code == 0 && out.contains("user ana\n") && out.contains(port), "{host}: {out}{err}");
    }
    for (args, code) in [
        (&["setup", "aws", "--target", "a b"][..], 2),
        (&["setup", "git", "--target", "git:push"], 2),
        (&["setup", "kube", "--host", "x", "--target", "git:push"], 2),
        (&["setup", "psql"], 5),
    ] {
        assert_eq!(desk.tidegate(args).await.0, code, "{args:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_tells_the_server_from_another_one() {
    let (server, other) = (Postgres::with_tls(&["fsync=off"]), Postgres::with_tls(&["fsync=off"]));
    let database = Database::new(&server).await;
    let target = |id: &str, port: u16| {
        let more = json!({
            "tls": "verify-full", "tls_root_cert": server.ca(), "holder_port": port, "mark": id,
        });
        json!({"id": id, "kind": "postgres", "settings": database.settings(&more)})
    };
    // The second one's holders are led to somebody else's server.
    let targets = vec![target("db", server.port()), target("led-astray", other.port())];
    let roles = format!("roles = [\"{}\"]", database.name("app"));
    let entitlements =
        [entitlement("db:orders", "db", &roles, ""), entitlement("astray:orders", "led-astray", &roles, "")];
    let desk = Desk::open(targets, &entitlements.concat()).await;
    let wish = ["--reason", "order 4411", "--for", "10m", "-y"];
    let query = "select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let (code, out, err) = desk.tidegate(&[&["psql", "db"][..], &wish, &["--", "-Atc", query]].concat()).await;
    assert!(code == 0 && out.starts_with("tg_") && out.trim().ends_with("|t"), "{out}{err}");
    let (code, out, err) = desk.tidegate(&[&["psql", "led-astray"][..], &wish, &["--", "-Atc", query]].concat()).await;
    assert!(code != 0 && out.is_empty() && err.contains("certificate verify failed"), "{out}{err}");
    assert!(!other.log().contains("tg_"), "it was told no name and no password: {}", other.log());

    // The same by the commands that are set up.
    let (code, _, err) = desk.tidegate(&["setup", "psql", "--target", "db:orders", "--write", "-y"]).await;
    assert_eq!(code, 0, "{err}");
    let script = desk.path("config/tidegate/psql.sh");
    let words = format!("shopt -s expand_aliases\n. {}\npsql-db-orders -Atc 'select 1'\n", script.display());
    let (code, out, err) = desk.run("bash", &["-c", &words]).await;
    assert_eq!((code, out.as_str()), (0, "1\n"), "{err}");
    assert!(left(&desk.path("runtime")).is_empty());
}

fn left(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn profiles_emergencies_and_what_is_found() {
    let labels = "labels = { system = \"ledger\", tier = \"1\" }\n";
    let view = entitlement("kube:view", "dev-token", "audience = \"https://kube.example.org\"", labels);
    let desk = Desk::open(vec![tokens(), json!({"id": "dev-ssh", "kind": "ssh"})], &view).await;

    // A profile is a server and a token; what a flag says goes before it.
    fs::create_dir_all(desk.path("config/tidegate")).unwrap();
    fs::write(desk.path("eve"), desk.child.token("eve")).unwrap();
    fs::set_permissions(desk.path("eve"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "[eve]\nserver = \"{}\"\ntoken_file = \"{}\"\n[nowhere]\nserver = \"http://127.0.0.1:1\"\n",
        desk.child.url,
        desk.path("eve").display()
    );
    fs::write(desk.path("config/tidegate/profiles.toml"), text).unwrap();
    for (args, who) in [
        (&["whoami", "--json=name"][..], "ana"),
        (&["--profile", "eve", "whoami", "--json=name"], "eve"),
        (&["whoami", "--profile", "eve", "--token-file", desk.path("token").to_str().unwrap(), "--json=name"], "ana"),
    ] {
        let (code, out, err) = desk.tidegate(args).await;
        assert!(code == 0 && out.contains(&format!("\"{who}\"")), "{args:?}: {out}{err}");
    }
    assert_eq!(desk.tidegate(&["whoami", "--profile", "nowhere"]).await.0, 4, "it brings no token");
    assert_eq!(desk.tidegate(&["whoami", "--profile", "none"]).await.0, 2);
    // The environment's server goes before the profile that the environment names.
    let mut command = desk.command("tidegate");
    command.env("TIDEGATE_PROFILE", "nowhere").arg("whoami");
    assert_eq!(desk.ran(command).await.0, 0);

    let found = async |args: &[&str]| {
        let (code, out, _) = desk.tidegate(&[&["search", "--json=id"][..], args].concat()).await;
        (code, out.contains("kube:view"), out.contains("tokens:orders-read"))
    };
    assert_eq!(found(&["--label", "system=ledger", "--label", "tier"]).await, (0, true, false));
    assert_eq!(found(&["--label", "system=other"]).await, (5, false, false));
    assert_eq!(found(&["--kind", "token", "--requestable"]).await, (0, true, true));
    assert!(!found(&["--kind", "ssh"]).await.1);

    // An emergency is nobody's accident.
    let wish = ["break-glass", "kube:view", "--for", "10m"];
    assert_eq!(desk.tidegate(&wish).await.0, 2, "a reason is needed");
    let wish = [&wish[..], &["--reason", "the site is down"]].concat();
    let (code, _, err) = desk.tidegate(&wish).await;
    assert!(code == 2 && err.contains("EMERGENCY ACCESS to kube:view") && err.contains("Everybody"), "{err}");
    let (code, out, err) = desk.tidegate(&[&wish[..], &["-y", "--json=emergency,reason"]].concat()).await;
    assert!(code == 0 && out.contains("true") && out.contains("the site is down"), "{out}{err}");
    assert_eq!(desk.tidegate(&["break-glass", "no-such-thing", "--reason", "x", "-y"]).await.0, 5);

    // The portal's page of a request.
    let opened = desk.path("opened");
    fs::write(desk.path("bin/xdg-open"), format!("#!/bin/sh\necho \"$1\" >{}\n", opened.display())).unwrap();
    fs::set_permissions(desk.path("bin/xdg-open"), fs::Permissions::from_mode(0o755)).unwrap();
    let ask = ["request", "tokens:orders-read", "--reason", "order 4411", "--for", "10m", "-y", "--open", "--json=id"];
    let (code, out, err) = desk.tidegate(&ask).await;
    assert_eq!(code, 0, "{err}");
    let id: Value = serde_json::from_str(&out).unwrap();
    let page = format!("{}/requests/{}", desk.child.url, id["id"].as_str().unwrap());
    for _ in 0..200 {
        if opened.exists() && !fs::read_to_string(&opened).unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(fs::read_to_string(&opened).unwrap().trim(), page);

    // Beside `tidegate dev`: somebody else, and the workload.
    let tokens = desk.home.data().join("tokens");
    let dev = |args: &[&str]| {
        let mut it = desk.command("tidegate");
        it.env("TIDEGATE_TOKEN_FILE", tokens.join("ana.token")).arg("dev").args(args);
        it
    };
    let (code, out, _) = desk.ran(dev(&["as", "ben"])).await;
    assert!(code == 0 && out.ends_with(&format!(" TIDEGATE_TOKEN_FILE={}/ben.token\n", tokens.display())), "{out}");
    assert_eq!(desk.ran(dev(&["as", "nobody"])).await.0, 5);
    let (code, out, err) = desk.ran(dev(&["agent", "--json=requester"])).await;
    assert!(code == 0 && out.contains("deploy-bot"), "{out}{err}");
    assert!(desk.ran(dev(&["next"])).await.1.contains("tidegate dev as ben"));

    // The log as a table.
    let (code, out, err) = desk.tidegate(&["--profile", "eve", "audit", "export", "--format", "csv"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("seq,at,action,actor,"), "{out}");
    assert!(out.lines().any(|line| line.contains(",request.created,")), "{out}");
    drop(desk.home.log());
}
