//! The outbox at work: retries, giving up, a receiver that is gone, one that hangs beside one that does not, and a process
//! that died in the middle.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use tidegate::{
    domain::id::MessageId,
    ports::notifier::{Message, Notifier, NotifyError},
    store::{Change, Delivery},
    worker::{Rhythm, Workers},
};

use crate::{
    on_both,
    world::{Db, World},
};

/// Answers as it was told to, again and again.
struct Receiver {
    name: &'static str,
    answer: Option<NotifyError>,
    hangs: bool,
    calls: AtomicU32,
}

impl Receiver {
    fn new(name: &'static str, answer: Option<NotifyError>) -> Arc<Self> {
        Arc::new(Self { name, answer, hangs: false, calls: AtomicU32::new(0) })
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Notifier for Receiver {
    fn name(&self) -> &str {
        self.name
    }

    async fn deliver(&self, _: &Message) -> Result<(), NotifyError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.answer.clone().map_or(Ok(()), Err)
    }
}

async fn tell(world: &World, notifier: &'static str) -> MessageId {
    let now = world.now();
    let id = MessageId::new(world.broker.entropy().ulid(now).unwrap());
    let mut change = Change::default();
    change.message(notifier, Message { id, kind: "access.test".to_owned(), at: now, data: json!({}) });
    world.store().write(change).await.unwrap();
    id
}

async fn row(world: &World, id: MessageId) -> Delivery {
    world.store().delivery(id).await.unwrap().expect("a message")
}

/// Workers with these receivers, for as long as the test lasts.
fn start(world: &World, receivers: &[&Arc<Receiver>]) {
    let notifiers: BTreeMap<String, Arc<dyn Notifier>> =
        receivers.iter().map(|r| (r.name.to_owned(), Arc::clone(r) as Arc<dyn Notifier>)).collect();
    let rhythm = Rhythm { tick: Duration::from_millis(20), ..Rhythm::default() };
    let workers = Workers { broker: Arc::clone(&world.broker), notifiers, rhythm, node: "deliver".to_owned() };
    tokio::spawn(workers.run());
}

/// Wait until it holds.
async fn until(world: &World, id: MessageId, holds: impl Fn(&Delivery) -> bool) -> Delivery {
    for _ in 0..500 {
        let now = row(world, id).await;
        if holds(&now) {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never held: {:?}", row(world, id).await);
}

async fn a_receiver_that_fails_is_tried_for_days_and_then_given_up(db: Db) {
    let world = World::on(db).await;
    let bad = Receiver::new("bad", Some(NotifyError::Retry("it answered 500".to_owned())));
    let id = tell(&world, "bad").await;
    start(&world, &[&bad]);
    for attempts in 1..=9 {
        let seen = until(&world, id, |d| d.attempts == attempts).await;
        let wait = seen.due_at.expect("tried again").since(world.now());
        world.advance(wait.as_secs().max(31) + 1);
    }
    let last = until(&world, id, |d| d.due_at.is_none()).await;
    assert_eq!((last.attempts, last.last_error.as_deref()), (10, Some("it answered 500")));
    assert_eq!(bad.calls(), 10);
    // It stays long enough to be noticed and told again.
    let day = 86_400;
    let prune = async |days: u64| {
        let before = world.now().minus_std(Duration::from_secs(day * days));
        world.broker.prune(before).await.unwrap();
        world.store().delivery(id).await.unwrap().is_some()
    };
    world.advance(29 * day);
    assert!(prune(1).await, "kept for a month");
    world.advance(3 * day);
    assert!(!prune(1).await);
}

async fn a_receiver_that_is_gone_hears_nothing_more_until_somebody_says_so(db: Db) {
    let world = World::on(db).await;
    let gone = Receiver::new("gone", Some(NotifyError::Gone("it answered 410 Gone".to_owned())));
    let first = tell(&world, "gone").await;
    start(&world, &[&gone]);
    until(&world, first, |d| d.due_at.is_none()).await;
    let second = tell(&world, "gone").await;
    let seen = until(&world, second, |d| d.due_at.is_none()).await;
    assert_eq!(seen.last_error.as_deref(), Some("it answered 410 Gone"));
    assert_eq!(gone.calls(), 1, "the second one was not even sent");
    let eve = world.who("eve").await;
    world.broker.replay_delivery(&eve, first).await.unwrap();
    until(&world, first, |d| d.due_at.is_none()).await;
    assert_eq!(gone.calls(), 2);
}

async fn one_receiver_that_hangs_holds_up_no_other(db: Db) {
    let world = World::on(db).await;
    let hangs = Arc::new(Receiver { name: "hangs", answer: None, hangs: true, calls: AtomicU32::new(0) });
    let good = Receiver::new("good", None);
    let stuck = tell(&world, "hangs").await;
    start(&world, &[&hangs, &good]);
    until(&world, stuck, |_| hangs.calls() == 1).await;
    for _ in 0..3 {
        let id = tell(&world, "good").await;
        until(&world, id, |d| d.delivered_at.is_some() && d.last_error.is_none()).await;
    }
    assert!(row(&world, stuck).await.due_at.is_some());
}

async fn what_a_dead_process_had_taken_up_is_delivered_by_the_next(db: Db) {
    let world = World::on(db).await;
    let good = Receiver::new("good", None);
    let id = tell(&world, "good").await;
    let mut tx = world.store().begin().await.unwrap();
    let lease = world.now().plus_std(Duration::from_secs(60));
    let taken = tx.lease_messages("good", world.now(), lease, 10).await;
    let taken = tx.end(taken).await.unwrap().unwrap();
    assert_eq!(taken.len(), 1);
    start(&world, &[&good]);
    let other = tell(&world, "good").await;
    until(&world, other, |d| d.due_at.is_none()).await;
    assert_eq!((good.calls(), row(&world, id).await.delivered_at), (1, None), "its lease holds");
    world.advance(61);
    until(&world, id, |d| d.delivered_at.is_some()).await;
    // The one that was thought dead comes back: it finds that it has lost the lease.
    let dead = taken.into_iter().next().unwrap().unwrap();
    let mut tx = world.store().begin().await.unwrap();
    let late = tx.settle_message(&id.to_string(), dead.epoch, world.now(), Some("late")).await;
    assert!(tx.end(late).await.unwrap().is_err());
}

on_both!(
    a_receiver_that_fails_is_tried_for_days_and_then_given_up,
    a_receiver_that_is_gone_hears_nothing_more_until_somebody_says_so,
    one_receiver_that_hangs_holds_up_no_other,
    what_a_dead_process_had_taken_up_is_delivered_by_the_next,
);
