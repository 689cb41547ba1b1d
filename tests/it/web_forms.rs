//! Forms of the portal: each comes from this site, in a session, with what is bound to it; and nothing but a form
//! changes anything.

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use tidegate::edge::web_paths;

use crate::{
    http_app::{App, anonymous},
    web_app::{Browser, form},
};

const NO_ONE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// Every path of the portal with ids of nothing.
fn places() -> Vec<String> {
    let filled = |template: &str| {
        let prefix = match template.split('/').nth(1).unwrap_or_default() {
            "requests" => "req",
            "grants" => "grt",
            "sessions" => "ses",
            "tokens" => "tok",
            "locks" => "lck",
            "audit" => "evt",
            "integrations" => "msg",
            _ => "idn",
        };
        template.replace("{id}", &format!("{prefix}_{NO_ONE}")).replace("{name}", "nothing.css")
    };
    let all: Vec<String> = web_paths().into_iter().map(filled).collect();
    assert!(all.len() >= 30);
    all
}

/// Does the path take this method?
async fn takes(app: &App, method: &str, path: &str) -> bool {
    app.answer(anonymous(method, path)).await.status != StatusCode::METHOD_NOT_ALLOWED
}

/// Paths that anybody may open; this list only shrinks.
const OUTSIDE: [&str; 5] = ["/login", "/login/oidc", "/login/oidc/callback", "/signed-out", "/assets/nothing.css"];

#[tokio::test]
async fn every_page_wants_a_session() {
    let app = App::start().await;
    for path in places() {
        if takes(&app, "GET", &path).await && !OUTSIDE.contains(&path.as_str()) {
            let answer = app.answer(anonymous("GET", &path)).await;
            assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}: {}", answer.body);
            assert!(answer.header("location").starts_with("/login"), "{path}");
        }
        // A token for the API opens no page: it is not what a browser sends by itself.
        let mut request = anonymous("GET", "/grants");
        request.headers_mut().insert(header::AUTHORIZATION, app.bearer("eve").parse().unwrap());
        assert_eq!(app.answer(request).await.status, StatusCode::SEE_OTHER);
    }
}

#[tokio::test]
async fn forms_from_elsewhere_or_without_the_sessions_mark_change_nothing() {
    let app = App::start().await;
    let (ana, ben) = (Browser::of(&app, "ana").await, Browser::of(&app, "ben").await);
    let (own, foreign) = (ana.csrf().await, ben.csrf().await);
    assert_ne!(own, foreign);
    let request = ana.ask("tokens:orders-admin", "order 4411").await;
    let mut forms: Vec<String> = Vec::new();
    for path in places() {
        // What the command line calls itself takes no cookie: it is nobody's session.
        let a_clients_own = ["/login/device", "/login/end", "/login/token"].contains(&path.as_str());
        if !a_clients_own && takes(&app, "POST", &path).await {
            forms.push(path);
        }
    }
    forms.push(format!("{request}/cancel"));
    assert!(forms.len() >= 16, "{forms:?}");
    let size = app.world.store().audit_size().await.unwrap();
    for path in &forms {
        let field = [("csrf", own.as_str())];
        for origin in [None, Some("null"), Some("https://evil.example"), Some("http://127.0.0.1:8421")] {
            let refused = ana.send_from(origin, path, &field).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path} from {origin:?}: {}", refused.html);
        }
        if path == "/login/dev" {
            continue;
        }
        for mark in [None, Some(""), Some("x"), Some(foreign.as_str())] {
            let fields: Vec<(&str, &str)> = mark.iter().map(|m| ("csrf", *m)).collect();
            let refused = ana.send_form(path, &fields).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path} with {mark:?}: {}", refused.html);
            assert!(refused.html.contains("nothing was changed"), "{path}");
        }
        let nobody = Browser::new(&app).send_form(path, &field).await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(nobody.html.contains("Nothing was changed"), "{path}");
    }
    assert_eq!(app.world.store().audit_size().await.unwrap(), size, "nothing was changed");
    assert!(ana.page(&request).await.html.contains("Waiting"));
}

#[tokio::test]
async fn a_form_says_that_it_comes_from_a_form() {
    let app = App::start().await;
    let ana = Browser::of(&app, "ana").await;
    let csrf = ana.csrf().await;
    for kind in ["text/plain", "application/json", "multipart/form-data; boundary=x"] {
        let request = Request::builder()
            .method(Method::POST)
            .uri("/logout")
            .header(header::ORIGIN, &ana.origin)
            .header(header::CONTENT_TYPE, kind)
            .body(Body::from(form(&[("csrf", &csrf)])))
            .unwrap();
        assert_eq!(ana.send(request).await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    let long = "x".repeat(1 << 17);
    let refused = ana.send_form("/request", &[("csrf", &csrf), ("reason", &long)]).await;
    assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn opening_any_address_changes_nothing() {
    let app = App::start().await;
    let ana = Browser::of(&app, "ana").await;
    let ben = Browser::of(&app, "ben").await;
    let request = ana.ask("tokens:orders-admin", "order 4411").await;
    let granted = ana.ask("tokens:orders-read", "order 4411").await;
    let page = ana.page(&granted).await;
    let grant = page.html.split("/grants/grt_").nth(1).unwrap()[..26].to_owned();
    let own = [
        request.clone(),
        format!("{request}/approve"),
        format!("{request}/deny?comment=x"),
        format!("{request}?action=approve&decision=approve"),
        format!("/grants/grt_{grant}"),
        format!("/grants/grt_{grant}/credential"),
        format!("/grants/grt_{grant}/release"),
        "/request?e=ssh:deploy&reason=x&do=send".to_owned(),
        "/logout".to_owned(),
        "/policies?entitlement=ssh:root&duration=1h".to_owned(),
    ];
    app.world.broker.seal().await.unwrap();
    let size = app.world.store().audit_size().await.unwrap();
    for path in places().iter().chain(&own) {
        if path == "/live" {
            continue;
        }
        for method in ["GET", "HEAD"] {
            for browser in [&ana, &ben] {
                let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
                let shown = browser.send(request).await;
                assert!(!shown.status.is_server_error(), "{method} {path}: {}", shown.html);
            }
        }
    }
    assert_eq!(app.world.store().audit_size().await.unwrap(), size);
    assert!(ana.page(&request).await.html.contains("Waiting"));
    assert!(ana.page(&granted).await.html.contains(">Open<"));
}
