//! `/slack/link`: let a Slack account act as oneself, after comparing; and take that back.

use askama::Template;
use axum::{
    extract::{Path, RawQuery, State, rejection::PathRejection},
    response::Response,
};

use crate::{
    broker::{BrokerError, slack::SlackLinkView},
    edge::{
        inbound::{call::carry_through, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page, see_other},
            visit::{Fields, Posted, Visitor},
        },
    },
};

#[derive(Template)]
#[template(path = "slack_link.html")]
struct Page {
    frame: Frame,
    me: String,
    code: String,
    /// Whom the code is for; without, what is wrong with it.
    found: Result<SlackLinkView, String>,
}

async fn shown(visitor: &Visitor, code: &str, found: Result<SlackLinkView, BrokerError>) -> Result<Response, Problem> {
    let found = match found {
        Ok(view) => Ok(view),
        Err(BrokerError::Invalid { problem, .. }) => Err(problem),
        Err(other) => return Err(other.into()),
    };
    let frame = visitor.frame("Link Slack", "/people").await?;
    page(&Page { frame, me: visitor.ctx.actor.identity.name.clone(), code: code.to_owned(), found })
}

/// `GET /slack/link?code=…`: which account, and the question. Links nothing.
pub async fn ask(State(edge): State<Edge>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let code = Fields::parse(query.unwrap_or_default().as_bytes()).text("code");
    let found = edge.broker.slack_link_offer(&visitor.ctx, &code).await;
    shown(&visitor, &code, found).await
}

/// `POST /slack/link`: the answer.
pub async fn answer(State(edge): State<Edge>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let code = fields.text("code");
    if fields.get("answer") != Some("yes") {
        return see_other("/people/me");
    }
    let (broker, ctx, given) = (edge.broker.clone(), visitor.ctx.clone(), code.clone());
    let linked = carry_through(async move { Ok::<_, BrokerError>(broker.link_slack(&ctx, &given).await) }).await?;
    match linked {
        Ok(_) => see_other("/people/me?said=slack-linked"),
        Err(error) => shown(&visitor, &code, Err(error)).await,
    }
}

/// `POST /people/{id}/slack/{account}/unlink`.
pub async fn unlink(
    State(edge): State<Edge>,
    path: Result<Path<(String, String)>, PathRejection>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Path((key, account)) = path.map_err(|_| Problem::not_found("Slack account"))?;
    let ctx = posted.visitor.ctx;
    let who = edge.broker.identity(&ctx, &key).await?;
    carry_through(async move { edge.broker.unlink_slack(&ctx, &key, &account).await }).await?;
    see_other(&format!("/people/{}?said=slack-unlinked", who.id))
}
