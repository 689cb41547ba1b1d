//! `POST /v1/tokens`.

use axum::{Json, extract::State, response::IntoResponse};
use http::StatusCode;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use utoipa::ToSchema;

use crate::{
    broker::NewToken,
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::JsonBody,
        call::carry_through,
        input::{DurationInput, optional_ttl},
        problem::Problem,
    },
};

/// A personal token to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewToken, example = json!({"label": "laptop", "ttl": "12h"}))]
pub struct TokenInput {
    /// Id or unique name of the caller, if anything: nobody makes tokens for others.
    #[serde(default)]
    identity: Option<String>,
    /// What it is for, so that it is known later which one to end.
    label: String,
    /// How long it works.
    #[serde(default)]
    ttl: Option<DurationInput>,
}

/// A token, shown this once.
#[derive(ToSchema)]
#[schema(example = json!({"id": "tok_01KVF3T2M8XQ4B7N9D5R6S1W0Z", "token": "tgp_…", "expires_at": "2026-03-02T14:00:00Z"}))]
#[allow(dead_code, reason = "documents what `Once` writes")]
pub struct TokenView {
    /// Its id.
    id: String,
    /// The token itself.
    token: String,
    /// When it stops working.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// A token on its way out, this once.
pub struct Once(pub NewToken);

impl Serialize for Once {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = s.serialize_struct("Token", 3)?;
        out.serialize_field("id", &self.0.id)?;
        out.serialize_field("token", self.0.token.expose())?;
        out.serialize_field("expires_at", &self.0.expires_at)?;
        out.end()
    }
}

/// Make a personal token
///
/// It is in this answer and in no other; only its hash is kept. It ends no later than the one that it was made with.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "directory", operation_id = "createToken", request_body = TokenInput,
    responses((status = 201, description = "The token, never to be cached", body = TokenView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    JsonBody(body): JsonBody<TokenInput>,
) -> Result<impl IntoResponse, Problem> {
    let ttl = optional_ttl(body.ttl, "ttl")?;
    let made = carry_through(async move { edge.broker.create_token(&ctx, body.identity, body.label, ttl).await });
    Ok((StatusCode::CREATED, Json(Once(made.await?))))
}
