//! Whole commands against a server that is made up.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use clap::Parser as _;
use serde_json::{Value, json};

use super::{
    Cli, Command, client,
    exit::{Done, Failure},
    global::Cx,
    interruptible,
    output::{
        Terminals,
        tests::{Captured, ui},
    },
};

const REQ: &str = "req_01KGA5MYR00000000000000004";
const GRT: &str = "grt_01KGA5MYR00000000000000005";

/// What a command did: exit code, stdout, stderr.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

async fn run_on(server: &str, line: &[&str], tty: Terminals, answers: &str) -> Ran {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "tgp_test\n").unwrap();
    let file = token.path().to_str().unwrap().to_owned();
    let mut words = vec!["tidegate", "--server", server, "--token-file", &file];
    words.extend(line);
    let cli = Cli::try_parse_from(words).unwrap();
    let (ui, out, err): (_, Captured, Captured) = ui(tty, cli.global.style(), answers);
    let cx = Cx::new(cli.global, ui);
    let Command::Client(command) = cli.command else { panic!("not a client's command") };
    let done: Done = interruptible(command, &cx).await;
    let code = done.unwrap_or_else(|failure: Failure| {
        cx.ui.failure(&failure);
        failure.exit
    });
    Ran { code: code.code(), out: out.text(), err: err.text() }
}

async fn run(router: Router, line: &[&str]) -> Ran {
    run_on(&client::tests::serve(router).await, line, Terminals::default(), "").await
}

fn grant(state: &str) -> Value {
    json!({
        "id": GRT, "request": REQ, "holder": {"id": "idn_1", "name": "ana"}, "entitlement": "orders-read",
        "target": "orders-db", "state": state, "not_after": "2026-01-31T14:30:00Z", "remaining": 1800,
        "end_reason": null, "requested": {"at": "2026-01-31T14:00:00Z", "duration": 1800, "start_at": null},
        "applied": {"at": "2026-01-31T14:00:01Z", "object": "tg_x", "report": {"role": "tg_x"}}, "verified": null,
        "evidence": null, "attempts": 0, "last_error": null, "claims": 0, "claimable": true,
        "revocation_class": "immediate", "residual_window": 0, "correlation_id": "cor_1",
    })
}

fn request(state: &str, grants: &[Value]) -> Value {
    json!({
        "id": REQ, "state": state, "requester": {"id": "idn_1", "name": "ana"}, "subject": {"id": "idn_1", "name": "ana"},
        "entitlements": ["orders-read"], "duration": 1800, "reason": "order 4411\u{1b}[2J", "ticket": null,
        "emergency": false, "start_at": null, "grants": grants,
        "approvals": {"needed": 1, "have": 0, "from": ["db-approvers"]}, "lapses_at": "2026-01-31T15:00:00Z",
        "created_at": "2026-01-31T14:00:00Z", "decided_at": null, "policy_version": "abc",
        "revocation": [{"entitlement": "orders-read", "revocation_class": "immediate", "residual_window": 0,
                        "residual_window_text": "none"}],
        "correlation_id": "cor_1",
    })
}

fn plan(verdict: &str) -> Value {
    json!({
        "dry_run": true, "verdict": verdict, "approvals": {"needed": 1, "have": 0, "from": ["db-approvers"]},
        "duration": 1800, "policy_version": "abc",
        "entitlements": [{"id": "orders-read", "verdict": verdict,
            "conditions": [{"text": "a reason is given", "met": true}],
            "reasons": [{"action": "Request", "policy": "p1", "effect": "permit", "text": ""}],
            "revocation": {"entitlement": "orders-read", "revocation_class": "immediate", "residual_window": 0,
                           "residual_window_text": "open sessions are cut"}}],
    })
}

fn me(grants: &[Value]) -> Value {
    json!({"id": "idn_1", "kind": "person", "name": "ana", "display_name": "Ana", "email": null, "active": true,
           "owner": null, "contract_end": null, "groups": ["eng"], "roles": [], "grants": grants})
}

/// Asks are planned or recorded; the request then goes through `states`, staying in the last.
fn asking(verdict: &'static str, states: &'static [&'static str]) -> Router {
    let looks = Arc::new(AtomicU32::new(0));
    Router::new()
        .route(
            "/v1/requests",
            post(move |Json(body): Json<Value>| async move {
                if body.get("dry_run").is_some() {
                    return (StatusCode::OK, Json(plan(verdict)));
                }
                (StatusCode::CREATED, Json(request("pending", &[])))
            }),
        )
        .route(
            "/v1/requests/{id}",
            get(move || {
                let look = looks.fetch_add(1, Ordering::SeqCst) as usize;
                let state = states[look.min(states.len() - 1)];
                let grants = if state == "approved" { vec![grant("active")] } else { vec![] };
                async move { Json(request(state, &grants)) }
            }),
        )
}

#[tokio::test]
async fn asking_shows_the_plan_and_needs_a_yes() {
    let server = client::tests::serve(asking("approval", &["pending"])).await;
    let line = ["request", "orders-read", "--for", "30m", "--reason", "x"];
    let pipe = run_on(&server, &line, Terminals::default(), "y\n").await;
    assert_eq!((pipe.code, pipe.out.as_str()), (2, ""), "{}", pipe.err);
    assert!(pipe.err.contains("give -y to go ahead"));
    let terminal = Terminals { stdin: true, ..Terminals::default() };
    let no = run_on(&server, &line, terminal, "n\n").await;
    assert_eq!((no.code, no.out.as_str()), (1, ""));
    let yes = run_on(&server, &line, terminal, "y\n").await;
    assert_eq!(yes.code, 0);
    insta::assert_snapshot!(format!("{}---\n{}", yes.err, yes.out));
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen() {
    let dry = run(
        asking("approval", &["pending"]),
        &["request", "orders-read", "--dry-run", "--json=verdict,approvals.needed"],
    )
    .await;
    assert_eq!((dry.code, dry.out.as_str()), (0, "{\"verdict\":\"approval\",\"approvals.needed\":1}\n"));
    let denied = run(asking("denied", &["pending"]), &["request", "orders-read", "--dry-run"]).await;
    assert_eq!(denied.code, 3);
    let sent = run(asking("denied", &["pending"]), &["request", "orders-read"]).await;
    assert_eq!((sent.code, sent.out.as_str()), (3, ""));
    assert!(sent.err.contains("Nothing was sent."));
}

#[tokio::test]
async fn waiting_ends_with_the_decision() {
    let line = ["request", "orders-read", "-y", "--wait=20s"];
    let approved = run(asking("approval", &["pending", "approved"]), &line).await;
    assert_eq!(approved.code, 0, "{}", approved.err);
    insta::assert_snapshot!(format!("{}---\n{}", approved.err, approved.out));
    for (states, code) in [(&["denied"], 3), (&["cancelled"], 3), (&["lapsed"], 7)] {
        assert_eq!(run(asking("approval", states), &line).await.code, code, "{states:?}");
    }
    let late = run(asking("approval", &["pending"]), &["wait", REQ, "--timeout", "1s"]).await;
    assert_eq!((late.code, late.out.as_str()), (7, ""));
    assert!(late.err.contains("The request stands"), "{}", late.err);
    let lines = run(asking("approval", &["pending", "approved"]), &["wait", REQ, "--json=id,state"]).await;
    assert_eq!(
        lines.out,
        format!(
            "{{\"id\":\"{REQ}\",\"state\":\"pending\"}}\n{{\"id\":\"{REQ}\",\"state\":\"approved\"}}\n\
             {{\"id\":\"{GRT}\",\"state\":\"active\"}}\n"
        )
    );
}

#[tokio::test]
async fn an_approver_sees_the_terms_first() {
    let decided = Arc::new(Mutex::new(Value::Null));
    let seen = Arc::clone(&decided);
    let router = asking("approval", &["pending"]).route(
        "/v1/requests/{id}/approve",
        post(move |Json(body): Json<Value>| {
            *seen.lock().unwrap() = body;
            async { Json(request("approved", &[grant("activating")])) }
        }),
    );
    let server = client::tests::serve(router).await;
    let terminal = Terminals { stdin: true, ..Terminals::default() };
    let ran = run_on(&server, &["approve", REQ, "--for", "10m", "--reason", "ok"], terminal, "y\n").await;
    assert_eq!(ran.code, 0);
    assert_eq!(*decided.lock().unwrap(), json!({"comment": "ok", "duration": 600}));
    insta::assert_snapshot!(format!("{}---\n{}", ran.err, ran.out));
    let longer = run_on(&server, &["approve", REQ, "--for", "2h", "-y"], terminal, "").await;
    assert_eq!(longer.code, 2);
    let late = run(asking("approval", &["denied"]), &["approve", REQ, "-y"]).await;
    assert_eq!(late.code, 6);
}

/// Somebody who holds one grant and may claim it; counts the claims.
fn holding(claims: &Arc<AtomicU32>) -> Router {
    let claims = Arc::clone(claims);
    let list = |items: Value| get(move || async move { Json(json!({"items": items, "next": null})) });
    Router::new()
        .route("/v1/me", get(|| async { Json(me(&[grant("active")])) }))
        .route("/v1/entitlements", list(json!([])))
        .route("/v1/requests", list(json!([])))
        .route("/v1/grants/{id}", get(|| async { Json(grant("active")) }))
        .route("/v1/grants/{id}/release", post(|| async { Json(grant("revoking")) }))
        .route(
            "/v1/grants/{id}/credential",
            post(move || {
                claims.fetch_add(1, Ordering::SeqCst);
                async { Json(super::credential::tests::postgres()) }
            }),
        )
}

#[tokio::test]
async fn a_secret_is_not_shown_to_a_terminal_and_then_not_even_claimed() {
    let claims = Arc::new(AtomicU32::new(0));
    let server = client::tests::serve(holding(&claims)).await;
    let terminal = Terminals { stdout: true, ..Terminals::default() };
    for line in [vec!["creds", GRT], vec!["creds", GRT, "--format", "raw"], vec!["creds", "orders-db", "--json"]] {
        let ran = run_on(&server, &line, terminal, "").await;
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{line:?}");
    }
    let unwritable = run_on(&server, &["creds", GRT, "--out", "/nowhere/x"], terminal, "").await;
    assert_eq!(unwritable.code, 1);
    assert_eq!(claims.load(Ordering::SeqCst), 0);
    let revealed = run_on(&server, &["creds", GRT, "--format", "raw", "--reveal"], terminal, "").await;
    assert_eq!((revealed.code, revealed.out.as_str()), (0, "a\\b:c'd\n"));
    let piped = run_on(&server, &["creds", "orders-read", "--format", "pgpass"], Terminals::default(), "").await;
    assert_eq!((piped.code, piped.out.as_str()), (0, "db\\:1:5433:*:tg_x:a\\\\b\\:c'd\n"));
    assert!(!piped.err.contains("c'd"));
    assert_eq!(claims.load(Ordering::SeqCst), 2);
    let nothing = run_on(&server, &["creds", "other"], Terminals::default(), "").await;
    assert_eq!(nothing.code, 5);
    for line in [vec!["token", "mint"], vec!["workload", "register", "bot"]] {
        assert_eq!(run_on(&server, &line, terminal, "").await.code, 2, "{line:?}");
    }
}

#[tokio::test]
async fn a_command_runs_with_the_credential_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let script = format!(
        "printf '%s ' $PGUSER $PGPASSFILE ${{TIDEGATE_TOKEN-none}} > {0}; cat $PGPASSFILE >> {0}; exit 42",
        seen.display()
    );
    let claims = Arc::new(AtomicU32::new(0));
    let ran = run(holding(&claims), &["exec", "orders-db", "--end", "--", "sh", "-c", &script]).await;
    assert_eq!(ran.code, 42, "{}", ran.err);
    let seen = std::fs::read_to_string(seen).unwrap();
    let words: Vec<&str> = seen.split_whitespace().collect();
    assert_eq!((words[0], words[2], words[3]), ("tg_x", "none", "db\\:1:5433:*:tg_x:a\\\\b\\:c'd"));
    assert!(!std::path::Path::new(words[1]).exists(), "the password file is gone");
    assert!(ran.err.contains("is being ended"));
    let missing = run(holding(&claims), &["exec", "orders-db", "--", "/no/such/program"]).await;
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("is live"));
    let nothing = run(holding(&claims), &["exec", "other", "--no-request", "--", "true"]).await;
    assert_eq!(nothing.code, 5);
}

#[tokio::test]
async fn what_waits_is_said_with_its_own_code() {
    let list = |items: Value| get(move || async move { Json(json!({"items": items, "next": null})) });
    let router = Router::new()
        .route("/v1/me", get(|| async { Json(me(&[])) }))
        .route("/v1/entitlements", list(json!([])))
        .route("/v1/requests", list(json!([request("pending", &[])])));
    let ran = run(router, &["creds", "orders-read"]).await;
    assert_eq!(ran.code, 8);
    assert!(ran.err.contains(&format!("next: tidegate wait {REQ}")), "{}", ran.err);
}

#[tokio::test]
async fn lists_and_sheets_read_well() {
    let list = |items: Value| get(move || async move { Json(json!({"items": items, "next": null})) });
    let router = Router::new()
        .route("/v1/me", get(|| async { Json(me(&[grant("active")])) }))
        .route("/v1/requests", list(json!([request("pending", &[])])))
        .route("/v1/grants", list(json!([grant("active"), grant("quarantined")])))
        .route("/v1/grants/{id}", get(|| async { Json(grant("active")) }));
    let server = client::tests::serve(router).await;
    let mut all = String::new();
    for line in [vec!["ls"], vec!["ls", "grants"], vec!["status"], vec!["show", GRT], vec!["whoami"]] {
        let ran = run_on(&server, &line, Terminals::default(), "").await;
        assert_eq!(ran.code, 0, "{line:?} {}", ran.err);
        let _ = write!(all, "$ tidegate {}\n{}\n", line.join(" "), ran.out.replace(&server, "SERVER"));
    }
    insta::assert_snapshot!(all);
    let old = run_on(&server, &["ls", "--json=id", "--since", "1h"], Terminals::default(), "").await;
    assert_eq!(old.out, format!("[{{\"id\":\"{REQ}\"}}]\n"));
    let none = run_on(&server, &["ls", "targets", "--mine"], Terminals::default(), "").await;
    assert_eq!(none.code, 2);
}

#[tokio::test]
async fn a_doctor_names_what_is_wrong_and_how_to_mend_it() {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route(
            "/readyz",
            get(|| async {
                let checks = json!([{"name": "ledger", "ok": false, "detail": "is full", "fix": "make room"}]);
                (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "checks": checks})))
            }),
        )
        .route("/v1/me", get(|| async { Json(me(&[])) }));
    let ran = run(router, &["doctor"]).await;
    assert_eq!(ran.code, 1);
    for text in ["✓ server: /healthz answers 200", "✗ ledger: is full\n    fix: make room", "✓ token: works, as ana"]
    {
        assert!(ran.out.contains(text), "{text}\n{}", ran.out);
    }
}
