//! `/request`: conditions first, then the form, with what would happen before anything is sent.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::StatusCode;
use ring::digest;

use super::catalog::Offer;
use crate::{
    broker::{
        BrokerError,
        input::Ask,
        view::{Asked, PlanView},
    },
    domain::{
        decision::{Condition, Reason, Verdict},
        id::RequestId,
        time::{Timestamp, Ttl},
    },
    edge::{
        inbound::{
            call::carry_through,
            problem::{Kind, Problem},
            state::Edge,
        },
        web::{
            filters,
            frame::{Frame, page_with, see_other},
            marks::Revocation,
            pages::sign_in,
            visit::{Fields, Posted, Visitor},
            words,
        },
    },
};

/// Durations that are offered.
const CHIPS: [(u32, &str); 7] = [
    (900, "15 min"),
    (1800, "30 min"),
    (3600, "1 h"),
    (7200, "2 h"),
    (14_400, "4 h"),
    (28_800, "8 h"),
    (86_400, "1 day"),
];

/// Longest address that one comes back to.
const ADDRESS: usize = 900;

/// What is in the form.
#[derive(Default)]
struct Draft {
    entitlements: Vec<String>,
    duration: String,
    other: String,
    reason: String,
    ticket: String,
    start: String,
    behalf: String,
    emergency: bool,
    key: String,
}

impl Draft {
    fn of(fields: &Fields) -> Self {
        Self {
            entitlements: fields.all("e"),
            duration: fields.text("duration"),
            other: fields.text("other"),
            reason: fields.text("reason"),
            ticket: fields.text("ticket"),
            start: fields.text("start"),
            behalf: fields.text("behalf"),
            emergency: fields.get("emergency").is_some(),
            key: fields.text("key"),
        }
    }

    fn ask(&self, dry_run: bool) -> Result<Ask, Problem> {
        let given = if self.other.is_empty() { &self.duration } else { &self.other };
        let duration: Option<Ttl> = match given.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|e| Problem::input("duration", e))?),
        };
        let idempotency = (!dry_run && !self.key.is_empty()).then(|| (self.key.clone(), self.hash()));
        Ok(Ask {
            entitlements: self.entitlements.clone(),
            duration,
            reason: self.reason.clone(),
            ticket: Some(self.ticket.clone()).filter(|t| !t.is_empty()),
            start_at: start_of(&self.start)?,
            on_behalf_of: Some(self.behalf.clone()).filter(|b| !b.is_empty()),
            emergency: self.emergency,
            dry_run,
            idempotency,
        })
    }

    /// The address of this form as it is filled in, for coming back to it from elsewhere. A long reason has to be
    /// written again.
    fn address(&self, path: &str, said: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("said", said);
        for id in &self.entitlements {
            query.append_pair("e", id);
        }
        let emergency = if self.emergency { "1" } else { "" };
        for (name, value) in [
            ("duration", self.duration.as_str()),
            ("other", &self.other),
            ("ticket", &self.ticket),
            ("start", &self.start),
            ("behalf", &self.behalf),
            ("emergency", emergency),
        ] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        let short = format!("{path}?{}", query.finish());
        let reason: String = url::form_urlencoded::byte_serialize(self.reason.as_bytes()).collect();
        if short.len() + reason.len() < ADDRESS { format!("{short}&reason={reason}") } else { short }
    }

    /// So that the same form sent twice is one request, and a changed one is another.
    fn hash(&self) -> Vec<u8> {
        let mut context = digest::Context::new(&digest::SHA256);
        let emergency = self.emergency.to_string();
        let list = self.entitlements.join("\n");
        for part in
            [&list, &self.duration, &self.other, &self.reason, &self.ticket, &self.start, &self.behalf, &emergency]
        {
            context.update(&part.len().to_be_bytes());
            context.update(part.as_bytes());
        }
        context.finish().as_ref().to_vec()
    }
}

/// `2026-01-31T14:00`, as browsers send it, in UTC.
fn start_of(text: &str) -> Result<Option<Timestamp>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let whole = if text.len() == 16 { format!("{text}:00Z") } else { format!("{}Z", text.trim_end_matches('Z')) };
    whole.parse().map(Some).map_err(|e| Problem::input("start", e))
}

/// What would happen, for people.
struct Plan {
    verdict: Verdict,
    words: String,
    items: Vec<(String, Vec<Condition>, Vec<Reason>, Revocation)>,
    duration: String,
}

impl Plan {
    fn of(view: &PlanView) -> Self {
        let words = match view.verdict {
            Verdict::Auto => "It will be granted at once.".to_owned(),
            Verdict::Approval => format!(
                "It needs {} {} from {}.",
                view.approvals.needed,
                if view.approvals.needed == 1 { "approval" } else { "approvals" },
                view.approvals.from.join(" or ")
            ),
            Verdict::Denied => "It would be refused as it is.".to_owned(),
        };
        let items = view.entitlements.iter();
        Self {
            verdict: view.verdict,
            words,
            items: items
                .map(|e| (e.id.clone(), e.conditions.clone(), e.reasons.clone(), Revocation::of(&e.revocation)))
                .collect(),
            duration: words::span(u64::from(view.duration)),
        }
    }
}

/// What is wrong with the form.
struct Trouble {
    text: String,
    conditions: Vec<Condition>,
    reasons: Vec<Reason>,
}

#[derive(Template)]
#[template(path = "request_form.html")]
struct Page {
    frame: Frame,
    offers: Vec<Offer>,
    unknown: Vec<String>,
    draft: Draft,
    chips: Vec<(u32, &'static str, bool)>,
    longest: String,
    /// Who asks for this must have signed in within this time, and did so longer ago: where that is done.
    prove: Option<(String, String)>,
    plan: Option<Plan>,
    trouble: Option<Trouble>,
    again: bool,
}

async fn shown(
    edge: &Edge,
    visitor: &Visitor,
    mut draft: Draft,
    outcome: Result<Option<PlanView>, Problem>,
    again: bool,
) -> Result<Response, Problem> {
    let policy = edge.broker.policy();
    let all = edge.broker.entitlements(&visitor.ctx).await?.items;
    let (mut offers, mut unknown) = (Vec::new(), Vec::new());
    for id in &draft.entitlements {
        match all.iter().find(|e| e.id == *id) {
            Some(view) => offers.push(Offer::of(view, &policy)),
            None => unknown.push(id.clone()),
        }
    }
    if draft.key.is_empty() {
        let key = edge.entropy.text(16).map_err(BrokerError::from)?;
        key.expose().clone_into(&mut draft.key);
    }
    let longest = offers.iter().map(|o| o.max_ttl).min().unwrap_or(86_400);
    let usual = offers.iter().map(|o| o.default_ttl).min().unwrap_or(3600).min(longest);
    let chosen = draft.duration.parse::<Ttl>().map_or(usual, Ttl::seconds);
    let mut chips: Vec<(u32, &'static str, bool)> =
        CHIPS.iter().filter(|(s, _)| *s <= longest).map(|&(s, text)| (s, text, s == chosen)).collect();
    if !chips.iter().any(|c| c.2) {
        if draft.other.is_empty() && chosen <= longest {
            draft.other = Ttl::seconds_or_one(chosen).to_string();
        } else if let Some(last) = chips.last_mut() {
            last.2 = true;
        }
    }
    let within = match &outcome {
        Ok(Some(plan)) => plan.step_up,
        _ => offers.iter().filter_map(|o| o.step_up).min(),
    };
    let within = within.map(Ttl::seconds_or_one).filter(|within| visitor.ctx.proved_within(*within).is_err());
    let prove = within.map(|within| {
        let back = draft.address("/request", "proved-ask");
        (words::span(u64::from(within.seconds())), sign_in::again_at(edge, &back))
    });
    let (plan, trouble) = match outcome {
        Ok(plan) => (plan.as_ref().map(Plan::of), None),
        Err(problem) => {
            if problem.cause().is_some() {
                return Err(problem);
            }
            let trouble = Trouble {
                text: problem.detail().to_owned(),
                conditions: problem.conditions().to_vec(),
                reasons: problem.reasons().to_vec(),
            };
            (None, Some((problem.kind().status(), trouble)))
        }
    };
    let (status, trouble) = trouble.map_or((StatusCode::OK, None), |(status, t)| (status, Some(t)));
    let page_of = Page {
        frame: visitor.frame("Ask for access", "/catalog").await?,
        offers,
        unknown,
        draft,
        chips,
        longest: words::span(u64::from(longest)),
        prove,
        plan,
        trouble,
        again,
    };
    page_with(status, &page_of)
}

/// `GET /request?e=…`, or `?again=req_…` for the same once more.
pub async fn open(State(edge): State<Edge>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    if let Some(id) = given.get("again") {
        let id: RequestId = id.parse().map_err(|_| Problem::not_found("request"))?;
        let before = edge.broker.request(&visitor.ctx, id).await?;
        let draft = Draft {
            entitlements: before.entitlements,
            duration: before.duration.to_string(),
            reason: before.reason,
            ticket: before.ticket.unwrap_or_default(),
            behalf: if before.subject.id == before.requester.id { String::new() } else { before.subject.name },
            ..Draft::default()
        };
        return shown(&edge, &visitor, draft, Ok(None), true).await;
    }
    // An address may fill the form in; only its reader sends it.
    let draft = Draft { key: String::new(), ..Draft::of(&given) };
    if draft.entitlements.is_empty() {
        return see_other("/catalog");
    }
    shown(&edge, &visitor, draft, Ok(None), false).await
}

/// `POST /request`: check, or send.
pub async fn send(State(edge): State<Edge>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let draft = Draft::of(&fields);
    let dry_run = fields.get("do") == Some("check");
    let asked = match draft.ask(dry_run) {
        Ok(ask) => {
            let (broker, ctx) = (edge.broker.clone(), visitor.ctx.clone());
            carry_through(async move { broker.ask(&ctx, ask).await }).await
        }
        Err(problem) => Err(problem),
    };
    match asked {
        Ok(Asked::Recorded(view) | Asked::Repeated(view)) => see_other(&format!("/requests/{}?said=asked", view.id)),
        Ok(Asked::Planned(plan)) => shown(&edge, &visitor, draft, Ok(Some(plan)), false).await,
        // Off to the identity provider, and back to the form as it was: nothing is sent from afar.
        Err(problem) if problem.kind() == Kind::ProveAgain => {
            see_other(&sign_in::again_at(&edge, &draft.address("/request", "proved-ask")))
        }
        Err(problem) => shown(&edge, &visitor, draft, Err(problem), false).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_as_browsers_send_them() {
        let start = |text| start_of(text).map(|t| t.map(|t| t.to_string())).map_err(|p| p.kind());
        assert_eq!(start(""), Ok(None));
        assert_eq!(start("2026-01-31T14:00"), Ok(Some("2026-01-31T14:00:00Z".to_owned())));
        assert_eq!(start("2026-01-31T14:00:30"), Ok(Some("2026-01-31T14:00:30Z".to_owned())));
        assert!(start("tomorrow").is_err());
    }

    #[test]
    fn another_form_has_another_hash() {
        let draft = |reason: &str, ticket: &str| Draft {
            reason: reason.to_owned(),
            ticket: ticket.to_owned(),
            ..Draft::default()
        };
        assert_eq!(draft("a", "b").hash(), draft("a", "b").hash());
        assert_ne!(draft("ab", "").hash(), draft("a", "b").hash());
    }
}
