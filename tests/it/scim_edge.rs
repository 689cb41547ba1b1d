//! What is common to all of SCIM: who calls, refusals in its form, discovery, bulk, `/Me`, sizes, tokens of sources.

use axum::body::Body;
use http::{Request, header};
use serde_json::{Value, json};

use crate::{
    on_both,
    scim_app::{BASE, ENTERPRISE, Scim, done, refused},
    world::Db,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_have_the_form_of_scim_whoever_refuses() {
    let scim = Scim::on(Db::Sqlite).await;
    for (method, path) in [
        ("GET", "/Users"),
        ("POST", "/Users"),
        ("GET", "/Users/x"),
        ("PUT", "/Users/x"),
        ("PATCH", "/Groups/x"),
        ("DELETE", "/Groups/x"),
        ("POST", "/Bulk"),
        ("POST", "/.search"),
        ("GET", "/Me"),
    ] {
        let anonymous = Request::builder().method(method).uri(format!("{BASE}{path}")).body(Body::empty()).unwrap();
        let answer = scim.app.answer(anonymous).await;
        refused(&answer, 401, "");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"tidegate\"");
        let wrong = Request::builder()
            .method(method)
            .uri(format!("{BASE}{path}"))
            .header(header::AUTHORIZATION, "Bearer tgd_wrong")
            .body(Body::empty());
        let answer = scim.app.answer(wrong.unwrap()).await;
        refused(&answer, 401, "");
        assert!(answer.header("www-authenticate").contains("invalid_token"));
    }
    for path in ["/Nothing", "/Users/a/b", "/v1"] {
        refused(&scim.get(path).await, 404, "");
    }
    refused(&scim.delete("/Users").await, 405, "");
    refused(&scim.put("/Schemas", json!({})).await, 405, "");
    for body in ["", "{", "nope", "{\"userName\": \"a\"} x", &"[".repeat(100_000)] {
        refused(&scim.post("/Users", Value::String(body.to_owned())).await, 400, "invalidSyntax");
    }
    for body in [json!([]), json!(7), json!("text").to_string().into()] {
        refused(&scim.post("/Users", body).await, 400, "invalidSyntax");
    }
    for body in [
        json!({}),
        json!({"userName": " "}),
        json!({"userName": 7}),
        json!({"userName": "a\nb"}),
        json!({"userName": "a", "emails": "x"}),
        json!({"userName": "a", "title": "\u{0}"}),
        json!({"userName": "a", "name": "x"}),
        json!({"userName": "x".repeat(300)}),
        json!({"userName": "idn_01KVF3T2M8XQ4B7N9D5R6S1W0Z"}),
        json!({"userName": "a", ENTERPRISE: 7}),
        json!({"userName": "a", "urn:tidegate:params:scim:schemas:1.0:Identity": {"contractEnd": "soon"}}),
    ] {
        refused(&scim.post("/Users", body).await, 400, "invalidValue");
    }
    let text = scim.with(&[("content-type", "text/plain")], "POST", "/Users", Some(json!({"userName": "a"}))).await;
    refused(&text, 415, "");
    let large = json!({"userName": "x".repeat(10_000_000)});
    refused(&scim.post("/Users", large).await, 413, "");
    let bulk = json!({"Operations": [], "x": "x".repeat(1_100_000)});
    refused(&scim.post("/Bulk", bulk).await, 413, "");
    refused(&scim.get("/Users/%00").await, 404, "");
    refused(&scim.get("/Users/%FF").await, 404, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn discovery_is_true() {
    let scim = Scim::on(Db::Sqlite).await;
    let config = scim.get("/ServiceProviderConfig").await;
    done(&config, 200);
    for feature in ["patch", "bulk", "filter", "sort", "etag"] {
        assert_eq!(config.body[feature]["supported"], true, "{feature}");
    }
    assert_eq!(config.body["changePassword"]["supported"], false);
    assert_eq!(config.body["pagination"]["cursor"], true);
    let types = scim.get("/ResourceTypes").await;
    assert_eq!(types.body["totalResults"], 2);
    let schemas = scim.get("/Schemas").await;
    assert_eq!(schemas.body["totalResults"], 4);
    for schema in schemas.body["Resources"].as_array().unwrap() {
        let one = scim.get(&format!("/Schemas/{}", schema["id"].as_str().unwrap())).await;
        assert_eq!(&one.body, schema);
    }
    insta::assert_json_snapshot!("scim_user_schema", schemas.body["Resources"][0]);
    refused(&scim.get("/Schemas/urn:none").await, 404, "");
    refused(&scim.get("/ResourceTypes?filter=name%20eq%20%22User%22").await, 403, "sensitive");
}

async fn bulk(db: Db) {
    let scim = Scim::on(db).await;
    let gone = scim.user("gone").await;
    let answer = scim
        .post(
            "/Bulk",
            json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:BulkRequest"], "Operations": [
                {"method": "POST", "path": "/Groups", "bulkId": "g", "data": {"displayName": "G", "members": [{"value": "bulkId:a"}]}},
                {"method": "post", "path": "/Users", "bulkId": "a", "data": {"userName": "a", ENTERPRISE: {"manager": {"value": "bulkId:b"}}}},
                {"method": "POST", "path": "/Users", "bulkId": "b", "data": {"userName": "b"}},
                {"method": "PATCH", "path": "/Users/bulkId:b", "data": {"Operations": [{"op": "add", "path": "title", "value": "Dr"}]}},
                {"method": "DELETE", "path": format!("/Users/{gone}")},
                {"method": "POST", "path": "/Users", "bulkId": "c", "data": {"userName": "c", ENTERPRISE: {"manager": {"value": "bulkId:d"}}}},
                {"method": "POST", "path": "/Users", "bulkId": "d", "data": {"userName": "d", ENTERPRISE: {"manager": {"value": "bulkId:c"}}}},
                {"method": "POST", "path": "/Users", "bulkId": "e", "data": {"userName": "A"}},
                {"method": "POST", "path": "/Groups", "bulkId": "h", "data": {"displayName": "H", "members": [{"value": "bulkId:e"}]}},
                {"method": "POST", "path": "/Groups", "bulkId": "i", "data": {"displayName": "I", "members": [{"value": "bulkId:nobody"}]}},
                {"method": "PUT", "path": "/Users/nobody", "data": {"userName": "z"}},
                {"method": "GET", "path": "/Users"},
                {"method": "POST", "path": "/Planets", "data": {}},
            ]}),
        )
        .await;
    done(&answer, 200);
    let operations = answer.body["Operations"].as_array().unwrap();
    let statuses: Vec<&str> = operations.iter().map(|o| o["status"].as_str().unwrap()).collect();
    assert_eq!(
        statuses,
        ["201", "201", "201", "200", "204", "409", "409", "409", "409", "400", "404", "400", "400"],
        "{operations:#?}"
    );
    assert_eq!(operations[7]["response"]["scimType"], "uniqueness");
    assert_eq!(operations[0]["bulkId"], "g");
    let group = operations[0]["location"].as_str().unwrap().rsplit('/').next().unwrap();
    assert_eq!(scim.members(group).await.len(), 1);
    assert_eq!(scim.found("userName eq \"b\" and title eq \"Dr\"").await, ["b"]);
    let failing = json!({"failOnErrors": 2, "Operations": vec![json!({"method": "DELETE", "path": "/Users/x"}); 9]});
    assert_eq!(scim.post("/Bulk", failing).await.body["Operations"].as_array().unwrap().len(), 2);
    let many = json!({"Operations": vec![json!({"method": "DELETE", "path": "/Users/x"}); 1001]});
    refused(&scim.post("/Bulk", many).await, 413, "");
    refused(&scim.post("/Bulk", json!({"Operations": 7})).await, 400, "invalidSyntax");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn me_is_the_person_behind_a_personal_token() {
    let scim = Scim::on(Db::Sqlite).await;
    let me = scim.app.get("ana", "/scim/v2/Me").await;
    done(&me, 200);
    assert_eq!(me.body["userName"], "ana");
    assert_eq!(me.header("content-location"), me.body["meta"]["location"]);
    refused(&scim.app.post("ana", "/scim/v2/Me", json!({})).await, 501, "");
    refused(&scim.get("/Me").await, 501, "");
    // A personal token is no source's.
    refused(&scim.app.get("ana", "/scim/v2/Users").await, 401, "");
}

async fn tokens_are_made_rotated_and_revoked(db: Db) {
    let scim = Scim::on(db).await;
    let app = &scim.app;
    assert_eq!(app.post("ana", "/v1/sources/okta/tokens", json!({})).await.status, 403);
    assert_eq!(app.get("ana", "/v1/sources").await.status, 403);
    let made = app.post("eve", "/v1/sources/ping/tokens", json!({"label": "ping", "ttl": "30d"})).await;
    done(&made, 201);
    let works = async |token: &str| {
        let request =
            Request::builder().uri(format!("{BASE}/Users")).header(header::AUTHORIZATION, format!("Bearer {token}"));
        app.answer(request.body(Body::empty()).unwrap()).await.status.as_u16()
    };
    let first = made.text("token");
    assert!(first.starts_with("tgd_"));
    assert_eq!(works(&first).await, 200);
    let second = app.post("eve", "/v1/sources/ping/rotate", json!({"overlap": "10m"})).await.text("token");
    assert_eq!((works(&first).await, works(&second).await), (200, 200));
    app.world.advance(601);
    assert_eq!((works(&first).await, works(&second).await), (401, 200));
    let third = app.post("eve", "/v1/sources/PING/rotate", json!({"at_once": true})).await;
    assert_eq!((works(&second).await, works(&third.text("token")).await), (401, 200));
    let sources = app.get("eve", "/v1/sources").await;
    let ping = sources.body["items"].as_array().unwrap().iter().find(|s| s["name"] == "ping").unwrap().clone();
    assert_eq!(ping["tokens"].as_array().unwrap().iter().filter(|t| t["works"] == true).count(), 1);
    assert!(ping["last_seen_at"].is_string());
    assert!(!sources.body.to_string().contains("tgd_"));
    let path = format!("/v1/sources/ping/tokens/{}", third.text("id"));
    done(&app.call("eve", http::Method::DELETE, &path, &[], None).await, 204);
    assert_eq!(works(&third.text("token")).await, 401);
    assert_eq!(app.call("eve", http::Method::DELETE, &path, &[], None).await.status, 404);
    assert_eq!(app.post("eve", "/v1/sources/none/rotate", json!({})).await.status, 404);
    assert_eq!(app.post("eve", "/v1/sources/a%20b/tokens", json!({})).await.status, 422);
}

on_both!(bulk, tokens_are_made_rotated_and_revoked);
