//! Slack, put together from its configuration.

use std::{path::Path, sync::Arc};

use anyhow::Context;

use crate::{
    broker::{Broker, slack::SlackSettings as Asking},
    config::SlackConfig,
    domain::{secret::Secret, time::Ttl},
    edge::slack::{SigningSecret, Slack, SlackSettings},
    notify::slack::{Settings, SlackClient},
    ports::{chat::Chat, clock::Clock},
};

/// Slack's own Web API.
const SLACK: &str = "https://slack.com/api/";

fn read(file: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = Secret::new(text);
    Ok(Secret::new(text.expose().trim().to_owned()))
}

/// The client of the Web API.
pub(super) fn client(config: &SlackConfig, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Chat>> {
    let app_token = config.app_token_file.as_deref().map(read).transpose()?;
    let bot_token = read(&config.bot_token_file)?;
    let api = match &config.api {
        Some(api) => api.clone(),
        None => SLACK.parse()?,
    };
    let settings = Settings { api, bot_token, app_token, allow_loopback: config.allow_loopback };
    Ok(Arc::new(SlackClient::new(settings, clock)?))
}

/// Whom to ask when.
pub(super) fn asking(config: &SlackConfig) -> Asking {
    let defaults = Asking::default();
    Asking {
        on_call_group: config.on_call_group.clone(),
        escalate_after: config.escalate_after.map_or(defaults.escalate_after, Ttl::as_std),
        remind_every: config.remind_every.map_or(defaults.remind_every, Ttl::as_std),
        quiet: config.quiet.clone(),
    }
}

/// The surface.
pub(super) fn surface(
    config: &SlackConfig,
    broker: &Arc<Broker>,
    chat: Arc<dyn Chat>,
    portal: &str,
) -> anyhow::Result<Arc<Slack>> {
    let signing_secret = match &config.signing_secret_file {
        None => None,
        Some(file) => Some(
            SigningSecret::new(&read(file)?)
                .with_context(|| format!("there is no signing secret in {}", file.display()))?,
        ),
    };
    let socket = config.app_token_file.is_some();
    anyhow::ensure!(
        socket || signing_secret.is_some(),
        "slack needs a way in: `app_token_file` for Socket Mode, or `signing_secret_file` for request URLs"
    );
    let settings = SlackSettings {
        app_id: config.app_id.clone(),
        channel: config.channel.clone(),
        portal: portal.to_owned(),
        signing_secret,
        socket,
    };
    Ok(Slack::new(Arc::clone(broker), chat, settings))
}
