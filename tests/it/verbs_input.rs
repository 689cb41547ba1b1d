//! Bad input: each is refused by name, says what to do, and changes nothing.

use tidegate::{
    broker::{
        BrokerError,
        input::{Ask, Decide},
    },
    domain::time::Ttl,
};

use crate::{
    on_both,
    verbs_help::*,
    world::{Db, World, want},
};

async fn unknown_entitlements_are_named(db: Db) {
    let world = World::on(db).await;
    let error = world.ask("ana", want("tokens:order-read", 60)).await.unwrap_err().to_string();
    assert!(error.contains("`tokens:order-read`") && error.contains("tidegate ls entitlements"), "{error}");
    let odd = format!("x\u{1b}[2J{}", "y".repeat(5000));
    let error = world.ask("ana", want(&odd, 60)).await.unwrap_err().to_string();
    assert!(error.len() < 300 && !error.contains('\u{1b}'), "{error}");
    for names in [vec![], vec![READ; 21]] {
        let ask = Ask { entitlements: names.into_iter().map(str::to_owned).collect(), ..want(READ, 60) };
        refused!(world.ask("ana", ask).await, BrokerError::Invalid { field: "entitlements", .. });
    }
    assert!(world.actions().await.is_empty());
}

async fn durations_are_bounded(db: Db) {
    let world = World::on(db).await;
    // Nothing that is no duration gets past the type.
    for text in ["0", "-5m", "soon", "", "99999999999999999999h", "136y", "1h1h"] {
        assert!(text.parse::<Ttl>().is_err(), "{text}");
    }
    let error = world.ask("ana", want(READ, 8 * 3600 + 1)).await.unwrap_err().to_string();
    assert!(error.contains("8h") && error.contains("ask for less"), "{error}");
    refused!(world.ask("ana", want(READ, u32::MAX)).await, BrokerError::Invalid { field: "duration", .. });
    // The tightest of a bundle bounds it.
    let ask = wants(&[READERS, ADMIN], 5 * 3600);
    refused!(world.ask("ana", ask).await, BrokerError::Invalid { field: "duration", .. });
    assert!(world.actions().await.is_empty());
}

async fn reasons_are_texts_for_people(db: Db) {
    let world = World::on(db).await;
    let long = "x".repeat(1 << 20);
    let bad = ["", "   \n ", "bell \u{7}", "null \0", "\u{202e}esrever", "mark \u{200f}", "tab\tbed", &long];
    for reason in bad {
        let ask = Ask { reason: reason.to_owned(), ..want(READ, 60) };
        refused!(world.ask("ana", ask).await, BrokerError::Invalid { field: "reason", .. });
    }
    for ticket in ["INC\n7", "\u{202e}7-CNI", &long] {
        let ask = Ask { ticket: Some(ticket.to_owned()), ..want(READ, 60) };
        refused!(world.ask("ana", ask).await, BrokerError::Invalid { field: "ticket", .. });
    }
    assert!(world.actions().await.is_empty());
    let ask = Ask { reason: format!(" {}\nzwei – ✓ ", "ü".repeat(900)), ..want(READ, 60) };
    let request = world.ask("ana", ask).await.unwrap();
    assert!(request.reason.ends_with('✓') && request.reason.starts_with('ü'));
    let request = world.ask("ana", want(ADMIN, 60)).await.unwrap();
    let decide = Decide { comment: long, ..Decide::default() };
    let answer = world.broker.approve(&world.who("ben").await, request_id(&request), decide).await;
    refused!(answer, BrokerError::Invalid { field: "comment", .. });
}

async fn starts_lie_neither_in_the_past_nor_too_far_ahead(db: Db) {
    let world = World::on(db).await;
    let at =
        |seconds: i64| tidegate::domain::time::Timestamp::from_seconds(world.now().seconds().saturating_add(seconds));
    for seconds in [-61, -86_400, i64::MIN, 30 * 86_400 + 1, i64::MAX] {
        let ask = Ask { start_at: Some(at(seconds)), ..want(READ, 60) };
        refused!(world.ask("ana", ask).await, BrokerError::Invalid { field: "start_at", .. });
    }
    assert!(world.actions().await.is_empty());
    // Clocks differ a little: that is now.
    let ask = Ask { start_at: Some(at(-30)), ..want(READ, 60) };
    let request = world.ask("ana", ask).await.unwrap();
    assert_eq!(request.start_at, None);
}

async fn the_same_key_with_another_body_is_refused(db: Db) {
    let world = World::on(db).await;
    let ask = |body: u8| Ask { idempotency: Some(("k".to_owned(), vec![body])), ..want(READ, 60) };
    let first = world.ask("ana", ask(1)).await.unwrap();
    let error = world.ask("ana", ask(2)).await.unwrap_err();
    let BrokerError::KeyReused(id) = &error else { panic!("{error:?}") };
    assert_eq!(id.to_string(), first.id);
    assert_eq!(table(&world, "SELECT id FROM requests").await.len(), 1);
}

on_both!(
    unknown_entitlements_are_named,
    durations_are_bounded,
    reasons_are_texts_for_people,
    starts_lie_neither_in_the_past_nor_too_far_ahead,
    the_same_key_with_another_body_is_refused,
);
