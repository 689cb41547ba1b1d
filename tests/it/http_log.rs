//! The line that every call leaves in the log: its fields, and that no secret is in it.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use http::Method;
use serde_json::{Value, json};

use crate::{
    http_app::{App, anonymous},
    on_both,
    world::Db,
};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The access lines of one route.
    fn lines(&self, route: &str) -> Vec<Value> {
        let lines = self.text();
        let all = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|line| line["target"] == "tidegate::access" && line["fields"]["route"] == route).collect()
    }
}

async fn every_call_leaves_one_line_and_no_secret(db: Db) {
    let app = App::on(db).await;
    let written = Written::default();
    let writer = written.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let listening = tracing::subscriber::set_default(subscriber);

    let me = app.get("ana", "/v1/me").await;
    let body = json!({"entitlements": ["tokens:orders-read"], "reason": "look at an order"});
    let asked = app.post("ana", "/v1/requests", body).await;
    let grant = asked.body["grants"][0]["id"].as_str().unwrap().to_owned();
    let credential = app.call("ana", Method::POST, &format!("/v1/grants/{grant}/credential"), &[], None).await;
    let made = app.post("ana", "/v1/tokens", json!({"label": "laptop", "ttl": "1d"})).await;
    let (id, secret) = (app.ids["deploy-bot"].to_string(), app.secret("deploy-bot").to_owned());
    let fields = [("grant_type", "client_credentials"), ("client_id", id.as_str()), ("client_secret", secret.as_str())];
    let issued = app.form("/oauth/token", None, &fields).await;
    app.answer(anonymous("GET", "/v1/me?token=tgp_in_the_query")).await;
    app.answer(anonymous("GET", "/nothing/tgp_in_the_path")).await;
    drop(listening);

    let line = &written.lines("/v1/me")[0];
    let field = |name: &str| line["fields"][name].clone();
    assert_eq!(line["level"], "INFO");
    assert_eq!(field("request_id"), me.header("x-request-id"));
    assert_eq!((field("method"), field("status")), (json!("GET"), json!(200)));
    assert_eq!((field("path"), field("actor")), (json!("/v1/me"), json!(app.ids["ana"].to_string())));
    assert!(field("ms").is_u64() && field("address").is_string(), "{line}");
    let refused = &written.lines("/v1/me")[1]["fields"];
    assert_eq!((&refused["problem"], &refused["actor"]), (&json!("unauthenticated"), &Value::Null));
    assert_eq!(written.lines("/v1/grants/{id}/credential").len(), 1);
    assert_eq!(written.lines("unmatched")[0]["fields"]["path"], Value::Null);

    let text = written.text();
    for canary in [
        app.secret("ana"),
        &secret,
        credential.body["credential"]["token"].as_str().unwrap(),
        &made.text("token"),
        &issued.text("access_token"),
        "tgp_in_the_query",
        "tgp_in_the_path",
    ] {
        assert!(!text.contains(canary), "{canary} is in the log");
    }
}

on_both!(every_call_leaves_one_line_and_no_secret,);
