//! Whole messages, as they go out.

use serde_json::json;

use super::*;
use crate::{
    broker::view::{ApprovalsView, IdentityRef, RevocationView},
    domain::capability::RevocationClass,
};

fn of(name: &str) -> IdentityRef {
    IdentityRef { id: format!("idn_{name}"), name: name.to_owned() }
}

fn page(trust: SlackDecision) -> RequestPage {
    RequestPage {
        request: RequestView {
            id: "req_01KVF3T2M8XQ4B7N9D5R6S1W0Z".to_owned(),
            state: RequestState::Pending,
            requester: of("ana"),
            subject: of("ana"),
            entitlements: vec!["tokens:orders-admin".to_owned()],
            duration: 7200,
            reason: "order 4411 is stuck <!channel>".to_owned(),
            ticket: Some("OPS-<1>".to_owned()),
            emergency: false,
            start_at: None,
            grants: Vec::new(),
            approvals: ApprovalsView { needed: 2, have: 1, from: vec!["approvers".to_owned()] },
            lapses_at: Some("2026-11-23T16:00:00Z".to_owned()),
            created_at: "2026-11-23T12:00:00Z".to_owned(),
            decided_at: None,
            policy_version: "3f2a9c".to_owned(),
            revocation: vec![RevocationView {
                entitlement: "tokens:orders-admin".to_owned(),
                revocation_class: RevocationClass::ExpiryOnly,
                residual_window: 300,
                residual_window_text: "up to five minutes".to_owned(),
            }],
            terms: "0123456789abcdef0123456789abcdef".to_owned(),
            correlation_id: "cor_1".to_owned(),
            decisions: None,
            timeline: None,
            trace: None,
            can_decide: None,
            taken_up: None,
            context: None,
            permissions: None,
        },
        titles: vec!["Administer orders".to_owned()],
        decisions: vec![ApprovalView {
            approver: of("cat"),
            approve: true,
            comment: "fine <https://x|y>".to_owned(),
            duration: None,
            at: "2026-11-23T12:05:00Z".to_owned(),
            via: "slack".to_owned(),
        }],
        terms: "0123456789abcdef0123456789abcdef".to_owned(),
        trust,
        requester: "Ana, engineer".to_owned(),
        marks: vec!["sensitivity 3 of 4".to_owned()],
        source: "cli".to_owned(),
    }
}

fn shown(sheet: &Sheet) -> Value {
    json!({"text": sheet.text, "blocks": sheet.blocks})
}

#[test]
fn a_request_that_waits() {
    insta::assert_json_snapshot!("request_click", shown(&request(&page(SlackDecision::Click), "https://t.example")));
}

#[test]
fn what_a_click_may_do_follows_from_the_entitlement() {
    let buttons = |trust| {
        let blocks = request(&page(trust), "https://t.example").blocks;
        let row = blocks.iter().find(|b| b["type"] == "actions").unwrap();
        let names = row["elements"].as_array().unwrap().iter().map(|e| e["action_id"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(buttons(SlackDecision::Click), ["approve", "deny", "open"]);
    assert_eq!(buttons(SlackDecision::Confirm), ["review", "deny", "open"]);
    assert_eq!(buttons(SlackDecision::Link), ["open", "deny"]);
}

#[test]
fn a_request_that_was_decided() {
    let mut page = page(SlackDecision::Click);
    page.request.state = RequestState::Denied;
    page.request.lapses_at = None;
    page.request.decided_at = Some("2026-11-23T12:06:00Z".to_owned());
    page.decisions[0].approve = false;
    insta::assert_json_snapshot!("request_denied", shown(&request(&page, "https://t.example")));
    insta::assert_json_snapshot!("outcome_denied", shown(&outcome(&page, "https://t.example")));
    insta::assert_json_snapshot!("decision", shown(&decision(&page, &page.decisions[0])));
}

/// Block and action ids are unique where Slack wants them to be.
fn distinct(blocks: &[Value]) {
    let ids = |all: &[Value], name: &str| {
        let ids: Vec<String> = all.iter().filter_map(|e| e[name].as_str().map(str::to_owned)).collect();
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len(), "{name}: {ids:?}");
    };
    ids(blocks, "block_id");
    blocks.iter().filter_map(|b| b["elements"].as_array()).for_each(|row| ids(row, "action_id"));
}

#[test]
fn every_grant_of_a_bundle_has_its_own_button() {
    let mut page = page(SlackDecision::Click);
    page.request.state = RequestState::Approved;
    let grant = |n: u8| {
        serde_json::from_value::<GrantView>(json!({
            "id": format!("grt_{n}"), "request": "req_1", "entitlement": format!("tokens:orders-{n}"),
            "target": "tokens", "holder": of("ana"), "state": "active", "not_after": "2026-11-23T13:00:00Z",
            "claimable": true, "requested": {"at": "2026-11-23T12:00:00Z", "duration": 3600}, "attempts": 0, "claims": 0, "revocation_class": "expiry_only",
            "residual_window": 0, "correlation_id": "cor_1",
        }))
    };
    page.request.grants = (1..=3).map(|n| grant(n).expect("a grant")).collect();
    let sheet = outcome(&page, "https://t.example");
    distinct(&sheet.blocks);
    let text = Value::from(sheet.blocks.clone()).to_string();
    assert_eq!((text.matches("tidegate creds").count(), text.matches("\"release\"").count()), (3, 3), "{text}");
}

#[test]
fn an_empty_page() {
    let page = HomePage {
        name: "ana".to_owned(),
        grants: Vec::new(),
        waiting: vec![page(SlackDecision::Click).request],
        pending: Vec::new(),
        now: "2026-11-23T12:00:00Z".parse().unwrap(),
    };
    insta::assert_json_snapshot!("home", home(&page, "https://t.example"));
}
