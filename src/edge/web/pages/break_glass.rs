//! `/break-glass`: the loud way to ask. What may be asked for, and whether people are needed, is policy's to say as ever; it
//! is recorded as an emergency, everybody concerned is told, and it is looked at again afterwards.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::StatusCode;
use ring::digest;

use crate::{
    broker::{BrokerError, input::Ask, view::Asked},
    domain::{decision::Verdict, time::Ttl},
    edge::{
        inbound::{
            call::carry_through,
            problem::{Kind, Problem},
            state::Edge,
        },
        web::{
            filters,
            frame::{Frame, page_with, see_other},
            marks::RequestCard,
            pages::sign_in,
            visit::{Fields, Posted, Visitor},
        },
    },
};

/// How long it may be expected to last.
const DURATIONS: [(&str, &str); 3] = [("900", "15 min"), ("1800", "30 min"), ("3600", "1 h")];
/// A reason says something.
const LEAST: usize = 15;

#[derive(Template)]
#[template(path = "break_glass.html")]
struct Page {
    frame: Frame,
    choices: Vec<(String, String, bool)>,
    durations: [(&'static str, &'static str); 3],
    duration: String,
    reason: String,
    key: String,
    number: u32,
    trouble: Option<String>,
    before: Vec<RequestCard>,
}

/// The two digits that have to be typed: of this form alone, so that nobody breaks the glass by pressing Enter.
fn number(key: &str, csrf: &str) -> u32 {
    let hash = digest::digest(&digest::SHA256, format!("break glass {csrf} {key}").as_bytes());
    let first = hash.as_ref().iter().take(4).fold(0_u32, |n, b| (n << 8) | u32::from(*b));
    10 + first % 90
}

async fn shown(
    edge: &Edge,
    visitor: &Visitor,
    given: &Fields,
    trouble: Option<(StatusCode, String)>,
) -> Result<Response, Problem> {
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let chosen = given.text("e");
    let all = broker.entitlements(ctx).await?.items;
    // What only has to be written into the form does not stand in the way, and an emergency may open what is closed now.
    let open = all.into_iter().filter(|e| e.verdict != Verdict::Denied || e.sensitivity >= 2);
    let key = edge.entropy.text(16).map_err(BrokerError::from)?.expose().to_owned();
    let policy = broker.policy();
    let before = broker.emergencies(ctx).await?;
    let (status, trouble) = trouble.map_or((StatusCode::OK, None), |(status, text)| (status, Some(text)));
    let page_of = Page {
        frame: visitor.frame("Break glass", "/break-glass").await?,
        choices: open.map(|e| (e.id.clone(), e.title, e.id == chosen)).collect(),
        durations: DURATIONS,
        duration: given.get("duration").unwrap_or("1800").to_owned(),
        reason: given.text("reason"),
        number: number(&key, &visitor.csrf),
        key,
        trouble,
        before: before.iter().map(|r| RequestCard::of(r, &policy, broker.now())).collect(),
    };
    page_with(status, &page_of)
}

/// `GET /break-glass`.
pub async fn open(State(edge): State<Edge>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    shown(&edge, &visitor, &given, None).await
}

/// `POST /break-glass`.
pub async fn send(State(edge): State<Edge>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let wrong = |text: &str| Some((StatusCode::BAD_REQUEST, text.to_owned()));
    let key = fields.text("key");
    if fields.text("number") != number(&key, &visitor.csrf).to_string() {
        let trouble = wrong("The number does not match: type the one that is shown. Nothing was sent.");
        return shown(&edge, &visitor, &fields, trouble).await;
    }
    if fields.text("reason").chars().count() < LEAST {
        let trouble = wrong("Say what happened, in a sentence that others understand tomorrow. Nothing was sent.");
        return shown(&edge, &visitor, &fields, trouble).await;
    }
    let ask = Ask {
        entitlements: fields.all("e"),
        duration: fields.parsed::<Ttl>("duration")?,
        reason: fields.text("reason"),
        ticket: fields.get("ticket").map(str::to_owned),
        emergency: true,
        idempotency: Some((format!("break-glass {key}"), key.clone().into_bytes())),
        ..Ask::default()
    };
    let (broker, ctx) = (edge.broker.clone(), visitor.ctx.clone());
    let asked = carry_through(async move { broker.ask(&ctx, ask).await }).await;
    match asked {
        Ok(Asked::Recorded(view) | Asked::Repeated(view)) => {
            see_other(&format!("/requests/{}?said=emergency", view.id))
        }
        Ok(Asked::Planned(_)) => see_other("/break-glass"),
        // Off to the identity provider, and back here: what was typed is not sent from afar.
        Err(problem) if problem.kind() == Kind::ProveAgain => {
            let e: String = url::form_urlencoded::byte_serialize(fields.text("e").as_bytes()).collect();
            see_other(&sign_in::again_at(&edge, &format!("/break-glass?said=proved-ask&e={e}")))
        }
        Err(problem) if problem.kind().status().is_client_error() => {
            let reasons: Vec<&str> = problem.reasons().iter().map(|r| r.text.as_str()).collect();
            let unmet = problem.conditions().iter().filter(|c| !c.met).map(|c| c.text.as_str());
            let all: Vec<&str> = reasons.into_iter().chain(unmet).collect();
            let text = format!("Nothing was sent: {}. {}", problem.detail(), all.join("; "));
            shown(&edge, &visitor, &fields, Some((problem.kind().status(), text))).await
        }
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_of_one_form_of_one_session() {
        let two_digits = 10..100;
        assert!(two_digits.contains(&number("a", "b")));
        assert_eq!(number("a", "b"), number("a", "b"));
        let many: std::collections::BTreeSet<u32> = (0..50).map(|n| number(&n.to_string(), "b")).collect();
        assert!(many.len() > 20);
    }
}
