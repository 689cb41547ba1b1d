//! Whom an account acts as, and who is asked when.

use serde_json::json;
use tidegate::{app::fake_slack::CHANNEL, domain::request::RequestState, edge::slack::Slack};

use crate::{
    on_both,
    slack_world::{Desk, Way, account, has},
    world::Db,
};

/// The code in the link that an account was shown.
fn code(shown: &str) -> String {
    let rest = shown.split("/slack/link?code=").nth(1).expect("a link");
    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

async fn an_account_is_linked_once_by_whoever_signs_in(db: Db) {
    let desk = Desk::on(db).await;
    let (id, message) = desk.asked("ana", "tokens:orders-admin").await;
    desk.fake.join("U1NEW", "Benjamin B.", &json!({}));
    desk.click("U1NEW", &message, "approve").await;
    desk.whispered("U1NEW", "/slack/link?code=").await;
    assert_eq!(desk.state(&id).await, RequestState::Pending);
    let code = code(&desk.whispers("U1NEW")[0]);
    let ben = desk.world.in_portal("ben").await;
    let broker = &desk.world.broker;
    let offer = broker.slack_link_offer(&ben, &code).await.unwrap();
    assert_eq!((offer.shown_name.as_str(), offer.linked), ("Benjamin B.", false));
    let linked = broker.link_slack(&ben, &code.to_lowercase()).await.unwrap();
    assert!(linked.linked);
    assert!(broker.link_slack(&ben, &code).await.is_err(), "twice");
    assert_eq!(desk.events("identity.slack_linked").await.last().unwrap()["details"]["account"]["user"], "U1NEW");
    desk.click("U1NEW", &message, "approve").await;
    desk.until_state(&id, RequestState::Approved).await;
}

async fn a_code_is_over_after_ten_minutes_and_a_takeover_is_told(db: Db) {
    let desk = Desk::on(db).await;
    let broker = &desk.world.broker;
    let old = broker.offer_slack_link(&account("U0CAT"), "cat", "").await.unwrap();
    desk.world.advance(601);
    let ben = desk.world.in_portal("ben").await;
    assert!(broker.link_slack(&ben, old.expose()).await.is_err());
    let fresh = broker.offer_slack_link(&account("U0CAT"), "cat", "").await.unwrap();
    let bot = desk.world.in_portal("ben-bot").await;
    assert!(broker.link_slack(&bot, fresh.expose()).await.is_err(), "a workload");
    broker.link_slack(&ben, fresh.expose()).await.unwrap();
    assert_eq!(broker.authenticate_slack(&account("U0CAT")).await.unwrap().actor.identity.name, "ben");
    desk.until(|d| d.channel("D0CAT").iter().any(|m| m.text.contains("linked to another person"))).await;
    assert_eq!(desk.events("identity.slack_unlinked").await.len(), 1);
}

async fn a_new_link_is_told_to_its_owner_and_taken_back(db: Db) {
    let desk = Desk::on(db).await;
    let broker = &desk.world.broker;
    desk.world.advance(60);
    let fresh = broker.offer_slack_link(&account("U1BEN"), "Ben at home", "").await.unwrap();
    desk.fake.join("U1BEN", "Ben at home", &json!({}));
    // A token that somebody stole links nothing.
    assert!(broker.link_slack(&desk.world.who("ben").await, fresh.expose()).await.is_err());
    let ben = desk.world.in_portal("ben").await;
    broker.link_slack(&ben, fresh.expose()).await.unwrap();
    // The account that was there before hears of it too.
    let told = |d: &Desk, channel: &str| d.channel(channel).iter().any(|m| m.text.contains("acts for ben now"));
    desk.until(|d| told(d, "D0BEN") && told(d, "D1BEN")).await;
    let links = broker.slack_links(&ben, "me").await.unwrap();
    assert_eq!(links.iter().map(|l| l.user.as_str()).collect::<Vec<_>>(), ["U1BEN", "U0BEN"]);
    let (ana, eve) = (desk.world.who("ana").await, desk.world.who("eve").await);
    assert!(broker.unlink_slack(&ana, "ben", "T0FAKE.U1BEN").await.is_err());
    broker.unlink_slack(&ben, "me", "T0FAKE.U1BEN").await.unwrap();
    assert!(broker.authenticate_slack(&account("U1BEN")).await.is_err());
    assert!(broker.authenticate_slack(&account("U0BEN")).await.is_ok());
    assert!(broker.unlink_slack(&ben, "me", "T0FAKE.U1BEN").await.is_err(), "twice");
    // An administrator takes back anybody's.
    broker.unlink_slack(&eve, "ben", "T0FAKE.U0BEN").await.unwrap();
    assert!(broker.authenticate_slack(&account("U0BEN")).await.is_err());
    assert_eq!(desk.events("identity.slack_unlinked").await.len(), 2);
}

on_both!(
    a_new_link_is_told_to_its_owner_and_taken_back,
    an_account_is_linked_once_by_whoever_signs_in,
    a_code_is_over_after_ten_minutes_and_a_takeover_is_told
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approvers_are_asked_in_tiers_a_bounded_number_of_times_and_not_once_it_is_decided() {
    let desk = Desk::with(Db::Sqlite, Way::Urls, |c| {
        c.quiet.insert("eve".to_owned());
    })
    .await;
    let asked = |d: &Desk, direct: &str| d.channel(direct).iter().filter(|m| has(m, "deny")).count();
    // Two may decide (ben and cat), so both are meant by name and asked at once.
    let (id, _) = desk.asked("ana", "tokens:orders-admin").await;
    desk.until(|d| asked(d, "D0BEN") == 1 && asked(d, "D0CAT") == 1).await;
    assert_eq!(asked(&desk, "D0ANA"), 0);
    for _ in 0..6 {
        desk.world.advance(1_800);
        desk.quiet().await;
    }
    // Until it lapses after four hours: bounded.
    let most = asked(&desk, "D0BEN");
    assert!((2..=5).contains(&most), "{most}");
    let ben = desk.channel("D0BEN").pop().unwrap();
    desk.click("U0BEN", &ben, "deny").await;
    desk.until_state(&id, RequestState::Denied).await;
    desk.until(|d| asked(d, "D0BEN") == 0 && asked(d, "D0CAT") == 0).await;
    let total = desk.fake.messages().len();
    desk.world.advance(7_200);
    desk.quiet().await;
    assert!(desk.fake.messages().len() <= total + 2, "quiet once decided");
    assert!(desk.channel("D0EVE").is_empty());
    assert_eq!(desk.channel(CHANNEL).len(), 1);
}

#[tokio::test]
async fn the_surface_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Slack>();
}
