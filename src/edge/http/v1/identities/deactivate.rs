//! `POST /v1/identities/{id}/deactivate`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::view::IdentityView,
    domain::id::IdentityId,
    edge::http::{
        Changes, Edge, auth::Authenticated, body::JsonBody, call::carry_through, input::PathId, problem::Problem,
    },
};

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "dormant"}))]
pub struct Deactivation {
    /// For the log.
    reason: String,
}

/// Deactivate an identity
///
/// For administrators, and only what is kept here: an account that a source owns is deactivated there. Everything that it
/// holds ends.
#[utoipa::path(
    post, path = "/v1/identities/{id}/deactivate", tag = "directory", operation_id = "deactivateIdentity",
    params(("id" = String, Path, description = "Id of the identity, `idn_…`")),
    request_body = Deactivation,
    responses((status = 200, description = "The identity after it", body = IdentityView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<IdentityId>,
    JsonBody(body): JsonBody<Deactivation>,
) -> Result<Json<IdentityView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.deactivate_identity(&ctx, id, &body.reason).await }).await?))
}
