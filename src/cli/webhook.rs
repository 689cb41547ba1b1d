//! `tidegate webhook test | ls | replay`: try a receiver out, see what it was told, tell it again.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    server::read,
    text::clean,
};
use crate::{app, broker::view::DeliveryView};

/// Try webhooks out, see what they were told, and tell it again
#[derive(Debug, Args)]
pub struct WebhookArgs {
    #[command(subcommand)]
    command: WebhookCommand,
}

#[derive(Debug, Subcommand)]
enum WebhookCommand {
    /// Send one test message from this machine, signed as ever
    Test {
        /// Name of the webhook in the configuration
        name: String,
        /// Configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// List what was told to whom
    Ls,
    /// Deliver a message again, under the id that it had
    Replay {
        /// Id of the message
        id: String,
    },
}

/// Run it.
pub async fn run(args: WebhookArgs, cx: &Cx) -> Done {
    match args.command {
        WebhookCommand::Test { name, config } => {
            let failure = |e: anyhow::Error| Failure::local(format!("{e:#}"));
            let config = read(config).map_err(failure)?;
            cx.ui.data(&app::webhook_test(&config, &name).await.map_err(failure)?)?;
        }
        WebhookCommand::Ls => {
            let rows = cx.client()?.whole(&["v1", "deliveries"]).await?;
            let list = rows.iter().map(|row| typed::<DeliveryView>(row.clone()).map(|(_, d)| d));
            let list = list.collect::<Result<Vec<_>, _>>()?;
            cx.ui.show_all(&rows, || {
                let line = |d: &DeliveryView| {
                    let error = clean(d.last_error.as_deref().unwrap_or_default());
                    let state = format!("{} ({})", clean(&d.state), d.attempts);
                    vec![clean(&d.id), clean(&d.notifier), clean(&d.kind), cx.ui.at(&d.at), state, error]
                };
                cx.ui.table(&["ID", "TO", "KIND", "AT", "STATE", "LAST ANSWER"], list.iter().map(line).collect())
            })?;
        }
        WebhookCommand::Replay { id } => {
            let path = ["v1", "deliveries", &id, "replay"];
            let (raw, delivery) = typed::<DeliveryView>(cx.client()?.post(&path, &serde_json::json!({})).await?)?;
            cx.ui.show(&raw, || format!("{} goes to {} again", clean(&delivery.id), clean(&delivery.notifier)))?;
        }
    }
    Ok(Exit::Ok)
}
