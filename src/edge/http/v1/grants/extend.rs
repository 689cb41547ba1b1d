//! `POST /v1/grants/{id}/extend`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::{input::Extend, view::GrantView},
    domain::id::GrantId,
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::JsonBody,
        call::carry_through,
        input::{DurationInput, PathId},
        problem::Problem,
    },
};

/// An extension.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"duration": "30m", "reason": "The restore still runs"}))]
pub struct Extension {
    /// By how long.
    duration: DurationInput,
    /// Why.
    reason: String,
}

/// Extend a grant
///
/// A new decision under the policy of this moment; it never reaches beyond what the entitlement allows in all. Not
/// repeatable without effect: look at `not_after` before repeating it.
#[utoipa::path(
    post, path = "/v1/grants/{id}/extend", tag = "grants", operation_id = "extendGrant",
    params(("id" = String, Path, description = "Id of the grant, `grt_…`")),
    request_body = Extension,
    responses((status = 200, description = "The grant after it", body = GrantView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<GrantId>,
    JsonBody(body): JsonBody<Extension>,
) -> Result<Json<GrantView>, Problem> {
    let extend = Extend { duration: body.duration.ttl("duration")?, reason: body.reason, from: None };
    Ok(Json(carry_through(async move { edge.broker.extend(&ctx, id, extend).await }).await?))
}
