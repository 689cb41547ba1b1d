//! A source that takes away too many at once, at the edge: what it is answered, and what becomes of what it said.

use http::StatusCode;
use serde_json::json;
use tidegate::edge::{Limits, Rate};

use crate::{
    http_app::open,
    on_both,
    scim_app::{IDENTITY, Scim, done, refused},
    world::{Db, Plan},
};

async fn a_stopped_source_is_told_to_come_again(db: Db) {
    let scim = Scim::on(db).await;
    let world = &scim.app.world;
    let mut people = Vec::new();
    for n in 0..20 {
        people.push(format!("/Users/{}", scim.user(&format!("p{n}")).await));
    }
    let off = json!([{"op": "Replace", "path": "active", "value": "False"}]);
    for path in &people[..4] {
        done(&scim.patch(path, off.clone()).await, 200);
    }
    let over = json!([{"op": "add", "path": format!("{IDENTITY}:contractEnd"), "value": "2020-01-01"}]);
    let held = [
        scim.patch(&people[4], off.clone()).await,
        scim.delete(&people[5]).await,
        // By another word.
        scim.patch(&people[6], over).await,
    ];
    for answer in &held {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{db:?}: {}", answer.body);
        assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|s| s > 0), "{db:?}: {:?}", answer.headers);
        assert_eq!(answer.body["status"], "503", "{}", answer.body);
    }
    world.settle().await;
    world.broker.record_held().await.unwrap();
    for path in &people[4..7] {
        assert_eq!(scim.get(path).await.body["active"], true, "{db:?}");
    }
    world.broker.accept_departures(&world.who("eve").await, "okta").await.unwrap();
    for _ in 0..3 {
        world.settle().await;
    }
    assert_eq!(scim.get(&people[4]).await.body["active"], false, "{db:?}");
    assert_eq!(scim.get(&people[5]).await.status, StatusCode::NOT_FOUND, "{db:?}: deleted, as it said");
    assert_eq!(scim.get(&people[6]).await.body["active"], false, "{db:?}");
    done(&scim.patch(&people[7], off).await, 200);
}

async fn a_source_that_calls_too_often_is_told_when_to_come_again(db: Db) {
    let limits = Limits { per_source: Some(Rate::new(1, 5)), ..open() };
    let scim = Scim::within(Plan::on(db), limits).await;
    let mut cut = None;
    for _ in 0..20 {
        let answer = scim.get("/Users?count=1").await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            cut = Some(answer);
            break;
        }
        done(&answer, 200);
    }
    let cut = cut.expect("it is cut at last");
    refused(&cut, 429, "");
    assert!(cut.header("retry-after").parse::<u32>().is_ok_and(|s| s > 0), "{db:?}: {:?}", cut.headers);
    // Another source has its own measure.
    done(&scim.as_other("GET", "/Users?count=1", None).await, 200);
}

on_both!(a_stopped_source_is_told_to_come_again, a_source_that_calls_too_often_is_told_when_to_come_again);
