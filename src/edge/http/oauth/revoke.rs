//! `POST /oauth/revoke`.

use axum::extract::State;
use http::StatusCode;

use super::{client::caller, form::Form, introspect::TokenReference, refusal::Refusal};
use crate::{
    domain::secret::Secret,
    edge::http::{Edge, call::carry_through},
};

/// End a token
///
/// From now on it is refused (RFC 7009). A token that is unknown, over, or not the caller's is no error.
#[utoipa::path(
    post, path = "/oauth/revoke", tag = "oauth", operation_id = "revokeToken",
    request_body(content = TokenReference, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "It does not work (any more)"), Refusal)
)]
pub async fn handler(State(edge): State<Edge>, form: Form) -> Result<StatusCode, Refusal> {
    let ctx = caller(&edge, &form).await?;
    let token = Secret::new(form.need("token")?.to_owned());
    carry_through(async move { edge.broker.revoke_token(&ctx, token.expose()).await }).await?;
    Ok(StatusCode::OK)
}
