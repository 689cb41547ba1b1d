//! Forms: ask for access, look at the terms before approving, and what became of either.

use serde_json::{Value, json};

use super::{
    blocks::{clip, context, described, escape, input, link, modal, option, section},
    sheets::{span, taken_away, terms},
};
use crate::{
    broker::{
        slack::page::RequestPage,
        view::{EntitlementView, RequestView},
    },
    domain::decision::Verdict,
};

/// Durations to choose from, in minutes.
const MINUTES: [u32; 6] = [15, 30, 60, 120, 240, 480];

/// The form of asking, filled with what is known already.
#[derive(Debug, Clone, Default)]
pub(super) struct Filled {
    pub(super) entitlement: Option<(String, String)>,
    pub(super) duration: Option<u32>,
    pub(super) reason: String,
    pub(super) ticket: String,
}

impl Filled {
    /// From a request that came before.
    pub(super) fn again(page: &RequestPage) -> Self {
        let r = &page.request;
        let title = page.titles.first().cloned();
        Self {
            entitlement: r.entitlements.first().map(|id| (id.clone(), title.unwrap_or_else(|| id.clone()))),
            duration: Some(r.duration),
            reason: r.reason.clone(),
            ticket: r.ticket.clone().unwrap_or_default(),
        }
    }
}

pub(super) fn loading() -> Value {
    modal("loading", "Tidegate", None, "", vec![section("One moment…")])
}

pub(super) fn ask(filled: &Filled) -> Value {
    let mut which = json!({
        "type": "external_select", "action_id": "entitlement", "min_query_length": 0,
        "placeholder": {"type": "plain_text", "text": "Type to search"},
    });
    if let (Some((id, title)), Some(fields)) = (&filled.entitlement, which.as_object_mut()) {
        fields.insert("initial_option".to_owned(), option(title, id));
    }
    let mut spans: Vec<u32> = MINUTES.iter().map(|m| m * 60).collect();
    spans.extend(filled.duration);
    spans.sort_unstable();
    spans.dedup();
    let options: Vec<Value> = spans.iter().map(|s| option(&span(*s), &s.to_string())).collect();
    let mut how_long = json!({
        "type": "static_select", "action_id": "duration", "options": options,
        "placeholder": {"type": "plain_text", "text": "The usual"},
    });
    if let (Some(s), Some(fields)) = (filled.duration, how_long.as_object_mut()) {
        fields.insert("initial_option".to_owned(), option(&span(s), &s.to_string()));
    }
    let text = |action: &str, multiline: bool, most: u32, initial: &str| {
        let mut element = json!({
            "type": "plain_text_input", "action_id": action, "multiline": multiline, "max_length": most,
        });
        if let (false, Some(fields)) = (initial.is_empty(), element.as_object_mut()) {
            fields.insert("initial_value".to_owned(), clip(initial, most as usize).into());
        }
        element
    };
    let blocks = vec![
        input("entitlement", "What do you need?", false, &which),
        input("duration", "For how long?", true, &how_long),
        input("reason", "Why?", false, &text("reason", true, 1_000, &filled.reason)),
        input("ticket", "Ticket", true, &text("ticket", false, 100, &filled.ticket)),
        context(&["Policy decides, and people where policy says so. The access ends by itself.".to_owned()]),
    ];
    modal("ask", "Request access", Some("Send"), "", blocks)
}

/// The terms once more, and a comment.
pub(super) fn approve(page: &RequestPage) -> Value {
    let r = &page.request;
    let who = if page.requester.is_empty() { &r.requester.name } else { &page.requester };
    let mut spans: Vec<u32> = MINUTES.iter().map(|m| m * 60).filter(|s| *s < r.duration).collect();
    spans.push(r.duration);
    let options: Vec<Value> = spans.iter().map(|s| option(&span(*s), &s.to_string())).collect();
    let how_long = json!({
        "type": "static_select", "action_id": "duration", "options": options,
        "initial_option": option(&span(r.duration), &r.duration.to_string()),
    });
    let comment = json!({"type": "plain_text_input", "action_id": "comment", "multiline": true, "max_length": 1_000});
    let what = escape(&clip(&r.entitlements.join(", "), 300));
    let mut blocks = vec![section(&format!("*{what}*"))];
    blocks.extend(terms(r, who));
    blocks.extend([
        input("duration", "Approve for", false, &how_long),
        input("comment", "Comment", true, &comment),
        context(
            &page.marks.iter().map(|m| format!("⚠️ {}", escape(m))).chain([format!("`{}`", r.id)]).collect::<Vec<_>>(),
        ),
    ]);
    modal("approve", "Approve request", Some("Approve"), &format!("{}.{}", r.id, page.terms), blocks)
}

/// What became of it, in a form that has no question left.
pub(super) fn said_so(text: &str, link_to: Option<(&str, &str)>) -> Value {
    said_with(text, Vec::new(), link_to)
}

fn said_with(text: &str, more: Vec<Value>, link_to: Option<(&str, &str)>) -> Value {
    let mut blocks = vec![section(text)];
    blocks.extend(more);
    if let Some((label, url)) = link_to {
        blocks.push(json!({"type": "actions", "elements": [link(label, url, label)]}));
    }
    modal("said", "Tidegate", None, "", blocks)
}

/// A request was sent.
pub(super) fn sent(r: &RequestView, portal: &str) -> Value {
    let line = if r.approvals.needed > r.approvals.have {
        let from = escape(&clip(&r.approvals.from.join(", "), 300));
        format!("✅ Request `{}` sent. It needs {} of: {from}.", r.id, r.approvals.needed)
    } else {
        format!("✅ Request `{}`: granted. How to use it is in your messages.", r.id)
    };
    let to = format!("{portal}/requests/{}", r.id);
    said_with(&line, terms(r, &r.requester.name), Some(("Open in portal", &to)))
}

/// Choices for a search, those that can be had first.
pub(super) fn choices(found: &[EntitlementView], typed: &str) -> Value {
    let typed = typed.to_lowercase();
    let mut fitting: Vec<&EntitlementView> = found
        .iter()
        .filter(|e| e.verdict != Verdict::Denied)
        .filter(|e| e.id.to_lowercase().contains(&typed) || e.title.to_lowercase().contains(&typed))
        .collect();
    fitting.sort_by_key(|e| (e.verdict == Verdict::Approval, e.title.clone()));
    let options: Vec<Value> = fitting
        .into_iter()
        .filter(|e| e.id.len() <= 150)
        .take(100)
        .map(|e| {
            let ends = taken_away(e.revocation_class, &e.residual_window_text);
            described(option(&format!("{} ({})", clip(&e.title, 45), clip(&e.id, 26)), &e.id), &ends)
        })
        .collect();
    json!({"options": options})
}
