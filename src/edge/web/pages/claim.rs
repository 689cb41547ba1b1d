//! `POST /grants/{id}/credential`: the one page that a secret is ever on. It is an answer to a form, so it has no address
//! that could be shared, kept or opened again.

use askama::Template;
use axum::{extract::State, response::Response};
use http::{HeaderValue, header};

use crate::{
    broker::Handover,
    domain::id::GrantId,
    edge::{
        inbound::{call::carry_through, path::PathId, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page},
            visit::Posted,
            words::{self, When},
        },
    },
};

#[derive(Template)]
#[template(path = "claim.html")]
struct Page<'a> {
    frame: Frame,
    grant: String,
    number: u32,
    public: Vec<(&'a str, String)>,
    secrets: Vec<(&'a str, &'a str)>,
    until: When,
}

/// The hand-over.
pub async fn handler(
    State(edge): State<Edge>,
    PathId(id): PathId<GrantId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let visitor = posted.visitor;
    let (broker, ctx) = (edge.broker.clone(), visitor.ctx.clone());
    let handover = carry_through(async move { broker.claim(&ctx, id).await }).await?;
    let Handover { grant, claim, minted, .. } = &handover;
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let page_of = Page {
        frame: visitor.frame("Your credential", "/").await?,
        grant: grant.to_string(),
        number: claim.number,
        public: minted.public.iter().map(|(name, value)| (name.as_str(), text(value))).collect(),
        secrets: minted.secrets.iter().map(|(name, secret)| (name.as_ref(), secret.expose())).collect(),
        until: words::when(edge.broker.now(), minted.expires_at),
    };
    let mut response = page(&page_of)?;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    Ok(response)
}
