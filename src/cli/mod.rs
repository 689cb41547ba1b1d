//! The command line: an HTTP client of the API, and a few tools that need no server. One file a command. Decides nothing
//! that the server decides, and keeps nothing between two runs.

mod access;
mod audit;
pub mod audit_verify;
mod client;
#[cfg(test)]
mod command_tests;
mod credential;
mod creds;
mod decide;
mod doctor;
mod ending;
mod exec;
pub mod exit;
mod global;
mod local;
mod lock;
mod ls;
mod output;
mod policy;
mod private_file;
pub mod reference;
mod request;
mod search;
pub mod server;
mod show;
mod targets;
mod text;
mod token;
mod view;
mod wait;
mod whoami;
mod workload;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

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
    Dev(server::DevArgs),
    Serve(server::ServeArgs),
    Bootstrap(server::BootstrapArgs),
    Resume(server::ResumeArgs),
    Request(request::RequestArgs),
    Wait(wait::WaitArgs),
    Approve(decide::ApproveArgs),
    Deny(decide::DenyArgs),
    Cancel(decide::CancelArgs),
    Ls(ls::LsArgs),
    Search(search::SearchArgs),
    Show(show::ShowArgs),
    /// Show who you are to the server
    Whoami,
    /// Show what you hold, what you asked for and what waits for you
    Status,
    Creds(creds::CredsArgs),
    Exec(exec::ExecArgs),
    Extend(ending::ExtendArgs),
    #[command(visible_alias = "end")]
    Release(ending::ReleaseArgs),
    Revoke(ending::RevokeArgs),
    Attest(ending::AttestArgs),
    Lock(lock::LockArgs),
    Unlock(lock::UnlockArgs),
    Audit(audit::AuditArgs),
    Policy(policy::PolicyArgs),
    Targets(targets::TargetsArgs),
    Token(token::TokenArgs),
    Workload(workload::WorkloadArgs),
    /// Check everything between this machine and a working call
    Doctor,
    Completion(local::CompletionArgs),
    Man(local::ManArgs),
    /// Print the version
    Version,
}

/// Parse, run, and say how it ended.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Exit::Usage } else { Exit::Ok }.code());
        }
    };
    let cx = Cx::new(cli.global.clone(), Ui::system(cli.global.style()));
    let exit = match start(cli.command, &cx) {
        Ok(exit) => exit,
        Err(failure) => {
            cx.ui.failure(&failure);
            failure.exit
        }
    };
    ExitCode::from(exit.code())
}

fn start(command: Command, cx: &Cx) -> Done {
    let command = match server::start(command, cx) {
        Ok(done) => return done,
        Err(client_command) => client_command,
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

async fn interruptible(command: Command, cx: &Cx) -> Done {
    if let Command::Exec(args) = command {
        // Its child gets the signals.
        return exec::run(args, cx).await;
    }
    tokio::select! {
        done = dispatch(command, cx) => done,
        _ = tokio::signal::ctrl_c() => Err(Failure::silent(Exit::Interrupted)),
    }
}

async fn dispatch(command: Command, cx: &Cx) -> Done {
    match command {
        Command::Request(args) => request::run(args, cx).await,
        Command::Wait(args) => wait::run(args, cx).await,
        Command::Approve(args) => decide::approve(args, cx).await,
        Command::Deny(args) => decide::deny(args, cx).await,
        Command::Cancel(args) => decide::cancel(args, cx).await,
        Command::Ls(args) => ls::run(args, cx).await,
        Command::Search(args) => search::run(args, cx).await,
        Command::Show(args) => show::run(args, cx).await,
        Command::Whoami => whoami::whoami(cx).await,
        Command::Status => whoami::status(cx).await,
        Command::Creds(args) => creds::run(args, cx).await,
        Command::Exec(args) => exec::run(args, cx).await,
        Command::Extend(args) => ending::extend(args, cx).await,
        Command::Release(args) => ending::release(args, cx).await,
        Command::Revoke(args) => ending::revoke(args, cx).await,
        Command::Attest(args) => ending::attest(args, cx).await,
        Command::Lock(args) => lock::lock(args, cx).await,
        Command::Unlock(args) => lock::unlock(args, cx).await,
        Command::Audit(args) => audit::run(args, cx).await,
        Command::Policy(args) => policy::run(args, cx).await,
        Command::Targets(args) => targets::run(args, cx).await,
        Command::Token(args) => token::run(args, cx).await,
        Command::Workload(args) => workload::run(args, cx).await,
        Command::Doctor => doctor::run(cx).await,
        Command::Completion(args) => local::completion(&args, &cx.ui),
        Command::Man(args) => local::man(&args, &cx.ui),
        Command::Version => local::version(&cx.ui),
        Command::Dev(_) | Command::Serve(_) | Command::Bootstrap(_) | Command::Resume(_) => {
            Err(Failure::local("this is not a command for a client"))
        }
    }
}

#[cfg(test)]
mod tests;
