//! `GET /v1/audit/proof/{event}`.

use axum::{Json, extract::State};

use crate::{
    domain::id::EventId,
    edge::http::{Edge, ReadsOne, auth::Authenticated, input::PathId, problem::Problem},
};

/// Prove that an event is in the log
///
/// The leaf, its index, the sibling hashes up to the root (RFC 6962 §2.1.1), and the signed head that they lead to.
#[utoipa::path(
    get, path = "/v1/audit/proof/{event}", tag = "audit", operation_id = "getProof",
    params(("event" = String, Path, description = "Id of the event, `evt_…`")),
    responses((status = 200, description = "The inclusion proof", body = Object), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(event): PathId<EventId>,
) -> Result<Json<serde_json::Value>, Problem> {
    Ok(Json(edge.broker.proof(&ctx, event).await?))
}
