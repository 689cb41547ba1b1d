//! What was told to webhooks, told again; and a Slack account linked over the API.

use serde_json::json;
use tidegate::{
    domain::{id::MessageId, slack::SlackUser},
    ports::notifier::Message,
};

use tidegate::store::Change;

use crate::{http_app::App, on_both, world::Db};

async fn a_delivery_is_listed_and_told_again_under_the_same_id(db: Db) {
    let app = App::on(db).await;
    let (store, now) = (app.world.store(), app.world.now());
    let id = MessageId::new(app.world.broker.entropy().ulid(now).unwrap());
    let message = Message { id, kind: "access.grant.ended".to_owned(), at: now, data: json!({}) };
    let mut change = Change::default();
    change.message("siem", message);
    store.write(change).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let done = tx.settle_message(&id.to_string(), 0, now, Some("it answered 410 Gone")).await;
    tx.end(done).await.unwrap().unwrap();
    let list = app.get("eve", "/v1/deliveries").await;
    assert_eq!(list.body["items"][0]["state"], "given_up", "{}", list.body);
    assert_eq!(list.body["items"][0]["last_error"], "it answered 410 Gone");
    let path = format!("/v1/deliveries/{id}/replay");
    for who in ["ana", "ben"] {
        assert_eq!(app.get(who, "/v1/deliveries").await.status, 403);
        assert_eq!(app.post(who, &path, json!({})).await.status, 404, "{who}");
    }
    let again = app.post("eve", &path, json!({})).await;
    assert_eq!((again.status.as_u16(), again.text("state").as_str()), (200, "waiting"));
    assert_eq!(again.body["id"], id.to_string());
    assert!(app.world.actions().await.contains(&"delivery.replayed".to_owned()));
}

async fn a_slack_account_is_shown_before_it_is_linked(db: Db) {
    let app = App::on(db).await;
    let account = SlackUser { enterprise: String::new(), team: "T1".to_owned(), user: "U1".to_owned() };
    let code = app.world.broker.offer_slack_link(&account, "Ana A.", "").await.unwrap();
    let body = |dry_run: bool| json!({"code": code.expose(), "dry_run": dry_run});
    let shown = app.post("ana", "/v1/me/slack-link", body(true)).await;
    assert_eq!((shown.text("shown_name").as_str(), shown.body["linked"].as_bool()), ("Ana A.", Some(false)));
    assert_eq!(app.post("ana", "/v1/me/slack-link", body(false)).await.body["linked"], true);
    let twice = app.post("ben", "/v1/me/slack-link", body(false)).await;
    assert_eq!((twice.status.as_u16(), twice.text("field").as_str()), (422, "code"));
    assert_eq!(app.world.broker.authenticate_slack(&account).await.unwrap().actor.identity.name, "ana");
}

on_both!(a_delivery_is_listed_and_told_again_under_the_same_id, a_slack_account_is_shown_before_it_is_linked,);
