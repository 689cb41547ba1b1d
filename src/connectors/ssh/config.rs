//! Settings of an SSH target and parameters of its entitlements.

use std::{net::IpAddr, path::PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::ports::connector::BadParameters;

/// Settings of a target of kind `ssh`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the revocation list is published: an absolute path. In the data directory if not given.
    #[serde(default)]
    pub krl_file: Option<PathBuf>,
    /// Within how many seconds every host has a new list; 0 if `sshd` reads `krl_file` itself.
    #[serde(default = "Settings::default_fetch")]
    pub krl_fetch_seconds: u32,
    /// Shown to holders: where to log in.
    #[serde(default)]
    pub host: Option<String>,
}

impl Settings {
    const fn default_fetch() -> u32 {
        60
    }
}

/// Parameters of an entitlement.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Login names, or what the hosts' `AuthorizedPrincipalsFile` lists.
    pub principals: Vec<String>,
    /// What the session may do; only `permit-pty` if not given.
    #[serde(default = "Parameters::default_extensions")]
    pub extensions: Vec<String>,
    /// The one command that may run.
    #[serde(default)]
    pub force_command: Option<String>,
    /// Addresses or networks that the holder may come from.
    #[serde(default)]
    pub source_address: Vec<String>,
}

/// Extensions of OpenSSH (PROTOCOL.certkeys) that an entitlement may carry.
const EXTENSIONS: [&str; 5] =
    ["permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty", "permit-user-rc"];

impl Parameters {
    fn default_extensions() -> Vec<String> {
        vec!["permit-pty".into()]
    }

    /// Read and check.
    pub fn parse(parameters: &Value) -> Result<Self, BadParameters> {
        let it: Self = crate::connectors::parameters(parameters)?;
        let bad = |text: String| Err(BadParameters(text));
        let short = |text: &str| text.chars().take(60).collect::<String>();
        if it.principals.is_empty() || it.principals.len() > 32 {
            return bad(
                "`principals` must have 1 to 32 entries: a certificate without principals is good for all".into()
            );
        }
        if let Some(principal) = it.principals.iter().find(|p| !is_principal(p)) {
            return bad(format!(
                "`principals`: `{}` is not a principal: use 1 to 64 letters, digits and `._@-`",
                short(principal)
            ));
        }
        if let Some(extension) = it.extensions.iter().find(|e| !EXTENSIONS.contains(&e.as_str())) {
            return bad(format!(
                "`extensions`: `{}` is unknown; known are {}",
                short(extension),
                EXTENSIONS.join(", ")
            ));
        }
        if it.force_command.as_ref().is_some_and(|c| c.is_empty() || c.len() > 4096 || c.contains(['\0', '\n', '\r'])) {
            return bad("`force_command` must be one line of 1 to 4096 characters".into());
        }
        if let Some(address) = it.source_address.iter().find(|a| !is_network(a)) {
            return bad(format!(
                "`source_address`: `{}` is neither an address nor a network like `10.1.0.0/16`",
                short(address)
            ));
        }
        Ok(it)
    }
}

/// The name of a target's own authority. Two targets never share one: a revocation list speaks for one target, and a
/// host that trusted another target's certificates would not hear of their end.
pub fn authority_name(target: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=50).contains(&target.len()) && target.chars().all(fits) {
        return target.to_owned();
    }
    let shaped: String = target.to_ascii_lowercase().chars().map(|c| if fits(c) { c } else { '-' }).take(40).collect();
    let digest = hex::encode(ring::digest::digest(&ring::digest::SHA256, target.as_bytes()));
    format!("{shaped}--{}", digest.get(..12).unwrap_or_default())
}

fn is_principal(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'@' | b'-');
    (1..=64).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(fits)
}

fn is_network(text: &str) -> bool {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|b| b.parse::<u8>().is_ok_and(|b| b <= most && !text.contains('+')))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_target_has_its_own_authority() {
        assert_eq!(authority_name("prod-ssh"), "prod-ssh");
        let names = ["a-b", "a.b", "a_b", "A-b", "ab/", &"x".repeat(90), &"x".repeat(91)].map(authority_name);
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|n| n.len() <= 64));
    }

    #[test]
    fn parameters_are_checked_and_the_field_is_named() {
        let good = json!({"principals": ["deploy", "a.b@c"], "extensions": [], "force_command": "/bin/backup",
            "source_address": ["10.0.0.0/8", "::1", "192.0.2.1"]});
        assert!(Parameters::parse(&good).is_ok());
        for (bad, field) in [
            (json!({}), "principals"),
            (json!({"principals": []}), "principals"),
            (json!({"principals": ["a,b"]}), "principals"),
            (json!({"principals": ["a b"]}), "principals"),
            (json!({"principals": ["*"]}), "principals"),
            (json!({"principals": ["r"], "extensions": ["permit-all"]}), "permit-pty"),
            (json!({"principals": ["r"], "force_command": "a\nb"}), "force_command"),
            (json!({"principals": ["r"], "source_address": ["10.0.0.0/33"]}), "source_address"),
            (json!({"principals": ["r"], "source_address": ["example.com"]}), "source_address"),
            (json!({"principals": ["r"], "public_key": "x"}), "public_key"),
        ] {
            let text = Parameters::parse(&bad).unwrap_err().to_string();
            assert!(text.contains(field), "{bad}: {text}");
        }
    }
}
