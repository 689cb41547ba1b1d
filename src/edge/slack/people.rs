//! Who is it? The workspace, the account, and the person whom it acts as.
//!
//! An e-mail address is never looked at: strangers have those too.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use serde_json::{Value, json};

use super::payload::Incoming;
use crate::{
    broker::{Broker, BrokerError, Ctx},
    domain::{slack::SlackUser, time::Timestamp},
    ports::chat::{Chat, ChatError},
};

/// What Slack says about an account is believed for this long.
const BELIEVED: Duration = Duration::from_secs(300);
const MOST: usize = 10_000;

/// Where the app is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Workspace.
    pub team: String,
    /// Enterprise Grid organisation; empty outside of one.
    pub enterprise: String,
    /// The app is installed in the whole organisation.
    pub org_wide: bool,
}

/// An account that may act, if it is linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) shown_name: String,
    pub(super) avatar: String,
}

/// Why somebody may not act.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Not one of ours: nothing is said.
    Outsider(&'static str),
    /// One of ours, acting as nobody yet.
    NotLinked(Account),
    /// It cannot be known now.
    Unavailable,
}

/// What Slack said of an account, and when.
type Known = (Timestamp, Result<Account, &'static str>);

/// What is known of the workspace.
#[derive(Default)]
pub(super) struct People {
    installation: Mutex<Option<Installation>>,
    accounts: Mutex<BTreeMap<String, Known>>,
}

/// Where the app is installed, as Slack says.
pub(super) async fn installation(chat: &dyn Chat) -> Result<Installation, ChatError> {
    let answer = chat.call("auth.test", &json!({})).await?;
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let org_wide = answer.get("is_enterprise_install").and_then(Value::as_bool).unwrap_or(false);
    let found = Installation { team: text("team_id"), enterprise: text("enterprise_id"), org_wide };
    if found.team.is_empty() && !found.org_wide {
        return Err(ChatError::Refused("no_team".to_owned()));
    }
    Ok(found)
}

impl People {
    pub(super) async fn installation(&self, chat: &dyn Chat) -> Result<Installation, ChatError> {
        if let Some(known) = self.installation.lock().ok().and_then(|i| i.clone()) {
            return Ok(known);
        }
        let found = installation(chat).await?;
        if let Ok(mut known) = self.installation.lock() {
            *known = Some(found.clone());
        }
        Ok(found)
    }

    /// Is it meant for this app, in this workspace, from a member of it?
    pub(super) async fn at_home(&self, chat: &dyn Chat, app: &str, incoming: &Incoming) -> Result<(), Stopped> {
        let ours = self.installation(chat).await.map_err(|_| Stopped::Unavailable)?;
        if incoming.app != app {
            return Err(Stopped::Outsider("another app"));
        }
        if incoming.by.user.is_empty() {
            return Err(Stopped::Outsider("no account"));
        }
        if incoming.by.enterprise != ours.enterprise {
            return Err(Stopped::Outsider("another organisation"));
        }
        if !ours.org_wide && (incoming.by.team != ours.team || incoming.installed != ours.team) {
            return Err(Stopped::Outsider("another workspace"));
        }
        Ok(())
    }

    /// The account as Slack knows it: a full member, and a person.
    pub(super) async fn account(&self, chat: &dyn Chat, by: &SlackUser, now: Timestamp) -> Result<Account, Stopped> {
        let known = self.accounts.lock().ok().and_then(|a| a.get(&by.user).cloned());
        if let Some((at, account)) = known
            && now.since(at) < BELIEVED
        {
            return account.map_err(Stopped::Outsider);
        }
        let ours = self.installation(chat).await.map_err(|_| Stopped::Unavailable)?;
        let account = match chat.call("users.info", &json!({"user": by.user})).await {
            Ok(answer) => full_member(answer.get("user").unwrap_or(&Value::Null), by, &ours),
            Err(ChatError::Refused(code)) if code == "user_not_found" || code == "user_not_visible" => {
                Err("unknown to Slack")
            }
            Err(_) => return Err(Stopped::Unavailable),
        };
        if let Ok(mut accounts) = self.accounts.lock() {
            if accounts.len() >= MOST {
                accounts.retain(|_, (at, _)| now.since(*at) < BELIEVED);
            }
            if accounts.len() < MOST {
                accounts.insert(by.user.clone(), (now, account.clone()));
            }
        }
        account.map_err(Stopped::Outsider)
    }

    /// The person whom the account acts as.
    pub(super) async fn person(&self, chat: &dyn Chat, broker: &Broker, by: &SlackUser) -> Result<Ctx, Stopped> {
        let account = self.account(chat, by, broker.now()).await?;
        match broker.authenticate_slack(by).await {
            Ok(ctx) => Ok(ctx),
            Err(BrokerError::Unauthenticated) => Err(Stopped::NotLinked(account)),
            Err(_) => Err(Stopped::Unavailable),
        }
    }
}

fn full_member(user: &Value, by: &SlackUser, ours: &Installation) -> Result<Account, &'static str> {
    let flag = |name: &str| user.get(name).and_then(Value::as_bool).unwrap_or(false);
    let text = |path: &str| user.pointer(path).and_then(Value::as_str).unwrap_or_default();
    if text("/id") != by.user {
        return Err("unknown to Slack");
    }
    for (name, why) in [
        ("deleted", "deactivated in Slack"),
        ("is_bot", "a bot"),
        ("is_workflow_bot", "a bot"),
        ("is_restricted", "a guest"),
        ("is_ultra_restricted", "a guest"),
        ("is_stranger", "of another workspace"),
        ("is_invited_user", "not a member yet"),
    ] {
        if flag(name) {
            return Err(why);
        }
    }
    if by.user == "USLACKBOT" {
        return Err("a bot");
    }
    let home =
        text("/team_id") == ours.team || (ours.org_wide && text("/enterprise_user/enterprise_id") == ours.enterprise);
    if !home {
        return Err("of another workspace");
    }
    let shown = [text("/profile/display_name"), text("/profile/real_name"), text("/real_name"), text("/name")];
    let shown_name = shown.into_iter().find(|n| !n.is_empty()).unwrap_or(&by.user).to_owned();
    let avatar = text("/profile/image_72");
    let avatar = if avatar.starts_with("https://") { avatar.to_owned() } else { String::new() };
    Ok(Account { shown_name, avatar })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_members_act() {
        let ours = Installation { team: "T1".into(), enterprise: String::new(), org_wide: false };
        let by = SlackUser { enterprise: String::new(), team: "T1".into(), user: "U1".into() };
        let user = |more: Value| {
            let mut user = json!({"id": "U1", "team_id": "T1", "name": "ana"});
            user.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            full_member(&user, &by, &ours).map(|a| a.shown_name)
        };
        assert_eq!(user(json!({})), Ok("ana".to_owned()));
        for flag in ["deleted", "is_bot", "is_restricted", "is_ultra_restricted", "is_stranger"] {
            assert!(user(json!({flag: true})).is_err(), "{flag}");
        }
        assert_eq!(user(json!({"team_id": "T2"})), Err("of another workspace"));
        assert_eq!(user(json!({"id": "U2"})), Err("unknown to Slack"));
        assert!(full_member(&Value::Null, &by, &ours).is_err());
    }
}
