//! Who gets in, and what is refused before anything is looked at: every operation of the OpenAPI document is called.

use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};
use tidegate::edge::{Limits, Rate, openapi};

use crate::{
    http_app::{App, anonymous, open},
    on_both,
    verbs_help::{lock_by_sql, sql, table},
    world::Db,
};

/// Operations that need no token. This list only shrinks.
const PUBLIC: [&str; 9] = [
    "GET /.well-known/jwks.json",
    "GET /.well-known/oauth-authorization-server",
    "GET /healthz",
    "GET /jwks",
    "GET /metrics",
    "GET /openapi.json",
    "GET /published/{target}/{name}",
    "GET /readyz",
    // authenticates the client itself; see http_oauth
    "POST /oauth/token",
];

const NO_ONE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

/// Method, path template, and a path with ids of nothing.
fn operations() -> Vec<(String, String, String)> {
    let document = serde_json::to_value(openapi()).unwrap();
    let mut found = Vec::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let prefix = if template.contains("/requests/") {
                "req"
            } else if template.contains("/grants/") {
                "grt"
            } else if template.contains("/locks/") {
                "lck"
            } else if template.contains("/sync/tasks/") {
                "tsk"
            } else if template.contains("/sync/runs/") {
                "run"
            } else {
                "idn"
            };
            let path = template
                .replace("{id}", &format!("{prefix}_{NO_ONE}"))
                .replace("{event}", &format!("evt_{NO_ONE}"))
                .replace("{target}", "nothing")
                .replace("{name}", "nothing");
            found.push((method.to_uppercase(), template.clone(), path));
        }
    }
    assert!(found.len() >= 40, "{}", found.len());
    found
}

async fn every_operation_wants_a_token_except_the_public_ones(db: Db) {
    let app = App::on(db).await;
    for (method, template, path) in operations() {
        let name = format!("{method} {template}");
        let answer = app.answer(anonymous(&method, &path)).await;
        if PUBLIC.contains(&name.as_str()) {
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{name}");
            continue;
        }
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}: {}", answer.body);
        assert!(!answer.header("www-authenticate").is_empty(), "{name}");
        for token in ["nonsense", "tgp_0123456789012345678901234567890123456789012deadbeef", "eyJhbGciOiJub25lIn0.e30."]
        {
            let mut request = anonymous(&method, &path);
            request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            assert_eq!(app.answer(request).await.status, StatusCode::UNAUTHORIZED, "{name} with {token}");
        }
    }
}

async fn what_does_not_exist_is_404_even_for_administrators(db: Db) {
    let app = App::on(db).await;
    for (method, template, path) in operations() {
        if !template.starts_with("/v1/") || !template.contains('{') {
            continue;
        }
        // Makes the source that is not there.
        if (method.as_str(), template.as_str()) == ("POST", "/v1/sources/{source}/tokens") {
            continue;
        }
        let body = if template.ends_with("/extend") {
            json!({"duration": "5m", "reason": "more"})
        } else if ["/revoke", "/attest", "/deactivate"].iter().any(|end| template.ends_with(end)) {
            json!({"reason": "because of the test"})
        } else if ["/deny", "/comment"].iter().any(|end| template.ends_with(end)) {
            json!({"comment": "no"})
        } else if template.ends_with("/done") {
            json!({"evidence": "because of the test"})
        } else if template.ends_with("/sponsor") {
            json!({"sponsor": "ben"})
        } else {
            json!({})
        };
        let body = (method != "GET" && method != "DELETE" && !template.ends_with("/credential")).then_some(body);
        let method: Method = method.parse().unwrap();
        for path in [path.clone(), path.replace(NO_ONE, "x"), path.replace(NO_ONE, "%FF")] {
            let answer = app.call("eve", method.clone(), &path, &[], body.clone()).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}: {}", answer.body);
            assert_eq!(answer.problem(), "not-found", "{method} {path}");
        }
    }
}

/// What a locked administrator may still do: look, try out, and give up what is their own.
const UNDER_A_LOCK: [&str; 4] = [
    "POST /v1/grants/{id}/credential",
    "POST /v1/grants/{id}/extend",
    "POST /v1/grants/{id}/release",
    "POST /v1/policy/simulate",
];

/// Something of others for each operation that would change it, and a body that it takes.
async fn of_others(app: &App) -> Vec<(&'static str, String, Value)> {
    let why = json!({"reason": "because of the test"});
    let wish = |id: &str| json!({"entitlements": [id], "duration": 600, "reason": "because of the test"});
    let granted = app.post("ana", "/v1/requests", wish("tokens:orders-read")).await;
    let grant = granted.body["grants"][0]["id"].as_str().unwrap().to_owned();
    let pending = app.post("ana", "/v1/requests", wish("tokens:orders-admin")).await.text("id");
    let token = app.post("ana", "/v1/tokens", json!({"label": "mine"})).await.text("id");
    let (ana, bot) = (app.ids["ana"], app.ids["deploy-bot"]);
    lock_by_sql(&app.world, "entitlement", "tokens:ledger-admin").await;
    let lock = table(&app.world, "SELECT id FROM locks").await.remove(0);
    let message = format!("msg_{NO_ONE}");
    let row = format!(
        "INSERT INTO outbox (id, notifier, kind, at, data, attempts, epoch) VALUES ('{message}', 'log', 'x', 1, '{{}}', 0, 0)"
    );
    sql(&app.world, &row).await;
    let mut on_behalf = wish("tokens:orders-read");
    on_behalf["on_behalf_of"] = json!("deploy-bot");
    vec![
        ("POST /v1/deliveries/{id}/replay", format!("/v1/deliveries/{message}/replay"), json!({})),
        ("POST /v1/grants/{id}/attest", format!("/v1/grants/{grant}/attest"), why.clone()),
        ("POST /v1/grants/{id}/revoke", format!("/v1/grants/{grant}/revoke"), why.clone()),
        ("DELETE /v1/groups/{group}/members/{identity}", format!("/v1/groups/engineers/members/{ana}"), json!({})),
        ("POST /v1/identities/{id}/deactivate", format!("/v1/identities/{ana}/deactivate"), why.clone()),
        ("POST /v1/identities/{id}/sponsor", format!("/v1/identities/{ana}/sponsor"), json!({"sponsor": "ben"})),
        (
            "DELETE /v1/identities/{id}/slack-links/{account}",
            format!("/v1/identities/{ana}/slack-links/T1.U1"),
            json!({}),
        ),
        ("POST /v1/locks", "/v1/locks".into(), json!({"kind": "target", "value": "dev-ssh", "reason": "x"})),
        ("DELETE /v1/locks/{id}", format!("/v1/locks/{lock}"), json!({})),
        ("POST /v1/requests", "/v1/requests".into(), on_behalf),
        ("POST /v1/requests/{id}/approve", format!("/v1/requests/{pending}/approve"), json!({})),
        ("POST /v1/requests/{id}/cancel", format!("/v1/requests/{pending}/cancel"), json!({})),
        (
            "POST /v1/requests/{id}/comment",
            format!("/v1/requests/{pending}/comment"),
            json!({"comment": "because of the test"}),
        ),
        ("POST /v1/requests/{id}/take-up", format!("/v1/requests/{pending}/take-up"), json!({})),
        ("POST /v1/requests/{id}/deny", format!("/v1/requests/{pending}/deny"), json!({"comment": "no"})),
        (
            "POST /v1/reviews/collisions/resolve",
            "/v1/reviews/collisions/resolve".into(),
            json!({"source": "hr", "identity": ana.to_string()}),
        ),
        ("POST /v1/targets/{id}/check", "/v1/targets/dev-token/check".into(), json!({})),
        ("POST /v1/targets/{id}/sweep", "/v1/targets/dev-token/sweep".into(), json!({})),
        ("DELETE /v1/sources/{source}/tokens/{id}", format!("/v1/sources/hr/tokens/tok_{NO_ONE}"), json!({})),
        ("POST /v1/tokens", "/v1/tokens".into(), json!({"label": "another"})),
        ("DELETE /v1/tokens/{id}", format!("/v1/tokens/{token}"), json!({})),
        ("POST /v1/workloads", "/v1/workloads".into(), json!({"name": "new-bot", "display_name": "New"})),
        ("PATCH /v1/workloads/{id}", format!("/v1/workloads/{bot}"), json!({"display_name": "Another"})),
    ]
}

async fn a_locked_administrator_changes_nothing(db: Db) {
    let app = App::on(db).await;
    let others = of_others(&app).await;
    lock_by_sql(&app.world, "identity", &app.ids["eve"].to_string()).await;
    for (method, template, path) in operations() {
        let name = format!("{method} {template}");
        if method == "GET" || !template.starts_with("/v1/") || UNDER_A_LOCK.contains(&name.as_str()) {
            continue;
        }
        // Sources and the sync ask for the lock before they look for anything.
        let early = ["/v1/sources/", "/v1/sync/"].iter().any(|at| template.starts_with(at));
        let of_another = others.iter().find(|(known, ..)| *known == name);
        assert!(early || of_another.is_some(), "{name} is new: say what a locked administrator would change with it");
        let (path, body) = match of_another {
            Some((_, path, body)) => (path.clone(), body.clone()),
            None if template.ends_with("/done") => (path, json!({"evidence": "because of the test"})),
            None => (path, json!({})),
        };
        let body = (method != "DELETE").then_some(body);
        let answer = app.call("eve", method.parse().unwrap(), &path, &[], body).await;
        assert_eq!(answer.problem(), "locked", "{name}: {} {}", answer.status, answer.body);
    }
    // One's own may go.
    let mine = app.call("ana", Method::POST, "/v1/tokens", &[], Some(json!({"label": "own"}))).await.text("id");
    lock_by_sql(&app.world, "identity", &app.ids["ana"].to_string()).await;
    assert_eq!(app.call("ana", Method::DELETE, &format!("/v1/tokens/{mine}"), &[], None).await.status, 204);
}

async fn unknown_paths_and_wrong_methods_are_problems(db: Db) {
    let app = App::on(db).await;
    let nowhere = app.answer(anonymous("GET", "/v1/nothing")).await;
    assert_eq!((nowhere.status.as_u16(), nowhere.problem()), (404, "unknown-route"));
    let wrong = app.answer(anonymous("PUT", "/v1/requests")).await;
    assert_eq!((wrong.status.as_u16(), wrong.problem()), (405, "method-not-allowed"));
    assert!(wrong.header("allow").contains("POST"), "{:?}", wrong.headers);
    assert_eq!(wrong.header("content-type"), "application/problem+json");
    assert_eq!(wrong.text("instance"), wrong.header("x-request-id"));
}

async fn every_answer_has_an_id_and_is_not_cached_or_sniffed(db: Db) {
    let app = App::on(db).await;
    let answer = app.get("ana", "/v1/me").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("x-request-id").starts_with("cor_"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

async fn bodies_have_a_type_a_size_and_known_fields(db: Db) {
    let app = App::on(db).await;
    let send = |content_type: &'static str, body: Vec<u8>| {
        let request = Request::post("/v1/requests")
            .header(header::AUTHORIZATION, app.bearer("ana"))
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body))
            .unwrap();
        app.answer(request)
    };
    let good = br#"{"entitlements":["tokens:orders-read"],"reason":"look at an order","dry_run":true}"#.to_vec();
    assert_eq!(send("application/json", good.clone()).await.status, 200);
    let answer = send("text/plain", good).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (415, "unsupported-media-type"));
    let answer = send("application/json", vec![b' '; 64 * 1024 + 1]).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (413, "body-too-large"));
    let answer = send("application/json", b"{\"reason\": }".to_vec()).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (400, "invalid-json"));
    assert!(answer.text("detail").contains("line 1 column 12"));
    let answer = send("application/json", "[".repeat(60_000).into_bytes()).await;
    assert_eq!(answer.status, 400);
    let answer = send("application/json", br#"{"entitlements":[],"reason":"x","admin":true}"#.to_vec()).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (400, "invalid-input"));
    assert!(answer.text("detail").contains("admin"));
}

async fn parameters_have_bounds(db: Db) {
    let app = App::on(db).await;
    for query in
        ["limit=0", "limit=201", "limit=-1", "limit=x", "after=", "colour=red", "state=lost", "limit=1&limit=2"]
    {
        let answer = app.get("ana", &format!("/v1/requests?{query}")).await;
        assert_eq!((answer.status.as_u16(), answer.problem()), (400, "invalid-input"), "{query}: {}", answer.body);
    }
    for path in ["/v1/requests?limit=200&role=approver", "/v1/grants?live=true&holder=me", "/v1/identities?limit=1"] {
        let answer = app.get("ana", path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.body["items"].is_array() && answer.body.get("next").is_some(), "{path}");
    }
}

async fn an_identity_that_calls_too_often_is_told_when_to_come_again(db: Db) {
    let app = App::with_on(db, Limits { per_identity: Some(Rate::new(1, 2)), ..open() }).await;
    assert_eq!(app.get("ana", "/v1/me").await.status, 200);
    assert_eq!(app.get("ana", "/v1/me").await.status, 200);
    let answer = app.get("ana", "/v1/me").await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (429, "rate-limited"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(app.get("ben", "/v1/me").await.status, 200);
}

async fn guessing_tokens_is_slowed_down_by_address(db: Db) {
    let app = App::with_on(db, Limits { per_address: Some(Rate::new(1, 3)), ..open() }).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(app.answer(anonymous("GET", "/v1/me")).await.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 429]);
    assert_eq!(app.get("ana", "/v1/me").await.status, 200);
}

async fn a_full_house_still_answers_its_operators(db: Db) {
    let app = App::with_on(db, Limits { in_flight: 0, ..open() }).await;
    let answer = app.get("ana", "/v1/me").await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (503, "overloaded"));
    assert!(!answer.header("retry-after").is_empty());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(app.answer(anonymous("GET", path)).await.status, 200, "{path}");
    }
}

async fn a_body_that_trickles_is_given_up(db: Db) {
    let app = App::with_on(db, Limits { body_time: Duration::from_millis(20), ..open() }).await;
    let never = Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let request = Request::post("/v1/requests")
        .header(header::AUTHORIZATION, app.bearer("ana"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(never)
        .unwrap();
    let answer = app.answer(request).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (408, "slow-body"));
}

async fn a_closing_broker_says_so(db: Db) {
    let app = App::on(db).await;
    app.world.broker.closing().cancel();
    let body = json!({"entitlements": ["tokens:orders-read"], "reason": "look at an order"});
    let answer = app.post("ana", "/v1/requests", body).await;
    assert_eq!((answer.status.as_u16(), answer.problem()), (503, "closing"));
    let readiness = app.answer(anonymous("GET", "/readyz")).await;
    assert_eq!((readiness.status.as_u16(), &readiness.body["ready"]), (503, &Value::Bool(false)));
    assert_eq!(app.answer(anonymous("GET", "/healthz")).await.status, 200);
}

on_both!(
    every_operation_wants_a_token_except_the_public_ones,
    what_does_not_exist_is_404_even_for_administrators,
    a_locked_administrator_changes_nothing,
    unknown_paths_and_wrong_methods_are_problems,
    every_answer_has_an_id_and_is_not_cached_or_sniffed,
    bodies_have_a_type_a_size_and_known_fields,
    parameters_have_bounds,
    an_identity_that_calls_too_often_is_told_when_to_come_again,
    guessing_tokens_is_slowed_down_by_address,
    a_full_house_still_answers_its_operators,
    a_body_that_trickles_is_given_up,
    a_closing_broker_says_so,
);
