//! `tidegate slack doctor` and `manifest`: what an administrator does before Slack works.

use std::sync::Arc;

use anyhow::Context;
use serde_json::{Value, json};

use super::slack;
use crate::{
    config::{Config, NotifierConfig},
    domain::{id::MessageId, time::Timestamp},
    ports::{
        chat::ChatError,
        clock::{Clock, SystemClock},
        connector::Finding,
        entropy::{Entropy, SystemEntropy},
        notifier::Message,
    },
};

/// What the app may do: no more than is used. History is read only where it was not heard whether a message arrived.
pub const SCOPES: [&str; 8] = [
    "chat:write",
    "commands",
    "im:write",
    "users:read",
    "channels:read",
    "channels:history",
    "groups:history",
    "im:history",
];

/// The manifest of the app. With the broker's address, Slack calls it there; else it comes in over a socket.
pub fn slack_manifest(server: Option<&str>) -> Value {
    let mut command = json!({
        "command": "/tidegate", "description": "Request access", "usage_hint": "[why]", "should_escape": false,
    });
    let mut interactivity = json!({"is_enabled": true});
    let mut events = json!({"bot_events": ["app_home_opened"]});
    if let Some(server) = server.map(|s| s.trim_end_matches('/')) {
        let set = |object: &mut Value, name: &str, path: &str| {
            if let Some(fields) = object.as_object_mut() {
                fields.insert(name.to_owned(), format!("{server}{path}").into());
            }
        };
        set(&mut command, "url", "/slack/commands");
        set(&mut interactivity, "request_url", "/slack/interactions");
        set(&mut interactivity, "message_menu_options_url", "/slack/interactions");
        set(&mut events, "request_url", "/slack/events");
    }
    json!({
        "display_information": {
            "name": "Tidegate", "description": "Access for as long as it is needed", "background_color": "#0b3c49",
        },
        "features": {
            "app_home": {"home_tab_enabled": true, "messages_tab_enabled": true, "messages_tab_read_only_enabled": true},
            "bot_user": {"display_name": "Tidegate", "always_online": true},
            "slash_commands": [command],
        },
        "oauth_config": {"scopes": {"bot": SCOPES}},
        "settings": {
            "event_subscriptions": events, "interactivity": interactivity, "org_deploy_enabled": false,
            "socket_mode_enabled": server.is_none(), "token_rotation_enabled": false,
        },
    })
}

fn finding(name: &str, outcome: Result<String, ChatError>, fix: &str) -> Finding {
    let ok = outcome.is_ok();
    let detail = outcome.unwrap_or_else(|e| e.to_string());
    Finding { name: name.to_owned(), ok, detail, fix: (!ok).then(|| fix.to_owned()) }
}

/// Ask Slack whether everything is in place; with `post`, also by a message in the channel.
pub async fn slack_doctor(config: &Config, post: bool) -> anyhow::Result<Vec<Finding>> {
    crate::keys::init_crypto();
    let config = config.slack.as_ref().context("there is no [slack] in the configuration")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let chat = slack::client(config, clock)?;
    let text = |v: &Value, name: &str| v.pointer(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut findings = Vec::new();
    let known = chat.call("auth.test", &json!({})).await;
    findings.push(finding(
        "token",
        known.map(|a| {
            format!("workspace {} ({}), bot {}", text(&a, "/team"), text(&a, "/team_id"), text(&a, "/bot_id"))
        }),
        "install the app in the workspace again and put its bot token (xoxb-…) into bot_token_file",
    ));
    let channel = chat.call("conversations.info", &json!({"channel": config.channel})).await;
    let channel = match channel {
        Ok(a) if a.pointer("/channel/is_member").and_then(Value::as_bool) == Some(true) => {
            Ok(format!("#{}", text(&a, "/channel/name")))
        }
        Ok(_) => Err(ChatError::Refused("not_in_channel".to_owned())),
        Err(error) => Err(error),
    };
    findings.push(finding("channel", channel, "name a channel by its id (C…) and run /invite @Tidegate in it"));
    if config.app_token_file.is_some() {
        let fix = "make an app-level token with the scope connections:write and put it (xapp-…) into app_token_file";
        findings.push(finding("socket", chat.socket().await.map(|_| "opens".to_owned()), fix));
    }
    let secret = config.signing_secret_file.as_ref().is_some_and(|file| std::fs::read_to_string(file).is_ok());
    if config.signing_secret_file.is_some() {
        let outcome =
            if secret { Ok("there".to_owned()) } else { Err(ChatError::Unreachable("it cannot be read".to_owned())) };
        findings.push(finding("signing secret", outcome, "copy it from the app's Basic Information into its file"));
    }
    if post {
        let message = json!({"channel": config.channel, "text": "Tidegate can post here."});
        let posted = chat.call("chat.postMessage", &message).await.map(|_| "posted".to_owned());
        findings.push(finding("message", posted, "invite the app to the channel, and give it the scope chat:write"));
    }
    Ok(findings)
}

/// Send a test message to one configured notifier, now and once.
pub async fn webhook_test(config: &Config, name: &str) -> anyhow::Result<String> {
    crate::keys::init_crypto();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let source = config.public_url.as_ref().map_or_else(|| format!("http://{}", config.listen), ToString::to_string);
    let chosen: Vec<NotifierConfig> = config
        .notifiers
        .iter()
        .filter(|n| matches!(n, NotifierConfig::Webhook { name: other, .. } if other == name))
        .cloned()
        .collect();
    anyhow::ensure!(!chosen.is_empty(), "no webhook `{name}` is configured");
    let notifiers = super::compose::notifiers(chosen, source.trim_end_matches('/'), &clock)?;
    let now: Timestamp = clock.now();
    let message = Message {
        id: MessageId::new(SystemEntropy::new().ulid(now)?),
        kind: "access.test".to_owned(),
        at: now,
        data: json!({"test": true}),
    };
    for notifier in notifiers.values() {
        notifier.deliver(&message).await?;
    }
    Ok(format!("{name} took {}", message.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_asks_for_no_more_than_is_used() {
        insta::assert_json_snapshot!("manifest_socket", slack_manifest(None));
        insta::assert_json_snapshot!("manifest_urls", slack_manifest(Some("https://tidegate.example.com/")));
    }
}
