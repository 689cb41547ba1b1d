//! The event stream: what it shows, to whom, and how it goes on after a break.

use std::time::Duration;

use axum::body::Body;
use futures::StreamExt;
use http::{Request, header};
use serde_json::json;
use tidegate::edge::Limits;

use crate::{
    http_app::{App, open},
    on_both,
    world::Db,
};

struct Stream {
    body: axum::body::BodyDataStream,
    read: String,
}

impl Stream {
    async fn open(app: &App, who: &str, last: Option<&str>) -> Self {
        let mut request = Request::get("/v1/events").header(header::AUTHORIZATION, app.bearer(who));
        if let Some(id) = last {
            request = request.header("last-event-id", id);
        }
        let response = app.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut stream = Self { body: response.into_body().into_data_stream(), read: String::new() };
        stream.until("events from here on").await;
        stream
    }

    /// Read until this text comes; false if the stream ends or stays silent.
    async fn until(&mut self, text: &str) -> bool {
        let reading = async {
            while !self.read.contains(text) {
                let Some(Ok(chunk)) = self.body.next().await else { return false };
                self.read += &String::from_utf8_lossy(&chunk);
            }
            true
        };
        tokio::time::timeout(Duration::from_secs(5), reading).await.unwrap_or(false)
    }
}

async fn ask(app: &App) {
    let body = json!({"entitlements": ["tokens:orders-read"], "reason": "look at an order"});
    assert_eq!(app.post("ana", "/v1/requests", body).await.status, 201);
}

async fn events_come_as_they_happen_and_go_on_after_a_break(db: Db) {
    let app = App::on(db).await;
    let mut stream = Stream::open(&app, "ana", None).await;
    ask(&app).await;
    assert!(stream.until("event: request.").await, "{}", stream.read);
    assert!(stream.until("event: grant.active").await, "{}", stream.read);
    let id = stream.read.lines().find_map(|l| l.strip_prefix("id: ")).unwrap().to_owned();
    drop(stream);
    let mut rest = Stream::open(&app, "ana", Some(&id)).await;
    assert!(rest.until("event: grant.active").await, "{}", rest.read);
    assert!(!rest.read.lines().any(|l| l == format!("id: {id}")), "seen twice: {}", rest.read);
}

async fn nobody_sees_what_does_not_concern_them(db: Db) {
    let app = App::on(db).await;
    let body = json!({"name": "quiet-bot", "kind": "workload"});
    assert_eq!(app.post("eve", "/v1/workloads", body).await.status, 201);
    let mut all = Stream::open(&app, "eve", Some("0")).await;
    assert!(all.until("quiet-bot").await, "{}", all.read);
    let mut own = Stream::open(&app, "ana", Some("0")).await;
    ask(&app).await;
    assert!(own.until("event: request.").await, "{}", own.read);
    assert!(!own.read.contains("quiet-bot"), "{}", own.read);
}

async fn streams_are_bounded_and_end_with_the_broker(db: Db) {
    let app = App::with_on(db, Limits { streams: 1, ..open() }).await;
    let mut one = Stream::open(&app, "ana", None).await;
    let two = app.get("ben", "/v1/events").await;
    assert_eq!((two.status.as_u16(), two.problem()), (503, "overloaded"));
    app.world.broker.closing().cancel();
    assert!(!one.until("never").await);
    drop(one);
    assert_eq!(app.get("ana", "/v1/events").await.status, 200);
}

async fn a_place_to_begin_is_a_number(db: Db) {
    let app = App::on(db).await;
    let answer = app.call("ana", http::Method::GET, "/v1/events", &[("last-event-id", "x")], None).await;
    assert_eq!((answer.status.as_u16(), answer.text("field").as_str()), (400, "Last-Event-ID"));
}

on_both!(
    events_come_as_they_happen_and_go_on_after_a_break,
    nobody_sees_what_does_not_concern_them,
    streams_are_bounded_and_end_with_the_broker,
    a_place_to_begin_is_a_number,
);
