//! `tidegate creds`: claim a credential and hand it on. Never shows a secret to a terminal unless told to.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{
    access::{self, Found},
    agent::Agent,
    client::typed,
    credential::Credential,
    exit::{Done, Exit, Failure},
    global::Cx,
    kube,
    private_file::Pending,
    text,
};
use crate::domain::time::Timestamp;

/// Claim the credential of a grant
#[derive(Debug, Args)]
pub struct CredsArgs {
    /// A grant, or the entitlement or target that you hold one on
    #[arg(value_name = "GRANT|ENTITLEMENT|TARGET")]
    pub name: String,
    /// How to write it
    #[arg(long, value_enum, default_value_t = Format::Env)]
    pub format: Format,
    /// Write it to this file with mode 0600; an SSH certificate goes to FILE-cert.pub beside it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write over the file of --out if it is there
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Show the secret even if a terminal is looking
    #[arg(long)]
    pub reveal: bool,
}

/// How a credential is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// `export NAME=value` lines for a shell; key files or JSON for SSH
    Env,
    /// Everything, as the server answered
    Json,
    /// A profile of an AWS credentials file
    Aws,
    /// What an exec plugin of kubectl answers
    Kube,
    /// A line of a PostgreSQL password file
    Pgpass,
    /// Nothing is written: key and certificate go into the running ssh-agent for as long as they last
    SshAgent,
    /// The password, token or private key alone
    Raw,
}

/// Run it.
pub async fn run(args: CredsArgs, cx: &Cx) -> Done {
    let to_agent = args.format == Format::SshAgent && !cx.ui.json();
    if args.out.is_none() && cx.ui.tty.stdout && !args.reveal && !to_agent {
        return Err(Failure::usage("a secret is not shown to a terminal, and none was claimed")
            .next("pipe it on, write it with --out FILE, run a command with `tidegate exec`, or give --reveal"));
    }
    let format = if cx.ui.json() { Format::Json } else { args.format };
    if to_agent && args.out.is_some() {
        return Err(Failure::usage("--format ssh-agent writes no file: leave out --out"));
    }
    let agent = to_agent.then(Agent::find).transpose()?;
    let grant = match access::find(&args.name, cx).await? {
        Found::Live(grant) => grant,
        Found::Waiting(request) => return Err(access::pending(&request)),
        Found::Nothing => return Err(access::nothing(&args.name)),
    };
    if !grant.claimable {
        return Err(Failure::new(Exit::Conflict, "there is no credential to claim for this grant")
            .kept("The access itself is there: it needs no secret, or all claims that are allowed were made."));
    }
    // The places are made before anything is claimed: a claim ends the copy of an earlier one.
    let place = args.out.as_deref().map(|path| Place::new(path, args.force, format)).transpose()?;
    let (raw, credential) = typed::<Credential>(access::claim(&grant.id, cx).await?)?;
    if let Some(mut agent) = agent {
        hand_to(&mut agent, &credential, cx)?;
        return Ok(Exit::Ok);
    }
    match place {
        None => show(cx, &raw, &credential, format)?,
        Some(Place { path, file, certificate }) => {
            match certificate {
                Some(beside) if credential.is_ssh() => {
                    let [(_, key), (_, certificate)] = credential.ssh_files()?;
                    beside.fill(certificate.as_bytes())?;
                    file.fill(key.as_bytes())?;
                }
                _ => file.fill(rendered(&raw, &credential, format)?.as_bytes())?,
            }
            cx.ui.note(&format!("written to {} (mode 0600)", text::clean(&path.display().to_string())));
        }
    }
    cx.ui.note(&format!(
        "It works until {}. Claiming again ends this copy where the target can.",
        cx.ui.until(&credential.expires_at)
    ));
    Ok(Exit::Ok)
}

/// Key and certificate into the agent, for as long as they last.
fn hand_to(agent: &mut Agent, credential: &Credential, cx: &Cx) -> Result<(), Failure> {
    let [(_, key), (_, certificate)] = credential.ssh_files()?;
    let end: Timestamp =
        credential.expires_at.parse().map_err(|_| Failure::local("the credential's end cannot be read"))?;
    let comment = credential.field("key_id").unwrap_or_else(|| credential.grant.clone());
    agent.add(&key, &certificate, &comment, end.seconds_since(cx.ui.now()).seconds())?;
    cx.ui.note("key and certificate are in the ssh-agent");
    Ok(())
}

/// Where a credential goes.
struct Place {
    path: PathBuf,
    file: Pending,
    /// Beside it, should it turn out to be a key with a certificate.
    certificate: Option<Pending>,
}

impl Place {
    /// Reserve it; in a directory the file is called `id`, as SSH keys may be.
    fn new(path: &Path, force: bool, format: Format) -> Result<Self, Failure> {
        let path = if path.is_dir() { path.join("id") } else { path.to_owned() };
        let reserve = |path: &Path| if force { Pending::reserve(path) } else { Pending::reserve_new(path) };
        let mut beside = path.clone().into_os_string();
        beside.push("-cert.pub");
        let certificate = (format == Format::Env).then(|| reserve(Path::new(&beside))).transpose()?;
        Ok(Self { file: reserve(&path)?, certificate, path })
    }
}

fn rendered(raw: &Value, credential: &Credential, format: Format) -> Result<String, Failure> {
    Ok(match format {
        // A key and a certificate do not fit into variables.
        Format::Env if !credential.is_ssh() => credential.env_lines()?,
        Format::Env | Format::Json => text::json_text(raw, true) + "\n",
        Format::Aws => credential.aws_profile(&profile(&credential.kind, raw))?,
        Format::Kube => credential.exec_credential(kube::VERSIONS[0])?,
        Format::Pgpass => credential.pgpass()?,
        Format::SshAgent => return Err(Failure::usage("key and certificate go into the agent, and nowhere else")),
        Format::Raw => credential.raw()?.expose().trim_end().to_owned() + "\n",
    })
}

/// A profile is called after the role, or `default`.
fn profile(kind: &str, raw: &Value) -> String {
    let role = raw.pointer("/credential/role").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
    role.filter(|_| kind == "aws_sts").unwrap_or("default").to_owned()
}

fn show(cx: &Cx, raw: &Value, credential: &Credential, format: Format) -> Result<(), Failure> {
    if format == Format::Json && cx.ui.json() {
        return cx.ui.show(raw, String::new);
    }
    let text = rendered(raw, credential, format)?;
    if cx.ui.tty.stdout { cx.ui.data(text.trim_end()) } else { cx.ui.raw(text.as_bytes()) }
}
