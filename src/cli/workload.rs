//! `tidegate workload`: register services, CI jobs and agents, and change them. Their secret is shown once.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    text::clean,
    token::Place,
    view,
};
use crate::{
    broker::view::IdentityView,
    domain::{id::IdentityId, time::Ttl},
};

/// Register and change workloads and agents
#[derive(Debug, Args)]
pub struct WorkloadArgs {
    #[command(subcommand)]
    command: WorkloadCommand,
}

#[derive(Debug, Subcommand)]
enum WorkloadCommand {
    /// Register one; its secret is shown this once
    Register(RegisterArgs),
    /// Change one
    Update(UpdateArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A service or CI job
    Workload,
    /// An AI agent
    Agent,
}

#[derive(Debug, Args)]
struct RegisterArgs {
    /// Its unique name
    name: String,
    /// What it is
    #[arg(long, value_enum, default_value_t = Kind::Workload)]
    kind: Kind,
    /// Name for people to read
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// The accountable person; you, if not given
    #[arg(long, value_name = "IDENTITY")]
    owner: Option<String>,
    /// Who is asked if the owner is gone
    #[arg(long, value_name = "IDENTITY")]
    backup_owner: Option<String>,
    /// The group that it belongs to: it is orphaned when that is gone or empty
    #[arg(long, value_name = "GROUP")]
    team: Option<String>,
    /// A standing group; may be given several times; administrators only
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,
    /// How long its secret works
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<Ttl>,
    /// Write the secret to this file with mode 0600
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show the secret even if a terminal is looking
    #[arg(long)]
    reveal: bool,
}

#[derive(Debug, Args)]
struct UpdateArgs {
    /// Which one, by name or id
    workload: String,
    /// Name for people to read
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// A new accountable person; yourself, to take over an orphan, whose secrets end
    #[arg(long, value_name = "IDENTITY")]
    owner: Option<String>,
    /// Who is asked if the owner is gone
    #[arg(long, value_name = "IDENTITY")]
    backup_owner: Option<String>,
    /// The group that it belongs to; empty for none
    #[arg(long, value_name = "GROUP")]
    team: Option<String>,
    /// Let it work again
    #[arg(long, conflicts_with = "deactivate")]
    activate: bool,
    /// Stop it and end everything that it holds
    #[arg(long)]
    deactivate: bool,
    /// End its secrets and make a new one, shown this once
    #[arg(long)]
    rotate_secret: bool,
    /// Write the new secret to this file with mode 0600
    #[arg(long, value_name = "FILE", requires = "rotate_secret")]
    out: Option<PathBuf>,
    /// Show the new secret even if a terminal is looking
    #[arg(long, requires = "rotate_secret")]
    reveal: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(flatten)]
    identity: IdentityView,
    client_id: String,
    client_secret: Option<String>,
    secret_expires_at: Option<String>,
}

fn body<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

/// Run it.
pub async fn run(args: WorkloadArgs, cx: &Cx) -> Done {
    match args.command {
        WorkloadCommand::Register(args) => register(args, cx).await,
        WorkloadCommand::Update(args) => update(args, cx).await,
    }
}

async fn register(args: RegisterArgs, cx: &Cx) -> Done {
    let place = Place::new(args.out.as_deref(), args.reveal, cx)?;
    let body = body([
        ("name", Some(json!(args.name))),
        ("kind", Some(json!(if args.kind == Kind::Agent { "agent" } else { "workload" }))),
        ("display_name", args.display_name.map(Value::from)),
        ("owner", args.owner.map(Value::from)),
        ("backup_owner", args.backup_owner.map(Value::from)),
        ("team", args.team.map(Value::from)),
        ("groups", (!args.group.is_empty()).then(|| json!(args.group))),
        ("secret_ttl", args.duration.map(|ttl| json!(ttl))),
    ]);
    let answer = cx.client()?.post(&["v1", "workloads"], &body).await?;
    show(answer, Some(place), args.out.is_some(), cx)
}

async fn update(args: UpdateArgs, cx: &Cx) -> Done {
    let place = if args.rotate_secret { Some(Place::new(args.out.as_deref(), args.reveal, cx)?) } else { None };
    let body = body([
        ("display_name", args.display_name.map(Value::from)),
        ("owner", args.owner.map(Value::from)),
        ("backup_owner", args.backup_owner.map(Value::from)),
        ("team", args.team.map(Value::from)),
        ("active", (args.activate || args.deactivate).then(|| json!(args.activate))),
        ("rotate_secret", args.rotate_secret.then(|| json!(true))),
    ]);
    if body.as_object().is_some_and(Map::is_empty) {
        return Err(Failure::usage("there is nothing to change").next("see `tidegate workload update --help`"));
    }
    let client = cx.client()?;
    let id = if args.workload.parse::<IdentityId>().is_ok() {
        args.workload.clone()
    } else {
        client.get_as::<IdentityView>(&["v1", "identities", &args.workload]).await?.1.id
    };
    show(client.patch(&["v1", "workloads", &id], &body).await?, place, args.out.is_some(), cx)
}

fn show(answer: Value, place: Option<Place>, to_file: bool, cx: &Cx) -> Done {
    let (raw, it) = typed::<Answer>(answer)?;
    cx.ui.note(&view::identity(&it.identity, &cx.ui));
    cx.ui.note(&format!("client id  {}", clean(&it.client_id)));
    if let Some(at) = &it.secret_expires_at {
        cx.ui.note(&format!("secret     works until {}", cx.ui.until(at)));
    }
    match (place, it.client_secret) {
        (Some(place), Some(secret)) => place.put(&raw, secret, cx)?,
        (Some(_), None) => return Err(Failure::local("the server gave no secret")),
        (None, _) => cx.ui.show(&raw, || clean(&it.identity.id))?,
    }
    if to_file {
        let line = format!("tidegate token mint --client-id {} --client-secret-file FILE", clean(&it.client_id));
        cx.ui.note(&format!("sign in as it: {line}"));
    }
    Ok(Exit::Ok)
}
