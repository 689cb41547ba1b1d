//! `tidegate serve`, `dev` and `resume`: their flags. What they do is in [`crate::app`].

use std::{io::Write, path::PathBuf};

use clap::Args;

use super::{
    Command,
    exit::{Done, Exit, Failure},
    global::Cx,
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
    /// Play the whole story against itself, step by step, and end
    #[arg(long)]
    pub tour: bool,
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
}

const DEFAULT_CONFIG: &str = "/etc/tidegate/tidegate.toml";

fn read(config: Option<PathBuf>) -> anyhow::Result<Config> {
    Ok(Config::read(&config.unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG)))?)
}

/// Run a server command with all cores; gives any other command back.
pub(super) fn start(command: Command, cx: &Cx) -> Result<Done, Command> {
    let run = async |command| -> anyhow::Result<Option<String>> {
        match command {
            Command::Dev(args) => {
                let json = cx.ui.style.json.is_some();
                let DevArgs { port, data, database, config, tour } = args;
                app::dev(DevOptions { json, port, data, database, config, tour }).await?;
                Ok(None)
            }
            Command::Serve(args) => {
                let config = read(args.config)?;
                if args.check {
                    return Ok(Some(app::check(&config).await?));
                }
                app::serve(&config).await?;
                Ok(None)
            }
            Command::Bootstrap(args) => {
                let token = app::bootstrap(&read(args.config)?, &args.directory, &args.person).await?;
                Ok(Some(token.token.expose().to_owned()))
            }
            Command::Resume(args) => Ok(Some(app::resume(&read(args.config)?).await?)),
            _ => Ok(None),
        }
    };
    if !matches!(command, Command::Dev(_) | Command::Serve(_) | Command::Bootstrap(_) | Command::Resume(_)) {
        return Err(command);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return Ok(Err(Failure::local(format!("the run-time could not be started: {e}")))),
    };
    let outcome = runtime.block_on(run(command));
    runtime.shutdown_background();
    Ok(match outcome {
        Ok(text) => {
            if let Some(text) = text {
                let _ = writeln!(std::io::stdout(), "{text}");
            }
            Ok(Exit::Ok)
        }
        Err(error) => Err(Failure::local(format!("{error:#}"))),
    })
}
