//! Slack is slow, full, down, cut off: nothing is lost, nothing is done twice, and what hangs there becomes true again.

use std::sync::Arc;

use serde_json::json;
use tidegate::{app::fake_slack::CHANNEL, broker::input::Decide, domain::request::RequestState};

use crate::{
    on_both,
    slack_world::{Desk, Way, config, has, serve},
    world::{Db, Plan, want},
};

async fn an_hour_without_slack_loses_nothing(db: Db) {
    let desk = Desk::on(db).await;
    let (before, _) = desk.asked("ana", "tokens:orders-admin").await;
    desk.fake.set_down(true);
    let during = desk.world.ask("ana", want("ssh:deploy", 600)).await.unwrap().id;
    let ben = desk.world.who("ben").await;
    for id in [&before, &during] {
        desk.world.broker.approve(&ben, id.parse().unwrap(), Decide::default()).await.unwrap();
    }
    for _ in 0..12 {
        desk.world.advance(300);
        let mut tried = desk.world.broker.committed();
        let _ = tokio::time::timeout(std::time::Duration::from_millis(600), tried.changed()).await;
    }
    desk.fake.set_down(false);
    let shown = |d: &Desk, id: &str| d.request_message(id).is_some_and(|m| m.blocks.to_string().contains("*Approved*"));
    desk.world.advance(300);
    desk.until(|d| shown(d, &before) && shown(d, &during)).await;
    assert_eq!((desk.request_messages(&before).len(), desk.request_messages(&during).len()), (1, 1));
    desk.until(|d| d.channel("D0ANA").len() >= 2).await;
}

async fn a_restart_repairs_what_hangs(db: Db) {
    let desk = Desk::on(db).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    // It dies: its loops end, and what happens meanwhile reaches nobody there.
    desk.fake.set_down(true);
    let ben = desk.world.who("ben").await;
    desk.world.broker.approve(&ben, id.parse().unwrap(), Decide::default()).await.unwrap();
    desk.world.broker.closing().cancel();
    let mut plan = Plan::on(db);
    plan.slack = Some(config(&desk.fake, desk.secrets.path(), Way::Urls));
    let again = desk.world.another(plan).await;
    desk.fake.deliver_to(&serve(&again).await);
    desk.fake.set_down(false);
    tokio::spawn(Arc::clone(again.slack.as_ref().unwrap()).run());
    desk.world.advance(120);
    desk.until(|d| d.request_message(&id).is_some_and(|m| m.blocks.to_string().contains("*Approved* by ben"))).await;
    assert_eq!(desk.request_message(&id).unwrap().ts, message.ts);
}

async fn a_message_whose_answer_was_lost_hangs_once(db: Db) {
    let desk = Desk::on(db).await;
    desk.fake.lose_answers("chat.postMessage", 3);
    let (id, _) = desk.asked("ana", "tokens:orders-admin").await;
    let ben = desk.world.who("ben").await;
    desk.world.broker.approve(&ben, id.parse().unwrap(), Decide::default()).await.unwrap();
    // What hangs is found, and made true; direct messages and replies likewise.
    desk.until(|d| d.request_message(&id).is_some_and(|m| m.blocks.to_string().contains("*Approved* by ben"))).await;
    desk.until(|d| d.channel("D0ANA").iter().any(|m| m.text.contains("is approved"))).await;
    desk.quiet().await;
    assert_eq!(desk.request_messages(&id).len(), 1);
    let all = desk.fake.messages();
    for channel in ["D0ANA", "D0BEN", "D0CAT"] {
        let marks: Vec<String> = all.iter().filter(|m| m.channel == channel).map(|m| m.metadata.to_string()).collect();
        let distinct: std::collections::BTreeSet<&String> = marks.iter().collect();
        assert_eq!(distinct.len(), marks.len(), "{channel}: {marks:?}");
    }
    let replies = all.iter().filter(|m| m.channel == CHANNEL && m.thread.is_some()).count();
    assert_eq!(replies, 1);
}

async fn whoever_dies_between_posting_and_noting_it_posts_nothing_twice(db: Db) {
    let desk = Desk::on(db).await;
    desk.fake.set_down(true);
    let id = desk.world.ask("ana", want("tokens:orders-admin", 600)).await.unwrap().id;
    desk.quiet().await;
    desk.fake.set_down(false);
    // As if it had been posted by a process that then died: it hangs, the row is leased, and nobody settles it.
    let mark = json!({"event_type": "tidegate_message", "event_payload": {"row": format!("request:{id}")}});
    let hanging = desk.fake.post(CHANNEL, &json!({"text": "half done", "metadata": mark}));
    desk.world.advance(400);
    desk.until(|d| d.request_message(&id).is_some()).await;
    desk.quiet().await;
    let all = desk.channel(CHANNEL);
    assert_eq!((all.len(), &all[0].ts), (1, &hanging.ts), "{all:?}");
}

on_both!(
    a_message_whose_answer_was_lost_hangs_once,
    whoever_dies_between_posting_and_noting_it_posts_nothing_twice,
    an_hour_without_slack_loses_nothing,
    a_restart_repairs_what_hangs
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_slack_says_about_its_rate_is_kept_to() {
    let desk = Desk::on(Db::Sqlite).await;
    desk.fake.limit("chat.postMessage", 3, 40);
    let request = desk.world.ask("ana", want("tokens:orders-admin", 600)).await.unwrap().id;
    let from = desk.world.now();
    desk.until(|d| d.request_message(&request).is_some()).await;
    assert!(desk.world.now().since(from).as_secs() >= 40, "it was not waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_message_hangs_once_more() {
    let desk = Desk::on(Db::Sqlite).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    desk.fake.delete(CHANNEL, &message.ts);
    let ben = desk.world.who("ben").await;
    desk.world.broker.deny(&ben, id.parse().unwrap(), Decide::default()).await.unwrap();
    desk.until(|d| d.request_message(&id).is_some_and(|m| m.blocks.to_string().contains("*Denied*"))).await;
    desk.quiet().await;
    assert_eq!(desk.request_messages(&id).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_cut_before_the_acknowledgement_decides_once() {
    let desk = Desk::by(Db::Sqlite, Way::Socket).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    desk.fake.cut_after_next();
    let payload = desk.fake.click_payload("U0BEN", CHANNEL, &message.ts, "approve", None).unwrap();
    assert_eq!(desk.fake.interaction(&payload).await.status, 200, "delivered again over another socket");
    desk.until_state(&id, RequestState::Approved).await;
    // Once more, as Slack does when it did not hear us.
    assert_eq!(desk.fake.interaction(&payload).await.status, 200);
    desk.quiet().await;
    assert_eq!(desk.events("slack.command").await.len(), 1);
    assert!(desk.whispers("U0BEN").is_empty(), "{:?}", desk.whispers("U0BEN"));
    assert_eq!(desk.world.store().approvals(id.parse().unwrap()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_renewed_when_slack_says_so_and_not_when_it_is_over() {
    let desk = Desk::by(Db::Sqlite, Way::Socket).await;
    let opened = |d: &Desk| d.fake.calls().iter().filter(|(m, _)| m == "apps.connections.open").count();
    for (count, reason) in [(1, Some("warning")), (2, Some("refresh_requested")), (3, None)] {
        assert_eq!(opened(&desk), count);
        desk.fake.disconnect(reason);
        desk.until(|d| opened(d) == count + 1).await;
        // The one before is gone, the new one is there.
        desk.quiet().await;
        assert_eq!(desk.fake.sockets(), 1);
    }
    desk.fake.disconnect(Some("link_disabled"));
    desk.until(|d| d.fake.sockets() == 0).await;
    desk.quiet().await;
    assert_eq!(opened(&desk), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_click_that_was_kept_is_carried_out_by_whoever_comes_next() {
    let desk = Desk::on(Db::Sqlite).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    let payload = desk.fake.click_payload("U0BEN", CHANNEL, &message.ts, "approve", None).unwrap();
    let value = payload["actions"][0]["value"].as_str().unwrap();
    let (request, terms) = value.split_once('.').unwrap();
    // As it is in the ledger when the process dies right after the acknowledgement.
    let command = serde_json::from_value(json!({
        "by": {"enterprise": "", "team": "T0FAKE", "user": "U0BEN"},
        "deed": {"do": "decide", "request": request, "terms": terms, "approve": true, "comment": "", "duration": null},
        "channel": CHANNEL, "message": message.ts, "at": "1.1", "received": desk.world.now(),
    }))
    .unwrap();
    assert!(desk.world.broker.record_slack_command(&command).await.unwrap());
    assert!(!desk.world.broker.record_slack_command(&command).await.unwrap(), "a repeat");
    desk.world.advance(61);
    desk.until_state(&id, RequestState::Approved).await;
    desk.until(|d| d.request_message(&id).is_some_and(|m| !has(&m, "approve"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_come_within_a_second_under_load() {
    let desk = Desk::on(Db::Sqlite).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    let mut took = Vec::new();
    for _ in 0..5 {
        let clicks = (0..40).map(|i| {
            let user = ["U0ANA", "U0BEN", "U0CAT", "U0EVE"][i % 4];
            let action = if i % 2 == 0 { "approve" } else { "deny" };
            desk.fake.click(user, CHANNEL, &message.ts, action, None)
        });
        for delivered in futures::future::join_all(clicks).await {
            // The message may have lost its buttons meanwhile.
            assert!(matches!(delivered.status, 200 | 404), "{delivered:?}");
            took.push(delivered.took);
        }
    }
    took.sort();
    let p99 = took[took.len() * 99 / 100 - 1];
    assert!(p99.as_millis() < 1_000, "{p99:?}");
    assert_ne!(desk.state(&id).await, RequestState::Pending);
    assert!(desk.world.store().approvals(id.parse().unwrap()).await.unwrap().len() <= 2);
}
