//! Signing in on the command line by the portal: PKCE on loopback, and the device flow.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use serde_json::Value;

use crate::{
    http_app::{Answer, App},
    web_app::Browser,
};

const REDIRECT: &str = "http://127.0.0.1:4711/callback";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes()))
}

async fn token(app: &App, fields: &[(&str, &str)]) -> Answer {
    let mut all = vec![("client_id", "tidegate-cli")];
    all.extend_from_slice(fields);
    app.form("/login/token", None, &all).await
}

/// A code for the verifier, as ana's browser sends it back.
async fn code(browser: &Browser<'_>, verifier: &str) -> String {
    let challenge = challenge(verifier);
    let fields = [
        ("client_id", "tidegate-cli"),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
        ("state", "st"),
        ("host", "<b>laptop</b>"),
    ];
    let asked = browser.page(&format!("/authorize?{}", crate::web_app::form(&fields))).await;
    assert!(asked.html.contains("&#60;b&#62;laptop") && asked.html.contains("just run"), "{}", asked.html);
    let policy = asked.header("content-security-policy");
    assert!(policy.contains("form-action 'self' http://127.0.0.1:4711;"), "{policy}");
    let mut yes = fields.to_vec();
    yes.push(("answer", "yes"));
    let away = browser.post("/authorize", &yes).await;
    assert_eq!(away.status, StatusCode::SEE_OTHER, "{}", away.html);
    let url: url::Url = away.location().parse().unwrap();
    assert!(url.as_str().starts_with(REDIRECT));
    let pairs: std::collections::BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    assert_eq!(pairs["state"], "st");
    pairs["code"].clone()
}

#[tokio::test]
async fn a_code_brings_one_token_to_whoever_asked_for_it() {
    let app = App::start().await;
    let ana = Browser::of(&app, "ana").await;
    let verifier = "v".repeat(43);
    let exchange = async |code: &str, verifier: &str, redirect: &str| {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect),
        ];
        token(&app, &fields).await
    };
    let stolen = code(&ana, &verifier).await;
    for (verifier, redirect) in
        [("w".repeat(43).as_str(), REDIRECT), ("", REDIRECT), (&verifier, "http://127.0.0.1:4712/callback")]
    {
        let refused = exchange(&stolen, verifier, redirect).await;
        assert_eq!((refused.status, &refused.body["error"]), (StatusCode::BAD_REQUEST, &Value::from("invalid_grant")));
    }
    let made = exchange(&stolen, &verifier, REDIRECT).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    assert_eq!(made.header("cache-control"), "no-store");
    let secret = made.text("access_token");
    assert!(secret.starts_with("tgp_"));
    assert_eq!(exchange(&stolen, &verifier, REDIRECT).await.body["error"], "invalid_grant", "a code works once");
    let mut me = crate::http_app::anonymous("GET", "/v1/me");
    me.headers_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
    assert_eq!(app.answer(me).await.text("name"), "ana");
    assert!(ana.page("/people/me").await.html.contains("tidegate login on"));
    // It may be ended by whoever holds it.
    assert_eq!(app.form("/login/end", None, &[("token", &secret)]).await.status, StatusCode::OK);
    let mut me = crate::http_app::anonymous("GET", "/v1/me");
    me.headers_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
    assert_eq!(app.answer(me).await.status, StatusCode::UNAUTHORIZED);
    let late = code(&ana, &verifier).await;
    app.world.advance(61);
    assert_eq!(exchange(&late, &verifier, REDIRECT).await.body["error"], "expired_token");
    for bad in ["https://evil.example/", "http://evil.example:80/x"] {
        let query = crate::web_app::form(&[
            ("client_id", "tidegate-cli"),
            ("response_type", "code"),
            ("redirect_uri", bad),
            ("code_challenge", &challenge(&verifier)),
            ("code_challenge_method", "S256"),
        ]);
        assert_eq!(ana.open(&format!("/authorize?{query}")).await.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn a_device_gets_its_token_when_a_person_types_its_code_and_says_yes() {
    let app = App::start().await;
    let ana = Browser::of(&app, "ana").await;
    let begin = async || app.form("/login/device", None, &[("client_id", "tidegate-cli"), ("host", "build-7")]).await;
    let begun = begin().await;
    let (device, typed) = (begun.text("device_code"), begun.text("user_code"));
    assert!(typed.len() == 9 && begun.text("verification_uri").ends_with("/device"), "{}", begun.body);
    let poll = async |device: &str| token(&app, &[("grant_type", DEVICE), ("device_code", device)]).await;
    assert_eq!(poll(&device).await.body["error"], "authorization_pending");
    assert_eq!(poll(&device).await.body["error"], "slow_down");
    app.world.advance(6);
    assert_eq!(poll(&device).await.body["error"], "authorization_pending");

    assert!(!ana.page(&format!("/device?user_code={typed}")).await.html.contains(&typed), "no address fills it in");
    assert_eq!(ana.post("/device", &[("code", "BBBB-BBBB")]).await.status, StatusCode::NOT_FOUND);
    let shown = ana.post("/device", &[("code", &typed.to_lowercase())]).await;
    for words in [
        "build-7",
        "grant a remote device access in your name",
        "would never ask you to accept this",
        "Asks from",
        "data-left",
    ] {
        assert!(shown.html.contains(words), "{words}");
    }
    // Without the box nothing is said.
    ana.post("/device", &[("code", &typed), ("answer", "yes")]).await;
    app.world.advance(6);
    assert_eq!(poll(&device).await.body["error"], "authorization_pending");
    let done = ana.post("/device", &[("code", &typed), ("answer", "yes"), ("sure", "1")]).await;
    assert!(done.html.contains("Signed in there"), "{}", done.html);
    assert_eq!(ana.post("/device", &[("code", &typed), ("answer", "no")]).await.status, StatusCode::NOT_FOUND);
    app.world.advance(6);
    let made = poll(&device).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    assert_eq!(poll(&device).await.body["error"], "invalid_grant", "once");

    let other = begin().await;
    ana.post("/device", &[("code", &other.text("user_code")), ("answer", "no")]).await;
    assert_eq!(poll(&other.text("device_code")).await.body["error"], "access_denied");
    let slow = begin().await;
    app.world.advance(601);
    assert_eq!(poll(&slow.text("device_code")).await.body["error"], "expired_token");
    assert_eq!(ana.post("/device", &[("code", &slow.text("user_code"))]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(poll("tgc_nonsense").await.body["error"], "invalid_grant");
    let log = app.get("eve", "/v1/audit?limit=200").await.body.to_string();
    assert!(!log.contains("tgc_") && !log.contains(&typed), "no code is in the log");
    assert!(log.contains("sign_in.decided"));
}

#[tokio::test]
async fn a_token_ends_with_the_session_that_said_yes() {
    let app = App::start().await;
    let verifier = "v".repeat(50);
    let mint = async |browser: &Browser<'_>| {
        let code = code(browser, &verifier).await;
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.as_str()),
            ("code_verifier", verifier.as_str()),
            ("redirect_uri", REDIRECT),
        ];
        token(&app, &fields).await
    };
    let works = async |token: &str| app.world.broker.authenticate(token, "api").await.is_ok();
    // Signed out; all sessions ended; one ended by an administrator.
    for how in 0..3 {
        let ana = Browser::of(&app, "ana").await;
        let token = mint(&ana).await.text("access_token");
        assert!(works(&token).await);
        match how {
            0 => drop(ana.post("/logout", &[]).await),
            1 => drop(ana.post("/people/me/sign-out", &[]).await),
            _ => {
                let eve = app.world.who("eve").await;
                let session = app.world.broker.sessions(&eve, "ana").await.unwrap().remove(0);
                app.world.broker.end_session(&eve, session.id.parse().unwrap()).await.unwrap();
            }
        }
        assert!(!works(&token).await, "{how}");
    }
    // Signed in anew in the same browser: what the person made goes on, until that session ends.
    let ana = Browser::of(&app, "ana").await;
    let kept = mint(&ana).await.text("access_token");
    ana.send_form("/login/dev", &[("who", "ana")]).await;
    assert!(works(&kept).await);
    // A code of a session that ended meanwhile brings nothing.
    let late = code(&ana, &verifier).await;
    ana.post("/logout", &[]).await;
    assert!(!works(&kept).await);
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", late.as_str()),
        ("code_verifier", verifier.as_str()),
        ("redirect_uri", REDIRECT),
    ];
    assert_eq!(token(&app, &fields).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn who_is_deactivated_between_yes_and_exchange_gets_nothing() {
    let app = App::start().await;
    let ben = Browser::of(&app, "ben").await;
    let begun = app.form("/login/device", None, &[("client_id", "tidegate-cli")]).await;
    ben.post("/device", &[("code", &begun.text("user_code")), ("answer", "yes"), ("sure", "1")]).await;
    let store = app.world.store();
    let ben = store.subject(app.ids["ben"], app.world.now()).await.unwrap().unwrap().identity;
    let mut tx = store.begin().await.unwrap();
    let gone = tidegate::domain::identity::Identity { active: false, ..ben };
    let written = tx.update_identity(&gone, None, app.world.now()).await;
    tx.end(written).await.unwrap().unwrap();
    let answer = token(&app, &[("grant_type", DEVICE), ("device_code", &begun.text("device_code"))]).await;
    assert_eq!(answer.body["error"], "access_denied");
}
