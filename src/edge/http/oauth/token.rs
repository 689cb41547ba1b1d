//! `POST /oauth/token`.

use axum::{Json, extract::State, response::IntoResponse};
use http::header;
use serde::{Serialize, Serializer, ser::SerializeStruct};
use utoipa::ToSchema;

use super::{
    client::client,
    form::Form,
    refusal::{Code, Refusal},
};
use crate::{
    broker::{BrokerError, IssuedToken},
    edge::http::{Edge, auth::call, call::carry_through},
};

/// Parameters of a token request.
#[derive(ToSchema)]
#[schema(example = json!({"grant_type": "client_credentials", "client_id": "deploy-bot", "client_secret": "tgs_…"}))]
#[allow(dead_code, reason = "documents a form")]
pub struct TokenForm {
    /// `client_credentials`.
    grant_type: String,
    /// The workload's id or unique name, unless it is in the `Authorization` header.
    client_id: Option<String>,
    /// Its secret, unless it is in the `Authorization` header.
    client_secret: Option<String>,
    /// `tidegate`, or nothing.
    scope: Option<String>,
}

/// An access token (RFC 6749 §5.1).
#[derive(ToSchema)]
#[schema(as = AccessToken, example = json!({"access_token": "eyJ…", "token_type": "Bearer", "expires_in": 3600, "scope": "tidegate"}))]
#[allow(dead_code, reason = "documents what `Once` writes")]
pub struct AccessTokenView {
    /// The token, a JWT (RFC 9068).
    access_token: String,
    /// `Bearer`.
    token_type: String,
    /// Seconds until it stops working.
    expires_in: u32,
    /// What it is good for.
    scope: String,
}

struct Once(IssuedToken);

impl Serialize for Once {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = s.serialize_struct("AccessToken", 4)?;
        out.serialize_field("access_token", self.0.access_token.expose())?;
        out.serialize_field("token_type", "Bearer")?;
        out.serialize_field("expires_in", &self.0.expires_in)?;
        out.serialize_field("scope", &self.0.scope)?;
        out.end()
    }
}

/// Get an access token
///
/// For workloads and agents: `client_credentials`, with the secret in the `Authorization` header (Basic) or in the form.
#[utoipa::path(
    post, path = "/oauth/token", tag = "oauth", operation_id = "issueAccessToken", security(()),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The token", body = AccessTokenView), Refusal)
)]
pub async fn handler(State(edge): State<Edge>, form: Form) -> Result<impl IntoResponse, Refusal> {
    edge.gate.address(call(&form.parts)?.address)?;
    if form.need("grant_type")? != "client_credentials" {
        return Err(Refusal::Coded(Code::UnsupportedGrantType, "only `client_credentials` is issued here".to_owned()));
    }
    let client = client(&form)?.ok_or_else(Refusal::client)?;
    let scope = form.get("scope").map(str::to_owned);
    let issued = carry_through(async move {
        Ok::<_, BrokerError>(edge.broker.client_token(&client.id, client.secret.expose(), scope.as_deref()).await)
    });
    match issued.await? {
        Ok(token) => Ok(([(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], Json(Once(token)))),
        Err(BrokerError::Unauthenticated) => Err(Refusal::client()),
        Err(BrokerError::Invalid { field: "scope", problem }) => Err(Refusal::Coded(Code::InvalidScope, problem)),
        Err(other) => Err(other.into()),
    }
}
