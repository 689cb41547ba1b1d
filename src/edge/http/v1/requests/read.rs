//! `GET /v1/requests/{id}`.

use axum::{Json, extract::State};

use crate::{
    broker::view::RequestView,
    domain::id::RequestId,
    edge::http::{Edge, ReadsOne, auth::Authenticated, input::PathId, problem::Problem},
};

/// Read a request
///
/// With its decisions, its timeline and why policy answered as it did.
#[utoipa::path(
    get, path = "/v1/requests/{id}", tag = "requests", operation_id = "getRequest",
    params(("id" = String, Path, description = "Id of the request, `req_…`")),
    responses((status = 200, description = "The request", body = RequestView), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<RequestId>,
) -> Result<Json<RequestView>, Problem> {
    Ok(Json(edge.broker.request(&ctx, id).await?))
}
