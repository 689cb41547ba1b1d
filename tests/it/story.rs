//! The main story on both databases: ask → approve → open → claim → expire → verified, with its events.

use tidegate::domain::grant::GrantState;

use crate::{
    on_both,
    world::{Db, World},
};

async fn a_grant_opens_ends_and_is_verified(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", "tokens:orders-read", 60).await;
    assert_eq!(grant.state, GrantState::Active);
    world.advance(61);
    world.settle().await;
    let ended = world.grant(&grant.id).await;
    assert_eq!(ended.state, GrantState::Ended);
    assert!(ended.evidence.is_some());
    let actions = world.actions().await;
    assert_eq!(
        actions,
        ["request.created", "request.approved", "grant.activating", "grant.active", "grant.revoking", "grant.ended"]
    );
    world.broker.seal().await.unwrap();
    let size = world.store().audit_size().await.unwrap();
    assert_eq!(world.store().last_checkpoint().await.unwrap().unwrap().size, size);
}

on_both!(a_grant_opens_ends_and_is_verified);
