//! The first five minutes: every line of `docs/tutorial.md` that begins with `$` is run as it stands, on another port.

use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_line_of_the_tutorial_works() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tutorial.md")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port().to_string();
    let lines: Vec<String> =
        text.lines().filter_map(|l| l.strip_prefix("$ ")).map(|l| l.replace("8420", &port)).collect();
    let (first, rest) = lines.split_first().unwrap();
    assert!(first.starts_with("tidegate dev ") && rest.len() > 10, "{lines:#?}");
    let place = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_tidegate"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let shell = |script: &str| {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(place.path()).env("PATH", &path);
        command.env("HOME", place.path()).env("XDG_CONFIG_HOME", place.path()).stdin(Stdio::null());
        command
    };
    // `exec`, so that ending it ends the broker and not only a shell.
    let mut server = Running(shell(&format!("exec {first}")).stderr(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(server.0.stderr.take().unwrap()).lines();
    assert!(said.by_ref().map_while(Result::ok).any(|line| line.contains("Tokens ")), "it says where everything is");
    let log = std::thread::spawn(move || said.map_while(Result::ok).count());
    // Each line says what it is before it says anything else, so that a failure names it.
    let named: Vec<String> = rest.iter().map(|l| format!("echo '$ {}'\n{l}", l.replace('\'', "'\\''"))).collect();
    let script = named.join("\n");
    let run = shell(&script).output().unwrap();
    let shown = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{shown}");
    let last = shown.rsplit("$ tidegate show").next().unwrap();
    assert!(last.contains("ended") && last.contains("verified"), "{shown}");
    let read = |name: &str| std::fs::read_to_string(place.path().join(name)).unwrap();
    assert!(read("credential.json").contains("\"credential\""));
    assert!(read("audit.jsonl").contains("go ahead"));
    drop(server);
    log.join().unwrap();
}
