//! `GET /v1/sync`.

use axum::{Json, extract::State};

use crate::{
    broker::{sync_view::SyncView, view::List},
    edge::http::{Edge, Reads, auth::Authenticated, problem::Problem},
};

/// List applications and sources
///
/// For administrators and auditors: how the accounts stand, and what the latest run came to.
#[utoipa::path(
    get, path = "/v1/sync", tag = "sync", operation_id = "listSync",
    responses((status = 200, description = "Applications, then sources", body = List<SyncView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
) -> Result<Json<List<SyncView>>, Problem> {
    Ok(Json(List { items: edge.broker.syncs(&ctx).await?, next: None }))
}
