//! Groups over SCIM, who may fill which, and what a leaver leaves behind.

use serde_json::json;

use crate::{
    on_both,
    scim_app::{Scim, done, refused},
    world::Db,
};

async fn members_are_live_references(db: Db) {
    let scim = Scim::on(db).await;
    let (a, b) = (scim.user("a").await, scim.user("b").await);
    let group = scim.group("Crew", &[&a, &b]).await;
    let read = scim.get(&format!("/Users/{a}")).await;
    assert_eq!(read.body["groups"][0]["value"], group);
    assert_eq!(read.body["groups"][0]["display"], "Crew");
    let subject = scim.app.world.store().subject(a.parse().unwrap(), scim.app.world.now()).await.unwrap().unwrap();
    assert!(subject.is_in("crew"), "policies see it");
    refused(&scim.post("/Groups", json!({"displayName": "CREW"})).await, 409, "uniqueness");
    refused(&scim.post("/Groups", json!({"displayName": ""})).await, 400, "invalidValue");
    refused(
        &scim.post("/Groups", json!({"displayName": "g", "members": [{"value": group}]})).await,
        400,
        "invalidValue",
    );
    refused(&scim.post("/Groups", json!({"displayName": "g", "members": [7]})).await, 400, "invalidValue");
    // Who is deleted is in no group.
    done(&scim.delete(&format!("/Users/{a}")).await, 204);
    assert_eq!(scim.members(&group).await, std::slice::from_ref(&b));
    // A PUT that says nothing of members leaves them; an empty list empties.
    let at = format!("/Groups/{group}");
    assert_eq!(scim.put(&at, json!({"displayName": "Crew 2"})).await.body["members"][0]["value"], b);
    assert!(scim.put(&at, json!({"displayName": "Crew 2", "members": []})).await.body.get("members").is_none());
    let by_member = format!("members.value eq \"{b}\"");
    assert_eq!(scim.filter("/Groups", &by_member).await.body["totalResults"], 0);
    done(&scim.patch(&at, json!([{"op": "add", "path": "members", "value": {"value": b}}])).await, 200);
    assert_eq!(scim.filter("/Groups", &by_member).await.body["totalResults"], 1);
    assert_eq!(scim.filter("/Groups", &format!("members[value eq \"{b}\"]")).await.body["totalResults"], 1);
    done(&scim.delete(&at).await, 204);
    refused(&scim.get(&at).await, 404, "");
    assert!(scim.get(&format!("/Users/{b}")).await.body.get("groups").is_none());
    let actions = scim.app.world.actions().await;
    for action in ["group.created", "group.updated", "group.deleted", "membership.added", "membership.removed"] {
        assert!(actions.iter().any(|a| a == action), "{action}: {actions:?}");
    }
}

async fn a_source_writes_what_it_owns(db: Db) {
    let scim = Scim::on(db).await;
    let mine = scim.user("mine").await;
    let group = scim.group("mine", &[]).await;
    let rename = json!({"displayName": "theirs", "userName": "theirs"});
    for path in [format!("/Users/{mine}"), format!("/Groups/{group}")] {
        done(&scim.as_other("GET", &path, None).await, 200);
        refused(&scim.as_other("PUT", &path, Some(rename.clone())).await, 403, "");
        refused(&scim.as_other("DELETE", &path, None).await, 403, "");
        let patch = json!({"Operations": [{"op": "replace", "path": "externalId", "value": "x"}]});
        refused(&scim.as_other("PATCH", &path, Some(patch)).await, 403, "");
    }
    // What is kept here is seen and not written.
    let eve_path = format!("/Users/{}", scim.app.ids["eve"]);
    let off = json!([{"op": "replace", "path": "active", "value": false}]);
    done(&scim.get(&eve_path).await, 200);
    refused(&scim.patch(&eve_path, off.clone()).await, 403, "");
    let bot = format!("/Users/{}", scim.app.ids["deploy-bot"]);
    let shown = scim.get(&bot).await;
    assert_eq!(shown.body["urn:tidegate:params:scim:schemas:1.0:Identity"]["kind"], "workload");
    refused(&scim.patch(&bot, off).await, 403, "");
    // Nor is the group that administers taken over, by whatever way.
    let admins = scim.filter("/Groups", "displayName eq \"tidegate-admins\"").await;
    let admins = format!("/Groups/{}", admins.body["Resources"][0]["id"].as_str().unwrap());
    let add = json!([{"op": "add", "path": "members", "value": [{"value": mine}]}]);
    refused(&scim.patch(&admins, add).await, 403, "");
    refused(&scim.post("/Groups", json!({"displayName": "Tidegate-Admins"})).await, 409, "uniqueness");
    let world = &scim.app.world;
    let eve = world.who("eve").await;
    let new = |adopts, administers| tidegate::broker::NewSourceToken {
        adopts: Some(adopts),
        administers: Some(administers),
        ..Default::default()
    };
    // A source that takes over what is kept here takes over people and groups, and still not who administers.
    world.broker.create_source_token(&eve, "okta", new(true, false)).await.unwrap();
    let ana = scim.post("/Users", json!({"userName": "ana", "title": "Dr"})).await;
    done(&ana, 201);
    assert_eq!(ana.text("id"), scim.app.ids["ana"].to_string());
    let engineers = scim.post("/Groups", json!({"displayName": "engineers"})).await;
    done(&engineers, 201);
    assert_eq!(engineers.body["members"].as_array().unwrap().len(), 2, "nobody was put out");
    refused(&scim.post("/Users", json!({"userName": "eve"})).await, 409, "uniqueness");
    refused(&scim.delete(&eve_path).await, 403, "");
    refused(&scim.post("/Groups", json!({"displayName": "tidegate-admins"})).await, 403, "");
    refused(
        &scim
            .patch(
                &format!("/Groups/{group}"),
                json!([{"op": "replace", "path": "displayName", "value": "TIDEGATE-AUDITORS"}]),
            )
            .await,
        409,
        "uniqueness",
    );
    world.broker.create_source_token(&eve, "okta", new(true, true)).await.unwrap();
    done(&scim.post("/Groups", json!({"displayName": "tidegate-admins"})).await, 201);
}

async fn large_groups_are_not_read_for_one_member(db: Db) {
    let scim = Scim::on(db).await;
    let mut operations = Vec::new();
    for n in 0..300 {
        operations.push(json!({"method": "POST", "path": "/Users", "bulkId": format!("u{n}"), "data": {"userName": format!("u{n}")}}));
    }
    let members: Vec<_> = (0..300).map(|n| json!({"value": format!("bulkId:u{n}")})).collect();
    operations.push(
        json!({"method": "POST", "path": "/Groups", "bulkId": "g", "data": {"displayName": "big", "members": members}}),
    );
    let done_all = scim.post("/Bulk", json!({"Operations": operations})).await;
    let group = done_all.body["Operations"][300]["location"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    assert_eq!(scim.members(&group).await.len(), 300);
    let one = scim.user("one").await;
    let at = format!("/Groups/{group}");
    let add = json!([{"op": "add", "path": "members", "value": [{"value": one}]}]);
    let added = scim.patch(&at, add.clone()).await;
    assert_eq!((added.status.as_u16(), &added.body), (204, &json!("")), "too many to tell unasked");
    assert!(!added.header("etag").is_empty());
    let told = scim.call("PATCH", &format!("{at}?attributes=displayName"), Some(json!({"Operations": add}))).await;
    done(&told, 200);
    assert_eq!(scim.members(&group).await.len(), 301);
}

async fn a_group_is_not_emptied_by_what_names_nobody(db: Db) {
    let scim = Scim::on(db).await;
    let ana = scim.user("a").await;
    let gone = scim.user("gone").await;
    done(&scim.delete(&format!("/Users/{gone}")).await, 204);
    let at = format!("/Groups/{}", scim.group("g", &[&ana]).await);
    let nothing_said = [
        json!({"op": "replace", "value": {"displayName": "g", "members": null}}),
        json!({"op": "replace", "path": "members", "value": null}),
        json!({"op": "add", "value": {"members": null}}),
    ];
    for operation in nothing_said {
        done(&scim.patch(&at, json!([operation])).await, 200);
    }
    for members in [json!([{"value": "CN=somebody"}]), json!(["x", "y"]), json!([{"value": gone}]), json!([{}])] {
        let whole = json!({"displayName": "g", "members": members});
        refused(&scim.put(&at, whole).await, 400, "invalidValue");
        for operation in [
            json!({"op": "replace", "path": "members", "value": members}),
            json!({"op": "replace", "value": {"members": members}}),
        ] {
            refused(&scim.patch(&at, json!([operation])).await, 400, "invalidValue");
        }
    }
    assert_eq!(scim.members(at.rsplit('/').next().unwrap()).await, [ana.as_str()]);
    // Who is meant, and nobody, empty it all the same.
    done(
        &scim
            .patch(&at, json!([{"op": "replace", "path": "members", "value": [{"value": gone}, {"value": ana}]}]))
            .await,
        200,
    );
    done(&scim.patch(&at, json!([{"op": "replace", "path": "members", "value": []}])).await, 200);
    assert!(scim.members(at.rsplit('/').next().unwrap()).await.is_empty());
}

on_both!(
    a_group_is_not_emptied_by_what_names_nobody,
    members_are_live_references,
    a_source_writes_what_it_owns,
    large_groups_are_not_read_for_one_member
);
