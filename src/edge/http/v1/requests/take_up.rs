//! `POST /v1/requests/{id}/take-up`.

use axum::{Json, extract::State};

use crate::{
    broker::view::RequestView,
    domain::id::RequestId,
    edge::http::{Changes, Edge, auth::Authenticated, call::carry_through, input::PathId, problem::Problem},
};

/// Say that one looks at a request
///
/// For whoever may decide on it: others see it for ten minutes, so that nobody does the same work. Binds nobody.
#[utoipa::path(
    post, path = "/v1/requests/{id}/take-up", tag = "requests", operation_id = "takeUpRequest",
    params(("id" = String, Path, description = "Id of the request, `req_…`")),
    responses((status = 200, description = "The request after it", body = RequestView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<RequestId>,
) -> Result<Json<RequestView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.take_up(&ctx, id).await }).await?))
}
