//! `tidegate serve`, `dev` and `resume`: their flags. What they do is in [`crate::app`].

use std::path::PathBuf;

use clap::Args;

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
    /// Go without being asked
    #[arg(short, long)]
    pub yes: bool,
}
