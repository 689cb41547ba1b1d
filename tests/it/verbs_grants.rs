//! Claim, extend, release, revoke, lock and unlock, attest.

use tidegate::{
    broker::{
        BrokerError,
        input::{Ask, Extend, NewLock},
    },
    connectors::faulty::{Behaviour, Call},
    domain::{
        grant::{EndReason, GrantState},
        id::LockId,
        time::Ttl,
    },
    store::LockKind,
};

use crate::{
    on_both,
    verbs_help::*,
    world::{Db, Plan, World, want},
};

fn by(seconds: u32) -> Extend {
    Extend { duration: ttl(seconds), reason: "it takes longer".to_owned(), from: None, idempotency: None }
}

fn lock_of(kind: LockKind, value: &str) -> NewLock {
    NewLock { kind, value: value.to_owned(), reason: "incident 12".to_owned() }
}

async fn only_the_holder_claims_and_only_while_it_is_active(db: Db) {
    let world = World::on(db).await;
    person(&world, "zoe", &["engineers"]).await;
    let later = Ask { start_at: Some(world.now().plus(ttl(600))), ..want(READ, 600) };
    let later = world.ask("ana", later).await.unwrap().grants.remove(0);
    refused!(claim(&world, "ana", &later.id).await, BrokerError::State(_));
    let grant = world.open("ana", READ, 600).await;
    refused!(claim(&world, "zoe", &grant.id).await, BrokerError::NotFound("grant"));
    refused!(claim(&world, "eve", &grant.id).await, BrokerError::Forbidden(_));
    let token = claim(&world, "ana", &grant.id).await.unwrap();
    assert!(is_live(&world, &token).await);
    world.advance(600);
    // At its end, to the microsecond, before the reaper has looked.
    assert_eq!(world.state(&grant.id).await, GrantState::Active);
    refused!(claim(&world, "ana", &grant.id).await, BrokerError::State(_));
    assert!(!is_live(&world, &token).await);
    world.settle().await;
    refused!(claim(&world, "ana", &grant.id).await, BrokerError::State(_));
}

async fn a_second_claim_ends_the_first_copy(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READ, 600).await;
    let first = claim(&world, "ana", &grant.id).await.unwrap();
    let second = claim(&world, "ana", &grant.id).await.unwrap();
    assert_ne!(first, second);
    assert!(!is_live(&world, &first).await);
    assert!(is_live(&world, &second).await);
    assert_eq!(story_of(&world, &grant.id).await.iter().filter(|a| *a == "grant.claimed").count(), 2);
}

async fn claims_are_bounded_where_the_catalog_says_so(db: Db) {
    let dir = tempfile::tempdir().unwrap();
    let policies = policies(dir.path());
    edit(&dir.path().join("catalog.toml"), "title = \"Read orders\"", "title = \"Read orders\"\nmax_claims = 1");
    let world = Plan { policies, ..Plan::on(db) }.build().await;
    let grant = world.open("ana", READ, 600).await;
    let (one, two) = tokio::join!(claim(&world, "ana", &grant.id), claim(&world, "ana", &grant.id));
    assert!(one.is_ok() ^ two.is_ok(), "one of two at once");
    refused!(claim(&world, "ana", &grant.id).await, BrokerError::State(_));
}

async fn who_has_left_the_group_claims_and_extends_nothing_more(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READ, 600).await;
    leaves_groups(&world, "ana").await;
    refused!(claim(&world, "ana", &grant.id).await, BrokerError::Denied { .. });
    let ana = world.who("ana").await;
    refused!(world.broker.extend(&ana, grant_id(&grant.id), by(60)).await, BrokerError::Denied { .. });
}

async fn what_has_no_credential_says_so(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 600).await;
    assert!(!grant.claimable);
    refused!(claim(&world, "ana", &grant.id).await, BrokerError::State(_));
}

async fn a_claim_that_the_target_fails_hands_over_nothing_and_the_next_works(db: Db) {
    let world = hasty(db).await;
    let grant = world.open("ana", READ, 600).await;
    for behaviour in [Behaviour::Refuses, Behaviour::Lies, Behaviour::Hangs, Behaviour::Panics] {
        world.faults(TOKEN).set(Call::Mint, behaviour);
        refused!(claim(&world, "ana", &grant.id).await, BrokerError::Target(_));
    }
    world.faults(TOKEN).heal();
    let token = claim(&world, "ana", &grant.id).await.unwrap();
    assert!(is_live(&world, &token).await);
}

async fn what_ends_while_it_is_minted_is_not_handed_over(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READ, 600).await;
    let text = match db {
        Db::Sqlite => {
            "CREATE TRIGGER meanwhile AFTER INSERT ON claims BEGIN \
             UPDATE grants SET end_reason = 'revoked' WHERE id = NEW.grant_id; END"
        }
        Db::Postgres => {
            "CREATE FUNCTION meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             UPDATE grants SET end_reason = 'revoked' WHERE id = NEW.grant_id; RETURN NULL; END $$; \
             CREATE TRIGGER meanwhile AFTER INSERT ON claims FOR EACH ROW EXECUTE FUNCTION meanwhile()"
        }
    };
    sql(&world, text).await;
    refused!(claim(&world, "ana", &grant.id).await, BrokerError::State(_));
    assert_eq!(world.faults(TOKEN).calls(Call::Mint), 1);
}

async fn extending_is_a_new_decision(db: Db) {
    let world = World::on(db).await;
    let ana = world.who("ana").await;
    let grant = world.open("ana", READ, 3600).await;
    let id = grant_id(&grant.id);
    let before = world.grant(&grant.id).await.not_after.unwrap();
    let no_reason = Extend { duration: ttl(60), reason: " ".to_owned(), from: None, idempotency: None };
    refused!(world.broker.extend(&ana, id, no_reason).await, BrokerError::Invalid { field: "reason", .. });
    refused!(world.broker.extend(&ana, id, by(8 * 3600)).await, BrokerError::Invalid { field: "duration", .. });
    refused!(world.broker.extend(&ana, id, by(u32::MAX)).await, BrokerError::Invalid { field: "duration", .. });
    refused!(world.broker.extend(&world.who("eve").await, id, by(60)).await, BrokerError::Forbidden(_));
    assert_eq!(world.grant(&grant.id).await.not_after, Some(before));
    let longer = world.broker.extend(&ana, id, by(600)).await.unwrap();
    assert_eq!(longer.not_after, Some(before.plus(ttl(600)).to_string()));
    world.advance(3601);
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Active);
    world.advance(600);
    refused!(world.broker.extend(&world.who("ana").await, id, by(60)).await, BrokerError::State(_));
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
    refused!(world.broker.extend(&ana, id, by(60)).await, BrokerError::State(_));
}

async fn what_people_approved_is_not_extended_without_them(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", ADMIN, 600).await;
    let ana = world.who("ana").await;
    refused!(world.broker.extend(&ana, grant_id(&grant.id), by(60)).await, BrokerError::State(_));
}

async fn an_extension_that_the_target_fails_is_undone(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 600).await;
    let before = world.grant(&grant.id).await;
    world.faults(DIRECTORY).set(Call::Activate, Behaviour::Refuses);
    let ana = world.who("ana").await;
    refused!(world.broker.extend(&ana, grant_id(&grant.id), by(60)).await, BrokerError::Target(_));
    let after = world.grant(&grant.id).await;
    assert_eq!((after.not_after, after.due_at, after.ttl), (before.not_after, before.due_at, before.ttl));
    assert!(story_of(&world, &grant.id).await.ends_with(&["grant.extended".into(), "grant.extension_undone".into()]));
}

async fn two_extensions_at_once_do_not_add_up_unseen(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READ, 600).await;
    let id = grant_id(&grant.id);
    let before = world.grant(&grant.id).await.not_after.unwrap();
    let ana = world.who("ana").await;
    let (one, two) = tokio::join!(world.broker.extend(&ana, id, by(60)), world.broker.extend(&ana, id, by(60)));
    let done = u32::from(one.is_ok()) + u32::from(two.is_ok());
    assert!(done >= 1);
    assert_eq!(world.grant(&grant.id).await.not_after, Some(before.plus(ttl(60 * done))));
}

async fn the_holder_and_a_workloads_owner_give_back(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 600).await;
    let id = grant_id(&grant.id);
    refused!(world.broker.release(&world.who("eve").await, id).await, BrokerError::Forbidden(_));
    refused!(world.broker.release(&world.who("ben").await, id).await, BrokerError::NotFound("grant"));
    world.broker.release(&world.who("ana").await, id).await.unwrap();
    // Twice is what was wanted.
    world.broker.release(&world.who("ana").await, id).await.unwrap();
    world.settle().await;
    let ended = world.grant(&grant.id).await;
    assert_eq!((ended.state, ended.end_reason), (GrantState::Ended, Some(EndReason::Released)));
    assert!(!groups(&world, "ana").await.contains(&"readers".to_owned()));
    refused!(world.broker.release(&world.who("ana").await, id).await, BrokerError::State(_));
    let bots = world.open("deploy-bot", READ, 600).await;
    world.broker.release(&world.who("ana").await, grant_id(&bots.id)).await.unwrap();
}

async fn administrators_revoke_with_a_reason(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 600).await;
    let id = grant_id(&grant.id);
    let (ana, eve) = (world.who("ana").await, world.who("eve").await);
    refused!(world.broker.revoke(&ana, id, "mine".to_owned()).await, BrokerError::Forbidden(_));
    refused!(world.broker.revoke(&eve, id, " ".to_owned()).await, BrokerError::Invalid { field: "reason", .. });
    world.broker.revoke(&eve, id, "leaked".to_owned()).await.unwrap();
    world.settle().await;
    let ended = world.grant(&grant.id).await;
    assert_eq!((ended.state, ended.end_reason), (GrantState::Ended, Some(EndReason::Revoked)));
    let revoking = events(&world).await.into_iter().find(|e| e.action == "grant.revoking").unwrap();
    assert_eq!((revoking.actor, revoking.details["why"].as_str()), (Some(eve.actor_id()), Some("leaked")));
}

async fn a_scheduled_grant_given_back_never_starts(db: Db) {
    let world = World::on(db).await;
    let ask = Ask { start_at: Some(world.now().plus(ttl(600))), ..want(READERS, 600) };
    let grant = world.ask("ana", ask).await.unwrap().grants.remove(0);
    world.broker.release(&world.who("ana").await, grant_id(&grant.id)).await.unwrap();
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
    world.advance(700);
    world.settle().await;
    assert_eq!(world.faults(DIRECTORY).calls(Call::Activate), 0);
}

async fn locks_are_for_administrators_and_are_there_once(db: Db) {
    let world = World::on(db).await;
    let (ana, eve) = (world.who("ana").await, world.who("eve").await);
    let new = || lock_of(LockKind::Target, TOKEN);
    refused!(world.broker.lock(&ana, new()).await, BrokerError::Forbidden(_));
    for (kind, value) in
        [(LockKind::Target, "nowhere"), (LockKind::Identity, "nobody"), (LockKind::Entitlement, "nothing")]
    {
        let unknown = world.broker.lock(&eve, lock_of(kind, value)).await;
        refused!(unknown, BrokerError::Invalid { field: "value", .. });
    }
    let empty = NewLock { reason: String::new(), ..new() };
    refused!(world.broker.lock(&eve, empty).await, BrokerError::Invalid { field: "reason", .. });
    let (one, two) = tokio::join!(world.broker.lock(&eve, new()), world.broker.lock(&eve, new()));
    assert!(one.is_ok() ^ two.is_ok());
    let lock = one.or(two).unwrap();
    let id: LockId = lock.id.parse().unwrap();
    assert!(world.broker.locks(&ana).await.unwrap().items.is_empty());
    assert_eq!(world.broker.locks(&eve).await.unwrap().items.len(), 1);
    refused!(world.broker.unlock(&ana, id).await, BrokerError::Forbidden(_));
    world.broker.unlock(&eve, id).await.unwrap();
    refused!(world.broker.unlock(&eve, id).await, BrokerError::NotFound("lock"));
    world.open("ana", READ, 60).await;
}

async fn nobody_lifts_a_lock_on_themselves(db: Db) {
    let world = World::on(db).await;
    person(&world, "gil", &["tidegate-admins"]).await;
    let lock = world.broker.lock(&world.who("gil").await, lock_of(LockKind::Identity, "eve")).await.unwrap();
    let id: LockId = lock.id.parse().unwrap();
    let eve = world.who("eve").await;
    assert_eq!(world.broker.locks(&eve).await.unwrap().items.len(), 1, "she is told");
    refused!(world.broker.unlock(&eve, id).await, BrokerError::Locked { .. });
    // Nor does she make herself another way in, or touch anybody else's access.
    refused!(world.broker.create_token(&eve, None, "x".into(), None).await, BrokerError::Locked { .. });
    refused!(world.broker.lock(&eve, lock_of(LockKind::Identity, "ana")).await, BrokerError::Locked { .. });
    world.broker.unlock(&world.who("gil").await, id).await.unwrap();
}

async fn a_lock_on_a_person_reaches_what_they_answer_for(db: Db) {
    let world = World::on(db).await;
    let held = world.open("deploy-bot", "tokens:orders-read", 600).await;
    world.broker.lock(&world.who("eve").await, lock_of(LockKind::Identity, "ana")).await.unwrap();
    refused!(world.ask("deploy-bot", want("tokens:orders-read", 60)).await, BrokerError::Locked { .. });
    world.settle().await;
    assert_eq!(world.state(&held.id).await, GrantState::Ended);
}

async fn a_token_ends_no_later_than_the_one_it_was_made_with(db: Db) {
    let world = World::on(db).await;
    let ana = world.who("ana").await;
    let first = world.broker.create_token(&ana, None, "first".into(), Ttl::from_seconds(600)).await.unwrap();
    let ctx = world.broker.authenticate(first.token.expose(), "test").await.unwrap();
    let second = world.broker.create_token(&ctx, None, "second".into(), Ttl::from_seconds(86_400)).await.unwrap();
    assert_eq!(second.expires_at, first.expires_at);
    // Nobody makes tokens for others, whatever they administer.
    let eve = world.who("eve").await;
    refused!(world.broker.create_token(&eve, Some("ben".into()), "x".into(), None).await, BrokerError::Forbidden(_));
    world.broker.end_token(&ctx, second.id.parse().unwrap()).await.unwrap();
    refused!(world.broker.authenticate(second.token.expose(), "test").await, BrokerError::Unauthenticated);
    let ben = world.who("ben").await;
    refused!(world.broker.end_token(&ben, first.id.parse().unwrap()).await, BrokerError::NotFound("token"));
    world.broker.end_token(&eve, first.id.parse().unwrap()).await.unwrap();
    refused!(world.broker.authenticate(first.token.expose(), "test").await, BrokerError::Unauthenticated);
}

async fn an_extension_that_is_repeated_with_its_key_is_one(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READ, 600).await;
    let ana = world.who("ana").await;
    let with = |key: &str, hash: u8| Extend { idempotency: Some((key.to_owned(), vec![hash])), ..by(60) };
    let id = grant_id(&grant.id);
    let first = world.broker.extend(&ana, id, with("k", 1)).await.unwrap();
    let again = world.broker.extend(&ana, id, with("k", 1)).await.unwrap();
    assert_eq!(first.not_after, again.not_after);
    refused!(world.broker.extend(&ana, id, with("k", 2)).await, BrokerError::KeyReused(_));
    let more = world.broker.extend(&ana, id, with("l", 1)).await.unwrap();
    assert_ne!(first.not_after, more.not_after);
    // What the target did not do is not done by its key.
    world.faults(TOKEN).set(Call::Activate, Behaviour::Fails(1));
    assert!(world.broker.extend(&ana, id, with("m", 1)).await.is_err());
    let after = world.broker.extend(&ana, id, with("m", 1)).await.unwrap();
    assert_ne!(after.not_after, more.not_after);
}

async fn a_claim_that_the_target_refused_is_not_the_only_one(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READ, 600).await;
    sql(&world, &format!("UPDATE grants SET max_claims = 1 WHERE id = '{}'", grant.id)).await;
    world.faults(TOKEN).set(Call::Mint, Behaviour::Refuses);
    assert!(claim(&world, "ana", &grant.id).await.is_err());
    world.faults(TOKEN).heal();
    claim(&world, "ana", &grant.id).await.unwrap();
    refused!(claim(&world, "ana", &grant.id).await, BrokerError::State(_));
    // One of which nobody knows whether it was made counts.
    let other = world.open("ana", READ, 600).await;
    sql(&world, &format!("UPDATE grants SET max_claims = 1 WHERE id = '{}'", other.id)).await;
    world.faults(TOKEN).set(Call::Mint, Behaviour::EffectThenTimeout);
    assert!(claim(&world, "ana", &other.id).await.is_err());
    world.faults(TOKEN).heal();
    refused!(claim(&world, "ana", &other.id).await, BrokerError::State(_));
}

on_both!(
    an_extension_that_is_repeated_with_its_key_is_one,
    a_claim_that_the_target_refused_is_not_the_only_one,
    a_lock_on_a_person_reaches_what_they_answer_for,
    a_token_ends_no_later_than_the_one_it_was_made_with,
    only_the_holder_claims_and_only_while_it_is_active,
    a_second_claim_ends_the_first_copy,
    claims_are_bounded_where_the_catalog_says_so,
    who_has_left_the_group_claims_and_extends_nothing_more,
    what_has_no_credential_says_so,
    a_claim_that_the_target_fails_hands_over_nothing_and_the_next_works,
    what_ends_while_it_is_minted_is_not_handed_over,
    extending_is_a_new_decision,
    what_people_approved_is_not_extended_without_them,
    an_extension_that_the_target_fails_is_undone,
    two_extensions_at_once_do_not_add_up_unseen,
    the_holder_and_a_workloads_owner_give_back,
    administrators_revoke_with_a_reason,
    a_scheduled_grant_given_back_never_starts,
    locks_are_for_administrators_and_are_there_once,
    nobody_lifts_a_lock_on_themselves,
);
