//! Tokens for workloads, and what verifiers fetch.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::{
    http_app::{App, anonymous},
    on_both,
    world::Db,
};

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

async fn a_workload_gets_a_token_and_calls_with_it(db: Db) {
    let app = App::on(db).await;
    let (id, secret) = (app.ids["deploy-bot"].to_string(), app.secret("deploy-bot").to_owned());
    let posted = app.form("/oauth/token", None, &[GRANT, ("client_id", &id), ("client_secret", &secret)]).await;
    assert_eq!(posted.status, 200, "{}", posted.body);
    assert_eq!((posted.text("token_type").as_str(), posted.header("cache-control")), ("Bearer", "no-store"));
    let basic = format!("Basic {}", STANDARD.encode(format!("deploy-bot:{secret}")));
    let token = app.form("/oauth/token", Some(&basic), &[GRANT, ("scope", "tidegate")]).await.text("access_token");

    let with = |token: &str, path: &str| {
        let mut request = anonymous("GET", path);
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        app.answer(request)
    };
    let me = with(&token, "/v1/me").await;
    assert_eq!((me.status.as_u16(), me.text("name").as_str()), (200, "deploy-bot"));

    let live = app.form("/oauth/introspect", Some(&basic), &[("token", &token)]).await;
    assert_eq!((live.status.as_u16(), &live.body["active"]), (200, &json!(true)), "{}", live.body);
    assert_eq!(app.form("/oauth/revoke", Some(&basic), &[("token", &token)]).await.status, 200);
    assert_eq!(app.form("/oauth/revoke", Some(&basic), &[("token", "nonsense")]).await.status, 200);
    let over = app.form("/oauth/introspect", Some(&basic), &[("token", &token)]).await;
    assert_eq!(over.body, json!({"active": false}));
    assert_eq!(with(&token, "/v1/me").await.status, 401);
}

async fn refusals_have_the_codes_of_the_rfc(db: Db) {
    let app = App::on(db).await;
    let secret = app.secret("deploy-bot").to_owned();
    let good = [("client_id", "deploy-bot"), ("client_secret", secret.as_str())];
    let both = format!("Basic {}", STANDARD.encode(format!("deploy-bot:{secret}")));
    for (authorization, fields, status, code) in [
        (None, vec![good[0], good[1]], 400, "invalid_request"),
        (None, vec![("grant_type", "password"), good[0], good[1]], 400, "unsupported_grant_type"),
        (None, vec![GRANT, good[0], good[1], ("scope", "root")], 400, "invalid_scope"),
        (None, vec![GRANT, GRANT, good[0], good[1]], 400, "invalid_request"),
        (Some(both.as_str()), vec![GRANT, good[0], good[1]], 400, "invalid_request"),
        (None, vec![GRANT], 401, "invalid_client"),
        (None, vec![GRANT, good[0], ("client_secret", "tgs_wrong")], 401, "invalid_client"),
        (None, vec![GRANT, ("client_id", "other"), good[1]], 401, "invalid_client"),
        (None, vec![GRANT, ("client_id", "ana"), ("client_secret", app.secret("ana"))], 401, "invalid_client"),
        (Some("Basic !!!"), vec![GRANT], 401, "invalid_client"),
    ] {
        let answer = app.form("/oauth/token", authorization, &fields).await;
        assert_eq!((answer.status.as_u16(), answer.text("error").as_str()), (status, code), "{}", answer.body);
        assert!(!answer.body.to_string().contains(&secret), "the secret comes back");
        assert_eq!(answer.status == 401, !answer.header("www-authenticate").is_empty());
    }
    let unknown = app.form("/oauth/introspect", None, &[("token", "x")]).await;
    assert_eq!((unknown.status.as_u16(), unknown.text("error").as_str()), (401, "invalid_client"));
}

async fn verifiers_find_keys_and_files(db: Db) {
    let app = App::on(db).await;
    let metadata = app.answer(anonymous("GET", "/.well-known/oauth-authorization-server")).await;
    assert_eq!(metadata.text("issuer"), "http://127.0.0.1:8420");
    let keys = app.answer(anonymous("GET", "/jwks")).await;
    assert!(keys.body["keys"].as_array().is_some_and(|k| !k.is_empty()), "{}", keys.body);
    assert!(!keys.body.to_string().contains("\"d\""), "a private key is public");
    assert_eq!(keys.body, app.answer(anonymous("GET", "/.well-known/jwks.json")).await.body);

    let ca = app.answer(anonymous("GET", "/published/dev-ssh/ca.pub")).await;
    assert_eq!(ca.status, 200, "{}", ca.body);
    let mut again = anonymous("GET", "/published/dev-ssh/ca.pub");
    again.headers_mut().insert("if-none-match", ca.header("etag").parse().unwrap());
    assert_eq!(app.answer(again).await.status, 304);
    assert_eq!(app.answer(anonymous("GET", "/published/dev-ssh/ca")).await.status, 404);
    assert_eq!(app.answer(anonymous("GET", "/metrics")).await.status, 404);
}

on_both!(a_workload_gets_a_token_and_calls_with_it, refusals_have_the_codes_of_the_rfc, verifiers_find_keys_and_files,);
