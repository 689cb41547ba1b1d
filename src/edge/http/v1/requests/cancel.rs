//! `POST /v1/requests/{id}/cancel`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::view::RequestView,
    domain::id::RequestId,
    edge::http::{
        Changes, Edge, auth::Authenticated, body::OptionalBody, call::carry_through, input::PathId, problem::Problem,
    },
};

/// A request taken back.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({"comment": "Not needed any more"}))]
pub struct Cancellation {
    /// Why.
    comment: String,
}

/// Cancel a request
///
/// For the requester, while it is pending.
#[utoipa::path(
    post, path = "/v1/requests/{id}/cancel", tag = "requests", operation_id = "cancelRequest",
    params(("id" = String, Path, description = "Id of the request, `req_…`")),
    request_body = Option<Cancellation>,
    responses((status = 200, description = "The request after it", body = RequestView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<RequestId>,
    OptionalBody(body): OptionalBody<Cancellation>,
) -> Result<Json<RequestView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.cancel(&ctx, id, body.comment).await }).await?))
}
