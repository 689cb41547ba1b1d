//! PATCH as the RFC has it: targets, atomicity, types of refusals, one primary value, conditions, side by side.

use serde_json::{Value, json};

use crate::{
    on_both,
    scim_app::{ENTERPRISE, Scim, done, refused},
    world::Db,
};

async fn refusals_have_their_types(db: Db) {
    let scim = Scim::on(db).await;
    let path = format!("/Users/{}", scim.user("a").await);
    for (operation, scim_type) in [
        (json!({"op": "remove"}), "noTarget"),
        (json!({"op": "replace", "path": "emails[type eq \"x\"].value", "value": "y"}), "noTarget"),
        (json!({"op": "replace", "path": "emails[type eq", "value": "y"}), "invalidPath"),
        (json!({"op": "replace", "path": "flavour", "value": "y"}), "invalidPath"),
        (json!({"op": "replace", "path": "name.flavour", "value": "y"}), "invalidPath"),
        (json!({"op": "replace", "path": 7, "value": "y"}), "invalidPath"),
        (json!({"op": "replace", "path": "id", "value": "y"}), "mutability"),
        (json!({"op": "add", "path": "groups", "value": [{"value": "y"}]}), "mutability"),
        (json!({"op": "replace", "path": "meta.created", "value": "y"}), "mutability"),
        (json!({"op": "remove", "path": "userName"}), "mutability"),
        (json!({"op": "replace", "path": "userName", "value": ""}), "invalidValue"),
        (json!({"op": "replace", "path": "userName", "value": null}), "invalidValue"),
        (json!({"op": "replace", "path": "active", "value": "perhaps"}), "invalidValue"),
        (json!({"op": "replace", "path": "title", "value": {"a": 1}}), "invalidValue"),
        (json!({"op": "add", "path": "title"}), "invalidValue"),
        (json!({"op": "add", "value": "text"}), "invalidValue"),
        (json!({"op": "move", "path": "title", "value": "x"}), "invalidSyntax"),
        (json!({"path": "title", "value": "x"}), "invalidSyntax"),
        (json!("text"), "invalidSyntax"),
    ] {
        let answer = scim.patch(&path, json!([operation])).await;
        assert_eq!(answer.body["scimType"], scim_type, "{operation}: {}", answer.body);
        refused(&answer, 400, scim_type);
    }
    for body in [json!({}), json!({"Operations": []}), json!({"Operations": "x"}), json!([]), json!("{nope")] {
        let body = body.as_str().map_or(body.clone(), |raw| Value::String(raw.to_owned()));
        refused(&scim.call("PATCH", &path, Some(body)).await, 400, "invalidSyntax");
    }
    // All or nothing.
    let half =
        json!([{"op": "add", "path": "title", "value": "Dr"}, {"op": "add", "path": "active", "value": "perhaps"}]);
    refused(&scim.patch(&path, half).await, 400, "invalidValue");
    let read = scim.get(&path).await;
    assert_eq!((read.body.get("title"), &read.body["meta"]["version"]), (None, &json!("W/\"1\"")));
    refused(
        &scim.patch("/Users/idn_01KVF3T2M8XQ4B7N9D5R6S1W0Z", json!([{"op": "remove", "path": "title"}])).await,
        404,
        "",
    );
    refused(&scim.patch("/Users/nobody", json!([{"op": "remove", "path": "title"}])).await, 404, "");
}

async fn one_change_is_of_bounded_size(db: Db) {
    let scim = Scim::on(db).await;
    let path = format!("/Users/{}", scim.user("a").await);
    let one = json!({"op": "replace", "path": "title", "value": "x"});
    refused(&scim.patch(&path, json!(vec![one.clone(); 1001])).await, 413, "");
    done(&scim.patch(&path, json!(vec![one; 1000])).await, 200);
    let email = |n: usize| json!({"op": "add", "path": "emails", "value": [{"value": format!("{n}@x")}]});
    let many: Vec<Value> = (0..501).map(email).collect();
    refused(&scim.patch(&path, json!(many)).await, 400, "tooMany");
    done(&scim.patch(&path, json!(many[..500])).await, 200);
    refused(&scim.patch(&path, json!([email(501)])).await, 400, "tooMany");
    let lists: Vec<Value> = (0..20)
        .map(|n| {
            let values: Vec<Value> = (0..500).map(|m| json!({"value": format!("{n}-{m}")})).collect();
            json!({"op": "replace", "path": "emails", "value": values})
        })
        .collect();
    refused(&scim.patch(&path, json!(lists)).await, 413, "");
}

async fn lists_are_changed_by_value(db: Db) {
    let scim = Scim::on(db).await;
    let made = json!({"userName": "a", "emails": [
        {"value": "w@x", "type": "work", "primary": true}, {"value": "h@x", "type": "home"},
    ]});
    let path = format!("/Users/{}", scim.user_of(made).await);
    let emails = async |operations: Value| {
        let answer = scim.patch(&path, operations).await;
        done(&answer, 200);
        answer.body["emails"].clone()
    };
    let set =
        emails(json!([{"op": "add", "path": "emails", "value": [{"value": "n@x", "type": "other", "primary": true}]}]))
            .await;
    assert_eq!(
        set,
        json!([
            {"value": "w@x", "type": "work", "primary": false}, {"value": "h@x", "type": "home"},
            {"value": "n@x", "type": "other", "primary": true},
        ]),
        "one is primary at a time"
    );
    let again = emails(json!([{"op": "add", "path": "emails", "value": [{"value": "h@x", "type": "home"}]}])).await;
    assert_eq!(again.as_array().unwrap().len(), 3, "what is there is not added");
    let set = emails(
        json!([{"op": "replace", "path": "emails[type eq \"home\" and value ew \"x\"].display", "value": "Home"}]),
    )
    .await;
    assert_eq!(set[1], json!({"value": "h@x", "type": "home", "display": "Home"}));
    let set = emails(json!([{"op": "replace", "path": "emails[type eq \"home\"]", "value": {"value": "z@x"}}])).await;
    assert_eq!(set[1], json!({"value": "z@x"}), "the value as a whole is replaced");
    let set = emails(json!([{"op": "remove", "path": "emails[not (primary eq true)]"}])).await;
    assert_eq!(set, json!([{"value": "n@x", "type": "other", "primary": true}]));
    assert_eq!(emails(json!([{"op": "remove", "path": "emails[value pr].value"}])).await, Value::Null);
    assert_eq!(emails(json!([{"op": "add", "path": "emails.value", "value": "v@x"}])).await, json!([{"value": "v@x"}]));
    assert_eq!(emails(json!([{"op": "replace", "path": "emails", "value": []}])).await, Value::Null);
    let two = json!([{"value": "a", "primary": true}, {"value": "b", "primary": true}]);
    refused(&scim.patch(&path, json!([{"op": "replace", "path": "emails", "value": two}])).await, 400, "invalidValue");
    refused(&scim.post("/Users", json!({"userName": "b", "emails": two})).await, 400, "invalidValue");
    // Parts of what is complex, and whole extensions.
    let named = scim
        .patch(
            &path,
            json!([
                {"op": "add", "path": "name", "value": {"givenName": "A", "familyName": "B"}},
                {"op": "replace", "path": "name", "value": {"givenName": "C"}},
                {"op": "add", "path": ENTERPRISE, "value": {"department": "d", "costCenter": "c"}},
                {"op": "remove", "path": format!("{ENTERPRISE}:costCenter")},
            ]),
        )
        .await;
    assert_eq!(named.body["name"], json!({"givenName": "C", "familyName": "B"}));
    assert_eq!(named.body[ENTERPRISE], json!({"department": "d"}));
    let without = scim
        .patch(&path, json!([{"op": "remove", "path": ENTERPRISE}, {"op": "remove", "path": "name.givenName"}]))
        .await;
    assert!(without.body.get(ENTERPRISE).is_none());
    assert_eq!(without.body["name"], json!({"familyName": "B"}));
    assert_eq!(without.body["schemas"], json!(["urn:ietf:params:scim:schemas:core:2.0:User"]));
}

async fn versions_are_conditions(db: Db) {
    let scim = Scim::on(db).await;
    let id = scim.user("a").await;
    let path = format!("/Users/{id}");
    let read = scim.get(&path).await;
    let tag = read.header("etag").to_owned();
    let same = scim.with(&[("if-none-match", &tag)], "GET", &path, None).await;
    assert_eq!((same.status.as_u16(), same.header("etag")), (304, tag.as_str()));
    let body = || Some(json!({"userName": "a", "title": "Dr"}));
    done(&scim.with(&[("if-match", "W/\"0\", \"1\"")], "PUT", &path, body()).await, 200);
    refused(&scim.with(&[("if-match", &tag)], "PUT", &path, body()).await, 412, "");
    refused(&scim.with(&[("if-match", &tag)], "DELETE", &path, None).await, 412, "");
    refused(&scim.with(&[("if-none-match", "*")], "PUT", &path, body()).await, 412, "");
    done(&scim.with(&[("if-match", "*")], "DELETE", &path, None).await, 204);
    let group = format!("/Groups/{}", scim.group("g", &[]).await);
    let rename = || Some(json!({"displayName": "h"}));
    refused(&scim.with(&[("if-match", "W/\"7\"")], "PUT", &group, rename()).await, 412, "");
    done(&scim.with(&[("if-match", "W/\"1\"")], "PUT", &group, rename()).await, 200);
}

async fn side_by_side_nothing_is_lost(db: Db) {
    let scim = Scim::on(db).await;
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(scim.user(&format!("u{n}")).await);
    }
    let group = scim.group("g", &[]).await;
    let at = format!("/Groups/{group}");
    let adds =
        ids.iter().map(|id| scim.patch(&at, json!([{"op": "add", "path": "members", "value": [{"value": id}]}])));
    for answer in futures::future::join_all(adds).await {
        done(&answer, 200);
    }
    let mut all = ids.clone();
    all.sort();
    assert_eq!(scim.members(&group).await, all);
    // One user, changed in twelve places at once.
    let path = format!("/Users/{}", ids[0]);
    let names = ["title", "nickName", "locale", "timezone", "userType", "preferredLanguage", "displayName"];
    let sets = names.iter().map(|name| scim.patch(&path, json!([{"op": "replace", "path": name, "value": name}])));
    for answer in futures::future::join_all(sets).await {
        done(&answer, 200);
    }
    let read = scim.get(&path).await;
    for name in names {
        assert_eq!(read.body[name], name, "{}", read.body);
    }
    // One name, made once.
    let makes = (0..8).map(|_| scim.post("/Users", json!({"userName": "only-one"})));
    let mut made = 0;
    for answer in futures::future::join_all(makes).await {
        match answer.status.as_u16() {
            201 => made += 1,
            _ => refused(&answer, 409, "uniqueness"),
        }
    }
    assert_eq!(made, 1);
}

on_both!(
    one_change_is_of_bounded_size,
    refusals_have_their_types,
    lists_are_changed_by_value,
    versions_are_conditions,
    side_by_side_nothing_is_lost
);
