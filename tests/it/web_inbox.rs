//! The inbox and the page of a request: what an approver is told of whoever asks, who looks at it, what it would change,
//! what people say about it; favourites; and signing in again before asking.

use http::StatusCode;
use tidegate::broker::{
    BrokerError,
    input::{Ask, Decide, Paging},
};

use crate::{
    http_app::{App, open, portal},
    on_both,
    verbs_help::{EMERGENCY, edit, events, on_call, policies},
    web_app::{Browser, Shown},
    world::{Db, Plan, World, want},
};

const ADMIN: &str = "tokens:orders-admin";
const LEDGER: &str = "tokens:ledger-admin";

/// The part of a page between two marks.
fn part<'a>(shown: &'a Shown, from: &str, to: &str) -> &'a str {
    let rest = shown.html.split_once(from).unwrap_or_else(|| panic!("no `{from}`: {}", shown.html)).1;
    rest.split_once(to).map_or(rest, |(part, _)| part)
}

async fn an_approver_is_told_of_whoever_asks(db: Db) {
    let world = World::on(db).await;
    let ben = world.who("ben").await;
    for approve in [true, false, false] {
        let id = world.ask("ana", want(ADMIN, 600)).await.unwrap().id.parse().unwrap();
        let decided = if approve {
            world.broker.approve(&ben, id, Decide::default()).await
        } else {
            world.broker.deny(&ben, id, Decide::default()).await
        };
        decided.unwrap();
    }
    // What was long ago does not count.
    world.advance(31 * 86_400);
    let id = world.ask("ana", want(ADMIN, 600)).await.unwrap().id.parse().unwrap();
    world.broker.deny(&world.who("ben").await, id, Decide::default()).await.unwrap();
    let pending = world.ask("ana", want(ADMIN, 3600 * 2)).await.unwrap();
    let urgent = world.broker.urgent(&world.who("ben").await, Paging::default()).await.unwrap();
    assert_eq!(urgent.items.len(), 1);
    let context = urgent.items[0].context.clone().expect("for whoever decides");
    assert_eq!((context.asked, context.approved, context.denied, context.lapsed), (2, 0, 1, 0));
    assert!(context.marks.iter().any(|m| m.contains("not granted to them in the last 30 days")), "{:?}", context.marks);
    assert!(!context.on_call);
    // Whoever asks is told nothing of the kind.
    let mine = world.broker.request(&world.who("ana").await, pending.id.parse().unwrap()).await.unwrap();
    assert!(mine.context.is_none());
    // Emergencies come first, however late they were asked.
    on_call(&world).await;
    let ana = world.in_portal("ana").await;
    world.broker.ask(&ana, Ask { emergency: true, ..want(LEDGER, 600) }).await.unwrap();
    let urgent = world.broker.urgent(&world.who("ben").await, Paging::default()).await.unwrap();
    assert!(urgent.items[0].emergency);
    assert!(urgent.items[0].context.as_ref().unwrap().marks.contains(&"emergency".to_owned()));
}

async fn whoever_looks_at_a_request_is_seen_for_ten_minutes_and_binds_nobody(db: Db) {
    let app = App::on(db).await;
    let (ana, ben) = (Browser::of(&app, "ana").await, Browser::of(&app, "ben").await);
    let request = ana.ask(ADMIN, "order 4411").await;
    assert!(ben.page("/approvals").await.html.contains("I look at it"));
    let done = ben.post(&format!("{request}/take-up"), &[("back", "approvals")]).await;
    assert_eq!(done.location(), "/approvals?said=taken-up", "{}", done.html);
    assert!(ben.page("/approvals").await.html.contains("You look at it"));
    let seen = |shown: &Shown| shown.html.contains("looks at it");
    assert!(seen(&ana.page(&request).await), "it is in the timeline");
    // Again within the time says nothing new.
    let size = app.world.store().audit_size().await.unwrap();
    ben.post(&format!("{request}/take-up"), &[]).await;
    assert_eq!(app.world.store().audit_size().await.unwrap(), size);
    // Nobody takes up what is not theirs to decide.
    assert_eq!(ana.post(&format!("{request}/take-up"), &[]).await.status, StatusCode::FORBIDDEN);
    let id = request.trim_start_matches("/requests/").parse().unwrap();
    let view = |who: tidegate::broker::Ctx| {
        let broker = app.world.broker.clone();
        async move { broker.request(&who, id).await.unwrap() }
    };
    assert_eq!(view(app.world.who("eve").await).await.taken_up.unwrap().by.name, "ben");
    app.world.advance(601);
    assert!(view(app.world.who("eve").await).await.taken_up.is_none());
    let ben = Browser::of(&app, "ben").await;
    ben.decide(&request, "approve", &[]).await;
    assert!(view(app.world.who("eve").await).await.taken_up.is_none());
}

async fn what_is_said_about_a_request_stands_in_its_timeline(db: Db) {
    let app = App::on(db).await;
    let (ana, ben) = (Browser::of(&app, "ana").await, Browser::of(&app, "ben").await);
    let request = ana.ask(ADMIN, "order 4411").await;
    let said = ben.post(&format!("{request}/comment"), &[("comment", "Which <b>order</b>?")]).await;
    assert_eq!(said.location(), format!("{request}?said=commented"), "{}", said.html);
    let shown = ana.page(&request).await;
    assert!(shown.html.contains("Which &#60;b&#62;order&#60;/b&#62;?") || shown.html.contains("Which &lt;b&gt;order"));
    assert!(ana.post(&format!("{request}/comment"), &[("comment", "  ")]).await.status.is_client_error());
    let long = "x".repeat(1001);
    assert!(ana.post(&format!("{request}/comment"), &[("comment", &long)]).await.status.is_client_error());
    // By the API too; and nobody else even hears that it is there.
    let path = format!("/v1{request}/comment");
    let by_token = app.post("ana", &path, serde_json::json!({"comment": "4411"})).await;
    assert_eq!(by_token.status, 200, "{}", by_token.body);
    let (stranger, id) = (app.world.who("deploy-bot").await, request.trim_start_matches("/requests/").parse().unwrap());
    let refused = app.world.broker.comment(&stranger, id, "me too".to_owned()).await;
    assert!(matches!(refused, Err(BrokerError::NotFound("request"))));
    let all = events(&app.world).await;
    let comments: Vec<_> = all.iter().filter(|e| e.action == "request.commented").collect();
    assert_eq!(comments.len(), 2);
    assert_eq!(comments[1].details["comment"], "4411");
    // After it is decided, people still talk about it.
    ben.decide(&request, "deny", &[("comment", "no")]).await;
    assert_eq!(ana.post(&format!("{request}/comment"), &[("comment", "why?")]).await.status, StatusCode::SEE_OTHER);
}

async fn what_a_request_would_change_is_shown_beside_what_is_there(db: Db) {
    let app = App::on(db).await;
    let (ana, ben) = (Browser::of(&app, "ana").await, Browser::of(&app, "ben").await);
    ana.ask("tokens:orders-read", "look at order 4411").await;
    let request = ana.ask(ADMIN, "order 4411").await;
    let shown = ben.page(&request).await;
    let change = part(&shown, "What it would change", "</section>");
    let (now, then) = change.split_once("With this request").unwrap();
    assert!(now.contains("tokens:orders-read") && now.contains("until"), "{now}");
    assert!(then.contains("<span aria-hidden=\"true\">+</span>") && then.contains(ADMIN), "{then}");
    // Held on other targets is nobody's business here.
    assert!(!now.contains("ssh:"), "{now}");
    ben.decide(&request, "approve", &[]).await;
    assert!(
        !ben.page(&request).await.html.contains("What it would change"),
        "what was decided changes nothing any more"
    );
    // Asked for once more, it is the same.
    let again = ana.ask(ADMIN, "once more").await;
    assert!(ben.page(&again).await.html.contains("they hold the same already"));
}

async fn an_empty_inbox_says_how_long_it_usually_takes(db: Db) {
    let app = App::on(db).await;
    let (ana, ben) = (Browser::of(&app, "ana").await, Browser::of(&app, "ben").await);
    let empty = ben.page("/approvals").await;
    assert!(empty.html.contains("All clear") && !empty.html.contains("latest decisions took"));
    for minutes in [1, 5, 30] {
        let request = ana.ask(ADMIN, "order 4411").await;
        app.world.advance(minutes * 60);
        ben.decide(&request, "deny", &[("comment", "no")]).await;
    }
    assert!(ben.page("/approvals").await.html.contains("Half of the latest decisions took 5 min or less"));
}

async fn what_was_marked_stands_first(db: Db) {
    let app = App::on(db).await;
    let ana = Browser::of(&app, "ana").await;
    let place = |shown: &Shown, id: &str| shown.html.find(&format!("data-open=\"/request?e={id}\"")).unwrap();
    let (first, last) = ("directory%3Aoncall", "tokens%3Aorders-read");
    let before = ana.page("/catalog").await;
    assert!(place(&before, first) < place(&before, last));
    let fields = [("entitlement", "tokens:orders-read"), ("on", "1"), ("back", "/catalog?q=o")];
    assert_eq!(ana.post("/catalog/mark", &fields).await.location(), "/catalog?q=o");
    let after = ana.page("/catalog").await;
    assert!(place(&after, last) < place(&after, first));
    let marked = ana.page("/catalog?marked=1").await;
    assert!(!marked.html.contains(first) && marked.html.contains(last));
    assert!(
        !Browser::of(&app, "ben").await.page("/catalog?marked=1").await.html.contains(last),
        "everybody has their own"
    );
    for (fields, status) in [
        ([("entitlement", "no:such"), ("on", "1"), ("back", "")], StatusCode::NOT_FOUND),
        ([("entitlement", "tokens:orders-read"), ("on", "0"), ("back", "//evil.example")], StatusCode::SEE_OTHER),
    ] {
        let done = ana.post("/catalog/mark", &fields).await;
        assert_eq!(done.status, status);
        assert!(done.location().is_empty() || done.location() == "/catalog", "{}", done.location());
    }
    assert!(!ana.page("/catalog?marked=1").await.html.contains(last));
}

#[tokio::test]
async fn an_entitlement_that_wants_it_is_asked_for_by_whoever_signed_in_just_now() {
    let to = tempfile::tempdir().unwrap();
    let mut plan = Plan::on(Db::Sqlite);
    plan.policies = policies(to.path());
    let rule = "@id(\"engineers-ask-elevated\")";
    edit(&to.path().join("access.cedar"), rule, &format!("{rule}\n@step_up(\"5m\")"));
    let app = App::build(plan.build().await, open(), portal()).await;
    let ana = Browser::of(&app, "ana").await;
    // Just signed in: it goes through, and the form says nothing of it.
    assert!(!ana.page(&format!("/request?e={ADMIN}")).await.html.contains("Sign in again"));
    ana.ask(ADMIN, "order 4411").await;
    app.world.advance(301);
    let form = ana.page(&format!("/request?e={ADMIN}")).await;
    assert!(form.html.contains("This is for whoever signed in within the last 5 min"), "{}", form.html);
    let fields =
        [("e", ADMIN), ("duration", "1800"), ("reason", "order 4411 is stuck"), ("ticket", "INC-1"), ("do", "send")];
    let away = ana.post("/request", &fields).await;
    assert_eq!(away.status, StatusCode::SEE_OTHER, "{}", away.html);
    assert!(away.location().starts_with("/login?next=%2Frequest%3F"), "{}", away.location());
    // What is harmless is asked for as ever, and nothing was recorded.
    ana.ask("tokens:orders-read", "look").await;
    let asked = events(&app.world).await.into_iter().filter(|e| e.action == "request.created").count();
    assert_eq!(asked, 2);
    // Back with the form as it was; sent by its reader, not from afar.
    let next = ana.page(away.location()).await.field("next");
    let begun = ana
        .send_form("/login/dev", &[("who", "ana"), ("next", &next.replace("&#38;", "&").replace("&amp;", "&"))])
        .await;
    let back = ana.page(begun.location()).await;
    for words in ["Nothing is sent yet", "order 4411 is stuck", "value=\"INC-1\""] {
        assert!(back.html.contains(words), "{words}: {}", back.html);
    }
    assert_eq!(ana.post("/request", &fields).await.location().split('?').nth(1), Some("said=asked"));
    // A token asks for nothing of the kind.
    let by_token = app
        .post("ana", "/v1/requests", serde_json::json!({"entitlements": [ADMIN], "duration": "30m", "reason": "x"}))
        .await;
    assert_eq!((by_token.status.as_u16(), by_token.problem()), (403, "prove-again"), "{}", by_token.body);
}

async fn the_glass_is_broken_on_purpose_and_looked_at_afterwards(db: Db) {
    let to = tempfile::tempdir().unwrap();
    let mut plan = Plan::on(db);
    plan.policies = policies(to.path());
    edit(&to.path().join("access.cedar"), EMERGENCY, &format!("{EMERGENCY}\n@step_up(\"15m\")"));
    let app = App::build(plan.build().await, open(), portal()).await;
    on_call(&app.world).await;
    let ana = Browser::of(&app, "ana").await;
    let page = ana.page("/break-glass").await;
    let key = page.field("key");
    let number = part(&page, "<b class=\"number\">", "</b>").to_owned();
    let send = async |number: &str, reason: &str| {
        let fields = [("e", LEDGER), ("duration", "1800"), ("key", &key), ("number", number), ("reason", reason)];
        ana.post("/break-glass", &fields).await
    };
    let why = "the ledger does not balance, payments are held";
    let other = if number == "10" { "11" } else { "10" };
    assert_eq!(send(other, why).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(send(&number, "help").await.status, StatusCode::BAD_REQUEST);
    assert!(!events(&app.world).await.iter().any(|e| e.action == "request.created" && e.details["emergency"] == true));
    let done = send(&number, why).await;
    assert!(done.location().contains("said=emergency"), "{} {}", done.status, done.html);
    let again = send(&number, why).await;
    assert_eq!(again.location(), done.location(), "sent twice, it is one request");
    let request = done.location().split('?').next().unwrap().to_owned();
    let eve = Browser::of(&app, "eve").await;
    assert!(eve.page("/break-glass").await.html.contains(&request), "administrators look at it again");
    assert!(!ana.page("/break-glass").await.html.contains(&request));
    // After a while, whoever breaks the glass shows first who they are.
    app.world.advance(901);
    let page = ana.page("/break-glass").await;
    let number = part(&page, "<b class=\"number\">", "</b>").to_owned();
    let fields =
        [("e", LEDGER), ("duration", "1800"), ("key", &page.field("key")), ("number", &number), ("reason", why)];
    let away = ana.post("/break-glass", &fields).await;
    assert!(away.location().starts_with("/login?next=%2Fbreak-glass"), "{} {}", away.location(), away.html);
}

async fn whoever_left_is_shown_with_what_they_lost(db: Db) {
    let app = App::on(db).await;
    let (ana, eve) = (Browser::of(&app, "ana").await, Browser::of(&app, "eve").await);
    ana.ask("tokens:orders-read", "look at order 4411").await;
    ana.ask("directory:oncall", "on call").await;
    let page = eve.page("/people/ana").await;
    for words in ["Groups for good", "engineers", "Groups for a while", "Comes from", "Asked for"] {
        assert!(page.html.contains(words), "{words}");
    }
    let ctx = app.world.who("eve").await;
    app.world.broker.deactivate_identity(&ctx, app.ids["ana"], "left").await.unwrap();
    app.world.settle().await;
    let page = eve.page("/people/ana").await;
    let lost = part(&page, "Lost by leaving:", "</ul>");
    assert!(lost.contains("Read orders") && lost.contains("its holder left"), "{lost}");
}

on_both!(
    an_approver_is_told_of_whoever_asks,
    whoever_looks_at_a_request_is_seen_for_ten_minutes_and_binds_nobody,
    what_is_said_about_a_request_stands_in_its_timeline,
    what_a_request_would_change_is_shown_beside_what_is_there,
    an_empty_inbox_says_how_long_it_usually_takes,
    what_was_marked_stands_first,
    the_glass_is_broken_on_purpose_and_looked_at_afterwards,
    whoever_left_is_shown_with_what_they_lost,
);
