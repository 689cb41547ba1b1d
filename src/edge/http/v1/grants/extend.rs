//! `POST /v1/grants/{id}/extend`.

use axum::{Json, extract::State};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    broker::{input::Extend, view::GrantView},
    domain::id::GrantId,
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::JsonBody,
        call::carry_through,
        input::{DurationInput, PathId, body_hash, idempotency_key},
        problem::Problem,
    },
};

/// An extension.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
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
/// A new decision under the policy of this moment; it never reaches beyond what the entitlement allows in all. Without
/// an `Idempotency-Key` every call extends: look at `not_after` before repeating it.
#[utoipa::path(
    post, path = "/v1/grants/{id}/extend", tag = "grants", operation_id = "extendGrant",
    params(
        ("id" = String, Path, description = "Id of the grant, `grt_…`"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters; makes a retry harmless")
    ),
    request_body = Extension,
    responses((status = 200, description = "The grant after it", body = GrantView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<GrantId>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<Extension>,
) -> Result<Json<GrantView>, Problem> {
    let key = idempotency_key(&headers)?;
    let path = format!("/v1/grants/{id}/extend");
    let idempotency = key.map(|key| Ok::<_, Problem>((key, body_hash(&path, &body)?))).transpose()?;
    let extend = Extend { duration: body.duration.ttl("duration")?, reason: body.reason, from: None, idempotency };
    Ok(Json(carry_through(async move { edge.broker.extend(&ctx, id, extend).await }).await?))
}
