//! What the tests of joiners, movers and leavers share: a source, its people, and the log of one call.

use std::collections::BTreeMap;

use tidegate::{
    broker::{BrokerError, Heard, Hearing, SourceCtx},
    domain::{
        audit::Event,
        id::{CorrelationId, IdentityId, SourceId},
        identity::{Group, Source, SourceKind},
    },
    store::{AuditFilter, StoreError},
};

use crate::world::World;

/// A source of people of that name.
pub async fn source(world: &World, name: &str) -> Source {
    let ulid = world.broker.entropy().ulid(world.now()).unwrap();
    let source = Source { id: SourceId::new(ulid), name: name.to_owned(), kind: SourceKind::Scim };
    loop {
        let mut tx = world.store().begin().await.unwrap();
        let made = tx.insert_source(&source, world.now()).await;
        if let Some(result) = tx.end(made).await {
            result.unwrap();
            return source;
        }
    }
}

/// A call of it, now.
pub fn call(world: &World, source: &Source) -> SourceCtx {
    let correlation = CorrelationId::new(world.broker.entropy().ulid(world.now()).unwrap());
    SourceCtx { source: source.clone(), via: "scim", correlation, now: world.now() }
}

/// An active person of a source.
pub fn person(name: &str) -> Heard {
    Heard {
        external_id: format!("ext-{name}"),
        name: name.to_owned(),
        email: Some(format!("{name}@example.com")),
        active: true,
        ..Heard::default()
    }
}

pub fn gone(name: &str) -> Heard {
    Heard { active: false, ..person(name) }
}

pub async fn hear(world: &World, source: &Source, heard: &Heard) -> Result<Hearing, BrokerError> {
    world.broker.hear(&call(world, source), heard).await
}

/// Somebody of a source, in these groups.
pub async fn joins(world: &World, source: &Source, name: &str, groups: &[&str]) -> IdentityId {
    let Hearing::Joined(id) = hear(world, source, &person(name)).await.unwrap() else { panic!("{name} did not join") };
    for group in groups {
        stands(world, group, id).await;
    }
    id
}

/// A standing membership.
pub async fn stands(world: &World, group: &str, id: IdentityId) {
    let group = world.store().group(group).await.unwrap().expect("a group").id;
    loop {
        let mut tx = world.store().begin().await.unwrap();
        let added = tx.add_standing(group, &[id], None, world.now()).await;
        if let Some(result) = tx.end(added).await {
            result.unwrap();
            return;
        }
    }
}

/// A group of that name.
pub async fn group(world: &World, name: &str) -> Group {
    let id = tidegate::domain::id::GroupId::new(world.broker.entropy().ulid(world.now()).unwrap());
    let new = Group::new(id, name, world.now());
    loop {
        let mut tx = world.store().begin().await.unwrap();
        let made = tx.insert_group(&new).await;
        if let Some(result) = tx.end::<_, StoreError>(made).await {
            result.unwrap();
            return new;
        }
    }
}

/// What one call brought about, in order.
pub async fn of_call(world: &World, correlation: CorrelationId) -> Vec<Event> {
    let filter = AuditFilter { correlation: Some(correlation.to_string()), ..AuditFilter::default() };
    let page = world.store().events(&filter, 0, 10_000).await.unwrap();
    page.items.iter().map(|e| serde_json::from_str(&e.leaf).unwrap()).collect()
}

/// How often each action is among these.
pub fn counted(events: &[Event]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        *counts.entry(event.action.as_str()).or_default() += 1;
    }
    counts
}
