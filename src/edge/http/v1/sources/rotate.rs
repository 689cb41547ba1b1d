//! `POST /v1/sources/{source}/rotate`.

use axum::{Json, extract::State, response::IntoResponse};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::edge::http::{
    Changes, Edge,
    auth::Authenticated,
    body::OptionalBody,
    call::carry_through,
    input::{DurationInput, PathName, optional_ttl},
    problem::Problem,
    v1::{
        sources::create::SourceTokenInput,
        tokens::create::{Once, TokenView},
    },
};

/// A rotation.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RotateSourceToken, example = json!({"overlap": "1h"}))]
pub struct RotateInput {
    /// What the new token is for.
    #[serde(default)]
    label: Option<String>,
    /// How long the new token works; a year if it is not said.
    #[serde(default)]
    ttl: Option<DurationInput>,
    /// How long the former tokens go on working; an hour if it is not said.
    #[serde(default)]
    overlap: Option<DurationInput>,
    /// The former tokens stop working now.
    #[serde(default)]
    at_once: bool,
}

/// Rotate the tokens of a source
///
/// A new token; the former ones go on working for a while, so that it can be changed at the source without a gap.
/// Administrators only.
#[utoipa::path(
    post, path = "/v1/sources/{source}/rotate", tag = "directory", operation_id = "rotateSourceToken",
    params(("source" = String, Path, description = "Name of the source, `okta`")), request_body = RotateInput,
    responses((status = 201, description = "The token, never to be cached", body = TokenView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(source): PathName,
    OptionalBody(body): OptionalBody<RotateInput>,
) -> Result<impl IntoResponse, Problem> {
    let overlap = optional_ttl(body.overlap, "overlap")?;
    let new = SourceTokenInput { label: body.label, ttl: body.ttl, ..SourceTokenInput::default() }.read()?;
    let at_once = body.at_once;
    let made =
        carry_through(async move { edge.broker.rotate_source_token(&ctx, &source, new, overlap, at_once).await });
    Ok((StatusCode::CREATED, Json(Once(made.await?))))
}
