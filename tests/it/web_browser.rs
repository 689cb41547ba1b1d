//! The whole story in a real browser: see `tests/browser/portal.mjs`.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Node packages that `.ci/deps` installs.
pub fn tools() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/node");
    assert!(
        tools.join("node_modules/playwright-core").exists() && tools.join("node_modules/oidc-provider").exists(),
        "these tests need Node packages under target/tools/node: run `make deps`"
    );
    tools
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_whole_story_in_a_browser() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut server = Server(
        Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["dev", "--json", "--port", "0", "--fake-slack"])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let access: serde_json::Value = serde_json::from_str(&line).unwrap();
    // With TIDEGATE_DOCS, an absolute path to docs/img, the pictures of the documentation are made anew.
    let shots = root.join("target/screenshots");
    let run = Command::new("node")
        .arg(root.join("tests/browser/portal.mjs"))
        .arg(access["url"].as_str().unwrap())
        .arg(shots)
        .arg(tools())
        .arg(env!("CARGO_BIN_EXE_tidegate"))
        .arg(access["slack"]["url"].as_str().unwrap())
        .output()
        .expect("node: run `make deps`");
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{said}");
}
