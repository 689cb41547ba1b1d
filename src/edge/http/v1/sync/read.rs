//! `GET /v1/sync/{id}`.

use axum::{Json, extract::State};

use crate::{
    broker::sync_view::SyncView,
    edge::http::{Edge, ReadsOne, auth::Authenticated, input::PathName, problem::Problem},
};

/// Read an application or source
#[utoipa::path(
    get, path = "/v1/sync/{id}", tag = "sync", operation_id = "getSync",
    params(("id" = String, Path, description = "Name of the application or source")),
    responses((status = 200, description = "How it stands", body = SyncView), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(name): PathName,
) -> Result<Json<SyncView>, Problem> {
    Ok(Json(edge.broker.sync_view(&ctx, &name).await?))
}
