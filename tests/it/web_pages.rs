//! What the portal shows: headers, foreign text, what others may not see, what came too late, the one hand-over.

use http::StatusCode;

use tidegate::broker::Settings;

use crate::{
    http_app::{App, open, portal},
    web_app::Browser,
    world::{Db, Plan},
};

#[tokio::test]
async fn every_answer_keeps_foreign_content_out() {
    let app = App::start().await;
    let ana = Browser::of(&app, "ana").await;
    for path in ["/", "/login", "/catalog", "/nowhere", "/grants/grt_x", "/request?e=ssh:root"] {
        let shown = ana.open(path).await;
        let policy = shown.header("content-security-policy").to_owned();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{path}: {policy}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(shown.header(name), value, "{path}: {name}");
        }
        for inline in ["<script>", " style=", " onclick=", " onload=", "javascript:", "<style"] {
            assert!(!shown.html.contains(inline), "{path} has {inline}");
        }
        assert!(!shown.html.contains("//fonts.") && !shown.html.contains("src=\"http"), "{path}");
    }
    let api = app.get("ana", "/v1/me").await;
    assert_eq!(api.header("content-security-policy"), "default-src 'none'; frame-ancestors 'none'");
    assert_eq!(api.header("referrer-policy"), "no-referrer");
}

#[tokio::test]
async fn files_are_kept_for_good_under_the_hash_of_their_content() {
    let app = App::start().await;
    let browser = Browser::new(&app);
    let page = browser.page("/login").await;
    let css = page.html.split("href=\"/assets/tidegate-").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let file = browser.page(&format!("/assets/tidegate-{css}")).await;
    assert_eq!(file.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(file.header("content-type"), "text/css; charset=utf-8");
    for other in ["/assets/tidegate-000000000000.css", "/assets/tidegate.css", "/assets/..%2f..%2fCargo.toml"] {
        assert_eq!(browser.open(other).await.status, StatusCode::NOT_FOUND, "{other}");
    }
}

/// What somebody could try to put into a page.
const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&{{7*7}}";

#[tokio::test]
async fn foreign_text_is_text_wherever_it_is_shown() {
    let app = App::start().await;
    let (ana, ben, eve) =
        (Browser::of(&app, "ana").await, Browser::of(&app, "ben").await, Browser::of(&app, "eve").await);
    let fields =
        [("e", "tokens:orders-admin"), ("duration", "900"), ("reason", EVIL), ("ticket", "<b>T-1</b>"), ("do", "send")];
    let asked = ana.post("/request", &fields).await;
    let request = asked.location().split('?').next().unwrap().to_owned();
    // A form that comes back with what was typed.
    let fields = [
        ("e", EVIL),
        ("duration", EVIL),
        ("other", EVIL),
        ("reason", EVIL),
        ("ticket", EVIL),
        ("start", EVIL),
        ("behalf", EVIL),
        ("key", EVIL),
        ("do", "check"),
    ];
    let back = ana.post("/request", &fields).await;
    assert!(back.status.is_client_error());
    let clean = |shown: &crate::web_app::Shown, place: &str| {
        assert!(
            !shown.html.contains("<script>alert")
                && !shown.html.contains("<img src=x")
                && !shown.html.contains("<b>T-1"),
            "{place}: {}",
            shown.html
        );
        assert!(!shown.html.contains("\"'><"), "{place}");
    };
    clean(&back, "the form");
    for (browser, path) in
        [(&ana, "/"), (&ben, "/approvals"), (&eve, "/audit"), (&ana, request.as_str()), (&ben, request.as_str())]
    {
        let shown = browser.page(path).await;
        clean(&shown, path);
        if path != "/audit" && path != "/" {
            assert!(shown.html.contains("alert(1)"), "{path} shows the text");
        }
    }
    let again = ana.page(&format!("/request?again={}", request.trim_start_matches("/requests/"))).await;
    clean(&again, "asked again");
    assert!(again.html.contains("alert(1)"));
    let denied = ben.decide(&request, "deny", &[("comment", EVIL)]).await;
    assert_eq!(denied.status, StatusCode::SEE_OTHER);
    clean(&ana.page(&request).await, "the decision");
    let encoded: String = url::form_urlencoded::byte_serialize(EVIL.as_bytes()).collect();
    for path in [
        format!("/catalog?q={encoded}&system={encoded}"),
        format!("/people?q={encoded}"),
        format!("/audit?about={encoded}"),
        format!("/policies?entitlement={encoded}&identity={encoded}&duration={encoded}&ticket={encoded}"),
        format!("/request?e={encoded}"),
        format!("/login?next={encoded}"),
        format!("/grants?state={encoded}&after={encoded}"),
        format!("/?said={encoded}"),
        format!("/people/{}", encoded.replace('+', "%20")),
    ] {
        clean(&eve.open(&path).await, &path);
    }
    // The browser's own name is foreign text too.
    let spoofed = Browser::new(&app);
    let request = http::Request::builder()
        .method("POST")
        .uri("/login/dev")
        .header("origin", &spoofed.origin)
        .header("user-agent", "<script>alert(1)</script>")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(axum::body::Body::from("who=ana"))
        .unwrap();
    spoofed.send(request).await;
    clean(&spoofed.page("/people/me").await, "the sessions");
}

#[tokio::test]
async fn what_is_not_for_you_is_not_there() {
    let app = App::start().await;
    let (ana, eve) = (Browser::of(&app, "ana").await, Browser::of(&app, "eve").await);
    let hers = eve_request(&app).await;
    for path in [
        hers.clone(),
        format!("/audit?about={}", hers.trim_start_matches("/requests/")),
        format!("/request?again={}", hers.trim_start_matches("/requests/")),
        format!("/people/{}", app.ids["eve"]),
        "/people/ben".to_owned(),
        "/grants/grt_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        "/grants/nonsense".to_owned(),
        "/requests/req_01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
    ] {
        let shown = ana.open(&path).await;
        assert_eq!(shown.status, StatusCode::NOT_FOUND, "{path}: {}", shown.html);
        assert!(shown.html.contains("There is nothing here"), "{path}");
    }
    assert_eq!(eve.open(&hers).await.status, StatusCode::OK);
    let audit = ana.page("/audit").await;
    assert!(audit.html.contains("for administrators and auditors") && !audit.html.contains("signed in"));
    assert!(!ana.page("/people").await.html.contains("ben@example.com"));
    assert!(!ana.page("/agents").await.html.contains("Kill switch"), "locks are the administrators'");
    // A problem of a page is logged as every other: the answer names the call.
    assert!(ana.open("/grants/nonsense").await.header("x-request-id").starts_with("cor_"));
}

/// A request that ana has nothing to do with: of the workload for which ana does not answer here.
async fn eve_request(app: &App) -> String {
    let grant = app.world.open("ben", "tokens:orders-read", 900).await;
    format!("/requests/{}", grant.request)
}

#[tokio::test]
async fn who_comes_too_late_is_told_who_decided() {
    let app = App::start().await;
    let (ana, ben) = (Browser::of(&app, "ana").await, Browser::of(&app, "ben").await);
    let request = ana.ask("tokens:orders-admin", "order 4411").await;
    let open = ben.page(&request).await;
    assert!(open.html.contains("/approve"));
    let terms = open.field("terms");
    // Enter in the comment presses the first button of the form, and that one does nothing.
    let form = open.html.split("/approve\" class=").nth(1).unwrap();
    assert!(form.split("<button").nth(1).unwrap().starts_with(" disabled hidden"), "{form}");
    assert!(!ana.page(&request).await.html.contains("/approve"), "four eyes: no button for oneself");
    assert_eq!(ana.post(&format!("{request}/approve"), &[("terms", &terms)]).await.status, StatusCode::FORBIDDEN);
    // What was not shown is not decided on, nor what is not what was shown.
    let approve = format!("{request}/approve");
    assert_eq!(ben.post(&approve, &[]).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(ben.post(&approve, &[("terms", &"0".repeat(32))]).await.status, StatusCode::CONFLICT);
    assert_eq!(
        ben.post(&approve, &[("terms", &terms), ("duration", "300"), ("comment", "go")]).await.status,
        StatusCode::SEE_OTHER
    );
    // The tab that was open all the while.
    let late = ben.post(&format!("{request}/deny"), &[("terms", &terms)]).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert!(late.html.contains("Somebody was faster") && late.html.contains("approved already"), "{}", late.html);
    let shown = ana.page(&request).await;
    assert!(shown.html.contains("Approved by ben.") && shown.html.contains("5 min at most"), "{}", shown.html);
    assert!(!ben.page(&request).await.html.contains("/approve"));
    let cancelled = ana.post(&format!("{request}/cancel"), &[]).await;
    assert_eq!(cancelled.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn before_approval_everybody_sees_what_taking_away_means() {
    let app = App::start().await;
    let (ana, ben) = (Browser::of(&app, "ana").await, Browser::of(&app, "ben").await);
    let form = ana.page("/request?e=ssh:deploy").await;
    assert!(form.html.contains("Ends when every verifier has heard of it") && form.html.contains("Residual window"));
    let request = ana.ask("ssh:deploy", "release 12").await;
    for (browser, path) in [(&ben, "/approvals"), (&ben, request.as_str()), (&ana, request.as_str())] {
        let shown = browser.page(path).await;
        assert!(shown.html.contains("Ends when every verifier has heard of it"), "{path}");
        assert!(shown.html.contains("lapses <time"), "{path}: one clock");
        assert_eq!(shown.html.matches("class=\"clock").count(), 1, "{path}: one clock");
    }
}

#[tokio::test]
async fn a_credential_is_on_one_page_once() {
    let app = App::start().await;
    let ana = Browser::of(&app, "ana").await;
    let request = ana.ask("tokens:orders-read", "order 4411").await;
    let page = ana.page(&request).await;
    let grant = format!("/grants/grt_{}", &page.html.split("/grants/grt_").nth(1).unwrap()[..26]);
    assert_eq!(ana.open(&format!("{grant}/credential")).await.status, StatusCode::METHOD_NOT_ALLOWED);
    let claimed = ana.post(&format!("{grant}/credential"), &[]).await;
    assert_eq!(claimed.status, StatusCode::OK);
    assert_eq!((claimed.header("cache-control"), claimed.header("pragma")), ("no-store", "no-cache"));
    let token = claimed.html.split("aria-label=\"token\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert!(token.len() > 100, "{token}");
    for path in [grant.as_str(), request.as_str(), "/", "/grants"] {
        assert!(!ana.page(path).await.html.contains(&token), "{path}");
    }
    let eve = Browser::of(&app, "eve").await;
    let refused = eve.post(&format!("{grant}/credential"), &[]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "only its holder claims it");
    let released = ana.post(&format!("{grant}/release"), &[]).await;
    assert_eq!(released.status, StatusCode::SEE_OTHER);
    app.world.settle().await;
    let ended = ana.page(&grant).await;
    assert!(
        ended.html.contains("Closed and verified at") && ended.html.contains("What the target answered"),
        "{}",
        ended.html
    );
}

#[tokio::test]
async fn a_form_sent_twice_is_one_request() {
    let app = App::start().await;
    let ana = Browser::of(&app, "ana").await;
    let form = ana.page("/request?e=tokens:orders-admin").await;
    let (csrf, key) = (form.field("csrf"), form.field("key"));
    let fields = [
        ("csrf", csrf.as_str()),
        ("key", &key),
        ("e", "tokens:orders-admin"),
        ("duration", "900"),
        ("reason", "order 4411"),
        ("do", "send"),
    ];
    let first = ana.send_form("/request", &fields).await;
    let second = ana.send_form("/request", &fields).await;
    assert_eq!(first.location(), second.location());
    let mut changed = fields;
    changed[4] = ("reason", "another order");
    assert_eq!(ana.send_form("/request", &changed).await.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn an_inbox_with_a_thousand_requests_opens_page_by_page() {
    let settings = Settings { max_pending: 1000, ..Settings::default() };
    let world = Plan { settings, ..Plan::on(Db::Sqlite) }.build().await;
    let app = App::build(world, open(), portal()).await;
    for _ in 0..1000 {
        app.world.ask("ana", crate::world::want("ssh:deploy", 600)).await.unwrap();
    }
    let ben = Browser::of(&app, "ben").await;
    let first = ben.page("/approvals").await;
    assert_eq!(first.html.matches("data-approve>").count(), 15);
    assert!(first.html.contains(">100<span"), "the count stops at a hundred: {}", &first.html[..3000]);
    let next = first.html.split("/approvals?after=").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let second = ben.page(&format!("/approvals?after={next}")).await;
    assert_eq!(second.html.matches("data-approve>").count(), 15);
    assert!(first.html.len() < 150_000, "{}", first.html.len());
}
