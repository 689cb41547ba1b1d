//! `POST /v1/locks`.

use axum::{Json, extract::State, response::IntoResponse};
use http::{StatusCode, header};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::{
        input::NewLock,
        view::{LockKind, LockView},
    },
    edge::http::{Changes, Edge, auth::Authenticated, body::JsonBody, call::carry_through, problem::Problem},
};

/// A kill switch to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"kind": "identity", "value": "deploy-bot", "reason": "Its key was found in a paste"}))]
pub struct LockInput {
    /// What it falls on.
    kind: LockKind,
    /// Which one: an identity's id or unique name, a target's or entitlement's name.
    value: String,
    /// Why.
    reason: String,
}

/// Let a kill switch fall
///
/// For administrators. Nothing new is granted on it from now on, and what is live begins to end at once.
#[utoipa::path(
    post, path = "/v1/locks", tag = "locks", operation_id = "createLock", request_body = LockInput,
    responses(
        (status = 201, description = "It is in force", body = LockView, headers(("Location" = String, description = "Path of the lock"))),
        Changes
    )
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    JsonBody(body): JsonBody<LockInput>,
) -> Result<impl IntoResponse, Problem> {
    let lock = NewLock { kind: body.kind, value: body.value, reason: body.reason };
    let view = carry_through(async move { edge.broker.lock(&ctx, lock).await }).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, format!("/v1/locks/{}", view.id))], Json(view)))
}
