//! `/requests/{id}`: the document of one request. Terms at the top, the decision beside them, what happened below.

use std::collections::BTreeSet;

use askama::Template;
use axum::{extract::State, response::Response};

use crate::{
    broker::view::{ApprovalView, PermissionsView, RequestView, TimelineEntry},
    domain::{decision::Reason, id::RequestId, request::RequestState, time::Timestamp},
    edge::{
        inbound::{path::PathId, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page},
            marks::{About, GrantCard, RequestCard, Taken, happening, parameter_lines, pretty, title_of},
            visit::Visitor,
            words::{self, When},
        },
    },
    policy::PolicySet,
};

/// One person's decision.
pub struct Decision {
    /// Who.
    pub who: String,
    /// Yes or no.
    pub approve: bool,
    /// In their words.
    pub comment: String,
    /// Shortened to.
    pub shortened: Option<String>,
    /// When.
    pub at: When,
    /// Where.
    pub via: String,
}

impl Decision {
    fn of(view: &ApprovalView, now: Timestamp) -> Self {
        Self {
            who: view.approver.name.clone(),
            approve: view.approve,
            comment: view.comment.clone(),
            shortened: view.duration.map(|s| words::span(u64::from(s))),
            at: words::when_of(now, &view.at),
            via: view.via.clone(),
        }
    }
}

/// One line of the timeline.
pub struct Line {
    /// Who; the broker if nobody.
    pub who: String,
    /// What happened.
    pub what: String,
    /// Symbol.
    pub icon: &'static str,
    /// When.
    pub at: When,
    /// What was said.
    pub quote: Option<String>,
    /// The facts.
    pub facts: Option<String>,
}

/// The timeline, in words.
pub fn lines(entries: &[TimelineEntry], now: crate::domain::time::Timestamp) -> Vec<Line> {
    let line = |entry: &TimelineEntry| {
        let (words, icon) = happening(&entry.action);
        let text = |name: &str| entry.details.get(name).and_then(|v| v.as_str()).filter(|t| !t.is_empty());
        let empty = entry.details.as_object().is_none_or(serde_json::Map::is_empty);
        Line {
            who: entry.actor.clone().unwrap_or_else(|| "Tidegate".to_owned()),
            what: if words.is_empty() { entry.action.clone() } else { words.to_owned() },
            icon,
            at: words::when_of(now, &entry.at),
            quote: text("comment").or_else(|| text("reason")).map(str::to_owned),
            facts: (!empty).then(|| pretty(&entry.details)),
        }
    };
    entries.iter().map(line).collect()
}

#[derive(Template)]
#[template(path = "request.html")]
struct Page {
    frame: Frame,
    card: RequestCard,
    about: Option<About>,
    taken: Option<Taken>,
    change: Option<Change>,
    policy_now: String,
    sees_all: bool,
    grants: Vec<GrantCard>,
    decisions: Vec<Decision>,
    lines: Vec<Line>,
    trace: Vec<Reason>,
    policy_version: String,
    policy_changed: bool,
    correlation: String,
    can_decide: bool,
    can_cancel: bool,
    can_ask_again: bool,
    shorter: Vec<(u32, String)>,
    decided: Option<String>,
}

/// Something that is held, or would be.
struct Held {
    title: String,
    entitlement: String,
    until: Option<When>,
    lines: Vec<String>,
    known: bool,
    note: &'static str,
}

/// What the request would change.
struct Change {
    targets: String,
    holds: Vec<Held>,
    gains: Vec<Held>,
}

impl Change {
    fn of(view: &PermissionsView, policy: &PolicySet, now: Timestamp) -> Self {
        let targets: BTreeSet<&str> = view.gains.iter().map(|g| g.target.as_str()).collect();
        let holds = view.holds.iter().map(|h| Held {
            title: title_of(policy, &h.entitlement),
            entitlement: h.entitlement.clone(),
            until: h.not_after.as_deref().map(|t| words::when_of(now, t)),
            lines: parameter_lines(&h.parameters),
            known: true,
            note: "",
        });
        let gains = view.gains.iter().map(|g| Held {
            title: title_of(policy, &g.entitlement),
            entitlement: g.entitlement.clone(),
            until: None,
            lines: parameter_lines(&g.parameters),
            known: g.held || g.standing,
            note: match (g.held, g.standing) {
                (true, _) => "they hold the same already",
                (_, true) => "they are in that group for good",
                _ => "",
            },
        });
        Self {
            targets: targets.into_iter().collect::<Vec<_>>().join(", "),
            holds: holds.collect(),
            gains: gains.collect(),
        }
    }
}

/// Durations that an approver can shorten to.
pub fn shorter_than(seconds: u32) -> Vec<(u32, String)> {
    [900, 1800, 3600, 7200, 14_400, 28_800]
        .into_iter()
        .filter(|s| *s < seconds)
        .map(|s| (s, words::span(u64::from(s))))
        .collect()
}

/// Who decided, for somebody who comes too late.
fn decided(view: &RequestView) -> Option<String> {
    let last = view.decisions.as_ref().and_then(|d| d.last());
    match (view.state, last) {
        (RequestState::Pending, _) => None,
        (RequestState::Approved, Some(by)) => Some(format!("Approved by {}.", by.approver.name)),
        (RequestState::Approved, None) => Some("Granted at once, by policy.".to_owned()),
        (RequestState::Denied, Some(by)) => Some(format!("Denied by {}.", by.approver.name)),
        (RequestState::Denied, None) => Some("Denied.".to_owned()),
        (RequestState::Cancelled, _) => Some("Taken back.".to_owned()),
        (RequestState::Lapsed, _) => Some("Nobody decided in time.".to_owned()),
    }
}

/// `GET /requests/{id}`.
pub async fn handler(
    State(edge): State<Edge>,
    visitor: Visitor,
    PathId(id): PathId<RequestId>,
) -> Result<Response, Problem> {
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let view = broker.request(ctx, id).await?;
    let now = broker.now();
    let policy = broker.policy();
    let card = RequestCard::of(&view, &policy, now);
    let mine = view.requester.id == ctx.actor_id().to_string();
    let pending = view.state == RequestState::Pending;
    let title = format!("{}: {}", card.short, card.titles());
    let page_of = Page {
        frame: visitor.frame(&title, if mine { "/" } else { "/approvals" }).await?,
        about: view.context.as_ref().map(About::of),
        taken: view.taken_up.as_ref().map(|t| Taken::of(t, ctx, now)),
        change: view.permissions.as_ref().map(|p| Change::of(p, &policy, now)),
        policy_now: policy.version().to_owned(),
        sees_all: ctx.sees_everything(),
        grants: view.grants.iter().map(|g| GrantCard::of(g, &policy, ctx, now)).collect(),
        decisions: view.decisions.iter().flatten().map(|d| Decision::of(d, now)).collect(),
        lines: lines(view.timeline.as_deref().unwrap_or_default(), now),
        policy_changed: pending && view.policy_version != policy.version(),
        can_decide: view.can_decide == Some(true),
        can_cancel: pending && (mine || ctx.is_admin()),
        can_ask_again: mine && !pending,
        shorter: shorter_than(view.duration),
        decided: decided(&view),
        trace: view.trace.unwrap_or_default(),
        policy_version: view.policy_version,
        correlation: view.correlation_id,
        card,
    };
    page(&page_of)
}
