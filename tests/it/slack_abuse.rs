//! Who and what is refused in Slack, and what they are told: strangers nothing, ours why.

use http::StatusCode;
use serde_json::{Value, json};
use tidegate::{
    app::fake_slack::CHANNEL,
    broker::input::Ask,
    domain::{request::RequestState, secret::Secret},
    edge::slack::SigningSecret,
};

use crate::{
    slack_world::{Desk, link},
    world::{Db, want},
};

/// A request URL called by hand.
async fn post(desk: &Desk, body: &str, stamp: i64, signature: &str) -> StatusCode {
    #[allow(clippy::disallowed_methods, reason = "a plain client, as Slack's is")]
    let http = reqwest::Client::builder().build().unwrap();
    let request = http
        .post(format!("{}/slack/interactions", desk.server))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-slack-request-timestamp", stamp)
        .header("x-slack-signature", signature)
        .body(body.to_owned());
    request.send().await.unwrap().status()
}

fn form(payload: &Value) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload.to_string()).finish()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_slack_signed_now_is_taken() {
    let desk = Desk::on(Db::Sqlite).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    let secret = SigningSecret::new(&desk.fake.signing_secret()).unwrap();
    let body = form(&desk.fake.click_payload("U0BEN", CHANNEL, &message.ts, "approve", None).unwrap());
    let now = desk.world.now().seconds();
    for skew in [301, -301] {
        let at = now + skew;
        assert_eq!(post(&desk, &body, at, &secret.sign(at, body.as_bytes())).await, 401, "{skew}");
    }
    let good = secret.sign(now, body.as_bytes());
    let tampered = body.replacen("U0BEN", "U0CAT", 1);
    assert_eq!(post(&desk, &tampered, now, &good).await, 401);
    let other = SigningSecret::new(&Secret::new("another".to_owned())).unwrap();
    assert_eq!(post(&desk, &body, now, &other.sign(now, body.as_bytes())).await, 401);
    assert_eq!(post(&desk, &body, now, "").await, 401);
    // The check of certificates is unsigned, and does nothing.
    assert_eq!(post(&desk, &format!("ssl_check=1&{body}"), now, "").await, 200);
    desk.quiet().await;
    assert_eq!(desk.state(&id).await, RequestState::Pending);
    desk.world.advance(301);
    assert_eq!(post(&desk, &body, now, &good).await, 401, "by now it is too old");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_meet_silence_and_are_recorded() {
    let desk = Desk::on(Db::Sqlite).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    for (user, more) in [
        ("U1GUEST", json!({"is_restricted": true})),
        ("U1SINGLE", json!({"is_ultra_restricted": true})),
        ("U1BOT", json!({"is_bot": true})),
        ("U1GONE", json!({"deleted": true})),
        ("U1STRANGER", json!({"is_stranger": true})),
        ("U1CONNECT", json!({"team_id": "T9OTHER"})),
    ] {
        desk.fake.join(user, "ben", &more);
        // Even one that was linked before it became what it is.
        link(&desk.world, user, "ben").await;
        assert_eq!(desk.click(user, &message, "approve").await, 200, "{user}");
        assert_eq!(desk.fake.command(user, "").await.status, 200);
    }
    let click = |change: &dyn Fn(&mut Value)| {
        let mut payload = desk.fake.click_payload("U0BEN", CHANNEL, &message.ts, "approve", None).unwrap();
        change(&mut payload);
        payload
    };
    for payload in [
        click(&|p| p["team"] = json!({"id": "T9OTHER"})),
        click(&|p| p["user"]["team_id"] = json!("T9OTHER")),
        click(&|p| p["api_app_id"] = json!("A9OTHER")),
        click(&|p| p["enterprise"] = json!({"id": "E9OTHER"})),
        click(&|p| p["view"] = json!({"app_installed_team_id": "T9OTHER"})),
        click(&|p| p["user"]["id"] = json!("U9NOBODY")),
    ] {
        assert_eq!(desk.fake.interaction(&payload).await.status, 200);
    }
    desk.quiet().await;
    assert_eq!(desk.state(&id).await, RequestState::Pending);
    let told: Vec<_> = desk.fake.messages().into_iter().filter(|m| m.only.is_some()).collect();
    assert!(told.is_empty(), "{told:?}");
    assert!(desk.fake.view_of("U1GUEST").is_none() && desk.fake.view_of("U1CONNECT").is_none());
    let why: Vec<String> =
        desk.events("slack.outsider").await.iter().map(|e| e["details"]["why"].as_str().unwrap().to_owned()).collect();
    for reason in [
        "a guest",
        "a bot",
        "deactivated in Slack",
        "of another workspace",
        "another workspace",
        "another app",
        "another organisation",
        "unknown to Slack",
    ] {
        assert!(why.iter().any(|w| w == reason), "{reason} in {why:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_decides_on_their_own_chain() {
    let desk = Desk::on(Db::Sqlite).await;
    // ben asks himself; his second account is still ben.
    let (own, message) = desk.asked("ben", "tokens:orders-admin").await;
    desk.fake.join("U0BEN2", "benjamin", &json!({}));
    link(&desk.world, "U0BEN2", "ben").await;
    for user in ["U0BEN", "U0BEN2"] {
        desk.click(user, &message, "approve").await;
        desk.whispered(user, "You asked for this").await;
    }
    assert_eq!(desk.state(&own).await, RequestState::Pending);
    // A job of his asks.
    let (jobs, message) = desk.asked("ben-bot", "ssh:deploy").await;
    let mut payload = desk.fake.click_payload("U0BEN", CHANNEL, &message.ts, "deny", None).unwrap();
    desk.fake.interaction(&payload).await;
    desk.whispered("U0BEN", "you answer for the workload").await;
    payload["actions"][0]["action_ts"] = json!("1.1");
    payload["user"]["id"] = json!("U0BEN2");
    // Without an address for answers, they go into the channel.
    payload["response_url"] = json!("");
    desk.fake.interaction(&payload).await;
    desk.until(|d| d.whispers("U0BEN2").len() == 2).await;
    assert_eq!(desk.state(&jobs).await, RequestState::Pending);
    // ana is no approver, and the channel has shown her the request anyway.
    desk.click("U0ANA", &message, "deny").await;
    desk.whispered("U0ANA", "not an approver").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_that_were_not_shown_are_not_approved() {
    let desk = Desk::on(Db::Sqlite).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    let (other, _) = desk.asked("ben", "tokens:orders-admin").await;
    let mut payload = desk.fake.click_payload("U0CAT", CHANNEL, &message.ts, "approve", None).unwrap();
    let value = payload["actions"][0]["value"].as_str().unwrap().to_owned();
    let terms = value.split_once('.').unwrap().1.to_owned();
    let mut at = 0;
    for forged in [format!("{id}.{}", "0".repeat(32)), format!("{other}.{terms}")] {
        at += 1;
        payload["actions"][0]["value"] = json!(forged);
        payload["actions"][0]["action_ts"] = json!(format!("{at}.0"));
        desk.fake.interaction(&payload).await;
        desk.until(|d| d.whispers("U0CAT").iter().filter(|w| w.contains("terms changed")).count() == at).await;
    }
    for (state, id) in [(desk.state(&id).await, &id), (desk.state(&other).await, &other)] {
        assert_eq!(state, RequestState::Pending, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_message_decides_once_and_both_show_it() {
    let desk = Desk::on(Db::Sqlite).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    let copy = desk.fake.copy(&message, "C9RANDOM");
    desk.click("U0BEN", &copy, "approve").await;
    desk.until_state(&id, RequestState::Approved).await;
    let shows = |d: &Desk, channel: &str| {
        let all = d.channel(channel);
        all.iter().any(|m| m.blocks.to_string().contains("*Approved* by ben"))
    };
    desk.until(|d| shows(d, CHANNEL) && shows(d, "C9RANDOM")).await;
    // A copy with buttons of before, made after the decision: the ledger decides, and it is repaired.
    let stale = desk.fake.copy(&message, "C9RANDOM");
    desk.click("U0CAT", &stale, "deny").await;
    desk.whispered("U0CAT", "Already approved by ben").await;
    desk.until(|d| d.channel("C9RANDOM").iter().all(|m| m.blocks.to_string().contains("*Approved* by ben"))).await;
    assert_eq!(desk.world.store().approvals(id.parse().unwrap()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_people_write_acts() {
    let desk = Desk::on(Db::Sqlite).await;
    let evil = "<!channel> <https://evil.example|Approve> <@U0BEN> *bold* `code` & more";
    let ask = Ask { reason: evil.to_owned(), ticket: Some("<!here>".to_owned()), ..want("tokens:orders-admin", 600) };
    let request = desk.world.ask("ana", ask).await.unwrap();
    desk.until(|d| d.request_message(&request.id).is_some()).await;
    let message = desk.request_message(&request.id).unwrap();
    let mut marked = vec![message.text.clone()];
    collect(&message.blocks, &mut marked);
    for text in &marked {
        for bad in ["<!channel", "<!here", "<https", "<@U"] {
            assert!(!text.contains(bad), "{bad} in {text}");
        }
    }
    assert!(message.blocks.to_string().contains("<!channel>"), "the words themselves are shown, as plain text");
    for (method, arguments) in desk.fake.calls() {
        if method.starts_with("chat.") {
            assert_eq!((&arguments["unfurl_links"], &arguments["link_names"]), (&json!(false), &json!(false)));
        }
    }
}

/// Slack's own library agrees, on bodies, timestamps and instants of all kinds.
#[test]
fn slack_sdk_says_the_same_of_signatures() {
    use std::io::Write as _;
    let python = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin/python");
    assert!(python.exists(), "slack_sdk is missing: run .ci/deps");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/slack_signature.py");
    let key = "8f742231b10e8888abcd99yyyzzz85a5";
    let secret = SigningSecret::new(&Secret::new(key.to_owned())).unwrap();
    let stamp = 1_531_420_618_i64;
    for (body, skew, forge) in [
        ("payload=%7B%7D", 0, false),
        ("", 300, false),
        ("text=\u{e4}\u{1f30a}&a=b", 299, false),
        ("payload=%7B%7D", 301, false),
        ("payload=%7B%7D", -301, false),
        ("payload=%7B%7D", 0, true),
    ] {
        let signature = if forge { secret.sign(stamp, b"other") } else { secret.sign(stamp, body.as_bytes()) };
        let now = stamp + skew;
        let mut headers = http::HeaderMap::new();
        headers.insert("x-slack-request-timestamp", stamp.into());
        headers.insert("x-slack-signature", signature.parse().unwrap());
        let ours = secret.holds(&headers, body.as_bytes(), tidegate::domain::time::Timestamp::from_seconds(now));
        let mut child = std::process::Command::new(&python)
            .arg(&script)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let case = json!({"secret": key, "stamp": stamp, "now": now, "body": body, "signature": signature});
        child.stdin.take().unwrap().write_all(case.to_string().as_bytes()).unwrap();
        let said: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(said["signature"], secret.sign(stamp, body.as_bytes()), "{body}");
        assert_eq!(said["valid"], ours, "{body} {skew} {forge}");
    }
}

/// All texts that are parsed as mrkdwn.
fn collect(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if fields.get("type") == Some(&json!("mrkdwn")) {
                assert_eq!(fields.get("verbatim"), Some(&json!(true)));
                into.push(fields["text"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|v| collect(v, into));
        }
        Value::Array(all) => all.iter().for_each(|v| collect(v, into)),
        _ => {}
    }
}
