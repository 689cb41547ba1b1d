//! The command line as people and scripts run it: the real binary, against a real `tidegate dev`.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// `tidegate dev` on a free port; ends with the value.
pub struct Dev {
    server: Child,
    home: tempfile::TempDir,
    pub access: Value,
}

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for name in ["TIDEGATE_SERVER", "TIDEGATE_TOKEN", "TIDEGATE_TOKEN_FILE", "TIDEGATE_FAILPOINT"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

impl Dev {
    fn start() -> Self {
        Self::with("")
    }

    /// With more targets, applications, sources.
    pub fn with(config: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("tidegate.toml"), config.replace("$HOME", &home.path().display().to_string()))
            .unwrap();
        let data = home.path().join("data");
        fs::create_dir(&data).unwrap();
        let mut server = binary()
            .args(["dev", "--json", "--port", "0", "--data"])
            .arg(&data)
            .args((!config.is_empty()).then_some("--config"))
            .args((!config.is_empty()).then(|| home.path().join("tidegate.toml")))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let access = serde_json::from_str(&line).unwrap();
        Self { server, home, access }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The command as this person.
    fn command(&self, who: &str) -> Command {
        let path = self.file(&format!("{who}.token"));
        if !path.exists() {
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
            let token = self.access["people"][who]["token"].as_str().unwrap();
            std::io::Write::write_all(&mut file, token.as_bytes()).unwrap();
        }
        let mut command = binary();
        command.env("TIDEGATE_SERVER", self.access["url"].as_str().unwrap()).env("TIDEGATE_TOKEN_FILE", path);
        command
    }

    pub fn run(&self, who: &str, args: &[&str]) -> Output {
        self.command(who).args(args).output().unwrap()
    }

    /// Run it, demand the exit code, give stdout.
    pub fn expect(&self, code: i32, who: &str, args: &[&str]) -> String {
        let output = self.run(who, args);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{who}: {args:?}\n{err}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, who: &str, args: &[&str]) -> Value {
        serde_json::from_str(&self.expect(0, who, args)).unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        signal(&self.server, Signal::TERM);
        let _ = self.server.wait();
    }
}

#[test]
fn the_whole_story_is_told_by_commands() {
    let dev = Dev::start();
    dev.expect(0, "ana", &["doctor"]);
    let found = dev.expect(0, "ana", &["search", "orders", "read"]);
    assert!(found.contains("tokens:orders-read"));
    dev.expect(5, "ana", &["search", "no-such-thing"]);

    // Four eyes.
    let ask = ["request", "ssh:root", "--for", "30m", "--reason", "the disk is full"];
    dev.expect(2, "ana", &ask);
    assert_eq!(dev.json("ana", &["ls", "--json"]), serde_json::json!([]), "nothing was sent");
    let request = dev.json("ana", &[&ask[..], &["-y", "--json"]].concat());
    let id = request["id"].as_str().unwrap();
    assert_eq!(request["state"], "pending");
    dev.expect(7, "ana", &["wait", id, "--timeout", "1s"]);
    dev.expect(8, "ana", &["creds", "ssh:root"]);
    dev.expect(3, "ana", &["approve", id, "-y"]);
    let waiting = dev.command("ana").args(["wait", id, "--json=id,state"]).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(dev.json("ben", &["ls", "approvals", "--json=id"])[0]["id"], id);
    dev.expect(2, "ben", &["approve", id, "--for", "3h", "-y"]);
    dev.expect(0, "ben", &["approve", id, "--for", "20m", "--reason", "go on", "-y"]);
    dev.expect(6, "ben", &["deny", id, "-y"]);
    let waited = waiting.wait_with_output().unwrap();
    let lines = String::from_utf8(waited.stdout).unwrap();
    assert!(waited.status.success() && lines.contains("\"approved\"") && lines.contains("\"active\""), "{lines}");

    // The credential is in files that nobody else reads, and gone afterwards.
    let script = "test -f $TIDEGATE_SSH_KEY && test -z \"$TIDEGATE_TOKEN\" && stat -c %a $TIDEGATE_SSH_KEY && \
                  echo $TIDEGATE_SSH_KEY && ssh-keygen -L -f $TIDEGATE_SSH_CERTIFICATE >/dev/null && exit 42";
    let out = dev.expect(42, "ana", &["exec", "dev-ssh", "--", "sh", "-c", script]);
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("600"));
    assert!(!PathBuf::from(lines.next().unwrap()).exists());

    let grant = dev.json("ana", &["ls", "grants", "--mine", "--state", "active", "--json"])[0].clone();
    assert_eq!(grant["requested"]["duration"], 1200);
    let id = grant["id"].as_str().unwrap();
    dev.expect(3, "ana", &["revoke", id, "--reason", "x", "-y"]);
    let ended = dev.json("ana", &["end", id, "--wait", "--json"]);
    assert_eq!((ended["state"].as_str(), ended["verified"].is_null()), (Some("ended"), false));
    dev.expect(6, "ana", &["creds", id]);
    let shown = dev.expect(0, "ana", &["show", id]);
    assert!(shown.contains("grant.claimed  ana") && shown.contains("grant.ended  tidegate"), "{shown}");
}

#[test]
fn a_command_asks_for_what_it_needs_and_gives_it_back() {
    let dev = Dev::start();
    let echo = ["--", "sh", "-c", "echo $TIDEGATE_ACCESS_TOKEN"];
    dev.expect(5, "ana", &[&["exec", "tokens:orders-read", "--no-request"][..], &echo].concat());
    dev.expect(3, "ana", &[&["exec", "tokens:ledger-admin", "-y", "--reason", "x"][..], &echo].concat());
    let wish = ["exec", "tokens:orders-read", "-y", "--reason", "order 4411", "--for", "10m", "--end"];
    let token = dev.expect(0, "ana", &[&wish[..], &echo].concat());
    assert_eq!(token.trim().split('.').count(), 3);
    let grants = dev.json("ana", &["ls", "grants", "--json=state"]);
    assert!(matches!(grants[0]["state"].as_str(), Some("revoking" | "ended")), "{grants}");
}

#[test]
fn signals_reach_the_right_process() {
    let dev = Dev::start();
    dev.expect(0, "ana", &["request", "tokens:orders-read", "--reason", "x", "-y", "--wait=20s"]);
    let mark = dev.file("ready");
    let script = format!("trap 'exit 5' TERM; touch {}; while :; do sleep 0.05; done", mark.display());
    let mut child = dev.command("ana").args(["exec", "tokens:orders-read", "--", "sh", "-c", &script]).spawn().unwrap();
    for _ in 0..400 {
        if mark.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(5), "the command decides how it ends");

    let request = dev.json("ana", &["request", "ssh:root", "--reason", "x", "-y", "--json=id"]);
    let mut waiting =
        dev.command("ana").args(["wait", request["id"].as_str().unwrap()]).stderr(Stdio::piped()).spawn().unwrap();
    // The first line says that it has begun to wait.
    let mut line = String::new();
    BufReader::new(waiting.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("pending"), "{line}");
    signal(&waiting, Signal::INT);
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
}

#[test]
fn the_log_is_exported_proven_and_tampering_is_found() {
    let dev = Dev::start();
    let granted = dev.json("ana", &["request", "tokens:orders-read", "--reason", "x", "-y", "--wait=20s", "--json"]);
    let grant = granted["grants"][0]["id"].as_str().unwrap();
    let path = |name: &str| dev.file(name).to_str().unwrap().to_owned();
    let (export, changed, proofs) = (path("log.jsonl"), path("changed.jsonl"), path("proofs.jsonl"));
    dev.expect(0, "eve", &["audit", "export", "--out", &export]);
    // Without a key that is known from elsewhere it is said that anybody could have made it.
    assert!(dev.expect(0, "eve", &["audit", "verify"]).contains("anybody could have made it"));
    let header: Value = serde_json::from_str(fs::read_to_string(&export).unwrap().lines().next().unwrap()).unwrap();
    let key = header["verifier_key"].as_str().unwrap().to_owned();
    dev.expect(0, "eve", &["audit", "verify", "--key", &key]);
    // Offline: no server, no token.
    assert!(binary().args(["audit", "verify", &export]).output().unwrap().status.success());
    let verify = |file: &str| binary().args(["audit", "verify", file, "--key", &key]).output().unwrap();
    assert!(verify(&export).status.success());
    let text = fs::read_to_string(&export).unwrap();
    fs::write(&changed, text.replacen("request.created", "request.deleted", 1)).unwrap();
    assert_eq!(verify(&changed).status.code(), Some(1));
    let proven = dev.expect(0, "eve", &["audit", "prove", grant]);
    assert!(proven.lines().count() >= 2);
    fs::write(&proofs, proven).unwrap();
    assert!(verify(&proofs).status.success());
    assert!(binary().args(["audit", "verify", &proofs]).output().unwrap().status.success());
    // And that it only grew, between the first and the last checkpoint of the export.
    let notes =
        text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()?["checkpoint"].as_str().map(str::to_owned));
    let size = notes.map(|note| note.lines().nth(1).unwrap().to_owned()).next().unwrap();
    let grew = dev.expect(0, "eve", &["audit", "prove", "--from", &size]);
    fs::write(&proofs, &grew).unwrap();
    assert!(verify(&proofs).status.success());
    let mut forged: Value = serde_json::from_str(&grew).unwrap();
    forged["new"] = forged["old"].clone();
    forged["path"] = serde_json::json!([]);
    fs::write(&proofs, forged.to_string().replace(&format!("\\n{size}\\n"), "\\n1\\n")).unwrap();
    assert_eq!(verify(&proofs).status.code(), Some(1));
    dev.expect(5, "eve", &["audit", "prove", "--from", "1", "--to", "999999"]);
    let ocsf = dev.expect(0, "eve", &["audit", "export", "--format", "ocsf"]);
    let events: Vec<Value> = ocsf.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(events.iter().all(|e| e["metadata"]["version"] == "1.8.0"));
    let tail = dev.expect(0, "eve", &["audit", "tail", "-n", "2", "--json"]);
    assert_eq!(tail.lines().count(), 2);
}

#[test]
fn workloads_sign_in_and_kill_switches_fall() {
    let dev = Dev::start();
    let file = |name: &str| dev.file(name).to_str().unwrap().to_owned();
    let (secret, token) = (file("bot.secret"), file("bot.token"));
    let bot = dev.expect(0, "eve", &["workload", "register", "bot", "--owner", "ana", "--out", &secret]);
    assert_eq!(bot, "", "what went to the file is not on stdout");
    let id = dev.json("eve", &["show", "bot", "--json"])["id"].as_str().unwrap().to_owned();
    dev.expect(0, "ana", &["token", "mint", "--client-id", &id, "--client-secret-file", &secret, "--out", &token]);
    let me = dev.json("ana", &["whoami", "--token-file", &token, "--json=name"]);
    assert_eq!(me["name"], "bot");
    dev.expect(0, "ana", &["doctor", "--token-file", &token]);
    dev.expect(3, "ana", &["lock", "identity", "bot", "--reason", "x", "-y"]);
    dev.expect(0, "eve", &["lock", "identity", "bot", "--reason", "its key leaked", "-y"]);
    assert_eq!(dev.json("eve", &["ls", "locks", "--json=reason"])[0]["reason"], "its key leaked");
    dev.expect(0, "eve", &["unlock", "identity", "bot", "-y"]);
    dev.expect(5, "eve", &["unlock", "identity", "bot", "-y"]);
    dev.expect(0, "eve", &["targets", "check", "dev-ssh"]);
    dev.expect(0, "eve", &["targets", "sweep", "dev-token"]);
    dev.expect(5, "eve", &["targets", "show", "no-such"]);
}

#[test]
fn mistakes_have_codes_and_say_what_to_do() {
    let dev = Dev::start();
    let output = dev.run("ana", &["whoami", "--token-file", "/no/such/file"]);
    assert_eq!(output.status.code(), Some(4));
    let mut nobody = dev.command("ana");
    nobody.env_remove("TIDEGATE_TOKEN_FILE").env("TIDEGATE_TOKEN", "tgp_wrong");
    assert_eq!(nobody.arg("whoami").output().unwrap().status.code(), Some(4));
    let output = dev.run("ana", &["whoami", "--server", "http://127.0.0.1:1"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(9), 0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("next:"));
    dev.expect(2, "ana", &["whoami", "--server", "http://192.0.2.1"]);
    dev.expect(5, "ana", &["show", "nobody"]);
    dev.expect(2, "ana", &["ls", "--json=nope", "--state", "pending", "--limit", "x"]);
    for local in [&["version"][..], &["completion", "bash"], &["man"], &["targets", "kinds"], &["--help"]] {
        let output = binary().args(local).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{local:?}");
    }
    let root = env!("CARGO_MANIFEST_DIR");
    for command in ["test", "lint", "matrix"] {
        let output = binary().current_dir(root).args(["policy", command]).output().unwrap();
        assert!(output.status.success(), "{command}");
    }
}
