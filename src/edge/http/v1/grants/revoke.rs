//! `POST /v1/grants/{id}/revoke`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::view::GrantView,
    domain::id::GrantId,
    edge::http::{
        Changes, Edge, auth::Authenticated, body::JsonBody, call::carry_through, input::PathId, problem::Problem,
    },
};

/// A revocation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "Left the on-call team"}))]
pub struct Revocation {
    /// Why.
    reason: String,
}

/// Revoke a grant
///
/// For administrators. It is revoked at the target and verified; revoking again changes nothing.
#[utoipa::path(
    post, path = "/v1/grants/{id}/revoke", tag = "grants", operation_id = "revokeGrant",
    params(("id" = String, Path, description = "Id of the grant, `grt_…`")),
    request_body = Revocation,
    responses((status = 200, description = "The grant after it", body = GrantView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<GrantId>,
    JsonBody(body): JsonBody<Revocation>,
) -> Result<Json<GrantView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.revoke(&ctx, id, body.reason).await }).await?))
}
