//! `/system`: whether the broker is fit, how far it is behind the clock, how its targets are, and its keys and version.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};

use crate::{
    broker::view::{CheckView, TargetView},
    edge::{
        inbound::{call::carry_through, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page},
            visit::{Posted, Visitor},
            words,
        },
    },
    ports::connector::Finding,
};

#[derive(Template)]
#[template(path = "system.html")]
struct Page {
    frame: Frame,
    ready: bool,
    checks: Vec<Finding>,
    quarantined: u64,
    oldest: Option<String>,
    due: Vec<(String, u64)>,
    targets: Vec<TargetView>,
    checked: Option<CheckView>,
    version: &'static str,
    key: String,
    head: String,
    admin: bool,
}

async fn shown(edge: &Edge, visitor: &Visitor, checked: Option<CheckView>) -> Result<Response, Problem> {
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let (head, _) = broker.signed_head(ctx).await.or_else(|error| match error {
        crate::broker::BrokerError::NotFound(_) => Ok((String::new(), 0)),
        other => Err(other),
    })?;
    let (readiness, late) = (broker.ready().await, broker.late().await?);
    let page_of = Page {
        frame: visitor.frame("System", "/system").await?,
        ready: readiness.ready,
        checks: readiness.checks,
        quarantined: late.quarantined,
        oldest: (!late.oldest.is_zero()).then(|| words::span(late.oldest.as_secs().max(1))),
        due: late.due.into_iter().collect(),
        targets: broker.targets(ctx).await?.items,
        checked,
        version: env!("CARGO_PKG_VERSION"),
        key: broker.verifier_key(),
        head,
        admin: ctx.is_admin(),
    };
    page(&page_of)
}

/// `GET /system`: for administrators and auditors.
pub async fn handler(State(edge): State<Edge>, visitor: Visitor) -> Result<Response, Problem> {
    shown(&edge, &visitor, None).await
}

/// `POST /system/targets/{id}/check`: ask the target now. Changes nothing there.
pub async fn check(State(edge): State<Edge>, Path(id): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let visitor = posted.visitor;
    let (broker, ctx) = (edge.broker.clone(), visitor.ctx.clone());
    let found = carry_through(async move { broker.check_target(&ctx, &id).await }).await?;
    shown(&edge, &visitor, Some(found)).await
}
