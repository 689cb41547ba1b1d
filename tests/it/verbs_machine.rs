//! The state machine as the audit log tells it: whatever is done and whatever fails, every step is one that may
//! follow, the log explains every row, and in the end nothing is left.

use std::collections::BTreeMap;

use tidegate::{
    broker::input::{Ask, Decide, Extend, NewLock},
    connectors::faulty::{Behaviour, Call},
    domain::{
        grant::GrantState,
        id::{GrantId, LockId, RequestId},
        request::RequestState,
    },
    store::LockKind,
};

use crate::{
    on_both,
    verbs_help::*,
    world::{Db, World, want},
};

/// Replay the log: every transition may happen, and the end of it is what the rows say.
pub async fn log_explains_rows(world: &World) {
    let mut grants: BTreeMap<GrantId, GrantState> = BTreeMap::new();
    let mut requests: BTreeMap<RequestId, RequestState> = BTreeMap::new();
    for event in events(world).await {
        let action = event.action.as_str();
        let request = match action {
            "request.created" => Some(RequestState::Pending),
            "request.approved" => Some(RequestState::Approved),
            "request.denied" => Some(RequestState::Denied),
            "request.cancelled" => Some(RequestState::Cancelled),
            "request.lapsed" => Some(RequestState::Lapsed),
            _ => None,
        };
        if let Some(next) = request {
            let before = requests.insert(event.request.unwrap(), next);
            let may = match before {
                None => next == RequestState::Pending,
                Some(before) => before == RequestState::Pending && next != RequestState::Pending,
            };
            assert!(may, "{:?}: {before:?} became {next:?}", event.request);
        }
        let grant = match action {
            "grant.scheduled" => GrantState::Scheduled,
            "grant.activating" => GrantState::Activating,
            "grant.active" => GrantState::Active,
            "grant.revoking" => GrantState::Revoking,
            "grant.quarantined" => GrantState::Quarantined,
            "grant.ended" => GrantState::Ended,
            "grant.failed" => GrantState::Failed,
            "grant.attested" if event.details["verified"] == false => GrantState::Ended,
            _ => continue,
        };
        let id = event.grant.unwrap();
        let may = match grants.insert(id, grant) {
            None => matches!(grant, GrantState::Scheduled | GrantState::Activating),
            Some(before) => before.may_become(grant),
        };
        assert!(may, "{id} became {grant:?}: {:?}", story_of(world, &id.to_string()).await);
    }
    let rows = table(world, "SELECT id, state FROM grants ORDER BY id").await;
    let told: Vec<String> = grants.iter().map(|(id, state)| format!("{id}|{}", state.as_str())).collect();
    assert_eq!(told, rows);
    let rows = table(world, "SELECT id, state FROM requests ORDER BY id").await;
    let told: Vec<String> = requests.iter().map(|(id, state)| format!("{id}|{}", state.as_str())).collect();
    assert_eq!(told, rows);
}

/// Small and seeded: a failing run is repeated by its number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

const CALLS: [Call; 5] = [Call::Prepare, Call::Activate, Call::Mint, Call::Revoke, Call::Verify];
const BEHAVIOURS: [Behaviour; 7] = [
    Behaviour::Honest,
    Behaviour::Honest,
    Behaviour::Lies,
    Behaviour::Fails(2),
    Behaviour::Refuses,
    Behaviour::EffectThenTimeout,
    Behaviour::Panics,
];

async fn some_grant(world: &World, dice: &mut Dice) -> Option<GrantId> {
    let ids = table(world, "SELECT id FROM grants ORDER BY id").await;
    (!ids.is_empty()).then(|| grant_id(&ids[dice.roll(ids.len())]))
}

async fn some_request(world: &World, dice: &mut Dice) -> Option<RequestId> {
    let ids = table(world, "SELECT id FROM requests WHERE state = 'pending' ORDER BY id").await;
    (!ids.is_empty()).then(|| ids[dice.roll(ids.len())].parse().unwrap())
}

/// One move. What is refused is refused; the log must be right either way.
async fn step(world: &World, dice: &mut Dice) {
    let who = dice.pick(&["ana", "ana", "ben", "deploy-bot", "eve"]);
    let ctx = world.who(who).await;
    let admin = world.who("eve").await;
    let broker = &world.broker;
    match dice.roll(13) {
        0..=2 => {
            let start_at = (dice.roll(4) == 0).then(|| world.now().plus(ttl(300)));
            let entitlement = dice.pick(&[READ, READERS, READERS, ADMIN, ONCALL]);
            let _ = broker.ask(&ctx, Ask { start_at, ..want(entitlement, 600) }).await;
        }
        3 | 4 => {
            if let Some(id) = some_request(world, dice).await {
                let ben = world.who("ben").await;
                let _ = match dice.roll(4) {
                    0 => broker.deny(&ben, id, Decide::default()).await,
                    1 => broker.cancel(&ctx, id, String::new()).await,
                    _ => broker.approve(&ben, id, Decide::default()).await,
                };
            }
        }
        5 => {
            let target = dice.pick(&[TOKEN, DIRECTORY, DIRECTORY]);
            world.faults(target).set(dice.pick(&CALLS), dice.pick(&BEHAVIOURS));
        }
        6 | 7 => {
            world.advance(dice.pick(&[1, 10, 100, 700]));
            world.workers.round().await.unwrap();
        }
        8 => {
            let (kind, value) = dice.pick(&[
                (LockKind::Identity, "ana"),
                (LockKind::Target, DIRECTORY),
                (LockKind::Entitlement, READERS),
            ]);
            let _ = broker.lock(&admin, NewLock { kind, value: value.to_owned(), reason: "drill".to_owned() }).await;
        }
        9 => {
            for lock in broker.locks(&admin).await.unwrap().items {
                let id: LockId = lock.id.parse().unwrap();
                let _ = broker.unlock(&admin, id).await;
            }
        }
        _ => {
            let Some(id) = some_grant(world, dice).await else { return };
            let why = "drill".to_owned();
            match dice.roll(5) {
                0 => drop(broker.claim(&ctx, id).await),
                1 => drop(
                    broker
                        .extend(&ctx, id, Extend { duration: ttl(60), reason: why, from: None, idempotency: None })
                        .await,
                ),
                // Both wait for their end, which nobody brings about here: begun and left.
                2 => drop(tokio::time::timeout(std::time::Duration::from_millis(50), broker.release(&ctx, id)).await),
                3 => drop(
                    tokio::time::timeout(std::time::Duration::from_millis(50), broker.revoke(&admin, id, why)).await,
                ),
                _ => drop(broker.attest(&admin, id, why).await),
            }
        }
    }
}

#[allow(clippy::print_stdout, reason = "a failing run is repeated by its number")]
async fn whatever_happens_the_log_explains_it_and_nothing_is_left(db: Db) {
    let runs = if db == Db::Sqlite { 8 } else { 4 };
    for run in 1..=runs {
        println!("run {run}");
        let world = hasty(db).await;
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(run));
        for _ in 0..60 {
            step(&world, &mut dice).await;
        }
        for target in [TOKEN, DIRECTORY] {
            world.faults(target).heal();
        }
        wind_down(&world).await;
        world.advance(2 * 86_400);
        world.settle().await;
        log_explains_rows(&world).await;
        assert!(table(&world, "SELECT id FROM requests WHERE state = 'pending'").await.is_empty());
        let attested = world.actions().await.iter().any(|a| a == "grant.attested");
        // What was attested away is left to the one who did; the sweep finds it.
        if attested {
            world.broker.sweep_target(&world.who("eve").await, DIRECTORY).await.unwrap();
        }
        let left = table(&world, "SELECT grant_id FROM memberships WHERE grant_id <> ''").await;
        assert!(left.is_empty(), "run {run}: {left:?}");
    }
}

on_both!(whatever_happens_the_log_explains_it_and_nothing_is_left);
