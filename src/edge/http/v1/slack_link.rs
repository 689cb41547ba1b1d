//! `/v1/identities/{id}/slack-links`. A link is made in the portal, by somebody who has signed in there; here it is seen
//! and taken back.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use http::StatusCode;

use crate::{
    broker::{slack::SlackAccountView, view::List},
    edge::http::{
        Changes, Edge, ReadsOne, auth::Authenticated, call::carry_through, input::PathName, problem::Problem,
    },
};

/// List the Slack accounts that act as an identity
///
/// The caller's own; for administrators and auditors anybody's.
#[utoipa::path(
    get, path = "/v1/identities/{id}/slack-links", tag = "directory", operation_id = "listSlackLinks",
    params(("id" = String, Path, description = "Id (`idn_…`) or unique name; `me` for the caller")),
    responses((status = 200, description = "The accounts", body = List<SlackAccountView>), ReadsOne)
)]
pub async fn list(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(key): PathName,
) -> Result<Json<List<SlackAccountView>>, Problem> {
    Ok(Json(List { items: edge.broker.slack_links(&ctx, &key).await?, next: None }))
}

/// Take a Slack link back
///
/// From now on the account acts for nobody. One's own; for administrators anybody's.
#[utoipa::path(
    delete, path = "/v1/identities/{id}/slack-links/{account}", tag = "directory", operation_id = "unlinkSlack",
    params(
        ("id" = String, Path, description = "Id (`idn_…`) or unique name; `me` for the caller"),
        ("account" = String, Path, description = "Workspace and account, `T….U…`")
    ),
    responses((status = 204, description = "It is taken back"), Changes)
)]
pub async fn unlink(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let Path((key, account)) = path.map_err(|_| Problem::not_found("Slack account"))?;
    carry_through(async move { edge.broker.unlink_slack(&ctx, &key, &account).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
