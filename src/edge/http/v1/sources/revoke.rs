//! `DELETE /v1/sources/{source}/tokens/{id}`.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
};

use crate::{
    domain::id::TokenId,
    edge::http::{Changes, Edge, auth::Authenticated, call::carry_through, problem::Problem},
};

/// Take a token of a source back
///
/// It stops working at once. Administrators only.
#[utoipa::path(
    delete, path = "/v1/sources/{source}/tokens/{id}", tag = "directory", operation_id = "revokeSourceToken",
    params(
        ("source" = String, Path, description = "Name of the source, `okta`"),
        ("id" = String, Path, description = "Id of the token, `tok_…`"),
    ),
    responses((status = 204, description = "It does not work any more"), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode, Problem> {
    // What cannot be read names nothing.
    let Path((source, id)) = path.map_err(|_| Problem::not_found("token"))?;
    let id: TokenId = id.parse().map_err(|_| Problem::not_found("token"))?;
    carry_through(async move { edge.broker.revoke_source_token(&ctx, &source, id).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
