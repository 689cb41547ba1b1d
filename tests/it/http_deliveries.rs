//! What was told to webhooks, told again; and a Slack account linked over the API.

use http::Method;
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

async fn a_slack_link_is_seen_and_taken_back(db: Db) {
    let app = App::on(db).await;
    let account = SlackUser { enterprise: String::new(), team: "T1".to_owned(), user: "U1".to_owned() };
    let code = app.world.broker.offer_slack_link(&account, "Ana A.", "").await.unwrap();
    let broker = &app.world.broker;
    broker.link_slack(&app.world.in_portal("ana").await, code.expose()).await.unwrap();
    let list = app.get("ana", "/v1/identities/me/slack-links").await;
    assert_eq!(list.body["items"][0]["id"], "T1.U1", "{}", list.body);
    assert_eq!(app.get("ben", "/v1/identities/ana/slack-links").await.status, 404);
    let path = "/v1/identities/ana/slack-links/T1.U1";
    assert_eq!(app.call("ben", Method::DELETE, path, &[], None).await.status, 404);
    assert_eq!(broker.authenticate_slack(&account).await.unwrap().actor.identity.name, "ana");
    assert_eq!(app.call("ana", Method::DELETE, path, &[], None).await.status, 204);
    assert!(broker.authenticate_slack(&account).await.is_err());
    assert_eq!(app.call("ana", Method::DELETE, path, &[], None).await.status, 404);
}

on_both!(a_delivery_is_listed_and_told_again_under_the_same_id, a_slack_link_is_seen_and_taken_back,);
