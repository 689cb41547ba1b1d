//! Users over SCIM: made, read, replaced, changed, deleted.

use serde_json::json;

use crate::{
    on_both,
    scim_app::{ENTERPRISE, IDENTITY, Scim, done, refused},
    world::Db,
};

async fn a_user_lives_and_goes(db: Db) {
    let scim = Scim::on(db).await;
    let made = scim
        .post(
            "/Users",
            json!({
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE],
                "userName": "Zoe@Example.com", "externalId": "00u1", "name": {"givenName": "Zoe", "familyName": "Zimmer"},
                "emails": [{"value": "zoe@example.com", "type": "work", "primary": true}],
                "active": true, "password": "secret-secret", "id": "mine", "colour": "blue",
                ENTERPRISE: {"department": "engineering", "employeeNumber": "7"},
                IDENTITY: {"employment": "contractor", "contractEnd": "2027-03-31"},
            }),
        )
        .await;
    done(&made, 201);
    let id = made.text("id");
    assert!(id.starts_with("idn_"));
    assert_eq!(made.header("content-type"), "application/scim+json");
    assert_eq!(made.header("location"), made.body["meta"]["location"]);
    assert_eq!(made.header("location"), format!("http://127.0.0.1:8420/scim/v2/Users/{id}"));
    assert_eq!(made.header("etag"), "W/\"1\"");
    assert_eq!(made.body["meta"]["version"], "W/\"1\"");
    assert_eq!(made.body["meta"]["resourceType"], "User");
    assert_eq!(made.body["userName"], "Zoe@Example.com");
    assert_eq!(made.body[ENTERPRISE]["department"], "engineering");
    assert_eq!(made.body[IDENTITY]["contractEnd"], "2027-03-31T23:59:59Z");
    assert!(made.body.get("password").is_none() && made.body.get("colour").is_none());
    let read = scim.get(&format!("/Users/{id}")).await;
    done(&read, 200);
    assert_eq!(read.body, made.body);
    // What decisions rest on.
    let subject = scim.app.world.store().subject(id.parse().unwrap(), scim.app.world.now()).await.unwrap().unwrap();
    assert_eq!(subject.identity.email.as_deref(), Some("zoe@example.com"));
    assert_eq!(subject.identity.attributes["department"], "engineering");
    assert_eq!(subject.identity.attributes["employment"], "contractor");
    assert_eq!(subject.identity.contract_end.unwrap().to_string(), "2027-03-31T23:59:59Z");
    assert_eq!(subject.identity.display_name, "Zoe Zimmer");
    // Deactivated as Okta does it.
    let off = scim.patch(&format!("/Users/{id}"), json!([{"op": "replace", "value": {"active": false}}])).await;
    done(&off, 200);
    assert_eq!(off.body["active"], false);
    assert_eq!(off.body["meta"]["version"], "W/\"2\"");
    let on = scim.patch(&format!("/Users/{id}"), json!([{"op": "Replace", "path": "active", "value": "True"}])).await;
    assert_eq!(on.body["active"], true);
    let again = scim.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "active", "value": true}])).await;
    assert_eq!(again.body["meta"]["version"], on.body["meta"]["version"], "nothing changed");
    done(&scim.delete(&format!("/Users/{id}")).await, 204);
    refused(&scim.get(&format!("/Users/{id}")).await, 404, "");
    refused(&scim.delete(&format!("/Users/{id}")).await, 404, "");
    // Its name is free again, for somebody else.
    let next = scim.user("zoe@example.com").await;
    assert_ne!(next, id);
}

async fn names_are_unique(db: Db) {
    let scim = Scim::on(db).await;
    let a = scim.user_of(json!({"userName": "a", "externalId": "1"})).await;
    let b = scim.user_of(json!({"userName": "b", "externalId": "2"})).await;
    refused(&scim.post("/Users", json!({"userName": "A"})).await, 409, "uniqueness");
    refused(&scim.post("/Users", json!({"userName": "ana"})).await, 409, "uniqueness");
    refused(&scim.post("/Users", json!({"userName": "c", "externalId": "1"})).await, 409, "uniqueness");
    let rename = json!([{"op": "replace", "path": "userName", "value": "A"}]);
    refused(&scim.patch(&format!("/Users/{b}"), rename.clone()).await, 409, "uniqueness");
    refused(&scim.put(&format!("/Users/{b}"), json!({"userName": "b", "externalId": "1"})).await, 409, "uniqueness");
    // The same name in another case is one's own.
    let own = scim.patch(&format!("/Users/{a}"), rename).await;
    assert_eq!(own.body["userName"], "A");
    // Another source has its own names for people.
    done(&scim.as_other("POST", "/Users", Some(json!({"userName": "d", "externalId": "1"}))).await, 201);
}

on_both!(a_user_lives_and_goes, names_are_unique);
