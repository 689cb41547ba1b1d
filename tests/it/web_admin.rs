//! Pages for those who run the place: versions of the policy, the directory, figures, deliveries, the system.

use crate::{
    http_app::{App, open, portal},
    on_both,
    verbs_help::{claim, edit, policies, sql},
    web_app::Browser,
    world::{Db, Plan, want},
};
use http::StatusCode;

async fn pages_for_administrators_are_for_them_alone(db: Db) {
    let app = App::on(db).await;
    let (ana, eve) = (Browser::of(&app, "ana").await, Browser::of(&app, "eve").await);
    ana.ask("tokens:orders-read", "look").await;
    for (path, words) in [
        ("/directory", "Sources"),
        ("/insights", "Requests a day"),
        ("/integrations", "What was told"),
        ("/system", "Behind the clock"),
    ] {
        assert!(eve.page(path).await.html.contains(words), "{path}");
        assert_eq!(ana.open(path).await.status, StatusCode::FORBIDDEN, "{path}");
        assert!(!ana.page("/").await.html.contains(&format!("href=\"{path}\"")), "{path}");
    }
    let system = eve.page("/system").await;
    assert!(system.html.contains("dev-token") && system.html.contains(env!("CARGO_PKG_VERSION")));
    let checked = eve.post("/system/targets/dev-token/check", &[]).await;
    assert!(checked.html.contains("dev-token was asked"), "{}", checked.html);
    assert_eq!(ana.post("/system/targets/dev-token/check", &[]).await.status, StatusCode::FORBIDDEN);
    assert_eq!(eve.post("/system/targets/nothing/check", &[]).await.status, StatusCode::NOT_FOUND);
    assert!(eve.page("/policies?tests=1").await.html.contains("Every rule is determined by at least one."));
    let figures = eve.page("/insights").await;
    assert!(figures.html.contains("tokens:orders-read") && figures.html.contains("As a table"));
}

async fn what_was_told_is_told_again(db: Db) {
    let app = App::on(db).await;
    let eve = Browser::of(&app, "eve").await;
    let id = "msg_01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let row = format!(
        "INSERT INTO outbox (id, notifier, kind, at, data, attempts, epoch, last_error) \
         VALUES ('{id}', 'siem', 'access.grant.ended', 1, '{{}}', 10, 0, 'it answers 500')"
    );
    sql(&app.world, &row).await;
    let shown = eve.page("/integrations").await;
    assert!(shown.html.contains("Given up") && shown.html.contains("it answers 500"), "{}", shown.html);
    let done = eve.post(&format!("/integrations/{id}/replay"), &[]).await;
    assert_eq!(done.location(), "/integrations?said=told-again", "{}", done.html);
    assert!(eve.page("/integrations").await.html.contains("Waiting"));
    let ana = Browser::of(&app, "ana").await;
    assert_eq!(ana.post(&format!("/integrations/{id}/replay"), &[]).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn versions_of_the_policy_are_kept_and_compared() {
    let to = tempfile::tempdir().unwrap();
    let mut plan = Plan::on(Db::Sqlite);
    plan.policies = policies(to.path());
    let app = App::build(plan.build().await, open(), portal()).await;
    let broker = &app.world.broker;
    broker.keep_policy().await.unwrap();
    let before = broker.policy().version().to_owned();
    let (ana, eve) = (Browser::of(&app, "ana").await, Browser::of(&app, "eve").await);
    let request = ana.ask("tokens:orders-admin", "order 4411").await;
    let rules = to.path().join("access.cedar");
    edit(&rules, "everyday access of engineers is automatic", "everyday access is <automatic>");
    broker.policy_engine().reload().unwrap();
    app.world.advance(60);
    broker.keep_policy().await.unwrap();
    let after = broker.policy().version().to_owned();
    assert_ne!(before, after);
    let shown = eve.page(&format!("/policies?from={before}&to={after}")).await;
    assert!(shown.html.contains("access.cedar"), "{}", shown.html);
    assert!(shown.html.contains("-@reason(&#34;everyday access of engineers is automatic&#34;)"), "{}", shown.html);
    assert!(!shown.html.contains("<automatic>"));
    // Requests from before say so, and lead there.
    let page = eve.page(&request).await;
    assert!(page.html.contains(&format!("/policies?from={before}&amp;to={after}")), "{}", page.html);
    assert!(ana.page(&request).await.html.contains("The policy has changed since this was asked"));
    // The cases that came with it hold, and the simulator says why rule by rule.
    let cases = eve.page("/policies?tests=1").await;
    assert!(cases.html.contains("are not determined by any case"), "{}", cases.html);
    let trace = eve.page("/policies?entitlement=tokens:orders-admin&identity=ana&at=2026-11-24T12:00").await;
    assert!(trace.html.contains("Every rule, and what became of it") && trace.html.contains("engineers-ask-elevated"));
    let mine = ana.page(&format!("/policies?entitlement=tokens:orders-admin&tests=1&from={before}&to={after}")).await;
    assert!(
        !mine.html.contains("Every rule") && !mine.html.contains("id=\"diff\"") && !mine.html.contains("determined")
    );
    let unknown = eve.page("/policies?from=000000000000&to=111111111111").await;
    assert!(unknown.html.contains("were not kept"));
}

async fn agents_say_when_they_were_seen_and_what_they_claimed(db: Db) {
    let app = App::on(db).await;
    let eve = Browser::of(&app, "eve").await;
    let asked = app.world.ask("deploy-bot", want("tokens:orders-read", 600)).await.unwrap();
    claim(&app.world, "deploy-bot", &asked.grants[0].id).await.unwrap();
    let page = eve.page("/agents").await;
    assert!(page.html.contains("Claimed lately") && page.html.contains("1 request in 24 h"), "{}", page.html);
    assert!(page.html.contains("Used last"));
}

on_both!(
    pages_for_administrators_are_for_them_alone,
    what_was_told_is_told_again,
    agents_say_when_they_were_seen_and_what_they_claimed,
);
