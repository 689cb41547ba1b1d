//! The sheet of a kind of target: its prose with what its connector says of itself.
//!
//! `src/connectors/<kind>/sheet.md` is written by hand. Its first `toml` block is an example of a target; the connector
//! that is made from it fills the places `<!-- promises -->`, `<!-- rights -->` and `<!-- crash -->`. The whole is
//! `docs/connectors/<kind>.md`, which a test compares and `make generate` writes.

use std::fmt::Write as _;

use crate::domain::capability::Description;

const PROMISES: &str = "<!-- promises -->";
const RIGHTS: &str = "<!-- rights -->";
const CRASH: &str = "<!-- crash -->";

/// What the sheet is about: the rest of its first line, after the kind.
pub fn title(sheet: &str) -> &str {
    let first = sheet.lines().next().unwrap_or_default().trim_start_matches("# ");
    first.split_once(": ").map_or(first, |(_, title)| title)
}

/// The sheet with what the connector says of itself; `None` if a place for it is missing.
pub fn render(sheet: &str, description: &Description) -> Option<String> {
    let mut text = sheet.to_owned();
    for (place, words) in [
        (PROMISES, promises(description)),
        (RIGHTS, rights(description)),
        (CRASH, format!("{}\n", description.after_crash)),
    ] {
        if text.matches(place).count() != 1 {
            return None;
        }
        text = text.replace(place, words.trim_end());
    }
    Some(text)
}

fn promises(d: &Description) -> String {
    let yes = |b: bool| if b { "yes" } else { "no" };
    let mut text = "| promise | of the target in the example below |\n|---|---|\n".to_owned();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "| {name} | {} |", value.replace('|', "\\|"));
    };
    row("opens", &d.summary);
    row("revocation class", &format!("`{}`", d.revocation_class.as_str()));
    row("residual window", &format!("{} s. {}", d.residual_window_seconds, d.residual_window));
    row("ends by itself, with the broker dead", yes(d.native_expiry));
    row("enforced after the end, with broker and target up", &format!("within {} s", d.enforcement_seconds));
    row("read back: asked whether it is gone", yes(d.read_back));
    row("cuts open sessions", yes(d.cuts_sessions));
    row(
        "a claim",
        match (d.mints_secrets, d.replaces_copies) {
            (false, _) => "mints nothing: the access holds as it is",
            (true, true) => "mints a credential and ends the copy of an earlier claim",
            (true, false) => "mints a credential; an earlier copy stays, so one claim is the bound (`max_claims`)",
        },
    );
    text
}

fn rights(d: &Description) -> String {
    if d.rights.statements.is_empty() {
        return format!("{}\n", d.rights.needs);
    }
    format!("{}\n\n```{}\n{}\n```\n", d.rights.needs, d.rights.language, d.rights.statements.trim_end())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

    use serde_json::{Value, json};

    use super::*;
    use crate::{
        connectors::{
            KINDS, Parts, build,
            fakes::{FakeDirectory, FakeLedger},
        },
        domain::time::{Timestamp, Ttl},
        keys::{FileSigner, KeyFiles},
        ports::{clock::ManualClock, entropy::SystemEntropy},
    };

    fn parts(home: &Path) -> Parts {
        crate::keys::init_crypto();
        let entropy = Arc::new(SystemEntropy::new());
        let now = Timestamp::from_seconds(1_800_000_000);
        let (keys, day) = (home.join("keys"), Ttl::seconds_or_one(86_400));
        let signer = FileSigner::open(&keys, "https://tidegate.example.org", day, entropy.clone() as _, now).unwrap();
        Parts {
            clock: Arc::new(ManualClock::at(now)),
            entropy: entropy.clone(),
            signer: Arc::new(signer),
            directory: Arc::new(FakeDirectory::with_groups(&[])),
            revocations: Arc::new(FakeLedger::new()),
            holdings: Arc::new(FakeLedger::new()),
            keys: Arc::new(KeyFiles::new(&keys, entropy)),
            data_dir: home.to_owned(),
            observing: false,
        }
    }

    /// The `toml` blocks of a sheet.
    fn examples(sheet: &str) -> Vec<Value> {
        let blocks = sheet.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        blocks.map(|text| toml::from_str(text).unwrap_or_else(|e| panic!("{e} in\n{text}"))).collect()
    }

    #[test]
    fn every_kind_has_its_sheet_and_the_examples_in_it_work() {
        let home = tempfile::tempdir().unwrap();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/connectors");
        let mut old = Vec::new();
        for kind in KINDS {
            let examples = examples(kind.sheet);
            let target = &examples.first().unwrap_or_else(|| panic!("{}: no example of a target", kind.name))["target"];
            let config = serde_json::from_value(target[0].clone()).unwrap();
            let connector = build(&config, &parts(home.path())).unwrap_or_else(|e| panic!("{}: {e}", kind.name));
            let entitlements = examples.iter().filter_map(|e| e["entitlement"].as_array()).flatten();
            let parameters: Vec<&Value> = entitlements.map(|e| &e["parameters"]).collect();
            assert!(!parameters.is_empty(), "{}: no example of an entitlement", kind.name);
            for parameters in parameters {
                connector.validate(parameters).unwrap_or_else(|e| panic!("{}: {e}", kind.name));
            }
            assert!(connector.validate(&json!({"no-such-parameter": 1})).is_err());
            let text = render(kind.sheet, &connector.describe());
            let text = text.unwrap_or_else(|| panic!("{}: a place is missing: {PROMISES} {RIGHTS} {CRASH}", kind.name));
            assert!(text.starts_with(&format!("# `{}`: ", kind.name)), "{}: the first line", kind.name);
            let text = text.replacen(
                '\n',
                &format!(
                    "\n\n<!-- Written from src/connectors/{}/sheet.md by `make generate`; do not edit. -->\n",
                    kind.name
                ),
                1,
            );
            let path = docs.join(format!("{}.md", kind.name));
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&path, &text).unwrap();
            }
            if fs::read_to_string(&path).unwrap_or_default() != text {
                old.push(path.display().to_string());
            }
        }
        assert!(old.is_empty(), "run `make generate` and review the difference of {old:?}");
        let name = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_string_lossy().into_owned();
        let there: BTreeSet<String> = fs::read_dir(docs).unwrap().flatten().map(name).collect();
        assert_eq!(there, KINDS.iter().map(|k| k.name.to_owned()).collect());
    }
}
