//! Signing in with a real OpenID provider (npm `oidc-provider`), over real HTTP, and all that can be wrong with it.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use http::StatusCode;
use tidegate::{
    app::Policies,
    domain::{identity::Identity, secret::Secret},
    edge::Portal,
    oidc,
};
use url::Url;

use crate::{
    http_app::{App, ORIGIN, open, portal},
    web_app::{Browser, Shown},
    web_browser::tools,
};

const CALLBACK: &str = "http://127.0.0.1:8420/login/oidc/callback";

struct Idp {
    port: u16,
    process: Option<Child>,
    /// Kept open: a provider that cannot say what it wants to say ends.
    says: Option<BufReader<ChildStdout>>,
}

impl Idp {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port();
        let mut it = Self { port, process: None, says: None };
        it.run();
        it
    }

    fn run(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/oidc-provider.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .arg(self.port.to_string())
            .arg(tools())
            .args([CALLBACK, "http://127.0.0.1:8420/login"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node: run `make deps`");
        let mut line = String::new();
        let mut says = BufReader::new(process.stdout.take().unwrap());
        says.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "up");
        self.says = Some(says);
        self.process = Some(process);
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn settings(&self) -> oidc::Settings {
        oidc::Settings {
            name: "Harbour ID".to_owned(),
            issuer: format!("http://127.0.0.1:{}", self.port).parse().unwrap(),
            client_id: "tidegate".to_owned(),
            client_secret: Some(Secret::new("a secret+with/odd=characters".to_owned())),
            name_claim: None,
            trust_email: false,
            allow_loopback: true,
        }
    }
}

fn idle_settings() -> oidc::Settings {
    Idp { port: 1, process: None, says: None }.settings()
}

impl Drop for Idp {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn app_with(settings: oidc::Settings) -> App {
    // The provider's clock is the machine's, so the broker's is set to it.
    app_on(crate::world::World::on(crate::world::Db::Sqlite).await, settings).await
}

async fn app_on(world: crate::world::World, settings: oidc::Settings) -> App {
    #[allow(clippy::disallowed_methods, reason = "the provider's clock is the machine's")]
    let now = jiff::Timestamp::now().as_second();
    world.advance(u64::try_from(now - world.now().seconds()).unwrap());
    let provider = oidc::Provider::new(settings).unwrap();
    App::build(world, open(), Portal { choices: Vec::new(), provider: Some(Arc::new(provider)), ..portal() }).await
}

/// Somebody at the provider: sends its forms until it sends the browser back to us.
async fn at_the_provider(start: &str, who: &str) -> Url {
    #[allow(clippy::disallowed_methods, reason = "a browser of its own, which follows no redirect")]
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let mut cookies: BTreeMap<String, String> = BTreeMap::new();
    let mut url: Url = start.parse().unwrap();
    let mut form: Option<Vec<(&str, String)>> = None;
    for _ in 0..12 {
        let call = match form.take() {
            Some(fields) => client.post(url.clone()).form(&fields),
            None => client.get(url.clone()),
        };
        let pairs: Vec<String> = cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let answer = call.header("cookie", pairs.join("; ")).send().await.unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            cookies.insert(name.to_owned(), rest.split(';').next().unwrap().to_owned());
        }
        if let Some(location) = answer.headers().get("location") {
            url = url.join(location.to_str().unwrap()).unwrap();
            if url.as_str().starts_with(CALLBACK) {
                return url;
            }
            continue;
        }
        let page = answer.text().await.unwrap();
        let action =
            page.split("action=\"").nth(1).unwrap_or_else(|| panic!("no form: {page}")).split('"').next().unwrap();
        let prompt = page.split("name=\"prompt\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let mut fields = vec![("prompt", prompt.clone())];
        if prompt == "login" {
            fields.extend([("login", who.to_owned()), ("password", "x".to_owned())]);
        }
        url = url.join(action).unwrap();
        form = Some(fields);
    }
    panic!("the provider does not come to an end");
}

/// Off to the provider; where it is.
async fn go(browser: &Browser<'_>) -> String {
    let away = browser.open("/login/oidc?next=/grants").await;
    assert_eq!(away.status, StatusCode::SEE_OTHER, "{}", away.html);
    away.location().to_owned()
}

async fn back(browser: &Browser<'_>, url: &Url) -> Shown {
    browser.open(&format!("{}?{}", url.path(), url.query().unwrap_or_default())).await
}

async fn sign_in(browser: &Browser<'_>, who: &str) -> Shown {
    let url = at_the_provider(&go(browser).await, who).await;
    back(browser, &url).await
}

#[track_caller]
fn refused(shown: &Shown, words: &str) {
    assert_eq!(shown.status, StatusCode::FORBIDDEN, "{}", shown.html);
    assert!(shown.html.contains(words), "`{words}`: {}", shown.html);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_of_the_directory_signs_in_with_the_groups_of_the_directory() {
    let idp = Idp::start();
    let app = app_with(idp.settings()).await;
    let browser = Browser::new(&app);
    assert!(browser.page("/login?next=/grants").await.html.contains("Sign in with Harbour ID"));
    let start: Url = go(&browser).await.parse().unwrap();
    let asked: BTreeMap<String, String> = start.query_pairs().into_owned().collect();
    assert_eq!((asked["response_type"].as_str(), asked["code_challenge_method"].as_str()), ("code", "S256"));
    assert!(asked["state"].len() == 43 && asked["nonce"].len() == 43 && asked["code_challenge"].len() == 43);
    assert!(!asked["scope"].contains("groups"));
    let url = at_the_provider(start.as_str(), "ana").await;
    let begun = back(&browser, &url).await;
    assert_eq!((begun.status, begun.location()), (StatusCode::SEE_OTHER, "/grants"), "{}", begun.html);
    assert!(!browser.cookies.borrow().contains_key("tidegate-sign-in"), "what was kept for the way is gone");
    // What the provider wants to see at the end stays in this browser, for one page.
    let mut cookies = begun.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap());
    let hint = cookies.find(|c| c.starts_with("tidegate-hint=ey")).expect("a hint for the end");
    assert!(hint.contains("; Path=/signed-out; ") && hint.contains("; HttpOnly; SameSite=Lax"), "{hint}");
    let me = browser.page("/people/me").await;
    assert!(me.html.contains("<li>engineers</li>") && me.html.contains("by identity provider"), "{}", me.html);
    assert!(!me.html.contains("tidegate-admins"), "what the token says of groups does not matter");
    assert_eq!(browser.open("/people/ben").await.status, StatusCode::NOT_FOUND);

    // The same answer again: the cookie is gone, and with the cookie the code is used up.
    refused(&back(&browser, &url).await, "did not begin in this browser");

    // Out here, and at the provider too.
    browser.post("/logout", &[]).await;
    let left = browser.page("/signed-out").await;
    let out = left.html.split("/session/end?").nth(1).expect("the way out at the provider").split('"').next().unwrap();
    let out = out.replace("&amp;", "&").replace("&#38;", "&");
    let hint = out.split("id_token_hint=").nth(1).expect("the hint of the sign-in").to_owned();
    assert!(out.contains("client_id=tidegate") && out.contains("post_logout_redirect_uri="), "{out}");
    assert_eq!(left.header("cache-control"), "no-store");
    #[allow(clippy::disallowed_methods, reason = "the browser of the person who leaves")]
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let leave = async |with: &str| {
        let there = format!("http://127.0.0.1:{}/session/end?{}", idp.port, out.replace(&hint, with));
        let answer = client.get(there).send().await.unwrap();
        let back = answer.headers().get("location").map(|v| v.to_str().unwrap().to_owned());
        (answer.status().as_u16(), back)
    };
    // With what it made itself the provider need not ask; without, it does; and it believes nothing else.
    let (status, back) = leave(&hint).await;
    assert!(status == 200 || back.as_deref() == Some("http://127.0.0.1:8420/login"), "{status} {back:?}");
    let broken = format!("{}x", &hint[..hint.len() - 4]);
    assert_eq!(leave(&broken).await.0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_the_directory_does_not_know_is_refused_with_a_word() {
    let idp = Idp::start();
    let app = app_with(idp.settings()).await;
    refused(&sign_in(&Browser::new(&app), "zoe").await, "does not know you");
    // An e-mail that nobody has verified is worth nothing, whosever it is.
    refused(
        &sign_in(&Browser::new(&app), "mallory").await,
        "neither a name that the directory knows nor a verified e-mail",
    );
    let store = app.world.store();
    let ana = store.subject(app.ids["ana"], app.world.now()).await.unwrap().unwrap().identity;
    let mut tx = store.begin().await.unwrap();
    let written = tx.update_identity(&Identity { active: false, ..ana }, None, app.world.now()).await;
    tx.end(written).await.unwrap().unwrap();
    refused(&sign_in(&Browser::new(&app), "ana").await, "deactivated");
    assert!(!app.world.actions().await.iter().any(|a| a == "session.begun"));
    // By a name, where the configuration says which claim holds it.
    let named = app_with(oidc::Settings { name_claim: Some("preferred_username".to_owned()), ..idp.settings() }).await;
    refused(&sign_in(&Browser::new(&named), "zoe").await, "does not know you");
    refused(&sign_in(&Browser::new(&named), "deploy-bot").await, "does not know you");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_belongs_to_one_browser_and_one_attempt() {
    let idp = Idp::start();
    let app = app_with(idp.settings()).await;
    // Somebody else's answer, put under a link: no cookie, or another one.
    let (mine, other) = (Browser::new(&app), Browser::new(&app));
    let url = at_the_provider(&go(&mine).await, "ana").await;
    refused(&back(&other, &url).await, "did not begin in this browser");
    go(&other).await;
    refused(&back(&other, &url).await, "belongs to another sign-in");
    // The right state, with the nonce or the verifier of another attempt.
    for part in [1, 2] {
        let browser = Browser::new(&app);
        let url = at_the_provider(&go(&browser).await, "ana").await;
        let kept = browser.cookies.borrow()["tidegate-sign-in"].clone();
        let mut parts: Vec<String> = kept.split('.').map(str::to_owned).collect();
        parts[part] = "x".repeat(43);
        browser.cookies.borrow_mut().insert("tidegate-sign-in".to_owned(), parts.join("."));
        refused(&back(&browser, &url).await, if part == 1 { "answers another sign-in" } else { "said no" });
    }
    // The provider says no.
    let browser = Browser::new(&app);
    let start: Url = go(&browser).await.parse().unwrap();
    let state = start.query_pairs().find(|(n, _)| n == "state").unwrap().1.into_owned();
    let no = format!("{CALLBACK}?error=access_denied&error_description=%3Cb%3Eno%3C/b%3E&state={state}");
    let shown = back(&browser, &no.parse().unwrap()).await;
    refused(&shown, "said no");
    assert!(!shown.html.contains("<b>no</b>"));
    assert!(mine.open("/").await.status == StatusCode::SEE_OTHER);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_provider_rotates_its_keys_goes_away_and_comes_back() {
    let mut idp = Idp::start();
    let app = app_with(idp.settings()).await;
    let first = Browser::new(&app);
    assert_eq!(sign_in(&first, "ana").await.status, StatusCode::SEE_OTHER);
    idp.stop();
    idp.run();
    app.world.advance(31);
    let second = Browser::new(&app);
    assert_eq!(sign_in(&second, "ana").await.status, StatusCode::SEE_OTHER, "with a key that was not known before");
    idp.stop();
    // Whoever is signed in goes on; new ones are told why.
    assert_eq!(first.open("/grants").await.status, StatusCode::OK);
    app.world.advance(25 * 3600);
    let shown = Browser::new(&app).open("/login/oidc").await;
    refused(&shown, "does not answer, so nobody can sign in at the moment");
    idp.run();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_one_subject_of_the_provider_until_an_administrator_resets_it() {
    let idp = Idp::start();
    let app = app_with(idp.settings()).await;
    assert_eq!(sign_in(&Browser::new(&app), "ana").await.status, StatusCode::SEE_OTHER);
    // The e-mail went to another account.
    refused(&sign_in(&Browser::new(&app), "twin").await, "Another account at the identity provider");
    assert_eq!(sign_in(&Browser::new(&app), "ana").await.status, StatusCode::SEE_OTHER);
    let (ben, eve) = (app.world.who("ben").await, app.world.who("eve").await);
    assert!(app.world.broker.reset_sign_in(&ben, "ana").await.is_err());
    assert_eq!(app.world.broker.reset_sign_in(&eve, "ana").await.unwrap(), 1);
    assert_eq!(sign_in(&Browser::new(&app), "twin").await.status, StatusCode::SEE_OTHER);
    refused(&sign_in(&Browser::new(&app), "ana").await, "Another account at the identity provider");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_hangs_is_asked_once_for_everybody_and_then_left_alone() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = silent.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            kept.push(socket);
        }
    });
    let settings = oidc::Settings { issuer: format!("http://127.0.0.1:{port}").parse().unwrap(), ..idle_settings() };
    let app = app_with(settings).await;
    let browser = Browser::new(&app);
    let all = futures::future::join_all((0..5).map(|_| browser.open("/login/oidc"))).await;
    for shown in &all {
        refused(shown, "does not answer, so nobody can sign in");
    }
    let times = || asked.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(times(), 1, "one asks for all who wait");
    refused(&browser.open("/login/oidc").await, "does not answer");
    assert_eq!(times(), 1, "and nobody asks again at once");
    app.world.advance(31);
    refused(&browser.open("/login/oidc").await, "does not answer");
    assert_eq!(times(), 2);
}

/// The policies of the seed, with another line at one entitlement.
fn policies_with(line: &str, after: &str) -> tempfile::TempDir {
    let (from, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"), tempfile::tempdir().unwrap());
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
        let mut text = std::fs::read_to_string(entry.path()).unwrap();
        if entry.file_name() == "catalog.toml" {
            assert!(text.contains(after));
            text = text.replace(after, &format!("{after}\n{line}"));
        }
        std::fs::write(to.path().join(entry.file_name()), text).unwrap();
    }
    to
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sensitive_is_approved_by_whoever_signed_in_just_now() {
    let idp = Idp::start();
    let policies = policies_with("step_up = \"15m\"", "title = \"Administer orders\"");
    let mut plan = crate::world::Plan::on(crate::world::Db::Sqlite);
    plan.policies = Policies::Directory(policies.path().to_owned());
    let app = app_on(plan.build().await, idp.settings()).await;
    let world = &app.world;
    let id = world.ask("ana", crate::world::want("tokens:orders-admin", 600)).await.unwrap().id;
    let request = format!("/requests/{id}");
    // Ben's session is of this morning.
    let who = world.broker.person_of_dev("ben").await.unwrap();
    let morning = tidegate::broker::Arrival {
        method: "oidc",
        user_agent: String::new(),
        address: "127.0.0.1".to_owned(),
        correlation: tidegate::domain::id::CorrelationId::new(world.broker.entropy().ulid(world.now()).unwrap()),
        proved_at: Some(world.now().minus_std(Duration::from_secs(3600))),
    };
    let session = world.broker.begin_session(&who, &morning, None).await.unwrap();
    let browser = Browser::new(&app);
    browser.cookies.borrow_mut().insert("tidegate".to_owned(), session.secret.expose().to_owned());
    // A token approves nothing of the kind.
    let by_token = app.post("ben", &format!("/v1{request}/approve"), serde_json::json!({})).await;
    assert_eq!((by_token.status.as_u16(), by_token.problem()), (403, "prove-again"), "{}", by_token.body);
    let away = browser.decide(&request, "approve", &[]).await;
    assert_eq!(away.status, StatusCode::SEE_OTHER, "{}", away.html);
    assert!(away.location().starts_with("/login/oidc?again=1&next=%2Frequests%2F"), "{}", away.location());
    let start = browser.open(away.location()).await.location().to_owned();
    assert!(start.contains("prompt=login") && start.contains("max_age=0"), "{start}");
    let back_here = back(&browser, &at_the_provider(&start, "ben").await).await;
    assert_eq!(back_here.location(), format!("{request}?said=proved"), "{}", back_here.html);
    let shown = browser.page(back_here.location()).await;
    assert!(shown.html.contains("Nothing is decided yet"), "{}", shown.html);
    let state = async || world.store().request(id.parse().unwrap()).await.unwrap().unwrap().state;
    assert_eq!(state().await, tidegate::domain::request::RequestState::Pending);
    assert!(browser.decide(&request, "approve", &[]).await.location().contains("said=approved"));
    assert_eq!(state().await, tidegate::domain::request::RequestState::Approved);
    // A provider that does not ask again is not believed: the sign-in began without it.
    let other = Browser::new(&app);
    let url = at_the_provider(&go(&other).await, "ben").await;
    let kept = other.cookies.borrow()["tidegate-sign-in"].clone();
    let mut parts: Vec<&str> = kept.splitn(5, '.').collect();
    parts[3] = "1";
    let forged = parts.join(".");
    other.cookies.borrow_mut().insert("tidegate-sign-in".to_owned(), forged);
    refused(&back(&other, &url).await, "did not ask who you are once more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_may_differ_by_a_minute_and_not_by_more() {
    let idp = Idp::start();
    let near = app_with(idp.settings()).await;
    near.world.advance(50);
    assert_eq!(sign_in(&Browser::new(&near), "ana").await.status, StatusCode::SEE_OTHER);
    near.world.advance(Duration::from_secs(1200).as_secs());
    refused(&sign_in(&Browser::new(&near), "ana").await, "not made just now");
    near.world.advance(7200);
    refused(&sign_in(&Browser::new(&near), "ana").await, "has expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_provider_does_not_answer_for_this_one() {
    let idp = Idp::start();
    let issuer = format!("http://localhost:{}", idp.port).parse().unwrap();
    let app = app_with(oidc::Settings { issuer, ..idp.settings() }).await;
    refused(&Browser::new(&app).open("/login/oidc").await, "calls itself by another name");
    let wrong =
        app_with(oidc::Settings { client_secret: Some(Secret::new("wrong".to_owned())), ..idp.settings() }).await;
    refused(&sign_in(&Browser::new(&wrong), "ana").await, "said no");
    assert_eq!(ORIGIN, "http://127.0.0.1:8420");
}
