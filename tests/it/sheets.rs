//! The sheets of the connectors: written from their prose and from what the connectors say of themselves.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};
use tidegate::{
    connectors::{KINDS, build, sheet::render},
    domain::catalog::TargetConfig,
};

use crate::connectors::World;

/// The `toml` blocks of a sheet.
fn examples(sheet: &str) -> Vec<Value> {
    let blocks = sheet.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.map(|text| toml::from_str(text).unwrap_or_else(|e| panic!("{e} in\n{text}"))).collect()
}

#[test]
fn every_kind_has_its_sheet_and_the_examples_in_it_work() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/connectors");
    let world = World::still();
    tidegate::keys::init_crypto();
    let mut old = Vec::new();
    for kind in KINDS {
        let name = kind.name;
        let examples = examples(kind.sheet);
        let target = &examples.first().unwrap_or_else(|| panic!("{name}: no example of a target"))["target"];
        let mut config: TargetConfig = serde_json::from_value(target[0].clone()).unwrap();
        if name == "scim_group" {
            // It looks for its token at the start.
            let file = world.path().join("token");
            std::fs::write(&file, "secret").unwrap();
            config.settings.insert("token_file".to_owned(), json!(file));
        }
        let connector = build(&config, &world.parts()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let entitlements = examples.iter().filter_map(|e| e["entitlement"].as_array()).flatten();
        let parameters: Vec<&Value> = entitlements.map(|e| &e["parameters"]).collect();
        assert!(!parameters.is_empty(), "{name}: no example of an entitlement");
        for parameters in parameters {
            connector.validate(parameters).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        assert!(connector.validate(&json!({"no-such-parameter": 1})).is_err());
        let text = render(kind.sheet, &connector.describe());
        let text = text.unwrap_or_else(|| panic!("{name}: `promises`, `rights` or `crash` has no place"));
        assert!(text.starts_with(&format!("# `{name}`: ")), "{name}: the first line");
        let note =
            format!("\n\n<!-- Written from src/connectors/{name}/sheet.md by `make generate`; do not edit. -->\n");
        let text = text.replacen('\n', &note, 1);
        let path = docs.join(format!("{name}.md"));
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
