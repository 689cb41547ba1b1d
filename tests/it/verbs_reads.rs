//! Reads: what you may not see is not there.

use tidegate::{
    broker::{
        BrokerError, Ctx,
        input::{AuditQuery, Decide, GrantQuery, Paging, RequestQuery, Role, Simulate},
    },
    domain::request::RequestState,
};

use crate::{
    on_both,
    verbs_help::*,
    world::{Db, World, want},
};

async fn counts(world: &World, ctx: &Ctx, role: Option<Role>) -> (usize, usize) {
    let query = RequestQuery { role, ..RequestQuery::default() };
    let requests = world.broker.requests(ctx, query).await.unwrap().items.len();
    let grants = world.broker.grants(ctx, GrantQuery::default()).await.unwrap().items.len();
    (requests, grants)
}

fn simulate(identity: Option<&str>) -> Simulate {
    Simulate {
        identity: identity.map(str::to_owned),
        entitlement: READ.to_owned(),
        duration: None,
        at: None,
        reason: None,
        ticket: None,
        emergency: false,
    }
}

async fn a_stranger_sees_nothing(db: Db) {
    let world = World::on(db).await;
    person(&world, "zoe", &["engineers"]).await;
    let request = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    let grant = world.open("ana", READ, 600).await;
    let zoe = world.who("zoe").await;
    let ana = world.who("ana").await.actor_id();
    assert_eq!(counts(&world, &zoe, None).await, (0, 0));
    assert_eq!(counts(&world, &zoe, Some(Role::Approver)).await, (0, 0));
    refused!(world.broker.request(&zoe, request_id(&request)).await, BrokerError::NotFound("request"));
    refused!(world.broker.grant(&zoe, grant_id(&grant.id)).await, BrokerError::NotFound("grant"));
    refused!(world.broker.release(&zoe, grant_id(&grant.id)).await, BrokerError::NotFound("grant"));
    refused!(world.broker.revoke(&zoe, grant_id(&grant.id), "x".into()).await, BrokerError::NotFound("grant"));
    refused!(world.broker.attest(&zoe, grant_id(&grant.id), "x".into()).await, BrokerError::NotFound("grant"));
    refused!(world.broker.cancel(&zoe, request_id(&request), "x".into()).await, BrokerError::NotFound("request"));
    let held = GrantQuery { holder: Some(ana), ..GrantQuery::default() };
    refused!(world.broker.grants(&zoe, held).await, BrokerError::NotFound("identity"));
    refused!(world.broker.identity(&zoe, "ana").await, BrokerError::NotFound("identity"));
    refused!(world.broker.identity(&zoe, "nobody").await, BrokerError::NotFound("identity"));
    refused!(world.broker.simulate(&zoe, simulate(Some("ana"))).await, BrokerError::NotFound("identity"));
    refused!(world.broker.audit(&zoe, AuditQuery::default()).await, BrokerError::Forbidden(_));
    let about = AuditQuery { request: Some(request_id(&request)), ..AuditQuery::default() };
    refused!(world.broker.audit(&zoe, about.clone()).await, BrokerError::NotFound("request"));
    let both = AuditQuery { grant: Some(grant_id(&grant.id)), ..about };
    refused!(world.broker.audit(&zoe, both).await, BrokerError::Forbidden(_));
    for event in events(&world).await {
        refused!(world.broker.proof(&zoe, event.id).await, BrokerError::NotFound(_));
    }
    assert!(world.broker.visible_events(&zoe, 0, 1000).await.unwrap().0.is_empty());
    let mine = world.broker.identities(&zoe, Paging::default()).await.unwrap().items;
    assert_eq!(mine.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["zoe"]);
    for target in [TOKEN, DIRECTORY] {
        refused!(world.broker.check_target(&zoe, target).await, BrokerError::Forbidden(_));
        refused!(world.broker.sweep_target(&zoe, target).await, BrokerError::Forbidden(_));
    }
}

async fn parties_approvers_and_auditors_see_what_concerns_them(db: Db) {
    let world = World::on(db).await;
    person(&world, "ada", &["tidegate-auditors"]).await;
    let request = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    let grant = world.open("ana", READ, 600).await;
    let (ana, ben, ada) = (world.who("ana").await, world.who("ben").await, world.who("ada").await);
    assert_eq!(counts(&world, &ana, None).await, (2, 1));
    assert_eq!(counts(&world, &ben, Some(Role::Approver)).await, (1, 0));
    assert_eq!(counts(&world, &ben, None).await, (0, 0));
    assert_eq!(counts(&world, &ada, None).await, (2, 1));
    let seen = world.broker.request(&ben, request_id(&request)).await.unwrap();
    assert_eq!(seen.can_decide, Some(true));
    assert_eq!(world.broker.request(&ana, request_id(&request)).await.unwrap().can_decide, Some(false));
    assert_eq!(world.broker.request(&ada, request_id(&request)).await.unwrap().can_decide, Some(false));
    refused!(world.broker.grant(&ben, grant_id(&grant.id)).await, BrokerError::NotFound("grant"));
    world.broker.grant(&ada, grant_id(&grant.id)).await.unwrap();
    // An auditor looks and changes nothing.
    refused!(world.broker.revoke(&ada, grant_id(&grant.id), "x".into()).await, BrokerError::Forbidden(_));
    refused!(approve(&world, "ada", &request).await, BrokerError::Denied { .. });
    let about = AuditQuery { request: Some(request_id(&request)), ..AuditQuery::default() };
    assert_eq!(world.broker.audit(&ben, about).await.unwrap().items.len(), 1);
    let all = world.broker.visible_events(&ada, 0, 1000).await.unwrap().0.len();
    assert_eq!(all, events(&world).await.len());
    let bens = world.broker.visible_events(&ben, 0, 1000).await.unwrap().0;
    let bens: Vec<&str> = bens.iter().map(|e| e.event["action"].as_str().unwrap()).collect();
    assert_eq!(bens, ["identity.created", "request.created"], "his own, and the one put before him");
    world.broker.simulate(&ada, simulate(Some("ana"))).await.unwrap();
}

async fn an_owner_sees_what_their_workload_asks_and_holds(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("deploy-bot", READ, 600).await;
    let request = grant.request.parse().unwrap();
    let (ana, ben, bot) = (world.who("ana").await, world.who("ben").await, world.who("deploy-bot").await);
    world.broker.request(&ana, request).await.unwrap();
    world.broker.grant(&ana, grant_id(&grant.id)).await.unwrap();
    let held = GrantQuery { holder: Some(bot.actor_id()), ..GrantQuery::default() };
    assert_eq!(world.broker.grants(&ana, held.clone()).await.unwrap().items.len(), 1);
    refused!(world.broker.grants(&ben, held).await, BrokerError::NotFound("identity"));
    refused!(world.broker.request(&ben, request).await, BrokerError::NotFound("request"));
    let mine = world.broker.identities(&ana, Paging::default()).await.unwrap().items;
    assert_eq!(mine.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["ana", "deploy-bot"]);
    // Seeing is not holding.
    refused!(claim(&world, "ana", &grant.id).await, BrokerError::Forbidden(_));
}

async fn the_catalog_says_what_would_happen_to_whom(db: Db) {
    let world = World::on(db).await;
    let verdicts = async |who: &str| {
        let items = world.broker.entitlements(&world.who(who).await).await.unwrap().items;
        items.into_iter().map(|e| format!("{} {}", e.id, serde_json::to_value(e.verdict).unwrap())).collect::<Vec<_>>()
    };
    let ana = verdicts("ana").await;
    assert!(ana.contains(&format!("{READ} \"auto\"")), "{ana:?}");
    assert!(ana.contains(&format!("{ADMIN} \"approval\"")), "{ana:?}");
    assert!(ana.contains(&format!("{LEDGER} \"denied\"")), "{ana:?}");
    on_call(&world).await;
    assert!(verdicts("ana").await.contains(&format!("{LEDGER} \"approval\"")));
    assert!(verdicts("eve").await.iter().all(|v| v.ends_with("\"denied\"")));
}

async fn lists_page_without_gaps_or_repeats(db: Db) {
    let world = World::on(db).await;
    for _ in 0..7 {
        world.ask("ana", want(READ, 600)).await.unwrap();
    }
    let eve = world.who("eve").await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = Paging { after, limit: Some(3) };
        let page = world.broker.grants(&eve, GrantQuery { page, ..GrantQuery::default() }).await.unwrap();
        assert!(page.items.len() <= 3);
        seen.extend(page.items.into_iter().map(|g| g.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut expected = table(&world, "SELECT id FROM grants ORDER BY id DESC").await;
    assert_eq!(seen, expected);
    // One of them cannot be read: the others are still there, on every page.
    sql(&world, &format!("UPDATE grants SET parameters = 'x' WHERE id = '{}'", expected[2])).await;
    expected.remove(2);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = Paging { after, limit: Some(3) };
        let page = world.broker.grants(&eve, GrantQuery { page, ..GrantQuery::default() }).await.unwrap();
        seen.extend(page.items.into_iter().map(|g| g.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

/// However it stops being pending, and whoever's word that was.
async fn what_is_decided_waits_for_nobody(db: Db) {
    let world = World::on(db).await;
    let ben = world.who("ben").await;
    let waits = async || {
        let query =
            RequestQuery { state: Some(RequestState::Pending), role: Some(Role::Approver), ..RequestQuery::default() };
        let listed = world.broker.requests(&ben, query).await.unwrap().items.len();
        let urgent = world.broker.urgent(&ben, Paging::default()).await.unwrap().items.len();
        (listed, urgent, world.broker.inbox(&ben).await.unwrap())
    };
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(world.ask("ana", want(ADMIN, 600)).await.unwrap());
    }
    assert_eq!(waits().await, (4, 4, 4), "{db:?}");
    deny(&world, "ben", &asked[0]).await.unwrap();
    assert_eq!(waits().await, (3, 3, 3), "{db:?}: denied");
    let ana = world.who("ana").await;
    world.broker.cancel(&ana, request_id(&asked[1]), String::new()).await.unwrap();
    assert_eq!(waits().await, (2, 2, 2), "{db:?}: cancelled");
    approve(&world, "ben", &asked[2]).await.unwrap();
    assert_eq!(waits().await, (1, 1, 1), "{db:?}: approved");
    // A decision that does not decode harms only its request, here and in every list.
    let broken = format!("UPDATE requests SET needs = 'x' WHERE id = '{}'", asked[3].id);
    let last = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    sql(&world, &broken).await;
    assert_eq!(waits().await.0, 1, "{db:?}");
    world.advance(25 * 3600);
    world.settle().await;
    assert_eq!(request_state(&world, &last).await, RequestState::Lapsed);
    assert_eq!(waits().await, (0, 0, 0), "{db:?}: lapsed");
}

async fn lists_are_in_order_over_all_their_pages(db: Db) {
    let world = World::on(db).await;
    person(&world, "zoe", &["approvers"]).await;
    // This one lapses in four hours, the other one in a day: asked later, it is less urgent.
    let sooner = world.ask("ana", want("tokens:orders-admin", 600)).await.unwrap().id;
    world.advance(60);
    let later = world.ask("ana", want("ssh:deploy", 600)).await.unwrap().id;
    let zoe = world.who("zoe").await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = world.broker.urgent(&zoe, Paging { after, limit: Some(1) }).await.unwrap();
        assert!(page.items.iter().all(|r| r.can_decide == Some(true)));
        seen.extend(page.items.into_iter().map(|r| r.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, [sooner.clone(), later.clone()]);
    // Whoever has decided, or asked, is not asked to decide.
    world.broker.deny(&zoe, sooner.parse().unwrap(), Decide::default()).await.unwrap();
    let ana = world.who("ana").await;
    assert!(
        world.broker.urgent(&ana, Paging::default()).await.unwrap().items.iter().all(|r| r.can_decide != Some(true))
    );
    // Every page of workloads has workloads in it, wherever people stand between them.
    let eve = world.who("eve").await;
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = world.broker.workloads(&eve, Paging { after, limit: Some(1) }).await.unwrap();
        assert!(page.items.len() == 1, "{:?}", page.items);
        names.extend(page.items.into_iter().map(|w| w.name));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(names.contains(&"deploy-bot".to_owned()), "{names:?}");
    // What is over is found behind whatever is live.
    let over = world.open("ana", READ, 60).await.id;
    world.advance(61);
    world.settle().await;
    for _ in 0..3 {
        world.open("ana", READERS, 600).await;
    }
    let query = GrantQuery { over: true, page: Paging { after: None, limit: Some(1) }, ..GrantQuery::default() };
    for who in [&ana, &eve] {
        let found = world.broker.grants(who, query.clone()).await.unwrap().items;
        assert!(found.iter().any(|g| g.state.is_terminal()) && found.len() == 1, "{found:?}");
    }
    assert!(!over.is_empty());
}

on_both!(
    what_is_decided_waits_for_nobody,
    lists_are_in_order_over_all_their_pages,
    a_stranger_sees_nothing,
    parties_approvers_and_auditors_see_what_concerns_them,
    an_owner_sees_what_their_workload_asks_and_holds,
    the_catalog_says_what_would_happen_to_whom,
    lists_page_without_gaps_or_repeats,
);
