//! The story over Slack: a request hangs in the channel, people decide there, every copy shows what became of it.

use serde_json::json;
use tidegate::{app::fake_slack::CHANNEL, domain::request::RequestState};

use crate::{
    on_both,
    slack_world::{Desk, Way, has},
    world::{Db, want},
};

async fn a_click_approves_and_every_copy_shows_it(db: Db) {
    let desk = Desk::on(db).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    let text = message.blocks.to_string();
    for part in ["Access request: Administer orders", "Ana, engineer", "30m", "order 4411 is stuck", "0 of 1"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(has(&message, "approve") && has(&message, "deny"), "{text}");
    assert_eq!(desk.click("U0BEN", &message, "approve").await, 200);
    desk.until_state(&id, RequestState::Approved).await;
    desk.until(|d| d.request_message(&id).is_some_and(|m| m.blocks.to_string().contains("*Approved* by ben"))).await;
    let after = desk.request_message(&id).unwrap();
    assert_eq!(after.ts, message.ts, "the same message");
    assert!(!has(&after, "approve") && !has(&after, "deny"), "{:?}", after.blocks);
    // Below it, who decided; to ana, what to do now.
    desk.until(|d| d.fake.messages().iter().any(|m| m.thread.as_ref() == Some(&message.ts))).await;
    desk.until(|d| d.channel("D0ANA").iter().any(|m| m.blocks.to_string().contains("tidegate creds grt_"))).await;
    assert_eq!(desk.request_messages(&id).len(), 1);
    let approvals = desk.world.store().approvals(id.parse().unwrap()).await.unwrap();
    assert_eq!((approvals.len(), approvals[0].via.as_str()), (1, "slack"));
    let command = &desk.events("slack.command").await[0];
    let recorded = &desk.events("approval.recorded").await[0];
    assert_eq!(command["correlation_id"], recorded["correlation_id"]);
    assert_eq!(command["details"]["account"]["user"], "U0BEN");
    assert_eq!(command["details"]["message_ts"], message.ts);
}

async fn of_two_who_click_together_one_decides(db: Db) {
    let desk = Desk::on(db).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    let (ben, cat) = tokio::join!(desk.click("U0BEN", &message, "approve"), desk.click("U0CAT", &message, "approve"));
    assert_eq!((ben, cat), (200, 200));
    desk.until_state(&id, RequestState::Approved).await;
    desk.until(|d| d.whispers("U0BEN").len() + d.whispers("U0CAT").len() == 1).await;
    let told = [desk.whispers("U0BEN"), desk.whispers("U0CAT")].concat();
    assert!(told[0].contains("Already approved by"), "{told:?}");
    let grants = desk.world.store().grants_of(id.parse().unwrap()).await.unwrap();
    assert_eq!(grants.len(), 1);
}

on_both!(a_click_approves_and_every_copy_shows_it, of_two_who_click_together_one_decides);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deny_is_one_click_wherever_approving_is_not() {
    let desk = Desk::on(Db::Sqlite).await;
    let (id, message) = desk.asked("ana", "ssh:root").await;
    assert!(!has(&message, "approve") && has(&message, "deny") && has(&message, "open"), "{:?}", message.blocks);
    // A click that this message does not offer: the broker refuses it as well.
    let mut payload = desk.fake.click_payload("U0BEN", CHANNEL, &message.ts, "deny", None).unwrap();
    payload["actions"][0]["action_id"] = json!("approve");
    assert_eq!(desk.fake.interaction(&payload).await.status, 200);
    desk.whispered("U0BEN", "approved in the portal").await;
    assert_eq!(desk.state(&id).await, RequestState::Pending);
    desk.click("U0CAT", &message, "deny").await;
    desk.until_state(&id, RequestState::Denied).await;
    desk.until(|d| d.request_message(&id).is_some_and(|m| m.blocks.to_string().contains("*Denied* by cat"))).await;
    desk.until(|d| d.channel("D0ANA").iter().any(|m| has(m, "again"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergency_shows_its_terms_once_more_whatever_a_click_may_do_elsewhere() {
    let desk = Desk::on(Db::Sqlite).await;
    let ask = tidegate::broker::input::Ask { emergency: true, ..want("tokens:orders-admin", 1800) };
    let ana = desk.world.in_portal("ana").await;
    let tidegate::broker::view::Asked::Recorded(view) = desk.world.broker.ask(&ana, ask).await.unwrap() else {
        panic!("not recorded")
    };
    desk.until(|d| d.request_message(&view.id).is_some()).await;
    let message = desk.request_message(&view.id).unwrap();
    assert!(has(&message, "review") && !has(&message, "approve"), "{:?}", message.blocks);
    let text = message.blocks.to_string();
    assert!(text.contains("emergency") && text.contains("asked over the portal"), "{text}");
    // The click that another message would offer decides nothing.
    let mut payload = desk.fake.click_payload("U0BEN", CHANNEL, &message.ts, "review", None).unwrap();
    payload["actions"][0]["action_id"] = json!("approve");
    desk.fake.interaction(&payload).await;
    desk.whispered("U0BEN", "Review and approve").await;
    assert_eq!(desk.state(&view.id).await, RequestState::Pending);
    // Whoever looks at it is seen here too.
    let ben = desk.world.who("ben").await;
    desk.world.broker.take_up(&ben, view.id.parse().unwrap()).await.unwrap();
    desk.until(|d| d.request_message(&view.id).is_some_and(|m| m.blocks.to_string().contains("ben looks at it"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_shows_the_terms_again_before_it_approves() {
    let desk = Desk::on(Db::Sqlite).await;
    let (id, message) = desk.asked("ana", "ssh:deploy").await;
    assert!(has(&message, "review") && !has(&message, "approve"), "{:?}", message.blocks);
    // The click of before it had to be confirmed decides nothing.
    let mut payload = desk.fake.click_payload("U0BEN", CHANNEL, &message.ts, "review", None).unwrap();
    payload["actions"][0]["action_id"] = json!("approve");
    desk.fake.interaction(&payload).await;
    desk.whispered("U0BEN", "Review and approve").await;
    assert_eq!(desk.state(&id).await, RequestState::Pending);
    desk.click("U0BEN", &message, "review").await;
    desk.until(|d| d.fake.view_of("U0BEN").is_some_and(|v| v.view["callback_id"] == "approve")).await;
    let done = desk.fake.submit("U0BEN", &json!({"duration": "900", "comment": "a quarter will do"})).await;
    assert_eq!((done.status, done.answer["response_action"].as_str()), (200, Some("update")));
    desk.until_state(&id, RequestState::Approved).await;
    let request = desk.world.store().request(id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(request.ttl.seconds(), 900);
    let approvals = desk.world.store().approvals(request.id).await.unwrap();
    assert_eq!(approvals[0].comment, "a quarter will do");
    desk.until(|d| d.fake.view_of("U0BEN").is_some_and(|v| v.view.to_string().contains("Recorded"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_ask_in_a_form() {
    let desk = Desk::on(Db::Sqlite).await;
    assert_eq!(desk.fake.command("U0ANA", "order 4411 is stuck").await.status, 200);
    desk.until(|d| d.fake.view_of("U0ANA").is_some_and(|v| v.view["callback_id"] == "ask")).await;
    let found = desk.fake.search("U0ANA", "administer o").await;
    assert_eq!(found.answer["options"][0]["value"], "tokens:orders-admin", "{found:?}");
    let bad = json!({"entitlement": "tokens:orders-admin", "duration": "864000", "reason": "order 4411"});
    let refused = desk.fake.submit("U0ANA", &bad).await;
    assert!(refused.answer["errors"]["duration"].as_str().unwrap().contains("longer"), "{refused:?}");
    let empty = json!({"entitlement": "tokens:orders-admin", "duration": "900", "reason": " "});
    assert!(desk.fake.submit("U0ANA", &empty).await.answer["errors"]["reason"].is_string());
    let good =
        json!({"entitlement": "tokens:orders-admin", "duration": "900", "reason": "order 4411", "ticket": "OPS-1"});
    let sent = desk.fake.submit("U0ANA", &good).await;
    assert_eq!(sent.answer["response_action"], "update", "{sent:?}");
    desk.until(|d| d.fake.view_of("U0ANA").is_some_and(|v| v.view.to_string().contains("It needs 1 of: approvers")))
        .await;
    desk.until(|d| d.channel(CHANNEL).iter().any(|m| m.blocks.to_string().contains("OPS-1"))).await;
    assert_eq!(desk.world.actions().await.iter().filter(|a| *a == "request.created").count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_is_told_when_it_ends_and_may_extend_it() {
    let desk = Desk::on(Db::Sqlite).await;
    let (id, message) = desk.asked("ana", "directory:oncall").await;
    desk.click("U0BEN", &message, "approve").await;
    desk.until_state(&id, RequestState::Approved).await;
    desk.until(|d| d.channel("D0ANA").iter().any(|m| has(m, "release"))).await;
    let told = |d: &Desk| d.channel("D0ANA").into_iter().find(|m| m.text.contains("ends soon"));
    assert!(told(&desk).is_none());
    desk.world.advance(1800 - 600);
    desk.until(|d| told(d).is_some()).await;
    let ending = told(&desk).unwrap();
    assert!(has(&ending, "let_end"), "{:?}", ending.blocks);
    desk.click("U0ANA", &ending, "let_end").await;
    desk.whispered("U0ANA", "ends by itself").await;
    let grants = desk.world.store().grants_of(id.parse().unwrap()).await.unwrap();
    desk.world.advance(700);
    desk.world.settle().await;
    assert_eq!(desk.world.state(&grants[0].id.to_string()).await, tidegate::domain::grant::GrantState::Ended);
    desk.until(|d| d.channel("D0ANA").iter().any(|m| m.blocks.to_string().contains("its time was up"))).await;
    desk.until(|d| d.request_message(&id).is_some_and(|m| m.blocks.to_string().contains("ended and verified"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_policy_grants_by_itself_is_extended_with_a_click() {
    let desk = Desk::on(Db::Sqlite).await;
    let grant = desk.world.open("ana", "tokens:orders-read", 1200).await;
    desk.world.advance(1200 - 600);
    let told = |d: &Desk| d.channel("D0ANA").into_iter().find(|m| m.text.contains("ends soon"));
    desk.until(|d| told(d).is_some()).await;
    let before = desk.world.grant(&grant.id).await.not_after.unwrap();
    let message = told(&desk).unwrap();
    let shown = format!("{}.{}", grant.id, before.seconds());
    assert!(message.blocks.to_string().contains(&shown), "the button carries the end that it shows");
    desk.click("U0ANA", &message, "extend").await;
    desk.whispered("U0ANA", "Extended by 1h").await;
    let after = desk.world.grant(&grant.id).await.not_after.unwrap();
    assert_eq!(after.seconds_since(before).seconds(), 3600);
    // A second click on what was shown before moves nothing.
    let mut second = desk.fake.click_payload("U0ANA", &message.channel, &message.ts, "extend", None).unwrap();
    second["actions"][0]["value"] = json!(shown);
    desk.fake.interaction(&second).await;
    desk.whispered("U0ANA", "moved already").await;
    assert_eq!(desk.world.grant(&grant.id).await.not_after, Some(after));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_ones_own_is_kept_current() {
    let desk = Desk::by(Db::Sqlite, Way::Socket).await;
    desk.fake.open_home("U0ANA").await;
    let home = |d: &Desk, text: &str| d.fake.home_of("U0ANA").is_some_and(|h| h.to_string().contains(text));
    desk.until(|d| home(d, "Nothing right now.")).await;
    desk.world.ask("ana", want("tokens:orders-read", 600)).await.unwrap();
    desk.until(|d| home(d, "tokens:orders-read")).await;
    desk.fake.click("U0ANA", "", "", "release", None).await;
    crate::verbs_help::eventually("nothing is held", || async {
        desk.world.settle().await;
        home(&desk, "Nothing right now.")
    })
    .await;
    desk.fake.click("U0ANA", "", "", "request", None).await;
    desk.until(|d| d.fake.view_of("U0ANA").is_some_and(|v| v.view["callback_id"] == "ask")).await;
}
