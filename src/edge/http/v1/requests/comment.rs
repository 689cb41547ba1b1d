//! `POST /v1/requests/{id}/comment`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::view::RequestView,
    domain::id::RequestId,
    edge::http::{
        Changes, Edge, auth::Authenticated, body::JsonBody, call::carry_through, input::PathId, problem::Problem,
    },
};

/// Something to say about a request.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"comment": "Which order is it?"}))]
pub struct Comment {
    /// Everybody who may see the request reads it; it stays in the log.
    comment: String,
}

/// Say something about a request
///
/// For whoever may see it, decided or not. Decides nothing.
#[utoipa::path(
    post, path = "/v1/requests/{id}/comment", tag = "requests", operation_id = "commentRequest",
    params(("id" = String, Path, description = "Id of the request, `req_…`")),
    request_body = Comment,
    responses((status = 200, description = "The request after it", body = RequestView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<RequestId>,
    JsonBody(body): JsonBody<Comment>,
) -> Result<Json<RequestView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.comment(&ctx, id, body.comment).await }).await?))
}
