//! `POST /v1/grants/{id}/release`.

use axum::{Json, extract::State};

use crate::{
    broker::view::GrantView,
    domain::id::GrantId,
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::{Nothing, OptionalBody},
        call::carry_through,
        input::PathId,
        problem::Problem,
    },
};

/// Release a grant
///
/// Its holder does not need it any more. It is revoked at the target and verified; releasing again changes nothing.
#[utoipa::path(
    post, path = "/v1/grants/{id}/release", tag = "grants", operation_id = "releaseGrant",
    params(("id" = String, Path, description = "Id of the grant, `grt_…`")),
    responses((status = 200, description = "The grant after it", body = GrantView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<GrantId>,
    OptionalBody(_nothing): OptionalBody<Nothing>,
) -> Result<Json<GrantView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.release(&ctx, id).await }).await?))
}
