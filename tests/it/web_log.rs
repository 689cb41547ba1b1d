//! The log in the portal: the query bar, what happened how often, whether it holds, taking it away, and who may not.

use http::StatusCode;
use tidegate::domain::export::{Trust, Verifier};

use crate::{
    http_app::App,
    on_both,
    verbs_help::sql,
    web_app::{Browser, Shown},
    world::Db,
};

/// Rows of the log on a page.
fn rows(shown: &Shown) -> usize {
    shown.html.matches("<li data-row data-open=\"/audit/evt_").count()
}

async fn the_query_bar_finds_what_it_is_asked_for(db: Db) {
    let app = App::on(db).await;
    let (ana, ben, eve) =
        (Browser::of(&app, "ana").await, Browser::of(&app, "ben").await, Browser::of(&app, "eve").await);
    let request = ana.ask("tokens:orders-admin", "order 4411").await;
    app.world.advance(1800);
    let middle = app.world.now().to_string();
    ben.decide(&request, "approve", &[]).await;
    let find = async |q: &str| {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", q).finish();
        eve.open(&format!("/audit?{query}")).await
    };
    assert_eq!(rows(&find("action:request.created").await), 1);
    assert_eq!(rows(&find("action:request. by:ben").await), 1, "approved by ben");
    assert_eq!(rows(&find("action:approval.recorded by:ana").await), 0);
    assert!(rows(&find("action:grant. target:dev-token").await) >= 2);
    assert_eq!(rows(&find("action:grant. target:elsewhere").await), 0);
    assert_eq!(rows(&find(&format!("action:request.created until:{middle}")).await), 1);
    assert_eq!(rows(&find(&format!("action:request.created since:{middle}")).await), 0);
    assert_eq!(rows(&find(&format!("action:request.approved since:{middle}")).await), 1);
    let about = find(request.trim_start_matches("/requests/")).await;
    assert!(rows(&about) >= 3 && about.html.contains("these hash to the log"));
    for (wrong, says) in [
        ("colour:blue", "before what you look for"),
        ("by:nobody-of-that-name", "nobody here has this name"),
        ("since:yesterday", "since"),
        ("target:%", "as it stands in the log"),
        ("req_x", "is the id of a request"),
    ] {
        let shown = find(wrong).await;
        assert!(shown.status.is_client_error(), "{wrong}: {}", shown.status);
        assert!(shown.html.contains(says), "{wrong}: {}", shown.html);
    }
    let all = eve.page("/audit").await;
    assert!(all.html.contains("action%3Arequest.created") && all.html.contains("data-pause"), "{}", all.html);
    // Whoever does not read the whole log finds nothing of it.
    assert!(ana.page("/audit?q=by:eve").await.html.contains("for administrators and auditors"));
    assert_eq!(ana.open("/audit/export?format=csv").await.status, StatusCode::FORBIDDEN);
}

async fn the_log_is_taken_away_and_verified_elsewhere(db: Db) {
    let app = App::on(db).await;
    let (ana, eve) = (Browser::of(&app, "ana").await, Browser::of(&app, "eve").await);
    ana.ask("tokens:orders-read", "=HYPERLINK(\"http://evil.example\")").await;
    while app.world.broker.seal().await.unwrap() > 0 {}
    let size = app.world.store().audit_size().await.unwrap();
    let whole = eve.page("/audit/export").await;
    assert!(whole.header("content-disposition").starts_with("attachment"), "{}", whole.header("content-disposition"));
    let mut verifier = Verifier::new(Trust { keys: vec![app.world.broker.log_key().clone()], pins: Vec::new() });
    whole.html.lines().for_each(|line| verifier.line(line));
    let report = verifier.finish().expect("a whole log verifies");
    assert_eq!((report.events, report.size), (size, size));
    let table = eve.page("/audit/export?format=csv&q=action:request.").await;
    let mut lines = table.html.lines();
    assert!(lines.next().unwrap().starts_with("seq,at,action,actor"));
    let found: Vec<&str> = lines.collect();
    assert!(!found.is_empty() && found.iter().all(|l| l.contains(",request.")), "{found:?}");
    assert!(table.html.contains("HYPERLINK") && !table.html.contains(",=HYPERLINK"));
    let siem = eve.page("/audit/export?format=ocsf&q=action:request.created").await;
    let event: serde_json::Value = serde_json::from_str(siem.html.lines().next().unwrap()).unwrap();
    assert_eq!(event["class_uid"], 6003);
    assert!(eve.open("/audit/export?format=xml").await.status.is_client_error());
}

async fn whoever_verifies_is_told_what_does_not_hold(db: Db) {
    let app = App::on(db).await;
    let (ana, eve) = (Browser::of(&app, "ana").await, Browser::of(&app, "eve").await);
    ana.ask("tokens:orders-read", "look at order 4411").await;
    while app.world.broker.seal().await.unwrap() > 0 {}
    assert!(eve.page("/audit?verify=1").await.html.contains("The log holds."));
    // Somebody with the rights of the database changes an event behind the broker's back.
    if db == Db::Sqlite {
        sql(&app.world, "DROP TRIGGER audit_events_no_update").await;
    } else {
        sql(&app.world, "ALTER TABLE audit_events DISABLE TRIGGER ALL").await;
    }
    sql(
        &app.world,
        "UPDATE audit_events SET leaf = replace(leaf, 'order 4411', 'order 4412') WHERE action = 'request.created'",
    )
    .await;
    let shown = eve.page("/audit?verify=1").await;
    assert!(
        shown.html.contains("The log does not hold.") && shown.html.contains("is not what was hashed"),
        "{}",
        shown.html
    );
    assert!(eve.page("/audit?q=action:request.created").await.html.contains("an event is not what was hashed"));
    let first = eve.page("/audit/export").await;
    let mut verifier = Verifier::new(Trust { keys: vec![app.world.broker.log_key().clone()], pins: Vec::new() });
    first.html.lines().for_each(|line| verifier.line(line));
    assert!(verifier.finish().is_err());
}

on_both!(
    the_query_bar_finds_what_it_is_asked_for,
    the_log_is_taken_away_and_verified_elsewhere,
    whoever_verifies_is_told_what_does_not_hold,
);
