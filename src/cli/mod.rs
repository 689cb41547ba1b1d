//! The command line: an HTTP client of the API, and a few tools that need no server. One file a command. Decides nothing
//! that the server decides, and keeps nothing between two runs but the token of `login`.

mod access;
mod agent;
mod audit;
pub mod audit_verify;
mod aws_process;
mod break_glass;
mod client;
#[cfg(test)]
mod command_tests;
mod connect;
mod credential;
mod creds;
mod decide;
mod dev;
mod docker;
mod doctor;
mod ending;
mod exec;
pub mod exit;
mod git_credential;
mod global;
mod kept;
mod kube;
mod local;
mod lock;
mod login;
mod ls;
mod obtain;
mod output;
mod policy;
mod private_file;
mod profile;
pub mod reference;
mod request;
mod review;
mod scim;
mod search;
pub mod server;
mod setup;
mod show;
mod slack;
mod sync;
mod targets;
mod text;
mod token;
mod view;
mod wait;
mod webhook;
mod whoami;
mod workload;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::{
    exit::{Done, Exit, Failure},
    global::{Cx, Global},
    output::Ui,
};

/// Just-in-time privileged access that proves it is gone
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 120, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Server(server::ServerCommand),
    #[command(flatten)]
    Client(ClientCommand),
}

/// The commands that ask a server, or need none.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    Request(request::RequestArgs),
    BreakGlass(break_glass::BreakGlassArgs),
    Wait(wait::WaitArgs),
    Approve(decide::ApproveArgs),
    Deny(decide::DenyArgs),
    Cancel(decide::CancelArgs),
    Ls(ls::LsArgs),
    Search(search::SearchArgs),
    Show(show::ShowArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    /// Show who you are to the server
    Whoami,
    /// Show what you hold, what you asked for and what waits for you
    Status,
    Creds(creds::CredsArgs),
    Exec(exec::ExecArgs),
    Psql(connect::PsqlArgs),
    Ssh(connect::SshArgs),
    AwsCredentialProcess(aws_process::AwsProcessArgs),
    GitCredential(git_credential::GitArgs),
    KubeCredential(kube::KubeArgs),
    DockerCredential(docker::DockerArgs),
    Setup(setup::SetupArgs),
    Extend(ending::ExtendArgs),
    #[command(visible_alias = "end")]
    Release(ending::ReleaseArgs),
    Revoke(ending::RevokeArgs),
    Attest(ending::AttestArgs),
    Lock(lock::LockArgs),
    Unlock(lock::UnlockArgs),
    Audit(audit::AuditArgs),
    Policy(policy::PolicyArgs),
    Review(review::ReviewArgs),
    Targets(targets::TargetsArgs),
    Scim(scim::ScimArgs),
    Sync(sync::SyncArgs),
    Token(token::TokenArgs),
    Workload(workload::WorkloadArgs),
    Slack(slack::SlackArgs),
    Webhook(webhook::WebhookArgs),
    /// Check everything between this machine and a working call
    Doctor,
    Completion(local::CompletionArgs),
    Man(local::ManArgs),
    /// Print the version
    Version,
}

/// Parse, run, and say how it ended.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let parsed = Cli::command().try_get_matches_from(docker::spelled_out(args));
    let (matches, mut cli) = match parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches))) {
        Ok((cli, matches)) => (matches, cli),
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage } else { Exit::Ok }.code());
        }
    };
    let settled = profile::apply(&mut cli.global, &matches);
    let cx = Cx::new(cli.global.clone(), Ui::system(cli.global.style()));
    let exit = match settled.and_then(|()| start(cli.command, &cx)) {
        Ok(exit) => exit,
        Err(failure) => {
            cx.ui.failure(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

fn start(command: Command, cx: &Cx) -> Done {
    let command = match command {
        Command::Server(command) => return server::run(command, cx),
        Command::Client(command) => command,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::local(format!("the run-time could not be started: {e}")))?;
    let done = runtime.block_on(interruptible(command, cx));
    // A question that nobody answered must not hold up the end.
    runtime.shutdown_background();
    done
}

async fn interruptible(command: ClientCommand, cx: &Cx) -> Done {
    // Of those that have a child, it gets the signals.
    match command {
        ClientCommand::Exec(args) => exec::run(args, cx).await,
        ClientCommand::Psql(args) => connect::psql(args, cx).await,
        ClientCommand::Ssh(args) => connect::ssh(args, cx).await,
        command => tokio::select! {
            done = dispatch(command, cx) => done,
            _ = tokio::signal::ctrl_c() => Err(Failure::silent(Exit::Interrupted)),
        },
    }
}

async fn dispatch(command: ClientCommand, cx: &Cx) -> Done {
    match command {
        ClientCommand::Request(args) => request::run(args, cx).await,
        ClientCommand::BreakGlass(args) => break_glass::run(args, cx).await,
        ClientCommand::Wait(args) => wait::run(args, cx).await,
        ClientCommand::Approve(args) => decide::approve(args, cx).await,
        ClientCommand::Deny(args) => decide::deny(args, cx).await,
        ClientCommand::Cancel(args) => decide::cancel(args, cx).await,
        ClientCommand::Ls(args) => ls::run(args, cx).await,
        ClientCommand::Search(args) => search::run(args, cx).await,
        ClientCommand::Show(args) => show::run(args, cx).await,
        ClientCommand::Login(args) => login::login(args, cx).await,
        ClientCommand::Logout(args) => login::logout(args, cx).await,
        ClientCommand::Whoami => whoami::whoami(cx).await,
        ClientCommand::Status => whoami::status(cx).await,
        ClientCommand::Creds(args) => creds::run(args, cx).await,
        ClientCommand::Exec(args) => exec::run(args, cx).await,
        ClientCommand::Psql(args) => connect::psql(args, cx).await,
        ClientCommand::Ssh(args) => connect::ssh(args, cx).await,
        ClientCommand::AwsCredentialProcess(args) => aws_process::run(args, cx).await,
        ClientCommand::GitCredential(args) => git_credential::run(args, cx).await,
        ClientCommand::KubeCredential(args) => kube::run(args, cx).await,
        ClientCommand::DockerCredential(args) => docker::run(args, cx).await,
        ClientCommand::Setup(args) => setup::run(args, cx).await,
        ClientCommand::Extend(args) => ending::extend(args, cx).await,
        ClientCommand::Release(args) => ending::release(args, cx).await,
        ClientCommand::Revoke(args) => ending::revoke(args, cx).await,
        ClientCommand::Attest(args) => ending::attest(args, cx).await,
        ClientCommand::Lock(args) => lock::lock(args, cx).await,
        ClientCommand::Unlock(args) => lock::unlock(args, cx).await,
        ClientCommand::Audit(args) => audit::run(args, cx).await,
        ClientCommand::Policy(args) => policy::run(args, cx).await,
        ClientCommand::Review(args) => review::run(args, cx).await,
        ClientCommand::Targets(args) => targets::run(args, cx).await,
        ClientCommand::Scim(args) => scim::run(args, cx).await,
        ClientCommand::Sync(args) => sync::run(args, cx).await,
        ClientCommand::Token(args) => token::run(args, cx).await,
        ClientCommand::Workload(args) => workload::run(args, cx).await,
        ClientCommand::Slack(args) => slack::run(args, cx).await,
        ClientCommand::Webhook(args) => webhook::run(args, cx).await,
        ClientCommand::Doctor => doctor::run(cx).await,
        ClientCommand::Completion(args) => local::completion(&args, &cx.ui),
        ClientCommand::Man(args) => local::man(&args, &cx.ui),
        ClientCommand::Version => local::version(&cx.ui),
    }
}

#[cfg(test)]
mod tests;
