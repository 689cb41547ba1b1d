//! `POST /v1/requests/{id}/deny`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::{input::Decide, view::RequestView},
    domain::id::RequestId,
    edge::http::{
        Changes, Edge, auth::Authenticated, body::JsonBody, call::carry_through, input::PathId, problem::Problem,
    },
};

/// A refusal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"comment": "Use the staging copy instead"}))]
pub struct Denial {
    /// Why not: the requester reads it.
    comment: String,
    /// The `terms` of the request that were looked at: if they changed since, nothing is decided.
    #[serde(default)]
    terms: Option<String>,
}

/// Deny a request
///
/// One refusal ends it.
#[utoipa::path(
    post, path = "/v1/requests/{id}/deny", tag = "requests", operation_id = "denyRequest",
    params(("id" = String, Path, description = "Id of the request, `req_…`")),
    request_body = Denial,
    responses((status = 200, description = "The request after it", body = RequestView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<RequestId>,
    JsonBody(body): JsonBody<Denial>,
) -> Result<Json<RequestView>, Problem> {
    let decide = Decide { comment: body.comment, terms: body.terms, ..Decide::default() };
    Ok(Json(carry_through(async move { edge.broker.deny(&ctx, id, decide).await }).await?))
}
