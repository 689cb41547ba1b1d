//! `--profile`: a name for a server and for the file with its token, in `$XDG_CONFIG_HOME/tidegate/profiles.toml`.
//!
//! What a flag says holds before the profile, the profile that a flag names before the environment, and the
//! environment before the profile that it names itself.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{ArgMatches, parser::ValueSource};
use serde::Deserialize;

use super::{exit::Failure, global::Global, text::clean};

/// What a profile says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    server: String,
    #[serde(default)]
    token_file: Option<PathBuf>,
}

/// Where the user's own configuration is: `$XDG_CONFIG_HOME`, else `~/.config`.
pub fn config_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config"))).map(|dir| dir.join("tidegate"))
}

/// Fill in what the profile says, where nothing that comes before it says anything.
pub fn apply(global: &mut Global, matches: &ArgMatches) -> Result<(), Failure> {
    let Some(name) = global.profile.clone() else { return Ok(()) };
    let file = config_dir()
        .map(|dir| dir.join("profiles.toml"))
        .ok_or_else(|| Failure::usage("there is neither $XDG_CONFIG_HOME nor $HOME to find profiles under"))?;
    let text = std::fs::read_to_string(&file)
        .map_err(|e| Failure::usage(format!("--profile: {} cannot be read: {e}", file.display())))?;
    let profile = named(&text, &name)?;
    let of = |id: &str| matches.value_source(id);
    let by_flag = of("profile") == Some(ValueSource::CommandLine);
    let holds = |id: &str| match of(id) {
        Some(ValueSource::CommandLine) => false,
        Some(ValueSource::EnvVariable) => by_flag,
        _ => true,
    };
    if holds("server") {
        global.server = profile.server;
    }
    if holds("token_file") {
        // The token of another server is no use here.
        global.token_file = profile.token_file;
    }
    Ok(())
}

fn named(text: &str, name: &str) -> Result<Profile, Failure> {
    let mut all: BTreeMap<String, Profile> =
        toml::from_str(text).map_err(|e| Failure::usage(format!("profiles.toml: {}", clean(e.message()))))?;
    let names = all.keys().map(|known| clean(known)).collect::<Vec<_>>().join(", ");
    all.remove(name).ok_or_else(|| {
        Failure::usage(format!("there is no profile `{}`", clean(name))).next(format!("there are: {names}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_a_server_and_a_file() {
        let text =
            "[prod]\nserver = \"https://t.example\"\ntoken_file = \"/t\"\n[dev]\nserver = \"http://127.0.0.1:8420\"\n";
        let prod = named(text, "prod").unwrap();
        assert_eq!((prod.server.as_str(), prod.token_file), ("https://t.example", Some("/t".into())));
        assert!(named(text, "dev").unwrap().token_file.is_none());
        assert!(named(text, "test").unwrap_err().next.unwrap().contains("dev, prod"));
        assert!(named("[prod]\nserver = \"x\"\ntoken = \"secret\"\n", "prod").unwrap_err().what.contains("token"));
    }
}
