//! `DELETE /v1/tokens/{id}`.

use axum::{extract::State, http::StatusCode};

use crate::{
    domain::id::TokenId,
    edge::http::{Changes, Edge, auth::Authenticated, call::carry_through, input::PathId, problem::Problem},
};

/// End a token
///
/// One's own; administrators end anybody's, personal tokens and client secrets alike.
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "directory", operation_id = "endToken",
    params(("id" = String, Path, description = "Id of the token, `tok_…`")),
    responses((status = 204, description = "It does not work any more"), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<TokenId>,
) -> Result<StatusCode, Problem> {
    carry_through(async move { edge.broker.end_token(&ctx, id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
