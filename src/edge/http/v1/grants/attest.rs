//! `POST /v1/grants/{id}/attest`.

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

/// An attestation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "The server was wiped, ticket OPS-7"}))]
pub struct Attestation {
    /// Why.
    reason: String,
}

/// Attest that a quarantined grant is gone
///
/// For administrators, when the target cannot be asked any more: a named person says that the access is gone, and why
/// they know. It is kept as the evidence.
#[utoipa::path(
    post, path = "/v1/grants/{id}/attest", tag = "grants", operation_id = "attestGrant",
    params(("id" = String, Path, description = "Id of the grant, `grt_…`")),
    request_body = Attestation,
    responses((status = 200, description = "The grant after it", body = GrantView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<GrantId>,
    JsonBody(body): JsonBody<Attestation>,
) -> Result<Json<GrantView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.attest(&ctx, id, body.reason).await }).await?))
}
