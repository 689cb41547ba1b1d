//! Approve, deny, take back.

use axum::{extract::State, response::Response};

use crate::{
    broker::input::Decide,
    domain::{id::RequestId, time::Ttl},
    edge::{
        inbound::{
            call::carry_through,
            path::PathId,
            problem::{Kind, Problem},
            state::Edge,
        },
        web::{
            frame::see_other,
            pages::sign_in,
            visit::{Fields, Posted},
        },
    },
};

/// Most requests that are denied with one form.
const AT_ONCE: usize = 100;

/// What was decided on is what the form showed: it says so, or nothing is decided.
fn decision(fields: &Fields) -> Result<Decide, Problem> {
    let terms = fields.get("terms").map(str::to_owned);
    let terms = terms.ok_or_else(|| Problem::input("terms", "is missing: open the request again and decide there"))?;
    let (comment, duration) = (fields.text("comment"), fields.parsed::<Ttl>("duration")?);
    Ok(Decide { comment, duration, terms: Some(terms), confirmed: true })
}

/// Back to where the form was, if that is the list; else to the request.
fn back(fields: &Fields, id: RequestId, said: &str) -> Result<Response, Problem> {
    if fields.get("back") == Some("approvals") {
        return see_other(&format!("/approvals?said={said}"));
    }
    see_other(&format!("/requests/{id}?said={said}"))
}

/// `POST /requests/{id}/approve`.
pub async fn approve(
    State(edge): State<Edge>,
    PathId(id): PathId<RequestId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let decide = decision(&fields)?;
    let broker = edge.broker.clone();
    match carry_through(async move { broker.approve(&visitor.ctx, id, decide).await }).await {
        Ok(_) => {}
        // Off to the identity provider, and back to the terms: what was typed is not decided on from afar.
        Err(problem) if problem.kind() == Kind::ProveAgain => {
            return see_other(&sign_in::again_at(&edge, &format!("/requests/{id}?said=proved")));
        }
        Err(problem) => return Err(problem),
    }
    back(&fields, id, "approved")
}

/// `POST /requests/{id}/deny`.
pub async fn deny(
    State(edge): State<Edge>,
    PathId(id): PathId<RequestId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let decide = Decide { duration: None, ..decision(&fields)? };
    carry_through(async move { edge.broker.deny(&visitor.ctx, id, decide).await }).await?;
    back(&fields, id, "denied")
}

/// `POST /requests/{id}/cancel`.
pub async fn cancel(
    State(edge): State<Edge>,
    PathId(id): PathId<RequestId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let comment = fields.text("comment");
    carry_through(async move { edge.broker.cancel(&visitor.ctx, id, comment).await }).await?;
    see_other(&format!("/requests/{id}?said=cancelled"))
}

/// `POST /requests/{id}/take-up`: others see that one looks at it.
pub async fn take_up(
    State(edge): State<Edge>,
    PathId(id): PathId<RequestId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    carry_through(async move { edge.broker.take_up(&visitor.ctx, id).await }).await?;
    back(&fields, id, "taken-up")
}

/// `POST /requests/{id}/comment`.
pub async fn comment(
    State(edge): State<Edge>,
    PathId(id): PathId<RequestId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let text = fields.text("comment");
    carry_through(async move { edge.broker.comment(&visitor.ctx, id, text).await }).await?;
    see_other(&format!("/requests/{id}?said=commented"))
}

/// `POST /approvals/deny`: several at once, each on its own. One that somebody else decided meanwhile harms no other.
pub async fn deny_many(State(edge): State<Edge>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let decide = Decide { comment: fields.text("comment"), ..Decide::default() };
    let mut late = 0_u32;
    let mut asked = 0_u32;
    for id in fields.all("id").into_iter().take(AT_ONCE) {
        asked += 1;
        let Ok(id) = id.parse::<RequestId>() else {
            late += 1;
            continue;
        };
        let (edge, ctx, decide) = (edge.clone(), visitor.ctx.clone(), decide.clone());
        if carry_through(async move { edge.broker.deny(&ctx, id, decide).await }).await.is_err() {
            late += 1;
        }
    }
    see_other(match (asked, late) {
        (0, _) => "/approvals",
        (_, 0) => "/approvals?said=denied-all",
        (all, some) if some < all => "/approvals?said=denied-some",
        _ => "/approvals?said=denied-none",
    })
}
