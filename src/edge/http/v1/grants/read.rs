//! `GET /v1/grants/{id}`.

use axum::{Json, extract::State};

use crate::{
    broker::view::GrantView,
    domain::id::GrantId,
    edge::http::{Edge, ReadsOne, auth::Authenticated, input::PathId, problem::Problem},
};

/// Read a grant
///
/// What was decided, what the target reported when it was opened, and what it answered when it was asked whether the
/// access is gone.
#[utoipa::path(
    get, path = "/v1/grants/{id}", tag = "grants", operation_id = "getGrant",
    params(("id" = String, Path, description = "Id of the grant, `grt_…`")),
    responses((status = 200, description = "The grant", body = GrantView), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<GrantId>,
) -> Result<Json<GrantView>, Problem> {
    Ok(Json(edge.broker.grant(&ctx, id).await?))
}
