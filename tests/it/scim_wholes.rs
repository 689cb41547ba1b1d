//! Whole users and groups in the shapes of many identity providers.

use serde_json::{Value, json};

use crate::{
    on_both,
    scim_app::{ENTERPRISE, Scim, done},
    scim_shapes::{DEPARTMENT, kim},
    world::Db,
};

async fn whole_users_of_providers(db: Db) {
    let scim = Scim::lively(db).await;
    for (what, sent, after) in [
        (
            "okta",
            json!({"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "id": "ignored", "userName": "kim@contoso.com",
            "name": {"givenName": "Kim", "familyName": "O"}, "emails": [{"primary": true, "value": "kim@contoso.com", "type": "work"}],
            "groups": [], "active": true, "locale": "en-US", "externalId": "00ujl29u0le5T6Aj10h7", "password": "secret-canary"}),
            vec![("/name/familyName", json!("O")), ("/title", Value::Null), ("/password", Value::Null)],
        ),
        (
            "onelogin",
            json!({"userName": "kim@contoso.com", "active": "true", "unknown": {"a": [1, 2]}, "title": null}),
            vec![("/active", json!(true)), ("/title", Value::Null)],
        ),
        (
            "ping",
            json!({"schemas": [], "userName": "kim@contoso.com", "meta": {"version": "W/\"9\""}, "displayName": "P"}),
            vec![("/displayName", json!("P"))],
        ),
        (
            "jumpcloud",
            json!({"userName": "kim@contoso.com", "active": "False", "phoneNumbers": [{"type": "mobile", "value": "1"}]}),
            vec![("/active", json!(false)), ("/phoneNumbers/0/type", json!("mobile"))],
        ),
        (
            "google",
            json!({"userName": "kim@contoso.com", ENTERPRISE: {"department": "G", "manager": "boss"}}),
            vec![(DEPARTMENT, json!("G"))],
        ),
        (
            "keycloak",
            json!({"userName": "kim@contoso.com", "USERNAME2": 1, "emails": {"value": "one@x.org"}, "roles": ["a"]}),
            vec![("/emails/0/value", json!("one@x.org")), ("/roles/0/value", json!("a"))],
        ),
        (
            "aws",
            json!({"userName": "kim@contoso.com", "name": {"formatted": "K"}, "profileUrl": "https://x.org/k", "timezone": "UTC"}),
            vec![("/profileUrl", json!("https://x.org/k"))],
        ),
    ] {
        let id = scim.user_of(kim()).await;
        let path = format!("/Users/{id}/");
        let put = scim.put(&path, sent).await;
        done(&put, 200);
        for (pointer, value) in after {
            let is = put.body.pointer(pointer).cloned().unwrap_or(Value::Null);
            assert_eq!(is, value, "{db:?} {what}: {pointer} of {}", put.body);
        }
        assert_eq!(put.body["id"], json!(id), "{db:?} {what}: the id is ours");
        done(&scim.delete(&path).await, 204);
        assert_eq!(scim.delete(&path).await.status, 404, "{db:?} {what}: twice");
    }
    // Groups: a rename and an unknown member empty nothing.
    let kim_id = scim.user_of(kim()).await;
    let group = scim.group("crew", &[&kim_id]).await;
    let path = format!("/Groups/{group}");
    for operations in [
        json!([{"op": "replace", "value": {"id": group, "displayName": "crew 2"}}]),
        json!([{"op": "Replace", "path": "displayName", "value": "crew 3"}]),
        json!([{"op": "Add", "path": "members", "value": [{"$ref": null, "value": kim_id}]}]),
        json!([{"op": "Remove", "path": "members", "value": [{"value": "idn_01KVF3T2M8XQ4B7N9D5R6S1W0Z"}]}]),
        json!([{"op": "remove", "path": "members[value eq \"idn_01KVF3T2M8XQ4B7N9D5R6S1W0Z\"]"}]),
        json!([{"op": "add", "path": "urn:ietf:params:scim:schemas:core:2.0:Group:members", "value": [{"value": kim_id, "type": "User"}]}]),
        json!([{"op": "replace", "path": "externalId", "value": "grp-1"}]),
    ] {
        let answer = scim.patch(&path, operations.clone()).await;
        assert!(answer.status.is_success(), "{db:?} {operations}: {}", answer.body);
        assert_eq!(scim.members(&group).await, std::slice::from_ref(&kim_id), "{db:?}: {operations}");
    }
    done(&scim.patch(&path, json!([{"op": "Remove", "path": "members", "value": [{"value": kim_id}]}])).await, 200);
    assert!(scim.members(&group).await.is_empty());
}

on_both!(whole_users_of_providers);
