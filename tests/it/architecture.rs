//! The shape of the house: who may import whom, how long a file may be, where time comes from, nothing unfinished.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// No file is longer.
const MAX_LINES: usize = 600;

/// Every top-level module and what it may import besides itself.
const LAYERS: [(&str, &[&str]); 21] = [
    ("domain", &[]),
    ("failpoint", &[]),
    ("telemetry", &["domain", "ports"]),
    ("ports", &["domain", "telemetry"]),
    ("outbound", &[]),
    ("scim_client", &["domain", "ports", "outbound", "failpoint", "telemetry"]),
    ("applications", &["domain", "ports", "scim_client", "failpoint", "telemetry"]),
    ("sources", &["domain", "ports", "scim_client", "outbound", "failpoint", "telemetry"]),
    ("connectors", &["domain", "ports", "scim_client", "failpoint", "telemetry"]),
    ("notify", &["domain", "ports", "outbound", "failpoint", "telemetry"]),
    ("keys", &["domain", "ports", "failpoint", "telemetry"]),
    ("oidc", &["domain", "ports", "failpoint", "telemetry"]),
    ("policy", &["domain", "ports", "failpoint", "telemetry"]),
    ("store", &["domain", "ports", "failpoint", "telemetry"]),
    ("broker", &["domain", "ports", "policy", "store", "failpoint", "telemetry"]),
    ("worker", &["domain", "ports", "policy", "store", "broker", "failpoint", "telemetry"]),
    ("edge", &["domain", "ports", "policy", "broker", "failpoint", "telemetry"]),
    ("config", &["domain", "ports", "policy", "store", "connectors", "notify", "keys", "oidc", "telemetry"]),
    ("lifecycle", &["domain", "ports", "policy", "store", "broker", "worker", "config", "failpoint", "telemetry"]),
    (
        "app",
        &[
            "domain",
            "ports",
            "policy",
            "store",
            "broker",
            "worker",
            "edge",
            "connectors",
            "applications",
            "sources",
            "notify",
            "keys",
            "oidc",
            "config",
            "lifecycle",
            "failpoint",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "domain",
            "ports",
            "policy",
            "store",
            "broker",
            "worker",
            "edge",
            "connectors",
            "applications",
            "sources",
            "notify",
            "keys",
            "oidc",
            "config",
            "lifecycle",
            "app",
            "failpoint",
            "telemetry",
        ],
    ),
];

/// The ways in; none of them sees another.
const EDGES: [&str; 6] = ["http", "web", "scim", "oauth", "slack", "mcp"];

/// Files that may read the machine's clock.
const CLOCKS: [&str; 2] = ["ports/clock.rs", "telemetry.rs"];

/// What is wrong with one file; `path` is relative to `src`, with forward slashes.
fn check(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        wrong.push(format!("{path}: {lines} lines, and {MAX_LINES} are allowed; split it"));
    }
    for word in ["todo!", "unimplemented!", "FIXME"] {
        if text.contains(word) {
            wrong.push(format!("{path}: `{word}`; what is delivered works"));
        }
    }
    let code = without_comments(text);
    for word in ["SystemTime::now", "Instant::now"] {
        if code.contains(word) && !CLOCKS.contains(&path) {
            wrong.push(format!("{path}: `{word}`; time comes from ports::clock"));
        }
    }
    let module: Vec<&str> =
        path.trim_end_matches(".rs").trim_end_matches("/mod").split('/').filter(|p| !p.is_empty()).collect();
    let own = module.first().copied().unwrap_or_default();
    if matches!(own, "lib" | "main") {
        return wrong;
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == own) else {
        wrong.push(format!("{path}: the module `{own}` has no place in the layers; give it one in this test"));
        return wrong;
    };
    for import in imports(&code, module.len()) {
        let to = import.split("::").next().unwrap_or_default();
        if to != own && !allowed.contains(&to) {
            wrong.push(format!("{path}: `{own}` must not import `crate::{import}`"));
        }
        let way = |part: Option<&str>| part.filter(|p| EDGES.contains(p)).map(str::to_owned);
        let (from, into) = (way(module.get(1).copied()), way(import.split("::").nth(1)));
        if own == "edge" && to == "edge" && from.is_some() && into.is_some() && from != into {
            wrong.push(format!("{path}: an edge must not import another: `crate::{import}`"));
        }
    }
    wrong
}

/// The text without what follows `//`. A `//` within a string goes too, which hides no import.
fn without_comments(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned() + "\n";
    text.lines().map(code).collect()
}

/// Paths from the root of the crate: `a::b` for `crate::a::b` and for each branch of `crate::{…}`, and for as many
/// `super::` as lead from a module of this depth to the root and into another module.
fn imports(code: &str, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            found.extend(paths(&code[at + "crate::".len()..]));
        }
    }
    let up = "super::".repeat(depth);
    for (at, _) in code.match_indices(&up) {
        let rest = code[at + up.len()..].trim_start_matches("super::");
        found.extend(paths(rest).into_iter().filter(|p| {
            let first = p.split("::").next().unwrap_or_default();
            LAYERS.iter().any(|(name, _)| *name == first)
        }));
    }
    found.retain(|path| path.starts_with(|c: char| c.is_lowercase()));
    found.sort();
    found.dedup();
    found
}

/// The path at the start of `text`, two parts deep, or those of the group that stands there.
fn paths(text: &str) -> Vec<String> {
    let ident = |t: &str| -> String { t.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        return branches(group).into_iter().flat_map(|b| paths(&b)).collect();
    }
    let first = ident(text);
    match text[first.len()..].strip_prefix("::").map(str::trim_start) {
        Some(rest) if rest.starts_with('{') => {
            let inner = branches(&rest[1..]).into_iter().map(|b| ident(&b));
            inner.map(|second| format!("{first}::{second}")).collect()
        }
        Some(rest) => vec![format!("{first}::{}", ident(rest))],
        None => vec![first],
    }
}

/// The parts of a group, up to the brace that closes it.
fn branches(group: &str) -> Vec<String> {
    let (mut level, mut parts, mut part) = (0_u32, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '}' if level == 0 => break,
            ',' if level == 0 => parts.push(std::mem::take(&mut part)),
            _ => {
                level = level + u32::from(c == '{') - u32::from(c == '}');
                part.push(c);
            }
        }
    }
    parts.push(part);
    parts.into_iter().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, into)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

#[test]
fn the_house_stands_as_drawn() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files).unwrap();
    files.sort();
    assert!(files.len() > 30, "the sources were not found");
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let path = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
            check(&path, &fs::read_to_string(file).unwrap())
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn imports_against_the_stream_are_found() {
    for (path, text) in [
        ("domain/grant.rs", "use crate::ports::clock::Clock;"),
        ("ports/clock.rs", "use crate::store::Store;"),
        ("policy/mod.rs", "use crate::store::Store;"),
        ("store/grants.rs", "use crate::{\n    domain::{id::GrantId, time},\n    broker::Broker,\n};"),
        ("broker/ask.rs", "fn f() { crate::connectors::registry::get() }"),
        ("broker/ask.rs", "pub(in crate::edge::http) fn f() {}"),
        ("worker/reap.rs", "use crate::edge::http;"),
        ("edge/http/mod.rs", "use crate::{domain::id, store};"),
        ("edge/http/v1/grants/list.rs", "use super::super::super::super::super::store::Store;"),
        ("edge/mod.rs", "use super::store::Store;"),
        ("edge/scim/users.rs", "use crate::edge::http::Problem;"),
        ("edge/scim/users.rs", "use crate::edge::{scim::filter, oauth::Token};"),
        ("connectors/ssh/mod.rs", "use crate::broker::Broker;"),
        ("connectors/ssh/mod.rs", "use crate::keys::Ring;"),
        ("notify/webhook.rs", "use crate::config::Webhook;"),
        ("keys/mod.rs", "use crate::store::Store;"),
        ("app.rs", "use crate::cli::Args;"),
        ("telemetry.rs", "use crate::broker::Broker;"),
        ("novelty/mod.rs", "fn f() {}"),
        ("broker/ask.rs", "use crate::novelty::New;"),
    ] {
        assert_eq!(check(path, text).len(), 1, "{path}: {text}: {:?}", check(path, text));
    }
}

#[test]
fn imports_with_the_stream_are_let_through() {
    for (path, text) in [
        ("domain/grant.rs", "use super::time::Timestamp;\nuse crate::domain::id::GrantId;"),
        ("domain/export/proof.rs", "use super::super::merkle;"),
        ("notify/webhook.rs", "//! See [`crate::broker`].\nuse crate::ports::notifier::Notifier; // not crate::store"),
        ("broker/ask.rs", "use crate::{domain::{self, id}, policy::Engine, store::{Store, Tx}, failpoint};"),
        ("edge/http/v1/me.rs", "use crate::{broker::me, edge::http::problem::Problem};"),
        ("edge/scim/users.rs", "use crate::edge::session::Caller;"),
        ("cli/serve.rs", "use crate::app::App;"),
        ("store/mod.rs", "use mycrate::edge::x; pub(crate) fn f() {}"),
        ("main.rs", "fn main() {}"),
        ("ports/clock.rs", "SystemTime::now(); Instant::now()"),
        ("telemetry.rs", "Instant::now()"),
        ("broker/ask.rs", "// Instant::now() is forbidden here"),
    ] {
        assert_eq!(check(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn long_unfinished_and_untimely_files_are_found() {
    for (path, text) in [
        ("broker/ask.rs", "\n".repeat(601).as_str()),
        ("broker/ask.rs", concat!("fn f() { to", "do!() }")),
        ("broker/ask.rs", concat!("fn f() { unimplem", "ented!() }")),
        ("broker/ask.rs", concat!("// FIX", "ME later")),
        ("broker/ask.rs", "let t = std::time::SystemTime::now();"),
        ("cli/exec.rs", "let t = Instant::now();"),
        ("ports/clock/other.rs", "let t = Instant::now();"),
    ] {
        assert_eq!(check(path, text).len(), 1, "{path}: {}", text.trim());
    }
    assert!(check("broker/ask.rs", &"\n".repeat(600)).is_empty());
}
