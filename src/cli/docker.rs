//! `tidegate docker-credential`: a credential helper of Docker, podman and others (docker-credential-helpers), which
//! call it under the name `docker-credential-tidegate` and tell it nothing but the registry.
//!
//! Hands out the token whose audience is that registry, and stores nothing.

use std::{ffi::OsString, io::Read as _, path::Path};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{
    exit::{Done, Exit, Failure},
    global::Cx,
    kept, obtain,
    text::clean,
};
use crate::{
    broker::view::{GrantView, MeView},
    domain::grant::GrantState,
};

/// Under which name Docker looks for it: a link to `tidegate`.
const NAME: &str = "docker-credential-tidegate";
/// More than Docker ever sends.
const MAX_INPUT: u64 = 64 << 10;
/// By this text Docker knows that there is nothing, and goes on without.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Docker calls a program of its own name and says the operation alone.
pub fn spelled_out(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    if args.first().and_then(|program| Path::new(program).file_name()).is_some_and(|name| name == NAME) {
        args.splice(..1, ["tidegate".into(), "docker-credential".into()]);
    }
    args
}

/// What is kept of a copy.
const SHAPE: &str = "docker";

/// Answer Docker: `"credHelpers": {"REGISTRY": "tidegate"}`, and a link docker-credential-tidegate to this program
#[derive(Debug, Args)]
pub struct DockerArgs {
    /// What Docker wants
    #[arg(value_name = "OPERATION")]
    pub operation: Operation,
    /// The user name that goes with the token
    #[arg(long, env = "TIDEGATE_DOCKER_USERNAME", value_name = "NAME", default_value = "x-access-token")]
    pub username: String,
    /// Claim anew each time, and keep nothing: in $XDG_RUNTIME_DIR, or without it under $XDG_STATE_HOME (~/.local/state)
    #[arg(long)]
    pub no_cache: bool,
    /// Show the secret even if a terminal is looking
    #[arg(long)]
    pub reveal: bool,
}

/// What Docker wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// The credential for the registry on stdin
    Get,
    /// Keep the one on stdin: refused, for nothing is kept here that others made
    Store,
    /// Forget the copies that are kept
    Erase,
    /// The registries that there is a live grant for
    List,
}

/// Run it.
pub async fn run(args: DockerArgs, cx: &Cx) -> Done {
    let told = match args.operation {
        Operation::Erase => {
            kept::forget(SHAPE);
            return Ok(Exit::Ok);
        }
        Operation::Store => Err(Failure::local("tidegate keeps no passwords: ask for access instead")),
        Operation::Get if cx.global.token_stdin => {
            Err(Failure::usage("Docker speaks on stdin: give the token with --token-file"))
        }
        Operation::Get => match obtain::not_for_eyes(cx, args.reveal) {
            Ok(()) => obtain::within(cx, get(&args, cx)).await,
            Err(e) => Err(e),
        },
        Operation::List => obtain::within(cx, list(&args, cx)).await,
    };
    match told {
        Ok(text) => {
            cx.ui.raw(text.as_bytes())?;
            Ok(Exit::Ok)
        }
        Err(why) => {
            // Docker shows what it finds on stdout.
            cx.ui.raw(format!("{}\n", why.what).as_bytes())?;
            Err(if why.what == NOT_FOUND { Failure::silent(Exit::Error) } else { why })
        }
    }
}

async fn get(args: &DockerArgs, cx: &Cx) -> Result<String, Failure> {
    let mut asked = String::new();
    let read = std::io::stdin().take(MAX_INPUT).read_to_string(&mut asked);
    read.map_err(|e| Failure::local(format!("Docker's question could not be read: {e}")))?;
    let registry = asked.trim();
    let Some(host) = host_of(registry) else {
        return Err(Failure::usage(format!("a token is not sent in clear to `{}`", clean(registry))));
    };
    let mut fitting = live(cx).await?;
    fitting.retain(|(_, audience)| host_of(audience) == Some(host));
    let Some((grant, _)) = fitting.first() else { return Err(Failure::local(NOT_FOUND)) };
    if let Some((other, _)) = fitting.iter().find(|(other, _)| other.entitlement != grant.entitlement) {
        return Err(Failure::usage(format!(
            "you hold both {} and {} for {}: give one of them back",
            clean(&grant.entitlement),
            clean(&other.entitlement),
            clean(host)
        )));
    }
    let token = kept::claimed(grant, SHAPE, !args.no_cache, cx, |credential| Ok(credential.raw()?.expose().to_owned()));
    let answer = json!({"ServerURL": registry, "Username": args.username, "Secret": token.await?});
    Ok(format!("{answer}\n"))
}

async fn list(args: &DockerArgs, cx: &Cx) -> Result<String, Failure> {
    let live = live(cx).await?;
    let known: Map<String, Value> = live.into_iter().map(|(_, audience)| (audience, json!(args.username))).collect();
    Ok(format!("{}\n", Value::Object(known)))
}

/// My live grants of tokens for somebody that has a host, those that last longest first.
async fn live(cx: &Cx) -> Result<Vec<(GrantView, String)>, Failure> {
    let (_, me) = cx.client()?.get_as::<MeView>(&["v1", "me"]).await?;
    let mut found: Vec<(GrantView, String)> = me
        .grants
        .into_iter()
        .filter(|grant| grant.state == GrantState::Active)
        .filter_map(|grant| {
            let audience = obtain::audience(&grant)?.to_owned();
            host_of(&audience)?;
            Some((grant, audience))
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| b.not_after.cmp(&a.not_after));
    Ok(found)
}

/// Host and port of a registry, as Docker names it: with or without `https://` and a path. `None` for what would be
/// spoken to in clear.
fn host_of(registry: &str) -> Option<&str> {
    let (clear, rest) = match registry.split_once("://") {
        Some(("https", rest)) => (false, rest),
        Some(("http", rest)) => (true, rest),
        Some(_) => return None,
        None => (false, registry),
    };
    let host = rest.split('/').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let looks_like_one = !host.is_empty() && (host.contains(['.', ':']) || name == "localhost");
    (looks_like_one && (!clear || matches!(name, "localhost" | "127.0.0.1" | "[::1]"))).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_calls_it_by_another_name() {
        let words = |args: &[&str]| spelled_out(args.iter().map(OsString::from));
        assert_eq!(words(&["/usr/bin/docker-credential-tidegate", "get"]), ["tidegate", "docker-credential", "get"]);
        assert_eq!(words(&["tidegate", "whoami"]), ["tidegate", "whoami"]);
        assert!(words(&[]).is_empty());
    }

    #[test]
    fn registries_are_told_by_their_host() {
        for (registry, host) in [
            ("registry.example.org", Some("registry.example.org")),
            ("https://registry.example.org/v1/", Some("registry.example.org")),
            ("https://index.docker.io/v1/", Some("index.docker.io")),
            ("127.0.0.1:5000", Some("127.0.0.1:5000")),
            ("http://localhost:5000", Some("localhost:5000")),
            ("http://registry.example.org", None),
            ("orders", None),
            ("", None),
            ("ssh://registry.example.org", None),
        ] {
            assert_eq!(host_of(registry), host, "{registry}");
        }
    }
}
