//! What identity providers really send, in their own shapes.

use serde_json::{Value, json};

use crate::{
    on_both,
    scim_app::{ENTERPRISE, Scim, done, refused},
    world::Db,
};

async fn entra_id(db: Db) {
    let scim = Scim::on(db).await;
    // The probe before anything: a filter that finds nothing is no error.
    let probe = scim.filter("/Users", "userName eq \"6f9d2f4e-1f0b-4a7e-9a55-7e1a1c5e7d53\"").await;
    done(&probe, 200);
    assert_eq!((&probe.body["totalResults"], &probe.body["Resources"]), (&json!(0), &json!([])));
    let made = scim
        .call(
            "POST",
            "/Users?aadOptscim062020",
            Some(json!({
                "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE],
                "externalId": "0a21f0f2", "userName": "Test_User@contoso.com", "active": true, "displayName": "lennay",
                "meta": {"resourceType": "User"}, "name": {"formatted": "Adrienne", "familyName": "M", "givenName": "A"},
                "roles": [],
            })),
        )
        .await;
    done(&made, 201);
    let id = made.text("id");
    let path = format!("/Users/{id}");
    let boss = scim.user("boss@contoso.com").await;
    let changed = scim
        .patch(
            &path,
            json!([
                {"op": "Add", "path": "emails[type eq \"work\"].value", "value": "work@contoso.com"},
                {"op": "Replace", "path": "name.familyName", "value": "Smith"},
                {"op": "Replace", "path": "userName", "value": "renamed@contoso.com"},
                {"op": "Add", "path": "phoneNumbers[type eq \"mobile\"].value", "value": "1"},
                {"op": "Add", "path": format!("{ENTERPRISE}:department"), "value": "Payroll"},
                {"op": "Add", "path": format!("{ENTERPRISE}:manager"), "value": boss},
                {"op": "Add", "path": "addresses[type eq \"work\"].locality", "value": "Berlin"},
            ]),
        )
        .await;
    done(&changed, 200);
    assert_eq!(changed.body["id"], id);
    assert_eq!(changed.body["userName"], "renamed@contoso.com");
    assert_eq!(changed.body["emails"], json!([{"type": "work", "value": "work@contoso.com"}]));
    assert_eq!(changed.body["name"]["familyName"], "Smith");
    assert_eq!(changed.body["name"]["givenName"], "A");
    assert_eq!(changed.body[ENTERPRISE]["manager"]["value"], boss);
    let subject = scim.app.world.store().subject(id.parse().unwrap(), scim.app.world.now()).await.unwrap().unwrap();
    assert_eq!(subject.identity.attributes["manager"], boss, "who may ask on the person's behalf");
    // Without a path, keys are paths.
    let dotted = json!([{"op": "Replace", "value": {
        "displayName": "Adrienne S", "name.givenName": "Adrienne", format!("{ENTERPRISE}:department"): "IT",
        "emails[type eq \"work\"].value": "new@contoso.com", "unheard.of": 1,
    }}]);
    let dotted = scim.patch(&path, dotted).await;
    assert_eq!(dotted.body["name"]["givenName"], "Adrienne");
    assert_eq!(dotted.body[ENTERPRISE]["department"], "IT");
    assert_eq!(dotted.body["emails"][0]["value"], "new@contoso.com");
    // The validator clears the manager with an empty text.
    let cleared =
        scim.patch(&path, json!([{"op": "Replace", "path": format!("{ENTERPRISE}:manager"), "value": ""}])).await;
    assert!(cleared.body[ENTERPRISE].get("manager").is_none());
    let subject = scim.app.world.store().subject(id.parse().unwrap(), scim.app.world.now()).await.unwrap().unwrap();
    assert!(!subject.identity.attributes.contains_key("manager"));
    let role =
        scim.patch(&path, json!([{"op": "Add", "path": "roles[primary eq \"True\"].value", "value": "dev"}])).await;
    assert_eq!(role.body["roles"], json!([{"primary": true, "value": "dev"}]));
    // The flag at the tenant's URL makes the words lower-case, and still means a value that may not be there yet.
    let lower = json!([
        {"op": "replace", "path": "phoneNumbers[type eq \"work\"].value", "value": "2"},
        {"op": "replace", "path": "addresses[type eq \"home\"].locality", "value": "Bern"},
    ]);
    let lower = scim.call("PATCH", &format!("{path}?aadOptscim062020"), Some(json!({"Operations": lower}))).await;
    done(&lower, 200);
    assert_eq!(lower.body["phoneNumbers"][1], json!({"type": "work", "value": "2"}));
    assert_eq!(lower.body["addresses"][1], json!({"type": "home", "locality": "Bern"}));
    // Disabled with a text, deleted weeks later, deleted again.
    let off = scim.patch(&path, json!([{"op": "Replace", "path": "active", "value": "False"}])).await;
    assert_eq!(off.body["active"], false);
    done(&scim.delete(&path).await, 204);
    refused(&scim.delete(&path).await, 404, "");
}

async fn entra_groups(db: Db) {
    let scim = Scim::on(db).await;
    let (a, b, c) = (scim.user("a").await, scim.user("b").await, scim.user("c").await);
    let made = scim
        .post(
            "/Groups",
            json!({
                "schemas": [
                    "urn:ietf:params:scim:schemas:core:2.0:Group",
                    "http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group",
                ],
                "externalId": "8aa1a0c0", "displayName": "Sales", "meta": {"resourceType": "Group"},
            }),
        )
        .await;
    done(&made, 201);
    let path = format!("/Groups/{}", made.text("id"));
    let add = |ids: &[&str]| -> Value { ids.iter().map(|id| json!({"$ref": null, "value": id})).collect() };
    done(&scim.patch(&path, json!([{"op": "Add", "path": "members", "value": add(&[&a, &b, &c])}])).await, 200);
    let got = scim.get(&format!("{path}?excludedAttributes=members")).await;
    assert!(got.body.get("members").is_none());
    // A value array with a removal means these only.
    done(&scim.patch(&path, json!([{"op": "Remove", "path": "members", "value": add(&[&a])}])).await, 200);
    assert_eq!(scim.members(&made.text("id")).await, sorted([&b, &c]));
    done(&scim.patch(&path, json!([{"op": "Remove", "path": "members", "value": []}])).await, 200);
    assert_eq!(scim.members(&made.text("id")).await.len(), 2, "none named, none removed");
    done(&scim.patch(&path, json!([{"op": "Remove", "path": format!("members[value eq \"{b}\"]")}])).await, 200);
    assert_eq!(scim.members(&made.text("id")).await, std::slice::from_ref(&c));
    done(&scim.patch(&path, json!([{"op": "Replace", "path": "displayName", "value": "Sales 2"}])).await, 200);
    assert_eq!(scim.members(&made.text("id")).await, std::slice::from_ref(&c), "a rename empties nothing");
    let found = scim.filter("/Groups", "externalId eq \"8aa1a0c0\"").await;
    assert_eq!(found.body["Resources"][0]["displayName"], "Sales 2");
    assert_eq!(scim.filter("/Groups", "externalId eq \"8AA1A0C0\"").await.body["totalResults"], 0, "case counts");
    assert_eq!(scim.filter("/Groups", "displayName eq \"SALES 2\"").await.body["totalResults"], 1);
}

fn sorted<const N: usize>(ids: [&String; N]) -> Vec<String> {
    let mut ids: Vec<String> = ids.into_iter().cloned().collect();
    ids.sort();
    ids
}

async fn okta(db: Db) {
    let scim = Scim::on(db).await;
    done(&scim.get("/Users?startIndex=1&count=2").await, 200);
    done(&scim.get("/Groups?startIndex=1&count=100").await, 200);
    let body = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "isaac@example.com",
        "name": {"givenName": "Isaac", "familyName": "Brock"}, "displayName": "Isaac Brock", "locale": "en-US",
        "emails": [{"primary": true, "value": "isaac@example.com", "type": "work"}], "externalId": "00ujl29u0le5T6Aj10h7",
        "groups": [], "password": "1mz050nq", "active": true,
    });
    let made = scim.post("/Users", body.clone()).await;
    done(&made, 201);
    let path = format!("/Users/{}", made.text("id"));
    // A profile change is a PUT of all, with the id in it.
    let mut whole = body.clone();
    whole["id"] = made.body["id"].clone();
    whole["name"]["familyName"] = json!("Newton");
    whole["meta"] = json!({"resourceType": "User"});
    let put = scim.put(&path, whole).await;
    done(&put, 200);
    assert_eq!(put.body["name"]["familyName"], "Newton");
    let off = scim.patch(&path, json!([{"op": "replace", "value": {"active": false}}])).await;
    assert_eq!(off.body["active"], false);
    // What a PUT does not say of `active` changes nothing: nobody comes back by it.
    let put = scim.put(&path, json!({"userName": "isaac@example.com"})).await;
    assert_eq!((&put.body["active"], put.body.get("name")), (&json!(false), None));
    // Group push.
    let group = scim.group("Pushed", &[&made.text("id")]).await;
    let at = format!("/Groups/{group}");
    let renamed = scim.patch(&at, json!([{"op": "replace", "value": {"id": group, "displayName": "Pushed on"}}])).await;
    done(&renamed, 200);
    assert_eq!(renamed.body["displayName"], "Pushed on");
    assert_eq!(scim.members(&group).await.len(), 1);
    let other = scim.user("other").await;
    let all = json!([{"op": "replace", "path": "members", "value": [{"value": other, "display": "other"}]}]);
    done(&scim.patch(&at, all).await, 200);
    assert_eq!(scim.members(&group).await, std::slice::from_ref(&other));
    let pathless = json!([{"op": "replace", "value": {"members": [{"value": made.text("id")}]}}]);
    done(&scim.patch(&at, pathless).await, 200);
    assert_eq!(scim.members(&group).await, [made.text("id")]);
    // Somebody gone is passed over, so that the push goes on.
    done(&scim.delete(&format!("/Users/{other}")).await, 204);
    let late = json!([{"op": "add", "path": "members", "value": [{"value": other}, {"value": "0xunknown"}]}]);
    done(&scim.patch(&at, late).await, 200);
    assert_eq!(scim.members(&group).await, [made.text("id")]);
}

async fn the_others(db: Db) {
    let scim = Scim::on(db).await;
    // OneLogin, Ping, JumpCloud, Google, Keycloak: no schemas, foreign ones, echoed ids, booleans as texts, slashes.
    let made =
        scim.post("/Users/", json!({"userName": "one", "active": "true", "id": "x", "idm:custom": {"a": 1}})).await;
    done(&made, 201);
    let path = format!("/Users/{}/", made.text("id"));
    done(&scim.get(&path).await, 200);
    let put = json!({
        "schemas": ["urn:scim:schemas:extension:custom:1.0"], "id": made.text("id"), "userName": "one", "Active": "FALSE",
        "emails": {"value": "one@example.com"}, "NICKNAME": "uno", "meta": {"version": "W/\"9\""}, "title": null,
        "urn:scim:schemas:extension:custom:1.0": {"x": [1, 2, {"y": null}]},
    });
    let put = scim.put(&path, put).await;
    done(&put, 200);
    assert_eq!(put.body["active"], false);
    assert_eq!(put.body["nickName"], "uno");
    assert_eq!(put.body["emails"], json!([{"value": "one@example.com"}]));
    let json_type = [("content-type", "application/json; charset=utf-8")];
    done(&scim.with(&json_type, "GET", "/Users?filter=userName%20EQ%20%22one%22", None).await, 200);
    let operations = json!({"operations": [{"OP": "REPLACE", "Path": "TITLE", "Value": "Dr"}]});
    assert_eq!(scim.call("PATCH", &path, Some(operations)).await.body["title"], "Dr");
    let single = json!({"Operations": {"op": "add", "path": "nickName", "value": "due"}});
    assert_eq!(scim.call("PATCH", &path, Some(single)).await.body["nickName"], "due");
}

on_both!(entra_id, entra_groups, okta, the_others);
