use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{Json, Router, extract::Query, http::HeaderMap as Headers, routing::any};
use serde_json::json;

use super::*;

/// Serve on a free port of this machine; gives the address.
pub(crate) async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

fn client(server: &str) -> Client {
    Client::new(server, Some(Secret::new("t0ken".into())), Duration::from_secs(5)).unwrap()
}

fn problem(status: u16) -> Router {
    let body = json!({
        "type": "x", "title": "No", "status": status, "detail": "because\x1b[2J",
        "conditions": [{"text": "a ticket is given", "met": false}],
        "reasons": [{"action": "Request", "policy": "p1", "effect": "forbid", "text": "not at night"}],
    });
    let status = StatusCode::from_u16(status).unwrap();
    Router::new().fallback(any(move || async move { (status, Json(body)) }))
}

#[tokio::test]
async fn problems_become_failures_with_their_code() {
    for (status, code) in
        [(401, 4), (403, 3), (404, 5), (409, 6), (410, 7), (422, 1), (423, 3), (429, 9), (500, 1), (503, 9)]
    {
        let server = serve(problem(status)).await;
        let failure = client(&server).get(&["v1", "me"], &[]).await.unwrap_err();
        assert_eq!(failure.exit.code(), code, "{status}");
        assert_eq!(failure.what, "because␛[2J");
        assert_eq!(failure.details, ["✗ a ticket is given", "forbid p1: not at night"]);
    }
}

#[tokio::test]
async fn nobody_there_is_retryable_and_nothing_is_lost() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let failure = client(&server).get(&["v1", "me"], &[]).await.unwrap_err();
    assert_eq!(failure.exit.code(), 9);
    assert_eq!(failure.kept.as_deref(), Some("Nothing was changed."));
}

#[tokio::test]
async fn a_slow_server_is_retryable_and_the_outcome_open() {
    let server = serve(Router::new().fallback(any(|| async {
        tokio::time::sleep(Duration::from_mins(1)).await;
    })))
    .await;
    let client = Client::new(&server, Some(Secret::new("t".into())), Duration::from_millis(200)).unwrap();
    let failure = client.post(&["v1", "x"], &json!({})).await.unwrap_err();
    assert_eq!(failure.exit.code(), 9);
    assert!(failure.kept.unwrap().contains("may have been done"));
}

#[tokio::test]
async fn redirects_are_not_followed_and_the_token_stays() {
    let seen = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&seen);
    let other = serve(Router::new().fallback(any(move || {
        count.fetch_add(1, Ordering::SeqCst);
        async { "caught" }
    })))
    .await;
    let to = format!("{other}/v1/me");
    let server =
        serve(Router::new().fallback(any(move || async move { axum::response::Redirect::temporary(&to) }))).await;
    let failure = client(&server).get(&["v1", "me"], &[]).await.unwrap_err();
    assert_eq!((failure.exit.code(), seen.load(Ordering::SeqCst)), (1, 0));
    assert_eq!(failure.kept.as_deref(), Some("The token was not sent there."));
}

#[test]
fn a_token_crosses_no_network_in_clear() {
    let open = |server: &str, token: bool| {
        Client::new(server, token.then(|| Secret::new("t".into())), Duration::from_secs(1))
            .map(|_| ())
            .map_err(|f| f.exit)
    };
    assert_eq!(open("http://tidegate.example.com", true), Err(Exit::Usage));
    assert_eq!(open("http://10.0.0.1:8420", true), Err(Exit::Usage));
    assert_eq!(open("http://localhost.example.com", true), Err(Exit::Usage));
    for good in [
        "https://tidegate.example.com",
        "http://127.0.0.1:8420",
        "http://[::1]:8420",
        "http://localhost:1",
        "http://127.9.9.9",
    ] {
        assert_eq!(open(good, true), Ok(()), "{good}");
    }
    for bad in ["tidegate", "ftp://x", "http://user:pass@127.0.0.1", "https://x?y", "https://x#y", "unix:/x"] {
        assert_eq!(open(bad, false), Err(Exit::Usage), "{bad}");
    }
}

#[tokio::test]
async fn without_a_token_nothing_is_asked() {
    let bare = Client::new("http://127.0.0.1:1", None, Duration::from_secs(1)).unwrap();
    assert_eq!(bare.get(&["v1", "me"], &[]).await.unwrap_err().exit, Exit::Login);
}

#[test]
fn a_web_token_says_when_it_ends() {
    let expiry = |token: &str| {
        Client::new("http://127.0.0.1:1", Some(Secret::new(token.into())), Duration::from_secs(1))
            .unwrap()
            .token_expiry()
    };
    let payload = URL_SAFE_NO_PAD.encode(r#"{"exp":1769868000}"#);
    assert_eq!(expiry(&format!("h.{payload}.s")).unwrap().to_string(), "2026-01-31T14:00:00Z");
    for other in ["tgp_abc", "a.b.c", "a.b.c.d", "", ".."] {
        assert_eq!(expiry(other), None, "{other}");
    }
}

#[test]
fn names_in_paths_stay_in_their_place() {
    let client = client("http://127.0.0.1:1/base/");
    let path = |parts: &[&str]| client.path(parts).map(|u| u.to_string()).map_err(|f| f.exit);
    assert_eq!(path(&["v1", "targets", "a/b?c#d e"]).unwrap(), "http://127.0.0.1:1/base/v1/targets/a%2Fb%3Fc%23d%20e");
    for bad in ["", ".", ".."] {
        assert_eq!(path(&["v1", "targets", bad]), Err(Exit::NotFound));
    }
}

#[tokio::test]
async fn lists_are_read_page_by_page_up_to_the_limit() {
    #[derive(serde::Deserialize)]
    struct Page {
        after: Option<u32>,
        limit: u32,
    }
    let pages = any(|Query(page): Query<Page>, headers: Headers| async move {
        assert_eq!(headers.get("authorization").unwrap(), "Bearer t0ken");
        let from = page.after.unwrap_or(0);
        let items: Vec<u32> = (from..450).take(page.limit as usize).collect();
        let end = items.last().map_or(from, |last| last + 1);
        Json(json!({"items": items, "next": (end < 450).then(|| end.to_string())}))
    });
    let server = serve(Router::new().fallback(pages)).await;
    let client = client(&server);
    assert_eq!(client.list(&["x"], &[], u32::MAX).await.unwrap().len(), 450);
    assert_eq!(client.list(&["x"], &[], 201).await.unwrap().len(), 201);
    assert_eq!(client.list(&["x"], &[], 3).await.unwrap(), [0, 1, 2]);
}

#[tokio::test]
async fn a_keyed_post_is_repeated_with_the_same_key() {
    let keys = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&keys);
    let handler = any(move |headers: Headers| {
        let mut keys = seen.lock().unwrap();
        keys.push(headers.get("idempotency-key").unwrap().to_str().unwrap().to_owned());
        let status = if keys.len() < 3 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::CREATED };
        async move { (status, Json(json!({"id": "req_1"}))) }
    });
    let server = serve(Router::new().fallback(handler)).await;
    client(&server).post_once(&["v1", "requests"], &json!({})).await.unwrap();
    let keys = keys.lock().unwrap();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|k| *k == keys[0] && k.len() == 24));
}

#[tokio::test]
async fn an_answer_that_is_none_of_ours_says_so() {
    let server = serve(Router::new().fallback(any(|| async { "<html>" }))).await;
    let failure = client(&server).get(&["v1", "me"], &[]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Error);
    assert!(failure.to_string().contains("doctor"));
    assert!(typed::<Vec<u32>>(json!({"a": 1})).is_err());
}
