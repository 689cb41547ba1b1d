//! Against a real HTTP server on the loopback interface.

use std::sync::Mutex;

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, response::IntoResponse, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::*;
use crate::{
    domain::{id::MessageId, secret::Secret, time::Timestamp},
    ports::clock::ManualClock,
};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

type Seen = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A receiver that keeps what it got and answers with the status in its path.
async fn receiver() -> (Seen, String) {
    let seen = Seen::default();
    let take = |State(seen): State<Seen>, path: axum::extract::Path<u16>, headers: HeaderMap, body: Bytes| async move {
        seen.lock().unwrap().push((headers, body));
        let status = StatusCode::from_u16(*path).unwrap();
        (status, [("location", "/200")], "the answer's own words").into_response()
    };
    let slow = || async { tokio::time::sleep(Duration::from_secs(30)).await };
    let app = Router::new().route("/{status}", post(take).get(take)).route("/slow", post(slow));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let state = Arc::clone(&seen);
    tokio::spawn(async move { axum::serve(listener, app.with_state(state)).await });
    (seen, base)
}

fn settings(url: &str) -> Settings {
    Settings {
        name: "siem".to_owned(),
        url: url.parse().unwrap(),
        keys: SigningKeys::parse(&Secret::new(SECRET.to_owned())).unwrap(),
        source: "https://tidegate.example.com".to_owned(),
        allow_loopback: true,
    }
}

fn notifier(url: &str) -> WebhookNotifier {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_769_868_060)));
    WebhookNotifier::with_timeout(settings(url), clock, Duration::from_millis(400)).unwrap()
}

fn message() -> Message {
    Message {
        id: MessageId::new(ulid::Ulid::from_parts(1_769_868_000_000, 1)),
        kind: "access.grant.activated".to_owned(),
        at: Timestamp::from_seconds(1_769_868_000),
        data: json!({ "grant": "grt_01KGA5MYR00000000000000005", "note": "ü" }),
    }
}

#[tokio::test]
async fn the_receiver_gets_a_signed_cloud_event() {
    let (seen, base) = receiver().await;
    let notifier = notifier(&format!("{base}/204"));
    assert_eq!(notifier.name(), "siem");
    assert_eq!(notifier.deliver(&message()).await, Ok(()));
    let (headers, body) = seen.lock().unwrap().pop().unwrap();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!(header("webhook-id"), message().id.to_string());
    assert_eq!(header("webhook-timestamp"), "1769868060");

    // As a receiver checks it, by hand.
    let secret = STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let signed = [header("webhook-id").as_bytes(), b".", header("webhook-timestamp").as_bytes(), b".", &body].concat();
    let tag = STANDARD.decode(header("webhook-signature").trim_start_matches("v1,")).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
    assert!(ring::hmac::verify(&key, &signed, &tag).is_ok());

    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let want = json!({
        "specversion": "1.0",
        "id": message().id,
        "source": "https://tidegate.example.com",
        "type": "access.grant.activated",
        "time": "2026-01-31T14:00:00Z",
        "datacontenttype": "application/json",
        "data": message().data,
    });
    assert_eq!(body, want);
}

#[tokio::test]
async fn what_the_receiver_answers_decides() {
    let (seen, base) = receiver().await;
    for (status, want) in [(200, "ok"), (201, "ok"), (410, "gone"), (400, "retry"), (500, "retry"), (302, "retry")] {
        let got = match notifier(&format!("{base}/{status}")).deliver(&message()).await {
            Ok(()) => "ok",
            Err(NotifyError::Gone(_)) => "gone",
            Err(NotifyError::Retry(text)) => {
                assert!(text.contains(&status.to_string()) && !text.contains("own words"), "{text}");
                "retry"
            }
        };
        assert_eq!(got, want, "{status}");
    }
    assert_eq!(seen.lock().unwrap().len(), 6, "a redirect was followed");
}

#[tokio::test]
async fn a_repeat_bears_the_same_id() {
    let (seen, base) = receiver().await;
    let notifier = notifier(&format!("{base}/500"));
    for _ in 0..2 {
        assert!(notifier.deliver(&message()).await.is_err());
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].0["webhook-id"], seen[1].0["webhook-id"]);
}

#[tokio::test]
async fn silence_and_absence_are_tried_again_later() {
    let (_, base) = receiver().await;
    let error = notifier(&format!("{base}/slow")).deliver(&message()).await.unwrap_err();
    assert!(matches!(&error, NotifyError::Retry(text) if text.contains("in time")), "{error}");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = notifier(&format!("http://{free}/hook?key=hunter2")).deliver(&message()).await.unwrap_err();
    assert!(matches!(&error, NotifyError::Retry(text) if text.contains("reached")), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_name_that_turns_to_this_machine_is_not_followed() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (seen, base) = receiver().await;
    let port = base.rsplit(':').next().unwrap();
    // As if `localhost` were a name out there whose address was changed after it was configured.
    let mut notifier = notifier(&format!("http://localhost:{port}/200"));
    assert_eq!(notifier.deliver(&message()).await, Ok(()));
    let clock = Arc::new(ManualClock::at(Timestamp::default()));
    let strict = Settings { allow_loopback: false, ..settings("https://hooks.example.com/") };
    notifier.client = WebhookNotifier::new(strict, clock).unwrap().client;
    assert!(matches!(notifier.deliver(&message()).await, Err(NotifyError::Retry(_))));
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn refused_urls_are_named_by_webhook_and_not_repeated() {
    let clock = Arc::new(ManualClock::at(Timestamp::default()));
    let settings = Settings { allow_loopback: false, ..settings("http://hooks.example.com/hunter2") };
    let error = WebhookNotifier::new(settings, clock).unwrap_err().to_string();
    assert_eq!(error, "the URL of webhook `siem` is refused: it must begin with https://");
}
