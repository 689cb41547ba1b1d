//! `tidegate token mint`: a personal token, or an access token of a workload. Shown once, to a file or a pipe.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    private_file::Pending,
    text::clean,
};
use crate::domain::{secret::Secret, time::Ttl};

/// Make tokens
#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a personal token, or with --client-id an access token of a workload
    Mint(MintArgs),
}

#[derive(Debug, Args)]
struct MintArgs {
    /// What it is for, to know it by in lists
    #[arg(long, value_name = "TEXT", default_value = "cli")]
    label: String,
    /// How long a personal token works
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "client_id")]
    duration: Option<Ttl>,
    /// Whose it is to be, to be sure: nobody makes tokens for others, and anybody's name but your own is refused
    #[arg(long, value_name = "YOURSELF", conflicts_with = "client_id")]
    identity: Option<String>,
    /// The workload
    #[arg(long, value_name = "ID", requires = "client_secret_file")]
    client_id: Option<String>,
    /// The workload's secret; `-` reads it from stdin
    #[arg(long, value_name = "FILE", requires = "client_id")]
    client_secret_file: Option<PathBuf>,
    /// What the workload's token is to be good for
    #[arg(long, value_name = "SCOPE", requires = "client_id")]
    scope: Option<String>,
    /// Whom the workload's token is for (RFC 8707)
    #[arg(long, value_name = "AUDIENCE", requires = "client_id")]
    audience: Option<String>,
    /// Write it to this file with mode 0600
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show it even if a terminal is looking
    #[arg(long)]
    reveal: bool,
}

#[derive(Deserialize)]
struct Personal {
    id: String,
    token: String,
    expires_at: String,
}

#[derive(Deserialize)]
struct Issued {
    access_token: String,
    expires_in: u64,
    #[serde(default)]
    scope: String,
}

/// Run it.
pub async fn run(args: TokenArgs, cx: &Cx) -> Done {
    let TokenCommand::Mint(args) = args.command;
    let place = Place::new(args.out.as_deref(), args.reveal, cx)?;
    if let Some(id) = &args.client_id {
        let more = [("scope", args.scope.as_deref()), ("resource", args.audience.as_deref())];
        let (raw, it) = of_workload(id, args.client_secret_file.as_deref(), &more, cx).await?;
        place.put(&raw, it.access_token, cx)?;
        cx.ui.note(&format!("It works for {}, for: {}", super::text::span(it.expires_in), clean(&it.scope)));
        return Ok(Exit::Ok);
    }
    let mut body = json!({"label": args.label});
    if let Some(map) = body.as_object_mut() {
        map.extend(args.identity.map(|i| ("identity".to_owned(), json!(i))));
        map.extend(args.duration.map(|ttl| ("ttl".to_owned(), json!(ttl))));
    }
    let (raw, it) = typed::<Personal>(cx.client()?.post(&["v1", "tokens"], &body).await?)?;
    place.put(&raw, it.token, cx)?;
    cx.ui.note(&format!("{} works until {}", clean(&it.id), cx.ui.until(&it.expires_at)));
    if let Some(path) = &args.out {
        cx.ui.note(&format!("use it: export TIDEGATE_TOKEN_FILE={}", super::text::shell_word(&path.to_string_lossy())));
    }
    Ok(Exit::Ok)
}

/// The token of a workload, for its secret.
async fn of_workload(
    id: &str,
    secret_file: Option<&Path>,
    more: &[(&str, Option<&str>)],
    cx: &Cx,
) -> Result<(Value, Issued), Failure> {
    let secret = client_secret(secret_file)?;
    let mut fields = vec![("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret.expose())];
    fields.extend(more.iter().filter_map(|(name, value)| Some((*name, (*value)?))));
    typed(cx.anonymous()?.form(&["oauth", "token"], &fields).await?)
}

/// The same, to be used at once.
pub async fn workload_token(id: &str, secret_file: &Path, cx: &Cx) -> Result<Secret, Failure> {
    Ok(Secret::new(of_workload(id, Some(secret_file), &[], cx).await?.1.access_token))
}

/// Where a secret that is shown once goes; known before it is made.
pub struct Place(Option<Pending>);

impl Place {
    /// Reserve it. A terminal that looks is no place unless it is said so.
    pub fn new(out: Option<&Path>, reveal: bool, cx: &Cx) -> Result<Self, Failure> {
        match out {
            Some(path) => Ok(Self(Some(Pending::reserve(path)?))),
            None if cx.ui.tty.stdout && !reveal => {
                Err(Failure::usage("a secret is not shown to a terminal, and none was made")
                    .next("write it with --out FILE, pipe it on, or give --reveal"))
            }
            None => Ok(Self(None)),
        }
    }

    /// Put it there: the secret alone, or with `--json` the whole answer.
    pub fn put(self, raw: &Value, secret: String, cx: &Cx) -> Result<(), Failure> {
        let secret = Secret::new(secret);
        match self.0 {
            Some(pending) if cx.ui.json() => pending.fill(format!("{raw}\n").as_bytes()),
            Some(pending) => pending.fill(format!("{}\n", secret.expose()).as_bytes()),
            None => cx.ui.show(raw, || secret.expose().to_owned()),
        }
    }
}

fn client_secret(path: Option<&Path>) -> Result<Secret, Failure> {
    let Some(path) = path else { return Err(Failure::usage("--client-secret-file is missing")) };
    let text =
        if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text
        .map_err(|e| Failure::new(Exit::Login, format!("the secret could not be read from {}: {e}", path.display())))?;
    let secret = Secret::new(text.trim().to_owned());
    if secret.expose().is_empty() {
        return Err(Failure::new(Exit::Login, format!("there is no secret in {}", path.display())));
    }
    Ok(secret)
}
