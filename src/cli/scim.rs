//! `tidegate scim`: tokens of the sources that push people and groups, and how the sources are.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    client::typed,
    exit::{Done, Exit},
    global::Cx,
    text::clean,
    token::Place,
};
use crate::{
    broker::view::{SourceTokenView, SourceView},
    domain::time::Ttl,
};

/// Look after the sources that push people and groups by SCIM
#[derive(Debug, Args)]
pub struct ScimArgs {
    #[command(subcommand)]
    command: ScimCommand,
}

#[derive(Debug, Subcommand)]
enum ScimCommand {
    /// Make, rotate and revoke the tokens of sources; administrators only
    Token(TokenArgs),
    /// Show the sources: what they own, when they were last heard of, which of their tokens work
    Status,
}

#[derive(Debug, Args)]
struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make one, and the source if there is none of that name
    Create(CreateArgs),
    /// Make one in the place of the others, which go on working for a while
    Rotate(RotateArgs),
    /// Take one back, at once
    Revoke {
        /// Name of the source
        source: String,
        /// Id of the token, as `tidegate scim status` shows it
        token: String,
    },
}

#[derive(Debug, Args)]
struct NewToken {
    /// Name of the source: okta, entra
    source: String,
    /// What the token is for, to know it by in lists
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// How long it works; a year if not given
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<Ttl>,
    /// Write it to this file with mode 0600
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show it even if a terminal is looking
    #[arg(long)]
    reveal: bool,
}

#[derive(Debug, Args)]
struct CreateArgs {
    #[command(flatten)]
    new: NewToken,
    /// Let the source take over people and groups that are kept here, by their unique names
    #[arg(long, value_name = "YES", num_args = 0..=1, default_missing_value = "true")]
    adopts: Option<bool>,
    /// Let the source fill tidegate-admins and tidegate-auditors, if it owns them
    #[arg(long, value_name = "YES", num_args = 0..=1, default_missing_value = "true")]
    administers: Option<bool>,
}

#[derive(Debug, Args)]
struct RotateArgs {
    #[command(flatten)]
    new: NewToken,
    /// How long the former tokens go on working; an hour if not given
    #[arg(long, value_name = "DURATION", conflicts_with = "at_once")]
    overlap: Option<Ttl>,
    /// The former tokens stop working now
    #[arg(long)]
    at_once: bool,
}

#[derive(Deserialize)]
struct Made {
    id: String,
    token: String,
    expires_at: String,
}

/// Run it.
pub async fn run(args: ScimArgs, cx: &Cx) -> Done {
    match args.command {
        ScimCommand::Status => status(cx).await,
        ScimCommand::Token(TokenArgs { command: TokenCommand::Create(args) }) => {
            let more = [("adopts", args.adopts.map(Value::from)), ("administers", args.administers.map(Value::from))];
            make(args.new, "tokens", more, cx).await
        }
        ScimCommand::Token(TokenArgs { command: TokenCommand::Rotate(args) }) => {
            let more =
                [("overlap", args.overlap.map(|ttl| json!(ttl))), ("at_once", args.at_once.then(|| Value::from(true)))];
            make(args.new, "rotate", more, cx).await
        }
        ScimCommand::Token(TokenArgs { command: TokenCommand::Revoke { source, token } }) => {
            let raw = cx.client()?.delete(&["v1", "sources", &source, "tokens", &token]).await?;
            cx.ui.show(&raw, String::new)?;
            cx.ui.note(&format!("{} does not work any more", clean(&token)));
            Ok(Exit::Ok)
        }
    }
}

async fn make<const N: usize>(new: NewToken, what: &str, more: [(&str, Option<Value>); N], cx: &Cx) -> Done {
    let place = Place::new(new.out.as_deref(), new.reveal, cx)?;
    let own = [("label", new.label.map(Value::from)), ("ttl", new.duration.map(|ttl| json!(ttl)))];
    let fields = own.into_iter().chain(more).filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let body = Value::Object(fields.collect::<Map<_, _>>());
    let client = cx.client()?;
    let (raw, made) = typed::<Made>(client.post(&["v1", "sources", &new.source, what], &body).await?)?;
    place.put(&raw, made.token, cx)?;
    cx.ui.note(&format!("{} works until {}", clean(&made.id), cx.ui.until(&made.expires_at)));
    cx.ui.note(&format!("give it to the source with the address {}/scim/v2", client.server().trim_end_matches('/')));
    Ok(Exit::Ok)
}

async fn status(cx: &Cx) -> Done {
    let rows = cx.client()?.whole(&["v1", "sources"]).await?;
    let list = rows.iter().map(|row| typed::<SourceView>(row.clone()).map(|(_, source)| source));
    let list = list.collect::<Result<Vec<_>, _>>()?;
    cx.ui.show_all(&rows, || table(&list, cx))?;
    if list.is_empty() {
        cx.ui.note("no source yet: tidegate scim token create NAME --out FILE");
    }
    Ok(Exit::Ok)
}

fn table(list: &[SourceView], cx: &Cx) -> String {
    let mut rows = Vec::new();
    for source in list {
        let seen = source.last_seen_at.as_deref().map_or_else(|| "never".to_owned(), |at| cx.ui.at(at));
        let rights = [("adopts", source.adopts), ("administers", source.administers)];
        let rights: Vec<&str> = rights.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
        let head = vec![
            clean(&source.name),
            seen,
            format!("{} ({} active)", source.people, source.active),
            source.groups.to_string(),
            rights.join(", "),
        ];
        let mut tokens = source.tokens.iter().filter(|t| t.works).map(|t| token(t, cx)).peekable();
        if tokens.peek().is_none() {
            rows.push([head.clone(), vec!["none works".to_owned()]].concat());
        }
        for (n, token) in tokens.enumerate() {
            let first = if n == 0 { head.clone() } else { vec![String::new(); head.len()] };
            rows.push([first, vec![token]].concat());
        }
    }
    cx.ui.table(&["source", "last heard of", "people", "groups", "rights", "tokens"], rows)
}

fn token(token: &SourceTokenView, cx: &Cx) -> String {
    format!("{} {} until {}", clean(&token.id), clean(&token.label), cx.ui.until(&token.expires_at))
}
