//! Attributes that an administrator declares: shown, kept, filtered, changed, projected, and known to policies.

use serde_json::{Value, json};
use tidegate::{
    broker::Settings,
    domain::{
        decision::{Inputs, Verdict},
        scim::declared::{ExtensionConfig, declare},
        time::Ttl,
    },
};

use crate::{
    on_both,
    scim_app::{Scim, done, refused},
    verbs_help::policies,
    world::{Db, Plan},
};

const ACME: &str = "urn:example:params:scim:schemas:extension:acme:2.0:User";

const DECLARED: &str = r#"
urn = "urn:example:params:scim:schemas:extension:acme:2.0:User"
name = "Acme"
description = "What Acme says of people."
[[attribute]]
name = "clearance"
type = "integer"
[[attribute]]
name = "badge"
uniqueness = "server"
case_exact = true
[[attribute]]
name = "sites"
multiValued = true
[[attribute]]
name = "hiredAt"
type = "dateTime"
mutability = "immutable"
[[attribute]]
name = "rating"
type = "decimal"
returned = "request"
[[attribute]]
name = "vetted"
type = "boolean"
returned = "always"
[[attribute]]
name = "pin"
mutability = "writeOnly"
[[attribute]]
name = "note"
returned = "never"
"#;

fn plan(db: Db) -> Plan {
    let extension: ExtensionConfig = toml::from_str(DECLARED).unwrap();
    let users = declare(&[extension]).unwrap();
    Plan { settings: Settings { users, ..Settings::default() }, ..Plan::on(db) }
}

async fn kim(scim: &Scim) -> String {
    scim.user_of(json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", ACME, "urn:nobody:declared:this"],
        "userName": "kim",
        ACME: {
            "clearance": 3, "BADGE": "B-7", "sites": ["Ghent", "Oslo"], "hiredAt": "2020-02-01T08:00:00+02:00",
            "rating": "4.25", "vetted": "True", "pin": "1234-canary", "note": "kept and never told", "unheardOf": 1,
        },
        "urn:nobody:declared:this": {"x": 1},
    }))
    .await
}

async fn what_is_declared_is_shown_and_kept(db: Db) {
    let scim = Scim::of(plan(db)).await;
    let schema = scim.get(&format!("/Schemas/{ACME}")).await;
    done(&schema, 200);
    let attributes = schema.body["attributes"].as_array().unwrap();
    let of = |name: &str| attributes.iter().find(|a| a["name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!((&of("clearance")["type"], &of("clearance")["multiValued"]), (&json!("integer"), &json!(false)));
    assert_eq!((&of("badge")["uniqueness"], &of("badge")["caseExact"]), (&json!("server"), &json!(true)));
    assert_eq!(of("hiredAt")["mutability"], "immutable");
    assert_eq!((&of("pin")["mutability"], &of("pin")["returned"]), (&json!("writeOnly"), &json!("never")));
    let types = scim.get("/ResourceTypes/User").await;
    let extensions = types.body["schemaExtensions"].as_array().unwrap();
    assert!(extensions.contains(&json!({"schema": ACME, "required": false})), "{}", types.body);
    assert_eq!(scim.get("/Schemas").await.body["totalResults"], 5);

    let id = kim(&scim).await;
    let path = format!("/Users/{id}");
    let shown = scim.get(&path).await;
    let acme = json!({
        "clearance": 3, "badge": "B-7", "sites": ["Ghent", "Oslo"], "hiredAt": "2020-02-01T08:00:00+02:00", "vetted": true,
    });
    assert_eq!(shown.body[ACME], acme, "{db:?}");
    assert!(shown.body["schemas"].as_array().unwrap().contains(&json!(ACME)));
    assert!(shown.body.get("urn:nobody:declared:this").is_none());
    let some = scim.get(&format!("{path}?attributes={ACME}:rating,userName")).await;
    assert_eq!(some.body[ACME], json!({"rating": 4.25, "vetted": true}), "{db:?}");
    let but = scim.get(&format!("{path}?excludedAttributes={ACME}")).await;
    assert_eq!(but.body[ACME], json!({"vetted": true}), "{db:?}: what is always told stays");
    let rows = crate::verbs_help::table(&scim.app.world, "SELECT document FROM scim_documents").await;
    assert!(rows.iter().all(|d| !d.contains("canary")), "{db:?}: what is only written is not kept");
    assert!(rows.iter().any(|d| d.contains("kept and never told")));
}

async fn what_is_declared_is_found(db: Db) {
    let scim = Scim::of(plan(db)).await;
    kim(&scim).await;
    scim.user_of(json!({"userName": "lee", ACME: {"clearance": -12, "rating": 0.5, "sites": ["oslo"]}})).await;
    scim.user_of(json!({"userName": "pat", ACME: {"clearance": 20, "badge": "b-7"}})).await;
    scim.user("zoe").await;
    for (filter, names) in [
        (format!("{ACME}:clearance eq 3"), vec!["kim"]),
        (format!("{ACME}:clearance gt 3"), vec!["pat"]),
        ("clearance lt 3".to_owned(), vec!["lee"]),
        ("clearance ge -12 and clearance le 3".to_owned(), vec!["kim", "lee"]),
        (format!("{}:clearance ne 3 and clearance pr", ACME.to_uppercase()), vec!["lee", "pat"]),
        ("clearance pr".to_owned(), vec!["kim", "lee", "pat"]),
        (format!("{ACME}:badge eq \"B-7\""), vec!["kim"]),
        (format!("{ACME}:badge sw \"b\""), vec!["pat"]),
        (format!("{ACME}:sites eq \"OSLO\""), vec!["kim", "lee"]),
        (format!("{ACME}:sites co \"hen\""), vec!["kim"]),
        (format!("{ACME}:hiredAt eq \"2020-02-01T06:00:00Z\""), vec!["kim"]),
        (format!("{ACME}:hiredAt gt \"2020-02-01T06:00:00Z\""), vec![]),
        (format!("{ACME}:rating gt 0.5"), vec!["kim"]),
        (format!("{ACME}:rating le 0.5"), vec!["lee"]),
        (format!("{ACME}:vetted eq true"), vec!["kim"]),
        (format!("{ACME}:pin pr"), vec![]),
        (format!("schemas eq \"{ACME}\""), vec!["kim", "lee", "pat"]),
    ] {
        assert_eq!(scim.found(&filter).await, names, "{db:?}: {filter}");
    }
    for filter in [
        format!("{ACME}:clearance eq \"high\""),
        format!("{ACME}:clearance co 3"),
        format!("{ACME}:hiredAt gt \"yesterday\""),
        "urn:nobody:declared:this:x eq 1".to_owned(),
    ] {
        refused(&scim.filter("/Users", &filter).await, 400, "invalidFilter");
    }
    let sorted = scim.get(&format!("/Users?sortBy={ACME}:clearance&filter=clearance%20pr")).await;
    let names: Vec<&Value> = sorted.body["Resources"].as_array().unwrap().iter().map(|u| &u["userName"]).collect();
    assert_eq!(names, ["lee", "kim", "pat"], "{db:?}: as numbers");
}

async fn what_is_declared_is_changed_by_its_rules(db: Db) {
    let scim = Scim::of(plan(db)).await;
    let path = format!("/Users/{}", kim(&scim).await);
    let changed = scim
        .patch(
            &path,
            json!([
                {"op": "Replace", "path": format!("{ACME}:clearance"), "value": "4"},
                {"op": "add", "path": format!("{ACME}:sites"), "value": ["Lund"]},
                {"op": "add", "path": "urn:nobody:declared:this:x", "value": 1},
                {"op": "replace", "value": {format!("{ACME}:vetted"): false, ACME: {"badge": "B-8"}}},
            ]),
        )
        .await;
    done(&changed, 200);
    let acme = &changed.body[ACME];
    assert_eq!(
        (&acme["clearance"], &acme["badge"], &acme["vetted"]),
        (&json!(4), &json!("B-8"), &json!(false)),
        "{db:?}"
    );
    assert_eq!(acme["sites"], json!(["Ghent", "Oslo", "Lund"]));
    // Once is once, by whatever way.
    let hired = |value: &str| json!([{"op": "replace", "path": format!("{ACME}:hiredAt"), "value": value}]);
    refused(&scim.patch(&path, hired("2021-01-01T00:00:00Z")).await, 400, "mutability");
    refused(&scim.patch(&path, json!([{"op": "remove", "path": format!("{ACME}:hiredAt")}])).await, 400, "mutability");
    refused(
        &scim.put(&path, json!({"userName": "kim", ACME: {"hiredAt": "2021-01-01T00:00:00Z"}})).await,
        400,
        "mutability",
    );
    done(&scim.patch(&path, hired("2020-02-01T08:00:00+02:00")).await, 200);
    let put = scim.put(&path, json!({"userName": "kim", ACME: {"clearance": 5}})).await;
    done(&put, 200);
    assert_eq!(put.body[ACME], json!({"clearance": 5, "hiredAt": "2020-02-01T08:00:00+02:00"}), "{db:?}: it stays");
    // The badge is free again; two people never have one, whoever asks first.
    let lee = scim.user_of(json!({"userName": "lee", ACME: {"badge": "B-8"}})).await;
    refused(&scim.post("/Users", json!({"userName": "pat", ACME: {"badge": "B-8"}})).await, 409, "uniqueness");
    refused(
        &scim.patch(&path, json!([{"op": "add", "path": format!("{ACME}:badge"), "value": "B-8"}])).await,
        409,
        "uniqueness",
    );
    assert!(scim.found("userName eq \"pat\"").await.is_empty(), "{db:?}: nothing of it is left");
    done(&scim.delete(&format!("/Users/{lee}")).await, 204);
    done(&scim.post("/Users", json!({"userName": "pat", ACME: {"badge": "B-8"}})).await, 201);
    for wrong in
        [json!({"clearance": "high"}), json!({"hiredAt": "soon"}), json!({"vetted": "perhaps"}), json!({"sites": 3})]
    {
        refused(&scim.post("/Users", json!({"userName": "x", ACME: wrong})).await, 400, "invalidValue");
    }
    refused(
        &scim.patch(&path, json!([{"op": "add", "path": format!("{ACME}:unheardOf"), "value": 1}])).await,
        400,
        "invalidPath",
    );
}

async fn policies_know_what_is_declared(db: Db) {
    let dir = tempfile::tempdir().unwrap();
    let policies = policies(dir.path());
    let rule = "@id(\"cleared-only\") @reason(\"this needs clearance\")\nforbid (principal, action, resource)\n\
                unless { principal has clearance && principal.clearance >= 3 && principal.sites.contains(\"Ghent\") };\n";
    let rule = rule.replace("principal.sites", "principal has sites && principal.sites");
    std::fs::write(dir.path().join("cleared.cedar"), rule).unwrap();
    let scim = Scim::of(Plan { policies, ..plan(db) }).await;
    let id = kim(&scim).await;
    scim.group("scim-engineers", &[&id]).await;
    let broker = &scim.app.world.broker;
    let decide = async || {
        let subject = broker.store().subject(id.parse().unwrap(), broker.now()).await.unwrap().unwrap();
        let set = broker.policy();
        let entitlement = set.catalog().get("tokens:orders-read").unwrap();
        let inputs = Inputs {
            ttl: Ttl::seconds_or_one(600),
            now: broker.now(),
            start_at: broker.now(),
            has_reason: true,
            ticket: None,
            emergency: false,
            on_behalf: false,
            live_grants: 0,
        };
        let decision = set.decide(&subject, entitlement, &inputs);
        (decision.verdict, decision.reasons.iter().any(|r| r.policy == "cleared-only"))
    };
    let (_, forbidden) = decide().await;
    assert!(!forbidden, "{db:?}: cleared");
    done(
        &scim
            .patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": format!("{ACME}:clearance"), "value": 2}]))
            .await,
        200,
    );
    assert_eq!(decide().await, (Verdict::Denied, true), "{db:?}: no longer");
}

on_both!(
    what_is_declared_is_shown_and_kept,
    what_is_declared_is_found,
    what_is_declared_is_changed_by_its_rules,
    policies_know_what_is_declared,
);
