//! Sessions of the portal: how they begin, what their cookie is like, and everything that ends them.

use http::StatusCode;
use tidegate::{domain::identity::Identity, edge::Portal};

use crate::{
    http_app::{App, ORIGIN, open, portal},
    web_app::Browser,
};

/// Is somebody signed in?
async fn inside(browser: &Browser<'_>) -> bool {
    browser.open("/").await.status == StatusCode::OK
}

#[tokio::test]
async fn one_click_begins_a_session_whose_cookie_scripts_cannot_read() {
    let app = App::start().await;
    let browser = Browser::new(&app);
    let away = browser.open("/grants?state=active").await;
    assert_eq!((away.status, away.location()), (StatusCode::SEE_OTHER, "/login?next=%2Fgrants%3Fstate%3Dactive"));
    let page = browser.page("/login?next=/grants").await;
    for name in ["ana", "ben", "eve"] {
        assert!(page.html.contains(&format!(r#"value="{name}""#)), "{name}");
    }
    let begun = browser.send_form("/login/dev", &[("who", "ana"), ("next", &page.field("next"))]).await;
    assert_eq!((begun.status, begun.location()), (StatusCode::SEE_OTHER, "/grants"));
    let cookie = begun.header("set-cookie");
    assert!(cookie.starts_with("tidegate=tgw_") && cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(cookie.contains("; Path=/; Max-Age=43200"), "{cookie}");
    assert!(!cookie.contains("Domain") && !cookie.contains("Secure"), "loopback has no TLS: {cookie}");
    assert!(inside(&browser).await);
}

#[tokio::test]
async fn with_tls_the_cookie_is_bound_to_its_host_and_browsers_stay_with_tls() {
    let secure = Portal { origins: vec!["https://tg.example".to_owned()], ..portal() };
    let app = App::with_portal(open(), secure).await;
    let browser = Browser { origin: "https://tg.example".to_owned(), ..Browser::new(&app) };
    let begun = browser.send_form("/login/dev", &[("who", "ana")]).await;
    let cookie = begun.header("set-cookie");
    assert!(cookie.starts_with("__Host-tidegate=") && cookie.ends_with("; Secure"), "{cookie}");
    let page = browser.page("/").await;
    assert!(page.header("strict-transport-security").starts_with("max-age=31536000"));
    // The name without the prefix, which a neighbour could plant, counts for nothing.
    let secret = browser.cookies.borrow_mut().remove("__Host-tidegate").unwrap();
    browser.cookies.borrow_mut().insert("tidegate".to_owned(), secret);
    assert!(!inside(&browser).await);
}

#[tokio::test]
async fn nobody_goes_on_in_a_session_that_was_planted() {
    let app = App::start().await;
    let attacker = Browser::of(&app, "ben").await;
    let planted = attacker.session().unwrap();
    let victim = Browser::new(&app);
    victim.cookies.borrow_mut().insert("tidegate".to_owned(), planted.clone());
    victim.send_form("/login/dev", &[("who", "ana")]).await;
    assert_ne!(victim.session().unwrap(), planted, "signing in makes a new secret");
    assert!(inside(&victim).await);
    assert!(!inside(&attacker).await, "the planted session is over");
    for nonsense in ["tgw_x", "", "tgp_0123456789012345678901234567890123456789012deadbeef"] {
        let browser = Browser::new(&app);
        browser.cookies.borrow_mut().insert("tidegate".to_owned(), nonsense.to_owned());
        assert!(!inside(&browser).await, "{nonsense}");
    }
}

#[tokio::test]
async fn after_signing_in_one_stays_here() {
    let app = App::start().await;
    for next in
        ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nSet-Cookie: x=1"]
    {
        let browser = Browser::new(&app);
        let begun = browser.send_form("/login/dev", &[("who", "ana"), ("next", next)]).await;
        assert_eq!((begun.status, begun.location()), (StatusCode::SEE_OTHER, "/"), "{next:?}");
        let encoded: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        assert_eq!(Browser::new(&app).page(&format!("/login?next={encoded}")).await.field("next"), "/", "{next:?}");
    }
}

#[tokio::test]
async fn only_tidegate_dev_has_people_to_choose() {
    let app = App::with_portal(open(), Portal { choices: Vec::new(), ..portal() }).await;
    let browser = Browser::new(&app);
    assert!(!browser.page("/login").await.html.contains("/login/dev"));
    assert_eq!(browser.send_form("/login/dev", &[("who", "ana")]).await.status, StatusCode::NOT_FOUND);
    let dev = App::start().await;
    for who in ["deploy-bot", "nobody", ""] {
        let refused = Browser::new(&dev).send_form("/login/dev", &[("who", who)]).await;
        assert_eq!(refused.status, StatusCode::NOT_FOUND, "{who}");
    }
    // From another site nobody is signed in, not even as somebody else.
    let refused = Browser::new(&dev).send_from(Some("https://evil.example"), "/login/dev", &[("who", "ben")]).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let none = App::with_portal(open(), Portal::default()).await;
    assert_eq!(Browser::new(&none).open("/login").await.status, StatusCode::NOT_FOUND);
    assert_eq!(none.get("ana", "/v1/me").await.status, StatusCode::OK);
}

#[tokio::test]
async fn signing_out_ends_the_session_and_not_only_the_cookie() {
    let app = App::start().await;
    let browser = Browser::of(&app, "ana").await;
    let secret = browser.session().unwrap();
    let left = browser.post("/logout", &[]).await;
    assert_eq!((left.status, left.location()), (StatusCode::SEE_OTHER, "/signed-out"));
    assert_eq!(browser.session(), None);
    assert!(browser.page("/signed-out").await.html.contains("You are signed out"));
    browser.cookies.borrow_mut().insert("tidegate".to_owned(), secret);
    assert!(!inside(&browser).await);
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_in_any_case_after_twelve_hours() {
    let app = App::start().await;
    let idle = Browser::of(&app, "ana").await;
    app.world.advance(59 * 60);
    assert!(inside(&idle).await);
    // The use is noted in the background; a session that is used lives on.
    for _ in 0..200 {
        if idle.page("/people/me").await.html.contains("used just now") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    app.world.advance(59 * 60);
    assert!(inside(&idle).await, "it was used within the hour");
    app.world.advance(61 * 60);
    assert!(!inside(&idle).await, "it was not used for an hour");
    let busy = Browser::of(&app, "ana").await;
    for _ in 0..13 {
        app.world.advance(55 * 60);
        if inside(&busy).await {
            // Let the note of the use reach the ledger.
            let session = app.world.store().sessions_of(app.ids["ana"], app.world.now(), 10).await.unwrap();
            for _ in 0..500 {
                let now = app.world.store().sessions_of(app.ids["ana"], app.world.now(), 10).await.unwrap();
                if now.first().map(|s| s.seen_at) != session.first().map(|s| s.seen_at)
                    || session.first().is_some_and(|s| s.seen_at == app.world.now())
                {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        }
    }
    app.world.advance(10 * 60);
    assert!(!inside(&busy).await, "twelve hours are over");
}

#[tokio::test]
async fn a_deactivated_person_is_signed_in_nowhere() {
    let app = App::start().await;
    let browser = Browser::of(&app, "ben").await;
    let other = Browser::of(&app, "ben").await;
    let store = app.world.store();
    let now = app.world.now();
    let ben = store.subject(app.ids["ben"], now).await.unwrap().unwrap().identity;
    let mut tx = store.begin().await.unwrap();
    let gone = Identity { active: false, ..ben.clone() };
    let written = tx.update_identity(&gone, None, now).await;
    tx.end(written).await.unwrap().unwrap();
    assert!(!inside(&browser).await && !inside(&other).await, "at once, by the next call");
    // And with the sessions revoked, they stay away if the person comes back.
    let mut tx = store.begin().await.unwrap();
    let written = tx.revoke_sessions_of(app.ids["ben"], now).await;
    assert_eq!(tx.end(written).await.unwrap().unwrap(), 2);
    let back = store.subject(app.ids["ben"], now).await.unwrap().unwrap().identity;
    let mut tx = store.begin().await.unwrap();
    let written = tx.update_identity(&Identity { active: true, ..back }, None, now).await;
    tx.end(written).await.unwrap().unwrap();
    assert!(!inside(&browser).await && !inside(&other).await);
    assert!(inside(&Browser::of(&app, "ben").await).await);
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_their_owner_and_by_administrators_alone() {
    let app = App::start().await;
    let (here, there) = (Browser::of(&app, "ana").await, Browser::of(&app, "ana").await);
    let listed = here.page("/people/me").await;
    assert_eq!(listed.html.matches("/end\"").count() - listed.html.matches("/tokens/").count(), 2);
    assert_eq!(listed.html.matches("this one").count(), 1);
    let other = app.world.broker.authenticate_session(&there.session().unwrap()).await.unwrap().session.to_string();

    let ben = Browser::of(&app, "ben").await;
    assert_eq!(ben.post(&format!("/sessions/{other}/end"), &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ben.open(&format!("/people/{}", app.ids["ana"])).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ben.post("/people/ana/sign-out", &[]).await.status, StatusCode::NOT_FOUND);
    assert!(inside(&there).await);

    assert_eq!(here.post(&format!("/sessions/{other}/end"), &[]).await.status, StatusCode::SEE_OTHER);
    assert!(inside(&here).await && !inside(&there).await);
    let eve = Browser::of(&app, "eve").await;
    assert!(eve.page("/people/ana").await.html.contains("End all sessions"));
    assert_eq!(eve.post("/people/ana/sign-out", &[]).await.status, StatusCode::SEE_OTHER);
    assert!(!inside(&here).await && inside(&eve).await);
    let actions = app.world.actions().await;
    assert!(actions.iter().filter(|a| *a == "session.begun").count() == 4, "{actions:?}");
    assert!(actions.iter().any(|a| a == "session.ended"), "{actions:?}");
    let log = app.get("eve", "/v1/audit?limit=200").await.body.to_string();
    assert!(!log.contains("tgw_"), "no secret of a session is in the log");
}

#[tokio::test]
async fn what_a_session_makes_does_not_outlast_it() {
    let app = App::start().await;
    let browser = Browser::of(&app, "ana").await;
    let visit = app.world.broker.authenticate_session(&browser.session().unwrap()).await.unwrap();
    let ttl = tidegate::domain::time::Ttl::from_seconds(86_400);
    let token = app.world.broker.create_token(&visit.ctx, None, "cli".to_owned(), ttl).await.unwrap();
    let until: tidegate::domain::time::Timestamp = token.expires_at.parse().unwrap();
    assert!(until <= app.world.now().plus(tidegate::domain::time::Ttl::seconds_or_one(12 * 3600)));
    assert_eq!(ORIGIN, portal().origin());
}

#[tokio::test]
async fn a_tab_that_is_open_keeps_nobody_signed_in() {
    let app = App::start().await;
    let browser = Browser::of(&app, "ana").await;
    for _ in 0..4 {
        app.world.advance(20 * 60);
        // What a page does by itself: it looks again, and it listens.
        for path in ["/approvals", "/live"] {
            let request = http::Request::builder().uri(path).header("tidegate-by-itself", "1");
            let request = request.header("cookie", format!("tidegate={}", browser.session().unwrap()));
            let answer = app.send(request.body(axum::body::Body::empty()).unwrap()).await;
            drop(answer);
        }
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        app.world.broker.seal().await.unwrap();
    }
    assert!(!inside(&browser).await, "nobody did anything for more than an hour");
}

#[tokio::test]
async fn a_slack_account_is_linked_after_signing_in_and_comparing() {
    let app = App::start().await;
    let account =
        tidegate::domain::slack::SlackUser { enterprise: String::new(), team: "T1".to_owned(), user: "U1".to_owned() };
    let broker = &app.world.broker;
    let picture = "https://pictures.example/1.png";
    let code = broker.offer_slack_link(&account, "Ana <b>A.</b>", picture).await.unwrap();
    let path = format!("/slack/link?code={}", code.expose());
    let browser = Browser::new(&app);
    let away = browser.open(&path).await;
    assert_eq!(away.status, StatusCode::SEE_OTHER);
    let next = browser.page(away.location()).await.field("next");
    let back = browser.send_form("/login/dev", &[("who", "ana"), ("next", &next)]).await;
    assert_eq!(back.location(), path, "signing in comes back to it");
    let asked = browser.page(&path).await;
    assert!(asked.html.contains("Ana &#60;b&#62;A.") && asked.html.contains("<code>U1</code>"), "{}", asked.html);
    assert!(!asked.html.contains("pictures.example"), "no foreign images");
    assert!(broker.authenticate_slack(&account).await.is_err(), "looking links nothing");
    let given = asked.field("code");
    let without = browser.send_form("/slack/link", &[("code", &given), ("answer", "yes")]).await;
    assert_eq!(without.status, StatusCode::FORBIDDEN);
    assert_eq!(browser.post("/slack/link", &[("code", &given), ("answer", "no")]).await.location(), "/people/me");
    assert!(broker.authenticate_slack(&account).await.is_err());
    let done = browser.post("/slack/link", &[("code", &given), ("answer", "yes")]).await;
    assert_eq!(done.location(), "/people/me?said=slack-linked", "{}", done.html);
    assert_eq!(broker.authenticate_slack(&account).await.unwrap().actor.identity.name, "ana");
    assert!(browser.page(&path).await.html.contains("Nothing to link"), "once");
    let me = browser.page("/people/me").await;
    let form = me.html.split("/slack/T1.U1/unlink").next().unwrap();
    let form = format!("{}/slack/T1.U1/unlink", form.rsplit('"').next().unwrap());
    let ben = Browser::of(&app, "ben").await;
    assert_eq!(ben.post(&form, &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(browser.post(&form, &[]).await.status, StatusCode::SEE_OTHER);
    assert!(broker.authenticate_slack(&account).await.is_err());
}
