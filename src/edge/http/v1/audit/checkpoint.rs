//! `GET /v1/audit/checkpoint`.

use axum::{extract::State, response::IntoResponse};
use http::header;

use crate::edge::http::{Edge, Reads, auth::Authenticated, problem::Problem};

/// Read the signed head of the audit log
///
/// A signed note with the size and the root hash of the Merkle tree. Keep it somewhere else: whoever has an old one can
/// prove that nothing before it was changed.
#[utoipa::path(
    get, path = "/v1/audit/checkpoint", tag = "audit", operation_id = "getCheckpoint",
    responses((status = 200, description = "The signed note", body = String, content_type = "text/plain"), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
) -> Result<impl IntoResponse, Problem> {
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], edge.broker.checkpoint(&ctx).await?))
}
