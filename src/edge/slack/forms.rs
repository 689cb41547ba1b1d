//! Forms: ask for access, look at the terms before approving, and what became of either.

use serde_json::{Value, json};

use super::{
    blocks::{clip, context, escape, fields, input, link, modal, option, said, section},
    sheets::span,
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
    let pairs = [
        ("Requester", escape(&clip(&r.requester.name, 100))),
        ("For", span(r.duration)),
        ("What", escape(&clip(&r.entitlements.join(", "), 300))),
        ("Approvals", format!("{} of {}", r.approvals.have, r.approvals.needed)),
    ];
    let mut spans: Vec<u32> = MINUTES.iter().map(|m| m * 60).filter(|s| *s < r.duration).collect();
    spans.push(r.duration);
    let options: Vec<Value> = spans.iter().map(|s| option(&span(*s), &s.to_string())).collect();
    let how_long = json!({
        "type": "static_select", "action_id": "duration", "options": options,
        "initial_option": option(&span(r.duration), &r.duration.to_string()),
    });
    let comment = json!({"type": "plain_text_input", "action_id": "comment", "multiline": true, "max_length": 1_000});
    let blocks = vec![
        fields(&pairs),
        said(&format!("Why: {}", r.reason)),
        input("duration", "Approve for", false, &how_long),
        input("comment", "Comment", true, &comment),
        context(
            &page.marks.iter().map(|m| format!("⚠️ {}", escape(m))).chain([format!("`{}`", r.id)]).collect::<Vec<_>>(),
        ),
    ];
    modal("approve", "Approve request", Some("Approve"), &format!("{}.{}", r.id, page.terms), blocks)
}

/// What became of it, in a form that has no question left.
pub(super) fn said_so(text: &str, link_to: Option<(&str, &str)>) -> Value {
    let mut blocks = vec![section(text)];
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
    said_so(&line, Some(("Open in portal", &format!("{portal}/requests/{}", r.id))))
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
        .map(|e| option(&format!("{} ({})", clip(&e.title, 45), clip(&e.id, 26)), &e.id))
        .collect();
    json!({"options": options})
}
