//! `tidegate serve`, `dev` and `resume`: their flags. What they do is in [`crate::app`].

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    dev::{self, DevAction},
    exit::{Done, Exit, Failure},
    global::Cx,
    token::Place,
};
use crate::{
    app::{self, DevOptions},
    config::Config,
};

/// Run the server
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only check configuration, policies and targets, and end
    #[arg(long)]
    pub check: bool,
}

/// Try it out: a whole Tidegate on this machine, with people, policies and targets, and nothing to configure
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DevArgs {
    /// Port on 127.0.0.1; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 8420)]
    pub port: u16,
    /// Keep everything in this directory; a temporary one that goes away if not given
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Use this database instead of the embedded one
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// Configuration file to add to the built-in one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Start a Slack of its own beside it, with a page on which to be anybody
    #[arg(long)]
    pub fake_slack: bool,
    /// Play the whole story against itself, step by step, and end
    #[arg(long)]
    pub tour: bool,
    /// Beside a server that runs already
    #[command(subcommand)]
    pub action: Option<DevAction>,
}

/// Let a restored or cloned server act again, after a look at what it would do
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Fill an empty ledger from a directory file and make one token, for the first administrator
#[derive(Debug, Clone, Args)]
pub struct BootstrapArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// People, workloads and groups to begin with (TOML)
    #[arg(long, value_name = "FILE")]
    pub directory: PathBuf,
    /// Unique name of the person who gets the token
    #[arg(long, value_name = "NAME")]
    pub person: String,
    /// Write the token to this file with mode 0600
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Show the token even if a terminal is looking
    #[arg(long)]
    pub reveal: bool,
}

const DEFAULT_CONFIG: &str = "/etc/tidegate/tidegate.toml";

pub(super) fn read(config: Option<PathBuf>) -> anyhow::Result<Config> {
    Ok(Config::read(&config.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG)))?)
}

/// The commands that are the server and no client of it.
#[derive(Debug, Subcommand)]
pub(super) enum ServerCommand {
    Dev(DevArgs),
    Serve(ServeArgs),
    Bootstrap(BootstrapArgs),
    Resume(ResumeArgs),
}

/// Run it, with all cores.
pub(super) fn run(command: ServerCommand, cx: &Cx) -> Done {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::local(format!("the run-time could not be started: {e}")))?;
    let done = runtime.block_on(dispatch(command, cx));
    runtime.shutdown_background();
    done
}

async fn dispatch(command: ServerCommand, cx: &Cx) -> Done {
    // The alternate form has the causes, which say what is wrong.
    let failure = |e: anyhow::Error| Failure::local(format!("{e:#}"));
    match command {
        ServerCommand::Dev(DevArgs { action: Some(action), .. }) => return dev::run(action, cx).await,
        ServerCommand::Dev(args) => {
            let DevArgs { port, data, database, config, fake_slack, tour, action: _ } = args;
            let options = DevOptions { json: cx.ui.json(), port, data, database, config, fake_slack, tour };
            app::dev(options).await.map_err(failure)?;
        }
        ServerCommand::Serve(args) => {
            let config = read(args.config).map_err(failure)?;
            if args.check {
                cx.ui.data(&app::check(&config).await.map_err(failure)?)?;
            } else {
                app::serve(&config).await.map_err(failure)?;
            }
        }
        ServerCommand::Bootstrap(args) => {
            let place = Place::new(args.out.as_deref(), args.reveal, cx)?;
            let config = read(args.config).map_err(failure)?;
            let token = app::bootstrap(&config, &args.directory, &args.person).await.map_err(failure)?;
            let secret = token.token.expose().to_owned();
            let raw = json!({"id": token.id, "token": secret, "expires_at": token.expires_at});
            place.put(&raw, secret, cx)?;
        }
        ServerCommand::Resume(args) => {
            let config = read(args.config).map_err(failure)?;
            cx.ui.data(&app::resume(&config).await.map_err(failure)?)?;
        }
    }
    Ok(Exit::Ok)
}
