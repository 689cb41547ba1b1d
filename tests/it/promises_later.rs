//! A test for each promise of the design: P8 to P15. The others are in `promises`.

use tidegate::{
    broker::{
        BrokerError,
        input::{Ask, Decide, Extend, NewLock},
        view::Asked,
    },
    connectors::faulty::{Behaviour, Call},
    domain::{
        capability::RevocationClass,
        export::{Finding, Header, Report, Trust, Verifier, checkpoint_line, event_line},
        grant::{EndReason, GrantState},
        id::LockId,
        merkle::Frontier,
        request::RequestState,
    },
    store::{AuditFilter, LockKind},
};

use crate::{
    on_both,
    verbs_help::*,
    verbs_machine::log_explains_rows,
    world::{Db, Plan, World, want},
};

/// How the database would run a statement.
async fn plan_of(world: &World, db: Db, statement: &str) -> String {
    match db {
        Db::Sqlite => {
            let options: sqlx::any::AnyConnectOptions = world.database.url.parse().unwrap();
            let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
            let rows = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
            let rows = rows.fetch_all(&mut connection).await.unwrap();
            rows.iter().map(|r| sqlx::Row::get::<String, _>(r, "detail")).collect::<Vec<_>>().join("\n")
        }
        Db::Postgres => table(world, &format!("EXPLAIN {statement}")).await.join("\n"),
    }
}

async fn p08_work_depends_on_what_is_due_and_not_on_what_is_live(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READ, 3600).await;
    let columns = "request_id, holder_id, entitlement, target, state, ttl, not_after, parameters, recipe, attempts, \
                   claims, due_at, epoch, correlation_id, created_at";
    let copies = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)";
    let id = match db {
        Db::Sqlite => "printf('grt_01KGA5MYR0%016d', n.i)",
        Db::Postgres => "'grt_01KGA5MYR0' || lpad(n.i::text, 16, '0')",
    };
    let from = columns.replace("holder_id", "'idn_' || substr(g.id, 5)").replace("due_at", "due_at + n.i");
    let text = format!(
        "{copies} INSERT INTO grants (id, {columns}) SELECT {id}, {from} FROM grants g, n WHERE g.id = '{}'",
        grant.id
    );
    // On PostgreSQL the columns before the source have to be said whose they are; they are the grant's alone.
    let text = match db {
        Db::Sqlite => format!("{copies} {}", text.replacen(copies, "", 1)),
        Db::Postgres => format!(
            "INSERT INTO grants (id, {columns}) {copies} SELECT {id}, {from} FROM grants g, n WHERE g.id = '{}'",
            grant.id
        ),
    };
    sql(&world, &text).await;
    sql(&world, "ANALYZE").await;
    assert!(states(&world).await.len() > 5000);
    for (statement, index) in [
        ("SELECT id FROM grants WHERE target = 'dev-token' AND due_at <= 1 ORDER BY due_at LIMIT 128", "grants_due"),
        ("SELECT min(due_at) FROM grants WHERE target = 'dev-token' AND due_at IS NOT NULL", "grants_due"),
        ("SELECT min(target) FROM grants WHERE due_at IS NOT NULL AND target > 'a'", "grants_due"),
        ("SELECT min(revoking_at) FROM grants WHERE state IN ('revoking', 'quarantined')", "grants_ending"),
        // One row each: on PostgreSQL a scan is the cheaper way there.
        ("SELECT id FROM requests WHERE due_at <= 1 ORDER BY due_at LIMIT 100", "requests_due"),
    ] {
        if db == Db::Postgres && index == "requests_due" {
            continue;
        }
        let plan = plan_of(&world, db, statement).await;
        assert!(plan.contains(index), "{statement}\n{plan}");
        assert!(
            !plan.contains("Seq Scan on grants") && !plan.contains("SCAN grants USING INDEX grants_live"),
            "{plan}"
        );
    }
    // A start loads none of them and looks at none: nothing is due.
    let next = world.another(Plan::on(db)).await;
    next.settle().await;
    assert_eq!(next.store().targets_in_use().await.unwrap(), [TOKEN]);
    for call in [Call::Activate, Call::Revoke, Call::Verify] {
        assert_eq!(next.faults(TOKEN).calls(call), 0);
    }
}

async fn member(world: &World) -> bool {
    groups(world, "ana").await.contains(&"readers".to_owned())
}

async fn p09_what_it_did_not_give_stays_and_overlaps_are_counted(db: Db) {
    let world = World::on(db).await;
    // Two grants on one membership, ended in both orders.
    for first_out in [0, 1] {
        let grants = [world.open("ana", READERS, 600).await, world.open("ana", READERS, 600).await];
        let release = async |i: usize| {
            world.broker.release(&world.who("ana").await, grant_id(&grants[i].id)).await.unwrap();
            world.settle().await;
            assert_eq!(world.state(&grants[i].id).await, GrantState::Ended, "verified absent, beside the other one");
        };
        release(first_out).await;
        assert!(member(&world).await, "the other grant holds it");
        release(1 - first_out).await;
        assert!(!member(&world).await, "the last one out ends it");
    }
    // A standing member, before the grant and given meanwhile.
    let group = world.store().group("readers").await.unwrap().unwrap().id;
    let ana = world.who("ana").await.actor_id();
    let standing = format!(
        "INSERT INTO memberships (group_id, identity_id, grant_id, not_after, created_at) \
         VALUES ('{group}', '{ana}', '', NULL, 0)"
    );
    for before in [true, false] {
        leaves_groups(&world, "ana").await;
        let engineers = world.store().group("engineers").await.unwrap().unwrap().id;
        sql(&world, &standing.replace(&group.to_string(), &engineers.to_string())).await;
        if before {
            sql(&world, &standing).await;
        }
        let grant = world.open("ana", READERS, 60).await;
        if !before {
            sql(&world, &standing).await;
        }
        world.advance(61);
        world.settle().await;
        assert_eq!(world.state(&grant.id).await, GrantState::Ended);
        assert!(member(&world).await, "the source of truth says so");
    }
    world.broker.sweep_target(&world.who("eve").await, DIRECTORY).await.unwrap();
    assert!(member(&world).await);
}

async fn p10_a_copied_ledger_only_observes_until_somebody_says_go(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 60).await;
    let pending = world.ask("ana", want(ADMIN, 60)).await.unwrap();
    let copy = world.copied(Plan::on(db)).await;
    assert!(copy.broker.is_observing());
    assert!(!copy.broker.ready().await.ready);
    copy.advance(5 * 3600);
    copy.settle().await;
    assert!(copy.broker.sweep_by_clock(DIRECTORY).await.is_err());
    assert_eq!(copy.state(&grant.id).await, GrantState::Active, "it ends nothing");
    assert_eq!(request_state(&copy, &pending).await, RequestState::Pending);
    for call in [Call::Prepare, Call::Activate, Call::Revoke, Call::Verify] {
        assert_eq!(copy.faults(DIRECTORY).calls(call), 0);
    }
    assert_eq!(copy.broker.seal().await.unwrap(), 0, "it signs nothing");
    let size = copy.store().audit_size().await.unwrap();
    let (ana, eve, ben) = (copy.who("ana").await, copy.who("eve").await, copy.who("ben").await);
    let id = grant_id(&grant.id);
    refused!(copy.ask("ana", want(READ, 60)).await, BrokerError::Observing);
    refused!(copy.broker.approve(&ben, request_id(&pending), Decide::default()).await, BrokerError::Observing);
    refused!(copy.broker.claim(&ana, id).await, BrokerError::Observing);
    refused!(copy.broker.release(&ana, id).await, BrokerError::Observing);
    refused!(copy.broker.revoke(&eve, id, "x".into()).await, BrokerError::Observing);
    let extend = Extend { duration: ttl(60), reason: "x".into(), from: None, idempotency: None };
    refused!(copy.broker.extend(&ana, id, extend).await, BrokerError::Observing);
    let lock = NewLock { kind: LockKind::Target, value: TOKEN.to_owned(), reason: "x".into() };
    refused!(copy.broker.lock(&eve, lock).await, BrokerError::Observing);
    refused!(copy.broker.create_token(&ana, None, "x".into(), None).await, BrokerError::Observing);
    // It can be looked at.
    copy.broker.grant(&ana, id).await.unwrap();
    let dry = Ask { dry_run: true, ..want(READ, 60) };
    assert!(matches!(copy.broker.ask(&ana, dry).await.unwrap(), Asked::Planned(_)));
    assert_eq!(copy.store().audit_size().await.unwrap(), size);
    // Go.
    copy.broker.take_charge("eve").await.unwrap();
    copy.settle().await;
    assert_eq!(copy.state(&grant.id).await, GrantState::Ended);
    assert!(copy.actions().await.contains(&"system.resumed".to_owned()));
    assert!(!copy.another(Plan::on(db)).await.broker.is_observing());
}

async fn p11_a_repeated_request_makes_one_grant_and_one_credential(db: Db) {
    let world = World::on(db).await;
    let ask = Ask { idempotency: Some(("once".to_owned(), vec![7])), ..want(READ, 600) };
    let asked = futures::future::join_all((0..16).map(|_| world.ask("ana", ask.clone()))).await;
    let ids: std::collections::BTreeSet<String> = asked.into_iter().map(|a| a.unwrap().id).collect();
    assert_eq!(ids.len(), 1);
    let grants = table(&world, "SELECT id FROM grants").await;
    assert_eq!((table(&world, "SELECT id FROM requests").await.len(), grants.len()), (1, 1));
    let claims = futures::future::join_all((0..8).map(|_| claim(&world, "ana", &grants[0]))).await;
    let mut live = 0;
    for token in claims.iter().flatten() {
        live += usize::from(is_live(&world, token).await);
    }
    assert!(live <= 1, "one credential at a time");
    let first = claim(&world, "ana", &grants[0]).await.unwrap();
    let second = claim(&world, "ana", &grants[0]).await.unwrap();
    assert_eq!((is_live(&world, &first).await, is_live(&world, &second).await), (false, true));
}

async fn p12_what_revoking_means_is_seen_before_anybody_approves(db: Db) {
    let mut plan = Plan::on(db);
    // Verifiers that never ask: a copy works until its own expiry.
    plan.targets[0].settings.insert("verifiers".to_owned(), "offline".into());
    let world = plan.build().await;
    let (ana, ben) = (world.who("ana").await, world.who("ben").await);
    let catalog = world.broker.entitlements(&ana).await.unwrap().items;
    let of = |id: &str| catalog.iter().find(|e| e.id == id).unwrap();
    assert_eq!((of(READERS).revocation_class, of(READERS).residual_window), (RevocationClass::Immediate, 0));
    assert_eq!(of(ADMIN).revocation_class, RevocationClass::ExpiryOnly);
    assert!(of(ADMIN).residual_window > 60 && of(ADMIN).residual_window_text.contains("offline"));
    let dry = Ask { dry_run: true, ..wants(&[READERS, ADMIN], 600) };
    let Asked::Planned(plan) = world.broker.ask(&ana, dry).await.unwrap() else { panic!("recorded") };
    let planned: Vec<_> = plan.entitlements.iter().map(|e| e.revocation.revocation_class).collect();
    assert_eq!(planned, [RevocationClass::Immediate, RevocationClass::ExpiryOnly]);
    let request = world.ask("ana", wants(&[READERS, ADMIN], 600)).await.unwrap();
    assert_eq!(request.state, RequestState::Pending);
    for who in [&ana, &ben] {
        let seen = world.broker.request(who, request_id(&request)).await.unwrap();
        let seen: Vec<_> = seen
            .revocation
            .iter()
            .map(|r| (r.revocation_class, r.residual_window, r.residual_window_text.is_empty()))
            .collect();
        let admin = (RevocationClass::ExpiryOnly, of(ADMIN).residual_window, false);
        assert!(seen.contains(&(RevocationClass::Immediate, 0, false)) && seen.contains(&admin), "{seen:?}");
    }
}

async fn p13_a_lock_stops_what_is_new_and_ends_what_is_live(db: Db) {
    for (kind, value) in [(LockKind::Identity, "ana"), (LockKind::Target, DIRECTORY), (LockKind::Entitlement, ONCALL)] {
        let world = World::on(db).await;
        let live = world.open("ana", ONCALL, 3600).await;
        let later = Ask { start_at: Some(world.now().plus(ttl(600))), ..want(ONCALL, 600) };
        let later = approve(&world, "ben", &world.ask("ana", later).await.unwrap()).await.unwrap().grants.remove(0);
        let pending = world.ask("ana", want(ONCALL, 600)).await.unwrap();
        let others = world.open("ben", READ, 3600).await;
        let mine = world.open("ana", READ, 3600).await;
        let secret = claim(&world, "ana", &mine.id).await.unwrap();
        let eve = world.who("eve").await;
        let lock = NewLock { kind, value: value.to_owned(), reason: "incident 12".to_owned() };
        let lock = world.broker.lock(&eve, lock).await.unwrap();
        assert_eq!(lock.ending, Some(if kind == LockKind::Identity { 3 } else { 2 }));
        refused!(world.ask("ana", want(ONCALL, 600)).await, BrokerError::Locked { .. });
        refused!(approve(&world, "ben", &pending).await, BrokerError::Locked { .. });
        if kind == LockKind::Identity {
            refused!(claim(&world, "ana", &mine.id).await, BrokerError::State(_));
            assert!(!is_live(&world, &secret).await, "at once, and not when the reaper has come");
            let for_bot = Ask { on_behalf_of: Some("deploy-bot".to_owned()), ..want(READ, 60) };
            refused!(world.ask("ana", for_bot).await, BrokerError::Locked { .. });
        } else {
            assert!(is_live(&world, &secret).await);
        }
        world.settle().await;
        for id in [&live.id, &later.id] {
            let grant = world.grant(id).await;
            assert_eq!((grant.state, grant.end_reason), (GrantState::Ended, Some(EndReason::Locked)));
        }
        assert!(!groups(&world, "ana").await.contains(&"oncall".to_owned()));
        assert_eq!(world.state(&others.id).await, GrantState::Active, "nobody else is harmed");
        let id: LockId = lock.id.parse().unwrap();
        world.broker.unlock(&eve, id).await.unwrap();
        world.settle().await;
        assert_eq!(world.state(&live.id).await, GrantState::Ended, "what it ended stays ended");
        assert_eq!(approve(&world, "ben", &pending).await.unwrap().grants[0].state, GrantState::Active);
        log_explains_rows(&world).await;
    }
}

async fn p13_a_lock_ends_what_is_just_being_opened(db: Db) {
    let world = hasty(db).await;
    world.faults(DIRECTORY).set(Call::Activate, Behaviour::EffectThenHangs);
    let eve = world.who("eve").await;
    let locking = async {
        called(&world, DIRECTORY, Call::Activate, 1).await;
        let lock = NewLock { kind: LockKind::Target, value: DIRECTORY.to_owned(), reason: "incident".to_owned() };
        assert_eq!(world.broker.lock(&eve, lock).await.unwrap().ending, Some(1));
        // The second try comes through.
        world.faults(DIRECTORY).heal();
    };
    let (asked, ()) = tokio::join!(world.ask("ana", want(READERS, 600)), locking);
    let grant = asked.unwrap().grants.remove(0);
    assert_ne!(grant.state, GrantState::Active);
    world.settle().await;
    let ended = world.grant(&grant.id).await;
    assert_eq!((ended.state, ended.end_reason), (GrantState::Ended, Some(EndReason::Locked)));
    assert!(!member(&world).await);
    log_explains_rows(&world).await;
}

async fn p13_a_lock_that_another_broker_set_meanwhile_is_seen(db: Db) {
    let world = hasty(db).await;
    world.faults(DIRECTORY).set(Call::Activate, Behaviour::EffectThenHangs);
    let locking = async {
        called(&world, DIRECTORY, Call::Activate, 1).await;
        // Its transaction did not see the grant yet, nor ours the lock.
        lock_by_sql(&world, "target", DIRECTORY).await;
        world.faults(DIRECTORY).heal();
    };
    let (asked, ()) = tokio::join!(world.ask("ana", want(READERS, 600)), locking);
    let grant = asked.unwrap().grants.remove(0);
    assert_ne!(grant.state, GrantState::Active);
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
    assert!(!member(&world).await);
}

async fn p14_editing_the_catalog_neither_strands_nor_prolongs_a_grant(db: Db) {
    let dir = tempfile::tempdir().unwrap();
    let policies = policies(dir.path());
    let world = Plan { policies, ..Plan::on(db) }.build().await;
    let changed = world.open("ana", READERS, 600).await;
    let removed = world.open("ana", ONCALL, 600).await;
    let ends = world.grant(&changed.id).await.not_after;
    let catalog = dir.path().join("catalog.toml");
    // The entitlement now means another group and lasts longer; the other one is gone, and who may have what too.
    edit(
        &catalog,
        "parameters = { group = \"readers\" }\ndefault_ttl = \"2h\"",
        "parameters = { group = \"workloads\" }\ndefault_ttl = \"20h\"",
    );
    let text = std::fs::read_to_string(&catalog).unwrap();
    let cut = text.rfind("[[entitlement]]").unwrap();
    assert!(text[cut..].contains(ONCALL));
    std::fs::write(&catalog, &text[..cut]).unwrap();
    edit(
        &dir.path().join("access.cedar"),
        "principal in Tidegate::Group::\"engineers\"",
        "principal in Tidegate::Group::\"readers\"",
    );
    let reloaded = world.broker.policy_engine().reload().unwrap();
    assert!(matches!(reloaded, tidegate::policy::Reload::Changed { .. }));
    assert!(world.broker.policy().catalog().get(ONCALL).is_none());
    world.settle().await;
    assert_eq!(world.grant(&changed.id).await.not_after, ends);
    assert_eq!(world.state(&removed.id).await, GrantState::Active, "an edit ends nothing by itself");
    // Its holder has left too.
    leaves_groups(&world, "ana").await;
    world.advance(601);
    world.settle().await;
    for id in [&changed.id, &removed.id] {
        assert_eq!(world.state(id).await, GrantState::Ended);
    }
    let evidence = world.grant(&changed.id).await.evidence.unwrap();
    assert_eq!((evidence["group"].as_str(), evidence["row_of_this_grant"].as_str()), (Some("readers"), Some("absent")));
    assert!(groups(&world, "ana").await.is_empty());
}

/// The export of the whole log: its lines.
async fn export(world: &World) -> Vec<String> {
    while world.broker.seal().await.unwrap() > 0 {}
    let key = world.broker.verifier_key().parse().unwrap();
    let checkpoint = world.store().last_checkpoint().await.unwrap().unwrap();
    let origin = checkpoint.note.lines().next().unwrap();
    let mut lines = vec![Header::new(origin, &Frontier::default(), Some(key), world.now()).line()];
    let page = world.store().events(&AuditFilter::default(), 0, 100_000).await.unwrap();
    lines.extend(page.items.iter().map(|e| event_line(e.seq, &e.leaf)));
    lines.push(checkpoint_line(&checkpoint.note));
    lines
}

fn verify(world: &World, lines: &[String]) -> Result<Report, Vec<Finding>> {
    let trust = Trust { keys: vec![world.broker.verifier_key().parse().unwrap()], pins: Vec::new() };
    let mut verifier = Verifier::new(trust);
    for line in lines {
        verifier.line(line);
    }
    verifier.finish()
}

async fn p15_the_log_explains_every_row_and_cannot_be_changed_unseen(db: Db) {
    let world = World::on(db).await;
    on_call(&world).await;
    let ledger = ask_ledger(&world).await;
    approve(&world, "ben", &ledger).await.unwrap();
    approve(&world, "eve", &ledger).await.unwrap();
    let denied = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    deny(&world, "ben", &denied).await.unwrap();
    world.ask("ana", want(ADMIN, 600)).await.unwrap();
    let read = world.open("ana", READ, 600).await;
    claim(&world, "ana", &read.id).await.unwrap();
    let released = world.open("ana", READERS, 600).await;
    world.broker.release(&world.who("ana").await, grant_id(&released.id)).await.unwrap();
    world.faults(DIRECTORY).set(Call::Activate, Behaviour::Refuses);
    world.open("ben", READERS, 600).await;
    world.faults(DIRECTORY).heal();
    world.open("ben", READERS, 60).await;
    world.faults(DIRECTORY).set(Call::Revoke, Behaviour::Lies);
    log_explains_rows(&world).await;
    for _ in 0..8 {
        world.advance(901);
        world.workers.round().await.unwrap();
        log_explains_rows(&world).await;
    }
    world.faults(DIRECTORY).heal();
    world.advance(8 * 86_400);
    world.settle().await;
    log_explains_rows(&world).await;

    let lines = export(&world).await;
    let report = verify(&world, &lines).unwrap();
    assert!(report.key_trusted && report.events == lines.len() as u64 - 2);
    let (first, middle, last) = (1, lines.len() / 2, lines.len() - 2);
    for at in [first, middle, last] {
        let mut changed = lines.clone();
        changed[at] = changed[at].replace("granted", "x").replace("grant", "gramt").replace("request", "reqest");
        assert!(verify(&world, &changed).is_err(), "a changed event");
        let mut cut = lines.clone();
        cut.remove(at);
        assert!(verify(&world, &cut).is_err(), "a missing event");
        // Consistent in itself, with its own hash: only the signed root tells.
        let page = world.store().events(&AuditFilter::default(), (at - 1) as u64, 1).await.unwrap();
        let mut forged = lines.clone();
        forged[at] = event_line(page.items[0].seq, &page.items[0].leaf.replace("\"via\":\"", "\"via\":\"x"));
        assert!(verify(&world, &forged).is_err(), "a forged event");
    }
    let mut swapped = lines.clone();
    swapped.swap(first, last);
    assert!(verify(&world, &swapped).is_err(), "events out of order");
    let options: sqlx::any::AnyConnectOptions = world.database.url.parse().unwrap();
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for text in ["UPDATE audit_events SET leaf = '{}' WHERE seq = 1", "DELETE FROM audit_events WHERE seq = 1"] {
        assert!(sqlx::raw_sql(sqlx::AssertSqlSafe(text)).execute(&mut connection).await.is_err(), "{text}");
    }
}

async fn p15_what_cannot_be_written_to_the_log_does_not_happen(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 600).await;
    let text = match db {
        Db::Sqlite => "CREATE TRIGGER no_more BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'no more'); END",
        Db::Postgres => {
            "CREATE FUNCTION no_more() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more'; END $$; \
             CREATE TRIGGER no_more BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION no_more()"
        }
    };
    sql(&world, text).await;
    let rows = async || {
        let mut rows = table(&world, "SELECT id, state FROM grants ORDER BY id").await;
        rows.extend(table(&world, "SELECT id, state FROM requests ORDER BY id").await);
        rows.extend(table(&world, "SELECT id FROM locks").await);
        rows.extend(table(&world, "SELECT id FROM tokens").await);
        rows
    };
    let before = rows().await;
    let (ana, eve) = (world.who("ana").await, world.who("eve").await);
    let id = grant_id(&grant.id);
    assert!(world.ask("ana", want(READ, 60)).await.is_err());
    assert!(world.ask("ana", want(ADMIN, 60)).await.is_err());
    assert!(world.broker.release(&ana, id).await.is_err());
    assert!(world.broker.revoke(&eve, id, "x".into()).await.is_err());
    let lock = NewLock { kind: LockKind::Target, value: TOKEN.to_owned(), reason: "x".into() };
    assert!(world.broker.lock(&eve, lock).await.is_err());
    assert!(world.broker.create_token(&ana, None, "x".into(), None).await.is_err());
    world.advance(601);
    assert!(world.workers.round().await.is_err());
    assert_eq!(rows().await, before);
}

on_both!(
    p08_work_depends_on_what_is_due_and_not_on_what_is_live,
    p09_what_it_did_not_give_stays_and_overlaps_are_counted,
    p10_a_copied_ledger_only_observes_until_somebody_says_go,
    p11_a_repeated_request_makes_one_grant_and_one_credential,
    p12_what_revoking_means_is_seen_before_anybody_approves,
    p13_a_lock_stops_what_is_new_and_ends_what_is_live,
    p13_a_lock_ends_what_is_just_being_opened,
    p13_a_lock_that_another_broker_set_meanwhile_is_seen,
    p14_editing_the_catalog_neither_strands_nor_prolongs_a_grant,
    p15_the_log_explains_every_row_and_cannot_be_changed_unseen,
    p15_what_cannot_be_written_to_the_log_does_not_happen,
);
