//! `tidegate exec`: run a command with a credential that is there for as long as it runs.
//!
//! Finds a live grant or asks for one, claims, runs the child, forwards signals, cleans up, and ends with the child's
//! code. The broker's own token is not passed on.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use super::{
    access::{self, Found},
    client::typed,
    credential::Credential,
    exit::{Done, Exit, Failure},
    global::Cx,
    private_file::TempDir,
    request::{self, Wish},
    text::clean,
    wait,
};
use crate::broker::view::GrantView;

/// Run a command with the credential of a grant
#[derive(Debug, Args)]
#[command(
    after_help = "PostgreSQL: PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE and a PGPASSFILE that goes away afterwards.\n\
                        Tokens: TIDEGATE_ACCESS_TOKEN. SSH: TIDEGATE_SSH_KEY, TIDEGATE_SSH_CERTIFICATE, GIT_SSH_COMMAND, \
                        RSYNC_RSH; `ssh`, `scp` and `sftp` get the key by themselves.\n\
                        Always: TIDEGATE_GRANT and TIDEGATE_EXPIRES_AT."
)]
pub struct ExecArgs {
    /// What to hold while it runs: a target, an entitlement or a grant
    #[arg(value_name = "TARGET|ENTITLEMENT|GRANT")]
    pub name: String,
    /// The command
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// What to ask for if there is no live grant.
    #[command(flatten)]
    pub wish: Wish,
    /// Do not ask for access; fail if there is no live grant
    #[arg(long)]
    pub no_request: bool,
    /// Ask for access without being asked
    #[arg(short, long)]
    pub yes: bool,
    /// Give the grant back afterwards
    #[arg(long)]
    pub end: bool,
    /// For `tidegate ssh`: where the command logs in.
    #[arg(skip)]
    pub login: Option<Login>,
}

/// Where `ssh` logs in, as far as it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The login name; the certificate's first principal without it.
    pub user: Option<String>,
    /// The host; the one that the credential names without it.
    pub host: Option<String>,
}

/// Run it.
pub async fn run(args: ExecArgs, cx: &Cx) -> Done {
    let (grant, _dir, mut child) = tokio::select! {
        started = start(&args, cx) => started?,
        _ = tokio::signal::ctrl_c() => return Err(Failure::silent(Exit::Interrupted)),
    };
    let status = attend(&mut child, cx.ui.tty.stdin).await;
    if args.end {
        match cx.client()?.post(&["v1", "grants", &grant.id, "release"], &serde_json::json!({})).await {
            Ok(_) => cx.ui.note(&format!("{} is being ended", clean(&grant.id))),
            Err(e) => cx.ui.say(&format!("warning: the grant was not given back: {e}")),
        }
    }
    let status = status.map_err(|e| Failure::local(format!("the command was lost from sight: {e}")))?;
    Ok(Exit::Child(code(status)))
}

/// Everything up to and including the start of the child.
async fn start(args: &ExecArgs, cx: &Cx) -> Result<(GrantView, TempDir, Child), Failure> {
    let grant = grant(args, cx).await?;
    let dir = TempDir::new()?;
    let mut place = Vec::new();
    let env = if grant.claimable {
        let (_, credential) = typed::<Credential>(access::claim(&grant.id, cx).await?)?;
        if let Some(login) = &args.login {
            place = destination(login, &credential)?;
        }
        credential.child_env(dir.path())?
    } else if args.login.is_some() {
        return Err(Failure::new(Exit::Conflict, "there is no certificate to claim for this grant"));
    } else {
        vec![("TIDEGATE_GRANT".to_owned(), grant.id.clone())]
    };
    let mut words = args.command.iter();
    let program = words.next().ok_or_else(|| Failure::usage("there is no command to run"))?;
    let mut command = Command::new(program);
    let name = program.rsplit('/').next().unwrap_or(program);
    let key = env.iter().find(|(name, _)| name == "TIDEGATE_SSH_KEY").map(|(_, path)| path);
    if let Some(key) = key.filter(|_| matches!(name, "ssh" | "scp" | "sftp")) {
        command.args(["-i", key, "-o", "IdentitiesOnly=yes"]);
    }
    if env.iter().any(|(name, _)| name == "AWS_SHARED_CREDENTIALS_FILE") {
        // Keys in variables would go before those in the file.
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
    }
    if env.iter().any(|(name, _)| name == "PGPASSFILE") {
        // What the shell has from before would go before it, or lead elsewhere.
        for name in ["PGPASSWORD", "PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGSSLROOTCERT"] {
            command.env_remove(name);
        }
    }
    command.args(place).args(words).envs(env).env_remove("TIDEGATE_TOKEN");
    command.stdin(if cx.global.token_stdin { Stdio::null() } else { Stdio::inherit() });
    let child = command.spawn().map_err(|e| {
        Failure::local(format!("`{}` could not be started: {e}", clean(program)))
            .kept(format!("The grant {} is live.", clean(&grant.id)))
            .next(format!("run it again, or end it: tidegate end {}", clean(&grant.id)))
    })?;
    Ok((grant, dir, child))
}

/// `-l USER HOST`, from what was said and what the credential says.
fn destination(login: &Login, credential: &Credential) -> Result<Vec<String>, Failure> {
    let principals = credential.field("principals").unwrap_or_default();
    let user = login.user.clone().or_else(|| principals.split(',').next().map(str::to_owned));
    let user = user.filter(|u| !u.is_empty()).ok_or_else(|| Failure::usage("name the user: USER@HOST"))?;
    let host = login.host.clone().or_else(|| credential.field("host"));
    let host = host.ok_or_else(|| {
        Failure::usage("the target does not say which host it is").next("name the host, and the target with --target")
    })?;
    if user.starts_with('-') || host.starts_with('-') {
        return Err(Failure::usage("that is not the name of a user or a host"));
    }
    Ok(vec!["-l".to_owned(), user, host])
}

/// The live grant to use; asks for it and waits if that is allowed.
async fn grant(args: &ExecArgs, cx: &Cx) -> Result<GrantView, Failure> {
    let request = match access::find(&args.name, cx).await? {
        Found::Live(grant) => return Ok(*grant),
        Found::Waiting(request) if args.no_request => return Err(access::pending(&request)),
        Found::Waiting(request) => request,
        Found::Nothing if args.no_request => return Err(access::nothing(&args.name)),
        Found::Nothing => {
            let body = args.wish.body(&[access::entitlement(&args.name, cx).await?]);
            if !args.yes {
                request::agree(&body, None, cx).await?;
            }
            let (_, request) = request::send(&body, cx).await?;
            cx.ui.note(&request::summary(&cx.ui, &request));
            request.id
        }
    };
    let bound = wait::bound("", cx)?;
    let (exit, _, decided) = wait::follow(&request, bound, cx, false).await?;
    if exit != Exit::Ok {
        return Err(Failure::new(exit, format!("the request was {}", decided.state.as_str()))
            .next(format!("tidegate show {}", clean(&request))));
    }
    match access::find(&args.name, cx).await? {
        Found::Live(grant) => Ok(*grant),
        Found::Waiting(request) => Err(access::pending(&request)),
        Found::Nothing => Err(access::nothing(&args.name)),
    }
}

/// Wait for the child and pass on the signals that only this process gets. A terminal sends Ctrl-C to both itself.
async fn attend(child: &mut Child, terminal: bool) -> std::io::Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        let forward = tokio::select! {
            status = child.wait() => return status,
            _ = interrupt.recv() => (!terminal).then_some(Signal::INT),
            _ = quit.recv() => (!terminal).then_some(Signal::QUIT),
            _ = terminate.recv() => Some(Signal::TERM),
            _ = hangup.recv() => Some(Signal::HUP),
        };
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let (Some(signal), Some(pid)) = (forward, pid) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// The child's code, or 128 and the number of the signal that ended it, as shells have it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_ends_as_it_ended() {
        let run = async |script: &str| {
            let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
            code(attend(&mut child, false).await.unwrap())
        };
        assert_eq!(run("exit 0").await, 0);
        assert_eq!(run("exit 42").await, 42);
        assert_eq!(run("kill -TERM $$").await, 143);
    }
}
