//! `POST /v1/reviews/collisions/resolve`.

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    domain::id::{IdError, IdentityId},
    edge::http::{Changes, Edge, auth::Authenticated, body::JsonBody, call::carry_through, problem::Problem},
};

/// Which collision.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"source": "okta", "identity": "idn_01KGA5MYR00000000000000003"}))]
pub struct Resolution {
    /// Name or id of the source.
    source: String,
    /// Id of the identity that it met.
    identity: String,
}

/// Say that they are one and the same
///
/// For administrators. The identity is the source's from now on, which takes it over when it speaks of it again.
#[utoipa::path(
    post, path = "/v1/reviews/collisions/resolve", tag = "reviews", operation_id = "resolveCollision",
    request_body = Resolution,
    responses((status = 204, description = "It is the source's now"), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    JsonBody(body): JsonBody<Resolution>,
) -> Result<StatusCode, Problem> {
    let id = body.identity.parse::<IdentityId>().map_err(|error: IdError| Problem::input("identity", error))?;
    carry_through(async move { edge.broker.resolve_collision(&ctx, &body.source, id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
