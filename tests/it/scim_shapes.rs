//! Requests in the shapes of many identity providers, and the corners of RFC 7644, one line each: what is sent, and what is
//! there afterwards. Every line begins with the same person and the same group.

use serde_json::{Value, json};

use crate::{
    on_both,
    scim_app::{ENTERPRISE, IDENTITY, PATCH_OP, Scim, done, refused},
    world::Db,
};

/// The person that every line begins with.
pub fn kim() -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE],
        "userName": "kim@contoso.com", "externalId": "ext-kim", "displayName": "Kim K", "title": "Engineer",
        "name": {"givenName": "Kim", "familyName": "K", "formatted": "Kim K"}, "active": true,
        "emails": [
            {"value": "kim@contoso.com", "type": "work", "primary": true},
            {"value": "kim@home.example", "type": "home"},
        ],
        "phoneNumbers": [{"value": "+1 555 0100", "type": "work"}],
        ENTERPRISE: {"department": "Sales", "employeeNumber": "701"},
    })
}

/// What is there at a pointer after it; `null` is nothing.
type After = Vec<(&'static str, Value)>;

async fn each(scim: &Scim, db: Db, lines: Vec<(&str, Value, Result<After, &str>)>) {
    for (what, operations, expected) in lines {
        let id = scim.user_of(kim()).await;
        let path = format!("/Users/{id}");
        let before = scim.get(&path).await.body;
        let body = json!({"schemas": [PATCH_OP], "Operations": operations});
        let answer = scim.call("PATCH", &path, Some(body)).await;
        let now = scim.get(&path).await.body;
        match expected {
            Ok(after) => {
                assert_eq!(answer.status, 200, "{db:?} {what}: {}", answer.body);
                for (pointer, value) in after {
                    let is = now.pointer(pointer).cloned().unwrap_or(Value::Null);
                    assert_eq!(is, value, "{db:?} {what}: {pointer} of {now}");
                }
            }
            Err(scim_type) => {
                refused(&answer, 400, scim_type);
                let same = ["displayName", "emails", "active", "name", ENTERPRISE];
                for name in same {
                    assert_eq!(now[name], before[name], "{db:?} {what}: refused, so nothing is changed");
                }
            }
        }
        done(&scim.delete(&path).await, 204);
    }
}

pub const DEPARTMENT: &str = "/urn:ietf:params:scim:schemas:extension:enterprise:2.0:User/department";

#[allow(clippy::too_many_lines, reason = "a table")]
async fn patches_of_providers(db: Db) {
    let scim = Scim::lively(db).await;
    let department = format!("{ENTERPRISE}:department");
    let manager = format!("{ENTERPRISE}:manager");
    let lines: Vec<(&str, Value, Result<After, &str>)> = vec![
        // Entra ID, with and without its flag.
        (
            "entra: disable",
            json!([{"op": "Replace", "path": "active", "value": "False"}]),
            Ok(vec![("/active", json!(false))]),
        ),
        (
            "entra: a value that is there",
            json!([{"op": "Replace", "path": "emails[type eq \"work\"].value", "value": "k2@contoso.com"}]),
            Ok(vec![("/emails/0/value", json!("k2@contoso.com")), ("/emails/1/value", json!("kim@home.example"))]),
        ),
        (
            "entra: a value that is not there yet",
            json!([{"op": "Add", "path": "phoneNumbers[type eq \"mobile\"].value", "value": "7"}]),
            Ok(vec![("/phoneNumbers/1", json!({"type": "mobile", "value": "7"}))]),
        ),
        (
            "entra: a part of a value that is not there yet",
            json!([{"op": "Add", "path": "addresses[type eq \"work\"].streetAddress", "value": "Main St 1"}]),
            Ok(vec![("/addresses/0", json!({"type": "work", "streetAddress": "Main St 1"}))]),
        ),
        (
            "entra: the flag that is a text",
            json!([{"op": "Add", "path": "roles[primary eq \"True\"].value", "value": "lead"}]),
            Ok(vec![("/roles/0/value", json!("lead")), ("/roles/0/primary", json!(true))]),
        ),
        (
            "entra: many at once, with a rename",
            json!([
                {"op": "Replace", "path": "userName", "value": "kim.new@contoso.com"},
                {"op": "Replace", "path": "name.familyName", "value": "New"},
                {"op": "Replace", "path": department, "value": "IT"},
                {"op": "Add", "path": manager, "value": "nobody-here"},
            ]),
            Ok(vec![
                ("/userName", json!("kim.new@contoso.com")),
                ("/name/familyName", json!("New")),
                (DEPARTMENT, json!("IT")),
            ]),
        ),
        (
            "entra: a manager that is taken away with an empty text",
            json!([{"op": "Add", "path": manager, "value": "x"}, {"op": "Replace", "path": manager, "value": {"value": ""}}]),
            Ok(vec![("/urn:ietf:params:scim:schemas:extension:enterprise:2.0:User/manager", Value::Null)]),
        ),
        (
            "entra: a removal",
            json!([{"op": "Remove", "path": "title"}, {"op": "Remove", "path": format!("{ENTERPRISE}:employeeNumber")}]),
            Ok(vec![
                ("/title", Value::Null),
                ("/urn:ietf:params:scim:schemas:extension:enterprise:2.0:User/employeeNumber", Value::Null),
            ]),
        ),
        (
            "entra: keys that are paths, without a path",
            json!([{"op": "replace", "value": {
                "displayName": "K", "name.givenName": "Kimberly", department.clone(): "HR", "emails[type eq \"work\"].value": "z@contoso.com",
            }}]),
            Ok(vec![
                ("/name/givenName", json!("Kimberly")),
                (DEPARTMENT, json!("HR")),
                ("/emails/0/value", json!("z@contoso.com")),
            ]),
        ),
        (
            "entra: an extension that nobody knows",
            json!([
                {"op": "Add", "path": "urn:ietf:params:scim:schemas:extension:acme:2.0:User:badge", "value": "7"},
                {"op": "Replace", "path": "displayName", "value": "Still done"},
            ]),
            Ok(vec![("/displayName", json!("Still done"))]),
        ),
        // Okta.
        (
            "okta: deactivate",
            json!([{"op": "replace", "value": {"active": false}}]),
            Ok(vec![("/active", json!(false))]),
        ),
        (
            "okta: what is nobody's to write is passed over without a path",
            json!([{"op": "replace", "value": {"id": "other", "displayName": "Named", "meta": {"version": "1"}}}]),
            Ok(vec![("/displayName", json!("Named"))]),
        ),
        // OneLogin, JumpCloud, Ping, Google, Keycloak, AWS.
        (
            "onelogin: one value for a list",
            json!([{"op": "replace", "path": "emails", "value": {"value": "o@x.org", "type": "work"}}]),
            Ok(vec![("/emails", json!([{"value": "o@x.org", "type": "work"}]))]),
        ),
        (
            "jumpcloud: capitals",
            json!([{"op": "REPLACE", "path": "ACTIVE", "value": "false"}]),
            Ok(vec![("/active", json!(false))]),
        ),
        (
            "ping: the schema in the path",
            json!([{"op": "replace", "path": "urn:ietf:params:scim:schemas:core:2.0:User:displayName", "value": "P"}]),
            Ok(vec![("/displayName", json!("P"))]),
        ),
        (
            "google: an object for a complex one",
            json!([{"op": "replace", "value": {"name": {"familyName": "G"}}}]),
            Ok(vec![("/name/familyName", json!("G"))]),
        ),
        (
            "keycloak: add without a path",
            json!([{"op": "add", "value": {"nickName": "kk", "emails": [{"value": "n@x.org", "type": "other"}]}}]),
            Ok(vec![("/nickName", json!("kk")), ("/emails/2/value", json!("n@x.org"))]),
        ),
        (
            "aws: one attribute without a path",
            json!([{"op": "replace", "value": {"displayName": "A"}}]),
            Ok(vec![("/displayName", json!("A"))]),
        ),
        (
            "a single operation is no list",
            json!({"op": "replace", "path": "title", "value": "Boss"}),
            Ok(vec![("/title", json!("Boss"))]),
        ),
        // The RFC.
        (
            "add again is nothing",
            json!([{"op": "add", "path": "emails", "value": [{"value": "kim@home.example", "type": "home"}]}]),
            Ok(vec![("/emails/2", Value::Null)]),
        ),
        (
            "a new primary",
            json!([{"op": "add", "path": "emails", "value": [{"value": "p@x.org", "primary": true}]}]),
            Ok(vec![("/emails/0/primary", json!(false)), ("/emails/2/primary", json!(true))]),
        ),
        (
            "replace a value that is picked",
            json!([{"op": "replace", "path": "emails[type eq \"home\"]", "value": {"value": "h@x.org", "type": "home"}}]),
            Ok(vec![("/emails/1", json!({"value": "h@x.org", "type": "home"}))]),
        ),
        (
            "remove the values that are picked",
            json!([{"op": "remove", "path": "emails[type eq \"home\" or value ew \".org\"]"}]),
            Ok(vec![("/emails/1", Value::Null)]),
        ),
        (
            "remove a part of what is picked",
            json!([{"op": "remove", "path": "emails[value co \"home\"].type"}]),
            Ok(vec![("/emails/1", json!({"value": "kim@home.example"}))]),
        ),
        (
            "not within brackets",
            json!([{"op": "remove", "path": "emails[not (type eq \"work\")]"}]),
            Ok(vec![("/emails/1", Value::Null)]),
        ),
        (
            "remove a part",
            json!([{"op": "remove", "path": "name.formatted"}]),
            Ok(vec![("/name/formatted", Value::Null), ("/name/givenName", json!("Kim"))]),
        ),
        ("remove all of a list", json!([{"op": "remove", "path": "emails"}]), Ok(vec![("/emails", Value::Null)])),
        (
            "null is nothing",
            json!([{"op": "replace", "path": "title", "value": null}]),
            Ok(vec![("/title", Value::Null)]),
        ),
        ("remove an extension", json!([{"op": "remove", "path": ENTERPRISE}]), Ok(vec![(DEPARTMENT, Value::Null)])),
        (
            "an extension as a whole",
            json!([{"op": "add", "path": ENTERPRISE, "value": {"division": "D"}}]),
            Ok(vec![
                (DEPARTMENT, json!("Sales")),
                ("/urn:ietf:params:scim:schemas:extension:enterprise:2.0:User/division", json!("D")),
            ]),
        ),
        (
            "a password is taken and told by nobody",
            json!([{"op": "replace", "path": "password", "value": "canary-9"}]),
            Ok(vec![("/password", Value::Null)]),
        ),
        (
            "our own extension",
            json!([{"op": "add", "path": format!("{IDENTITY}:employment"), "value": "contractor"}]),
            Ok(vec![("/urn:tidegate:params:scim:schemas:1.0:Identity/employment", json!("contractor"))]),
        ),
        (
            "in their order",
            json!([{"op": "replace", "path": "title", "value": "a"}, {"op": "replace", "path": "title", "value": "b"}]),
            Ok(vec![("/title", json!("b"))]),
        ),
        // Refused, and nothing of it done.
        (
            "no such attribute",
            json!([{"op": "replace", "path": "displayName", "value": "X"}, {"op": "replace", "path": "unheard", "value": 1}]),
            Err("invalidPath"),
        ),
        (
            "no such attribute of an extension that is known",
            json!([{"op": "add", "path": format!("{ENTERPRISE}:unheard"), "value": 1}]),
            Err("invalidPath"),
        ),
        ("nobody's to write", json!([{"op": "replace", "path": "id", "value": "x"}]), Err("mutability")),
        (
            "groups are changed at the group",
            json!([{"op": "add", "path": "groups", "value": [{"value": "x"}]}]),
            Err("mutability"),
        ),
        ("required", json!([{"op": "remove", "path": "userName"}]), Err("mutability")),
        ("required and empty", json!([{"op": "replace", "path": "userName", "value": ""}]), Err("invalidValue")),
        (
            "nothing fits",
            json!([{"op": "replace", "path": "emails[type eq \"other\"].value", "value": "x"}]),
            Err("noTarget"),
        ),
        ("nothing is named", json!([{"op": "remove"}]), Err("noTarget")),
        (
            "one value, and none to choose from",
            json!([{"op": "replace", "path": "title[value eq \"x\"]", "value": "y"}]),
            Err("invalidPath"),
        ),
        ("half a path", json!([{"op": "replace", "path": "emails[type eq", "value": "y"}]), Err("invalidPath")),
        ("no flag", json!([{"op": "replace", "path": "active", "value": "perhaps"}]), Err("invalidValue")),
        ("no text", json!([{"op": "replace", "path": "displayName", "value": {"a": 1}}]), Err("invalidValue")),
        ("no value", json!([{"op": "replace", "path": "displayName"}]), Err("invalidValue")),
        ("no such verb", json!([{"op": "move", "path": "displayName", "value": "x"}]), Err("invalidSyntax")),
        (
            "two primaries",
            json!([{"op": "replace", "path": "emails", "value": [{"value": "a@x.org", "primary": true}, {"value": "b@x.org", "primary": true}]}]),
            Err("invalidValue"),
        ),
        ("no operations", json!([]), Err("invalidSyntax")),
    ];
    each(&scim, db, lines).await;
    let kept = crate::verbs_help::table(&scim.app.world, "SELECT document FROM scim_documents").await;
    assert!(kept.iter().all(|d| !d.contains("canary-9")), "{db:?}");
    // With its flag, Entra ID's replace makes what is not there, in lower case too.
    let id = scim.user_of(kim()).await;
    let body = json!({"schemas": [PATCH_OP], "Operations": [{"op": "replace", "path": "emails[type eq \"other\"].value", "value": "o@x.org"}]});
    let made = scim.call("PATCH", &format!("/Users/{id}?aadOptscim062020"), Some(body)).await;
    assert_eq!(made.body["emails"][2], json!({"type": "other", "value": "o@x.org"}), "{db:?}");
}

#[allow(clippy::too_many_lines, reason = "a table")]
async fn filters_of_all_kinds(db: Db) {
    let scim = Scim::on(db).await;
    let kim_id = scim.user_of(kim()).await;
    scim.user_of(json!({
        "userName": "lee", "displayName": "Le\u{e9} \"Q\" \\ x", "active": false, "title": "Boss",
        "emails": [{"value": "lee@contoso.com", "type": "home"}], "name": {"familyName": "\u{c9}mile"},
        IDENTITY: {"employment": "contractor"},
    }))
    .await;
    let group = scim.group("crew", &[&kim_id]).await;
    let of =
        "userName co \"\" and not (userName sw \"a\" or userName sw \"b\" or userName sw \"d\" or userName sw \"e\")";
    for (filter, names) in [
        // Precedence: and binds closer than or; not before both.
        ("userName eq \"lee\" or userName eq \"kim@contoso.com\" and active eq false", vec!["lee"]),
        ("(userName eq \"lee\" or userName eq \"kim@contoso.com\") and active eq true", vec!["kim@contoso.com"]),
        ("not (active eq true) and title pr", vec!["lee"]),
        ("NOT(active EQ true) AND TITLE PR", vec!["lee"]),
        (of, vec!["kim@contoso.com", "lee"]),
        // Case: names never, values where the schema says so.
        ("USERNAME eq \"KIM@CONTOSO.COM\"", vec!["kim@contoso.com"]),
        ("externalId eq \"ext-kim\"", vec!["kim@contoso.com"]),
        ("externalId eq \"EXT-KIM\"", vec![]),
        ("name.familyName eq \"\u{e9}MILE\"", vec!["lee"]),
        // Escapes.
        ("displayName eq \"Le\\u00e9 \\\"Q\\\" \\\\ x\"", vec!["lee"]),
        ("displayName co \"\\\"q\\\"\"", vec!["lee"]),
        ("displayName eq \"x' OR '1'='1\"", vec![]),
        ("displayName co \"%\"", vec![]),
        ("displayName co \"_\"", vec![]),
        // Present, null, missing.
        ("name pr and title pr", vec!["kim@contoso.com", "lee"]),
        ("phoneNumbers pr", vec!["kim@contoso.com"]),
        ("title pr and not (phoneNumbers pr)", vec!["lee"]),
        ("title pr and externalId eq null", vec!["lee"]),
        ("externalId ne null and title pr", vec!["kim@contoso.com"]),
        ("title ne \"Boss\" and title pr", vec!["kim@contoso.com"]),
        // Order, also of instants.
        ("title gt \"Boss\"", vec!["kim@contoso.com"]),
        ("title le \"boss\"", vec!["lee"]),
        ("meta.created gt \"2011-05-13T04:42:34Z\" and title pr", vec!["kim@contoso.com", "lee"]),
        ("meta.lastModified lt \"2011-05-13T04:42:34+02:00\"", vec![]),
        // Paths to values, with and without names of schemas.
        ("emails[type eq \"work\" and value co \"@contoso\"]", vec!["kim@contoso.com"]),
        ("emails[type eq \"home\" and value co \"@contoso\"]", vec!["lee"]),
        ("emails[not (type eq \"work\")]", vec!["kim@contoso.com", "lee"]),
        ("emails[(type eq \"work\" or type eq \"home\") and primary eq true]", vec!["kim@contoso.com"]),
        ("emails[type eq \"work\"].value eq \"KIM@contoso.com\"", vec!["kim@contoso.com"]),
        ("emails.type eq \"work\"", vec!["kim@contoso.com"]),
        ("emails eq \"lee@contoso.com\"", vec!["lee"]),
        ("emails[type eq \"work\"] and emails[type eq \"home\"]", vec!["kim@contoso.com"]),
        ("urn:ietf:params:scim:schemas:core:2.0:User:userName sw \"K\"", vec!["kim@contoso.com"]),
        ("urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department eq \"sales\"", vec!["kim@contoso.com"]),
        ("department eq \"sales\"", vec!["kim@contoso.com"]),
        ("schemas eq \"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User\"", vec!["kim@contoso.com"]),
        ("schemas eq \"urn:tidegate:params:scim:schemas:1.0:Identity\" and title pr", vec!["lee"]),
        ("schemas eq \"urn:ietf:params:scim:schemas:core:2.0:User\" and title pr", vec!["kim@contoso.com", "lee"]),
        ("schemas eq \"urn:nobody:knows\"", vec![]),
        ("groups.display eq \"CREW\"", vec!["kim@contoso.com"]),
        ("groups[display eq \"crew\" and type eq \"direct\"]", vec!["kim@contoso.com"]),
        ("active eq \"False\" and title pr", vec!["lee"]),
        ("employeeNumber eq 701", vec!["kim@contoso.com"]),
    ] {
        assert_eq!(scim.found(filter).await, names, "{db:?}: {filter}");
    }
    for filter in [
        "",
        "userName",
        "userName eq",
        "userName eq kim",
        "eq \"x\"",
        "userName xx \"x\"",
        "userName eq \"x",
        "(userName eq \"x\"",
        "userName eq \"x\")",
        "userName eq \"x\" and",
        "not userName eq \"x\"",
        "emails[type eq \"work\"",
        "emails[]",
        "active gt true",
        "active eq 3",
        "meta.created co \"2011\"",
        "meta.created gt \"soon\"",
        "name eq \"x\"",
        "title gt null",
        "unheard eq \"x\"",
        "userName.value eq \"x\"",
        "userName[value eq \"x\"]",
        "userName eq \"x\" userName eq \"y\"",
        "userName eq {\"a\":1}",
        "emails[type eq \"work\" and emails[type eq \"x\"]]",
    ] {
        if filter.is_empty() {
            continue;
        }
        refused(&scim.filter("/Users", filter).await, 400, "invalidFilter");
    }
    // Groups, as Entra ID and Okta ask for them.
    for (filter, found) in [
        (format!("id eq \"{group}\" and members eq \"{kim_id}\""), 1),
        (format!("members[value eq \"{kim_id}\"]"), 1),
        ("displayName eq \"Crew\"".to_owned(), 1),
        ("members.value eq \"nobody\"".to_owned(), 0),
        ("externalId eq \"x\"".to_owned(), 0),
    ] {
        let answer = scim.filter("/Groups", &filter).await;
        assert_eq!(answer.body["totalResults"], found, "{db:?}: {filter}: {}", answer.body);
    }
}

async fn lists_projections_and_conditions(db: Db) {
    let scim = Scim::on(db).await;
    let id = scim.user_of(kim()).await;
    let path = format!("/Users/{id}");
    for (query, there, gone) in [
        ("attributes=userName", vec!["id", "schemas", "userName"], vec!["emails", "meta", "displayName"]),
        ("attributes=emails.value,name.givenName", vec!["emails", "name"], vec!["userName"]),
        (
            "attributes=urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department",
            vec![ENTERPRISE],
            vec!["userName"],
        ),
        ("attributes=urn:ietf:params:scim:schemas:extension:enterprise:2.0:User", vec![ENTERPRISE], vec!["emails"]),
        ("attributes=urn:ietf:params:scim:schemas:core:2.0:User:title", vec!["title"], vec!["emails", ENTERPRISE]),
        (
            "excludedAttributes=emails,urn:ietf:params:scim:schemas:extension:enterprise:2.0:User",
            vec!["userName"],
            vec!["emails", ENTERPRISE],
        ),
        ("excludedAttributes=id,schemas,meta", vec!["id", "schemas"], vec!["meta"]),
        ("ATTRIBUTES=USERNAME", vec!["userName"], vec!["title"]),
        ("unknownParameter=1&aadOptscim062020", vec!["userName", "title"], vec![]),
    ] {
        let shown = scim.get(&format!("{path}?{query}")).await;
        done(&shown, 200);
        for name in there {
            assert!(shown.body.get(name).is_some(), "{db:?} {query}: {name} in {}", shown.body);
        }
        for name in gone {
            assert!(shown.body.get(name).is_none(), "{db:?} {query}: {name} in {}", shown.body);
        }
    }
    let parts = scim.get(&format!("{path}?attributes=emails.value")).await;
    assert_eq!(parts.body["emails"][0], json!({"value": "kim@contoso.com"}), "{db:?}");
    // Versions.
    let tag = scim.get(&path).await.header("etag").to_owned();
    assert_eq!(scim.with(&[("if-none-match", &tag)], "GET", &path, None).await.status, 304);
    let body = |title: &str| Some(json!({"Operations": [{"op": "replace", "path": "title", "value": title}]}));
    refused(&scim.with(&[("if-match", "W/\"0\"")], "PATCH", &path, body("a")).await, 412, "");
    done(&scim.with(&[("if-match", &tag)], "PATCH", &path, body("b")).await, 200);
    refused(&scim.with(&[("if-match", &tag)], "DELETE", &path, None).await, 412, "");
    done(&scim.with(&[("if-match", "*")], "PATCH", &path, body("c")).await, 200);
    // Pages.
    for (query, status, scim_type) in [
        ("cursor=nonsense", 400, "invalidCursor"),
        ("cursor=&startIndex=1", 400, "invalidCursor"),
        ("cursor=&count=-1", 400, "invalidCount"),
        ("count=abc", 400, "invalidValue"),
        ("sortBy=unheard", 400, "invalidPath"),
        ("sortBy=userName&sortOrder=sideways", 400, "invalidValue"),
    ] {
        refused(&scim.get(&format!("/Users?{query}")).await, status, scim_type);
    }
    let all = scim.get("/Users?count=0").await;
    let total = all.body["totalResults"].as_u64().unwrap();
    assert!(total > 2 && all.body["Resources"].as_array().unwrap().is_empty(), "{db:?}: {}", all.body);
    let beyond = scim.get("/Users?startIndex=5000").await;
    assert_eq!((&beyond.body["totalResults"], &beyond.body["itemsPerPage"]), (&json!(total), &json!(0)));
    let (mut walked, mut cursor) = (0, String::new());
    loop {
        let page = scim.get(&format!("/Users?count=2&cursor={cursor}&sortBy=title")).await;
        done(&page, 200);
        walked += page.body["Resources"].as_array().unwrap().len() as u64;
        match page.body["nextCursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(walked, total, "{db:?}: whoever has no title is there too, once");
    refused(&scim.get(&format!("/Groups?cursor={cursor}")).await, 400, "invalidCursor");
}

async fn what_is_not_there_says_so(db: Db) {
    let scim = Scim::on(db).await;
    for (method, path, body, status) in [
        ("GET", "/Me", None, 501),
        ("PATCH", "/Me", Some(json!({"Operations": []})), 501),
        ("GET", "/Users/idn_nobody", None, 404),
        ("DELETE", "/Users/idn_01KVF3T2M8XQ4B7N9D5R6S1W0Z", None, 404),
        ("PUT", "/Groups/nothing", Some(json!({"displayName": "x"})), 404),
        ("GET", "/Devices", None, 404),
        ("POST", "/Schemas", Some(json!({})), 405),
        ("GET", "/Schemas?filter=id%20pr", None, 403),
        ("POST", "/Users", Some(json!("not json {")), 400),
        ("POST", "/Users", Some(json!([1])), 400),
        ("POST", "/Users", Some(json!({"schemas": []})), 400),
    ] {
        let answer = scim.call(method, path, body).await;
        assert_eq!(answer.status.as_u16(), status, "{db:?}: {method} {path}: {}", answer.body);
        assert_eq!(answer.body["status"], status.to_string(), "{db:?}: {method} {path}");
    }
    let big = "x".repeat(3 * 1024 * 1024);
    assert_eq!(scim.post("/Users", json!({"userName": "x", "title": big})).await.status, 413, "{db:?}");
    let many: Vec<Value> = (0..1001).map(|n| json!({"method": "DELETE", "path": format!("/Users/{n}")})).collect();
    refused(&scim.post("/Bulk", json!({"Operations": many})).await, 413, "");
    // Two who manage each other, each made by the call: refused by name, and the rest is done.
    let circle = |id: &str, other: &str| {
        json!({"method": "POST", "path": "/Users", "bulkId": id,
               "data": {"userName": id, ENTERPRISE: {"manager": {"value": format!("bulkId:{other}")}}}})
    };
    let plain = json!({"method": "POST", "path": "/Users", "bulkId": "c", "data": {"userName": "c"}});
    let answer = scim.post("/Bulk", json!({"Operations": [circle("a", "b"), circle("b", "a"), plain]})).await;
    done(&answer, 200);
    let statuses: Vec<&Value> = answer.body["Operations"].as_array().unwrap().iter().map(|o| &o["status"]).collect();
    assert_eq!(statuses, ["409", "409", "201"], "{db:?}: {}", answer.body);
    let failing = |n: usize| json!({"method": "DELETE", "path": format!("/Users/idn_{n}")});
    let answer =
        scim.post("/Bulk", json!({"failOnErrors": 2, "Operations": [failing(1), failing(2), failing(3)]})).await;
    assert_eq!(answer.body["Operations"].as_array().unwrap().len(), 2, "{db:?}: {}", answer.body);
}

on_both!(patches_of_providers, filters_of_all_kinds, lists_projections_and_conditions, what_is_not_there_says_so,);
