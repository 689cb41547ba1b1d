//! `tidegate slack manifest | doctor | link`: set Slack up, and act there as yourself.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    exit::{Done, Exit, Failure},
    global::Cx,
    server::read,
    text::clean,
};
use crate::app;

/// Set Slack up, and link your account
#[derive(Debug, Args)]
pub struct SlackArgs {
    #[command(subcommand)]
    command: SlackCommand,
}

#[derive(Debug, Subcommand)]
enum SlackCommand {
    /// Print the manifest to create the app from
    Manifest {
        /// The broker's public address, if Slack is to call it there instead of over a socket
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// Check tokens, channel and socket
    Doctor {
        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Post a message into the channel too
        #[arg(long)]
        post: bool,
    },
    /// Where to let the Slack account that was shown this code act as you
    Link {
        /// The code
        code: String,
    },
}

/// Run it.
pub async fn run(args: SlackArgs, cx: &Cx) -> Done {
    match args.command {
        SlackCommand::Manifest { url } => {
            let manifest = app::slack_manifest(url.as_deref());
            cx.ui.data(&serde_json::to_string_pretty(&manifest).unwrap_or_default())?;
            Ok(Exit::Ok)
        }
        SlackCommand::Doctor { config, post } => {
            let failure = |e: anyhow::Error| Failure::local(format!("{e:#}"));
            let config = read(config).map_err(failure)?;
            let findings = app::slack_doctor(&config, post).await.map_err(failure)?;
            let raw = serde_json::to_value(&findings).unwrap_or_default();
            let line = |f: &crate::ports::connector::Finding| {
                let fix = f.fix.as_ref().map(|fix| format!("\n     {}", clean(fix))).unwrap_or_default();
                format!("{} {}: {}{fix}", if f.ok { "ok  " } else { "FAIL" }, clean(&f.name), clean(&f.detail))
            };
            cx.ui.show(&raw, || findings.iter().map(line).collect::<Vec<_>>().join("\n"))?;
            if findings.iter().all(|f| f.ok) { Ok(Exit::Ok) } else { Err(Failure::silent(Exit::Error)) }
        }
        SlackCommand::Link { code } => {
            let mut url = cx.anonymous()?.url().clone();
            url.set_path("/slack/link");
            url.query_pairs_mut().append_pair("code", code.trim());
            cx.ui.note("Open this page, sign in, and compare the name with the one in Slack:");
            cx.ui.data(url.as_str())?;
            Ok(Exit::Ok)
        }
    }
}
