//! `POST /v1/sources/{source}/tokens`.

use axum::{Json, extract::State, response::IntoResponse};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::NewSourceToken,
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::OptionalBody,
        call::carry_through,
        input::{DurationInput, PathName, optional_ttl},
        problem::Problem,
        v1::tokens::create::{Once, TokenView},
    },
};

/// A token of a source to be.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSourceToken, example = json!({"label": "okta production", "ttl": "365d"}))]
pub struct SourceTokenInput {
    /// What it is for.
    #[serde(default)]
    pub label: Option<String>,
    /// How long it works; a year if it is not said.
    #[serde(default)]
    pub ttl: Option<DurationInput>,
    /// From now on, may the source take over people and groups that are kept here, by their unique names?
    #[serde(default)]
    pub adopts: Option<bool>,
    /// From now on, may the source fill the groups that administer and audit, if it owns them?
    #[serde(default)]
    pub administers: Option<bool>,
}

impl SourceTokenInput {
    /// As the verb wants it.
    pub fn read(self) -> Result<NewSourceToken, Problem> {
        let ttl = optional_ttl(self.ttl, "ttl")?;
        Ok(NewSourceToken { label: self.label, ttl, adopts: self.adopts, administers: self.administers })
    }
}

/// Make a token for a source
///
/// And the source, if there is none of that name. The token is in this answer and in no other; only its hash is kept.
/// Administrators only.
#[utoipa::path(
    post, path = "/v1/sources/{source}/tokens", tag = "directory", operation_id = "createSourceToken",
    params(("source" = String, Path, description = "Name of the source, `okta`")), request_body = SourceTokenInput,
    responses((status = 201, description = "The token, never to be cached", body = TokenView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(source): PathName,
    OptionalBody(body): OptionalBody<SourceTokenInput>,
) -> Result<impl IntoResponse, Problem> {
    let new = body.read()?;
    let made = carry_through(async move { edge.broker.create_source_token(&ctx, &source, new).await });
    Ok((StatusCode::CREATED, Json(Once(made.await?))))
}
