//! `POST /oauth/introspect`.

use axum::{Json, extract::State};
use utoipa::ToSchema;

use super::{client::caller, form::Form, refusal::Refusal};
use crate::edge::http::Edge;

/// Parameters of introspection and revocation.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents a form")]
pub struct TokenReference {
    /// The token.
    token: String,
    /// Ignored: tokens tell what they are.
    token_type_hint: Option<String>,
}

/// Does a token still work?
///
/// For verifiers that want to know before a token's own expiry (RFC 7662). Authenticate as a client or with a bearer
/// token.
#[utoipa::path(
    post, path = "/oauth/introspect", tag = "oauth", operation_id = "introspectToken",
    request_body(content = TokenReference, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "`active`, and the claims if it is", body = Object), Refusal)
)]
pub async fn handler(State(edge): State<Edge>, form: Form) -> Result<Json<serde_json::Value>, Refusal> {
    let ctx = caller(&edge, &form).await?;
    Ok(Json(edge.broker.introspect(&ctx, form.need("token")?).await?))
}
