//! `POST /v1/me/slack-link`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::slack::SlackLinkView,
    edge::http::{Changes, Edge, auth::Authenticated, body::JsonBody, call::carry_through, problem::Problem},
};

/// A code that a Slack account was shown.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"code": "QX7TM-4KZPA-9H2WC-R6EJN", "dry_run": true}))]
pub struct SlackLinkInput {
    /// The code.
    code: String,
    /// Only say which account it is for.
    #[serde(default)]
    dry_run: bool,
}

/// Link a Slack account
///
/// From now on the account acts as the caller. Ask with `dry_run` first, and compare the name with the one in Slack:
/// somebody may have sent you the code of their own account.
#[utoipa::path(
    post, path = "/v1/me/slack-link", tag = "me", operation_id = "linkSlack", request_body = SlackLinkInput,
    responses((status = 200, description = "The account", body = SlackLinkView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    JsonBody(body): JsonBody<SlackLinkInput>,
) -> Result<Json<SlackLinkView>, Problem> {
    let view = carry_through(async move {
        if body.dry_run {
            edge.broker.slack_link_offer(&ctx, &body.code).await
        } else {
            edge.broker.link_slack(&ctx, &body.code).await
        }
    })
    .await?;
    Ok(Json(view))
}
