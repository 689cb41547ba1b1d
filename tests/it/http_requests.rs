//! Asking, deciding, claiming and ending over HTTP, and the ways in which an ask can be wrong.

use http::Method;
use serde_json::{Value, json};

use crate::{
    http_app::{Answer, App},
    on_both,
    world::Db,
};

const EASY: &str = "tokens:orders-read";
const HARD: &str = "tokens:orders-admin";

fn ask(change: &[(&str, Value)]) -> Value {
    let mut body = json!({"entitlements": [EASY], "duration": "15m", "reason": "look at order 4711"});
    for (field, value) in change {
        body[*field] = value.clone();
    }
    body
}

async fn asked(app: &App, change: &[(&str, Value)]) -> Answer {
    app.post("ana", "/v1/requests", ask(change)).await
}

async fn durations_that_cannot_be_used_are_refused_under_their_name(db: Db) {
    let app = App::on(db).await;
    for (duration, status, says) in [
        (json!(0), 400, "at least one second"),
        (json!("0m"), 400, "at least one second"),
        (json!(-1), 400, "at least one second"),
        (json!("-5m"), 400, "at least one second"),
        (json!(-0.5), 400, "at least one second"),
        (json!("99999999999999999999w"), 400, "too long"),
        (json!(u64::MAX), 400, "too long"),
        (json!(1e300), 400, "duration"),
        (json!("soon"), 400, "is not a duration"),
        (json!(""), 400, "is not a duration"),
        (json!("1h5"), 400, "is not a duration"),
        (json!(1.5), 400, "is not a duration"),
        (json!(["1h"]), 400, "duration"),
        (json!(true), 400, "duration"),
        (json!("52w"), 422, ""),
        (json!(4_000_000_000_u64), 422, ""),
    ] {
        let answer = asked(&app, &[("duration", duration.clone())]).await;
        assert_eq!(answer.status.as_u16(), status, "{duration}: {}", answer.body);
        assert!(answer.text("detail").contains(says), "{duration}: {}", answer.body);
    }
    let requests = app.get("ana", "/v1/requests").await;
    assert_eq!(requests.body["items"], json!([]), "a refused ask leaves nothing");
}

async fn reasons_and_starts_that_cannot_be_used_are_refused(db: Db) {
    let app = App::on(db).await;
    let mut body = ask(&[]);
    body.as_object_mut().unwrap().remove("reason");
    assert_eq!(app.post("ana", "/v1/requests", body).await.status, 400);
    for (reason, status) in [
        (json!("x".repeat(1 << 20)), 413),
        (json!("x".repeat(20_000)), 422),
        (json!("a\u{0}b"), 422),
        (json!("a\u{1b}[31mb"), 422),
        (json!(7), 400),
    ] {
        let answer = asked(&app, &[("reason", reason.clone())]).await;
        let shown = reason.to_string().chars().take(20).collect::<String>();
        assert_eq!(answer.status.as_u16(), status, "{shown}: {}", answer.body);
    }
    for (start, status) in [
        (json!("2001-01-01T00:00:00Z"), 422),
        (json!("9000-01-01T00:00:00Z"), 422),
        (json!("tomorrow"), 400),
        (json!("2026-01-31"), 400),
        (json!(1_769_868_000), 400),
    ] {
        let answer = asked(&app, &[("start_at", start.clone())]).await;
        assert_eq!(answer.status.as_u16(), status, "{start}: {}", answer.body);
    }
    for entitlements in [json!([]), json!(["no:such"])] {
        let answer = asked(&app, &[("entitlements", entitlements.clone())]).await;
        assert!([404, 422].contains(&answer.status.as_u16()), "{entitlements}: {}", answer.body);
    }
}

async fn the_same_key_is_the_same_request(db: Db) {
    let app = App::on(db).await;
    let call = |key: &'static str, body: Value| async {
        app.call("ana", Method::POST, "/v1/requests", &[("idempotency-key", key)], Some(body)).await
    };
    let first = call("key-1", ask(&[])).await;
    assert_eq!(first.status, 201, "{}", first.body);
    assert_eq!(first.header("location"), format!("/v1/requests/{}", first.text("id")));
    let again = call("key-1", ask(&[("duration", json!(900))])).await;
    assert_eq!((again.status.as_u16(), again.text("id")), (200, first.text("id")), "15m and 900 are one body");
    let other = call("key-1", ask(&[("reason", json!("something else"))])).await;
    assert_eq!((other.status.as_u16(), other.problem()), (409, "idempotency-key-reused"));
    assert_eq!(other.text("field"), "Idempotency-Key");
    let fresh = call("key-2", ask(&[])).await;
    assert_eq!(fresh.status, 201);
    assert_ne!(fresh.text("id"), first.text("id"));
    for bad in ["", "a b", "a\tb"] {
        assert_eq!(call(bad, ask(&[])).await.status, 400, "{bad:?}");
    }
    let long = "k".repeat(256);
    let answer = app.call("ana", Method::POST, "/v1/requests", &[("idempotency-key", &long)], Some(ask(&[]))).await;
    assert_eq!(answer.status, 400);
}

async fn a_dry_run_records_nothing(db: Db) {
    let app = App::on(db).await;
    let plan = asked(&app, &[("dry_run", json!(true))]).await;
    assert_eq!((plan.status.as_u16(), &plan.body["dry_run"]), (200, &json!(true)));
    assert_eq!(app.get("ana", "/v1/requests").await.body["items"], json!([]));
}

async fn the_whole_story(db: Db) {
    let app = App::on(db).await;
    let granted = asked(&app, &[]).await;
    assert_eq!((granted.status.as_u16(), granted.text("state").as_str()), (201, "approved"), "{}", granted.body);
    let grant = granted.body["grants"][0]["id"].as_str().unwrap().to_owned();

    // What others may not see is not there.
    let path = format!("/v1/grants/{grant}");
    assert_eq!(app.get("ana", &path).await.text("state"), "active");
    assert_eq!(app.get("eve", &path).await.status, 200);
    assert_eq!(app.post("ben", &format!("{path}/release"), json!({})).await.status, 404);

    // The credential is handed over once, and never cached.
    let credential = app.call("ana", Method::POST, &format!("{path}/credential"), &[], None).await;
    assert_eq!(credential.status, 200, "{}", credential.body);
    assert_eq!(credential.header("cache-control"), "no-store");
    let token = credential.body["credential"]["token"].as_str().unwrap().to_owned();
    assert_eq!(credential.body["claim"], 1);

    // Only its holder ends it so; an administrator with a reason.
    assert_eq!(app.post("ana", &format!("{path}/revoke"), json!({"reason": "x"})).await.status, 403);
    let released = app.call("ana", Method::POST, &format!("{path}/release"), &[], None).await;
    assert_eq!(released.status, 200, "{}", released.body);
    app.world.settle().await;
    let ended = app.get("ana", &path).await;
    assert_eq!(ended.text("state"), "ended");
    assert!(ended.body["evidence"].is_object(), "{}", ended.body);

    // The log has all of it, under the ids of the calls, without the token.
    let audit = app.get("eve", &format!("/v1/audit?grant={grant}&limit=200")).await;
    let text = audit.body.to_string();
    assert!(!text.contains(&token), "the token is in the audit log");
    assert!(text.contains(granted.header("x-request-id")), "the id of the call that asked is not in the audit log");
    let event = audit.body["items"][0]["event"]["id"].as_str().unwrap();
    assert_eq!(app.get("eve", &format!("/v1/audit/proof/{event}")).await.status, 200);
    let note = app.get("eve", "/v1/audit/checkpoint").await;
    assert!(note.header("content-type").starts_with("text/plain"), "{:?}", note.headers);
}

async fn people_decide_and_not_for_themselves(db: Db) {
    let app = App::on(db).await;
    let hard = [("entitlements", json!([HARD])), ("ticket", json!("INC-1"))];
    let pending = asked(&app, &hard).await;
    assert_eq!((pending.status.as_u16(), pending.text("state").as_str()), (201, "pending"), "{}", pending.body);
    let path = format!("/v1/requests/{}", pending.text("id"));
    assert_eq!(app.post("ana", &format!("{path}/approve"), json!({})).await.status, 403);
    let bad = app.post("ben", &format!("{path}/approve"), json!({"duration": "0s"})).await;
    assert_eq!((bad.status.as_u16(), bad.text("field").as_str()), (400, "duration"));
    let decision = json!({"comment": "ok", "duration": "5m"});
    let approved = app.post("ben", &format!("{path}/approve"), decision).await;
    assert_eq!((approved.status.as_u16(), &approved.body["duration"]), (200, &json!(300)), "{}", approved.body);
    let late = app.post("ana", &format!("{path}/cancel"), json!({})).await;
    assert_eq!((late.status.as_u16(), late.problem()), (409, "state-conflict"));
}

async fn a_lock_refuses_and_is_lifted(db: Db) {
    let app = App::on(db).await;
    let lock = json!({"kind": "entitlement", "value": EASY, "reason": "under investigation"});
    assert_eq!(app.post("ana", "/v1/locks", lock.clone()).await.status, 403);
    let locked = app.post("eve", "/v1/locks", lock).await;
    assert_eq!(locked.status, 201, "{}", locked.body);
    let refused = asked(&app, &[]).await;
    assert_eq!((refused.status.as_u16(), refused.problem()), (423, "locked"));
    let lifted = app.call("eve", Method::DELETE, locked.header("location"), &[], None).await;
    assert_eq!(lifted.status, 200, "{}", lifted.body);
    assert_eq!(asked(&app, &[]).await.status, 201);
}

on_both!(
    durations_that_cannot_be_used_are_refused_under_their_name,
    reasons_and_starts_that_cannot_be_used_are_refused,
    the_same_key_is_the_same_request,
    a_dry_run_records_nothing,
    the_whole_story,
    people_decide_and_not_for_themselves,
    a_lock_refuses_and_is_lifted,
);
