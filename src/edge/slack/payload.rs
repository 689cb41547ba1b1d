//! What Slack sends, the few fields of it that are read. Facts about requests are never among them: a button carries an
//! id and a hash, and everything else comes from the ledger.

use serde_json::Value;

use crate::domain::{
    id::{GrantId, RequestId},
    secret::Secret,
    slack::SlackUser,
    time::{Timestamp, Ttl},
};

/// What came in, and from whom.
pub(super) struct Incoming {
    pub(super) by: SlackUser,
    /// The app that it was meant for.
    pub(super) app: String,
    /// The workspace that the app is installed in.
    pub(super) installed: String,
    pub(super) what: What,
}

/// What came in.
pub(super) enum What {
    /// A slash command.
    Command { text: String, trigger: String, reply: Reply },
    /// A click in a message or on a page.
    Click { action: String, value: String, trigger: String, at: String, reply: Reply },
    /// A form was sent.
    Form { callback: String, view: String, metadata: String, state: Value },
    /// Somebody types in a search box.
    Search { typed: String },
    /// Somebody opened their page.
    HomeOpened,
    /// Something that nobody here listens to.
    Nothing,
}

/// Where an answer that only its reader sees can go. The address works a few times within half an hour and is never
/// kept.
#[derive(Default)]
pub(super) struct Reply {
    pub(super) address: Option<Secret>,
    pub(super) channel: String,
    pub(super) message: String,
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The first of these that is there.
fn first(value: &Value, paths: &[&str]) -> String {
    paths.iter().map(|p| text(value, p)).find(|t| !t.is_empty()).unwrap_or_default()
}

/// The actor of an interaction. With an organisation-wide installation `team` is null, and in a form that was opened
/// over Slack Connect the installation's workspace is another than the reader's.
fn actor(p: &Value) -> (SlackUser, String) {
    let by = SlackUser {
        enterprise: first(p, &["/enterprise/id", "/enterprise_id", "/team/enterprise_id"]),
        team: first(p, &["/user/team_id", "/team/id", "/view/team_id"]),
        user: text(p, "/user/id"),
    };
    let installed = first(p, &["/view/app_installed_team_id", "/team/id", "/user/team_id", "/view/team_id"]);
    (by, installed)
}

fn address(text: String) -> Option<Secret> {
    (!text.is_empty()).then(|| Secret::new(text))
}

impl Incoming {
    /// From the payload of an interaction.
    pub(super) fn interaction(p: &Value) -> Self {
        let (by, installed) = actor(p);
        let what = match text(p, "/type").as_str() {
            "block_actions" => What::Click {
                action: text(p, "/actions/0/action_id"),
                value: first(p, &["/actions/0/value", "/actions/0/selected_option/value"]),
                trigger: text(p, "/trigger_id"),
                at: text(p, "/actions/0/action_ts"),
                reply: Reply {
                    address: address(text(p, "/response_url")),
                    channel: first(p, &["/container/channel_id", "/channel/id"]),
                    message: first(p, &["/container/message_ts", "/message/ts"]),
                },
            },
            "view_submission" => What::Form {
                callback: text(p, "/view/callback_id"),
                view: text(p, "/view/id"),
                metadata: text(p, "/view/private_metadata"),
                state: p.pointer("/view/state/values").cloned().unwrap_or_default(),
            },
            "block_suggestion" => What::Search { typed: text(p, "/value") },
            _ => What::Nothing,
        };
        Self { by, app: text(p, "/api_app_id"), installed, what }
    }

    /// From the fields of a slash command.
    pub(super) fn command(p: &Value) -> Self {
        let by =
            SlackUser { enterprise: text(p, "/enterprise_id"), team: text(p, "/team_id"), user: text(p, "/user_id") };
        let reply = Reply {
            address: address(text(p, "/response_url")),
            channel: text(p, "/channel_id"),
            message: String::new(),
        };
        let what = What::Command { text: text(p, "/text"), trigger: text(p, "/trigger_id"), reply };
        Self { installed: by.team.clone(), by, app: text(p, "/api_app_id"), what }
    }

    /// From an event.
    pub(super) fn event(p: &Value) -> Self {
        let by = SlackUser {
            enterprise: text(p, "/enterprise_id"),
            team: text(p, "/team_id"),
            user: text(p, "/event/user"),
        };
        let opened = text(p, "/event/type") == "app_home_opened" && first(p, &["/event/tab"]) != "messages";
        let what = if opened { What::HomeOpened } else { What::Nothing };
        Self { installed: by.team.clone(), by, app: text(p, "/api_app_id"), what }
    }
}

/// What a button that decides carries.
pub(super) fn decided(value: &str) -> Option<(RequestId, String)> {
    let (id, terms) = value.split_once('.')?;
    let fits = terms.len() == 32 && terms.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| Some((id.parse().ok()?, terms.to_owned()))).flatten()
}

/// What a button about a grant carries.
pub(super) fn grant(value: &str) -> Option<GrantId> {
    value.parse().ok()
}

/// What a button that moves an end carries: the grant, and the end that was shown with it.
pub(super) fn grant_until(value: &str) -> Option<(GrantId, Option<Timestamp>)> {
    let (id, end) = value.split_once('.').unwrap_or((value, ""));
    Some((id.parse().ok()?, end.parse::<i64>().ok().map(|s| Timestamp::from_micros(s.saturating_mul(1_000_000)))))
}

/// What a form was filled with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) entitlement: String,
    pub(super) duration: Option<Ttl>,
    pub(super) reason: String,
    pub(super) ticket: String,
    pub(super) comment: String,
}

impl Answers {
    pub(super) fn of(state: &Value) -> Self {
        let chosen = |block: &str| text(state, &format!("/{block}/{block}/selected_option/value"));
        let typed = |block: &str| text(state, &format!("/{block}/{block}/value"));
        Self {
            entitlement: chosen("entitlement"),
            duration: chosen("duration").parse::<u32>().ok().and_then(Ttl::from_seconds),
            reason: typed("reason"),
            ticket: typed("ticket"),
            comment: typed("comment"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_team_is_found_wherever_slack_puts_it() {
        let of = |p: Value| {
            let i = Incoming::interaction(&p);
            (i.by.enterprise, i.by.team, i.installed)
        };
        let s = str::to_owned;
        assert_eq!(
            of(json!({"team": {"id": "T1", "enterprise_id": "E1"}, "user": {"id": "U1", "team_id": "T1"}})),
            (s("E1"), s("T1"), s("T1"))
        );
        assert_eq!(
            of(json!({"team": null, "enterprise": {"id": "E1"}, "user": {"id": "U1", "team_id": "T2"}})),
            (s("E1"), s("T2"), s("T2"))
        );
        assert_eq!(
            of(json!({"team": {"id": "T9"}, "user": {"id": "U1", "team_id": "T9"},
                      "view": {"app_installed_team_id": "T1", "team_id": "T9"}})),
            (s(""), s("T9"), s("T1"))
        );
        assert_eq!(of(json!({"user": {"id": "U1"}, "view": {"team_id": "T3"}})), (s(""), s("T3"), s("T3")));
    }

    #[test]
    fn a_button_carries_an_id_and_a_hash_and_nothing_else() {
        let id = RequestId::new(ulid::Ulid::from_parts(1, 2));
        let terms = "0123456789abcdef0123456789abcdef";
        assert_eq!(decided(&format!("{id}.{terms}")), Some((id, terms.to_owned())));
        for bad in [String::new(), id.to_string(), format!("{id}."), format!("{id}.xyz"), format!("x.{terms}")] {
            assert_eq!(decided(&bad), None, "{bad}");
        }
    }
}
