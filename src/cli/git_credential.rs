//! `tidegate git-credential`: a credential helper of git (gitcredentials(7), git-credential(1)).
//!
//! Answers `get` for one host only, over https. The copy is kept for the next command, until git says `erase`.

use std::io::Read as _;

use clap::Args;

use super::{
    exit::{Done, Exit, Failure},
    global::Cx,
    kept, obtain,
    request::Wish,
};
use crate::domain::time::Timestamp;

/// What is kept of a copy.
const SHAPE: &str = "git";
/// More than git ever sends.
const MAX_INPUT: u64 = 64 << 10;

/// Answer git: `credential.https://HOST.helper = !tidegate git-credential --target T`
#[derive(Debug, Args)]
pub struct GitArgs {
    /// The target, entitlement or grant
    #[arg(long, value_name = "TARGET")]
    pub target: String,
    /// The host that the token is for; the token's audience says it otherwise
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The user name that goes with the token
    #[arg(long, value_name = "NAME", default_value = "x-access-token")]
    pub username: String,
    /// What to ask for if there is no live grant; nothing is asked for without --reason
    #[command(flatten)]
    pub wish: Wish,
    /// Do not ask for access, even with --reason
    #[arg(long)]
    pub no_request: bool,
    /// Claim anew each time, and keep nothing: in $XDG_RUNTIME_DIR, or without it under $XDG_STATE_HOME (~/.local/state)
    #[arg(long)]
    pub no_cache: bool,
    /// Show the secret even if a terminal is looking
    #[arg(long)]
    pub reveal: bool,
    /// What git wants: get, store or erase
    #[arg(value_name = "OPERATION")]
    pub operation: String,
}

/// Run it.
pub async fn run(args: GitArgs, cx: &Cx) -> Done {
    if args.operation == "erase" {
        // The host did not take it.
        kept::forget(SHAPE);
    }
    if args.operation != "get" {
        // Nothing of others is stored; what git may want some day is not answered.
        return Ok(Exit::Ok);
    }
    if cx.global.token_stdin {
        return Err(Failure::usage("git speaks on stdin: give the token with --token-file"));
    }
    obtain::not_for_eyes(cx, args.reveal)?;
    let mut text = String::new();
    let read = std::io::stdin().take(MAX_INPUT).read_to_string(&mut text);
    read.map_err(|e| Failure::local(format!("git's question could not be read: {e}")))?;
    let asked = Asked::read(&text);
    if !asked.is_safe() {
        return Err(Failure::usage("a token is not sent in clear: git asks for something else than https"));
    }
    if args.host.as_ref().is_some_and(|host| *host != asked.host) {
        // Another helper's business.
        return Ok(Exit::Ok);
    }
    match obtain::within(cx, answer(&args, &asked, cx)).await {
        Ok(answer) => {
            cx.ui.raw(answer.as_bytes())?;
            Ok(Exit::Ok)
        }
        Err(why) => {
            // Or git would ask the person for a password that does not exist.
            cx.ui.raw(b"quit=true\n")?;
            Err(why)
        }
    }
}

async fn answer(args: &GitArgs, asked: &Asked, cx: &Cx) -> Result<String, Failure> {
    let wish = (!args.no_request).then_some(&args.wish);
    let grant = obtain::grant(&args.target, wish, cx).await?;
    // Whom it is for is known before it is minted: a claim is one of a few, and ends the copy of an earlier one.
    let audience = obtain::audience(&grant).unwrap_or_default();
    if args.host.is_none() && audience.trim_end_matches('/') != asked.origin() {
        let what = format!("the token is not for {}: its audience is another, and none was claimed", asked.origin());
        return Err(Failure::usage(what).next("name the host that it is for with --host"));
    }
    let kept = kept::claimed(&grant, SHAPE, !args.no_cache, cx, |credential| {
        let token = credential.raw()?;
        let expires: Timestamp =
            credential.expires_at.parse().map_err(|_| Failure::local("the credential's end cannot be read"))?;
        Ok(line("password", token.expose())? + &line("password_expiry_utc", &expires.seconds().to_string())?)
    });
    Ok(line("username", asked.username.as_deref().unwrap_or(&args.username))? + &kept.await?)
}

fn line(name: &str, value: &str) -> Result<String, Failure> {
    if value.contains(['\n', '\0']) {
        return Err(Failure::local(format!("`{name}` does not fit into a line for git")));
    }
    Ok(format!("{name}={value}\n"))
}

/// What git asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    protocol: String,
    host: String,
    username: Option<String>,
}

impl Asked {
    fn read(text: &str) -> Self {
        let mut it = Self::default();
        for (name, value) in text.lines().take_while(|l| !l.is_empty()).filter_map(|l| l.split_once('=')) {
            match name {
                "protocol" => value.clone_into(&mut it.protocol),
                "host" => value.clone_into(&mut it.host),
                "username" => it.username = Some(value.to_owned()),
                _ => {}
            }
        }
        it
    }

    fn is_safe(&self) -> bool {
        let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
        self.protocol == "https" || (self.protocol == "http" && matches!(name, "localhost" | "127.0.0.1" | "[::1]"))
    }

    fn origin(&self) -> String {
        format!("{}://{}", self.protocol, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_sent_only_where_it_is_safe() {
        let asked = |text: &str| Asked::read(text);
        let it =
            asked("protocol=https\nhost=git.example.org\nusername=ana\nwwwauth[]=Basic realm=\"x\"\n\nhost=evil\n");
        assert_eq!((it.host.as_str(), it.username.as_deref()), ("git.example.org", Some("ana")));
        assert!(it.is_safe());
        assert_eq!(it.origin(), "https://git.example.org");
        assert!(asked("protocol=http\nhost=127.0.0.1:8080\n").is_safe());
        for bad in ["protocol=http\nhost=git.example.org\n", "protocol=ssh\nhost=x\n", "host=x\n", ""] {
            assert!(!asked(bad).is_safe(), "{bad}");
        }
    }
}
