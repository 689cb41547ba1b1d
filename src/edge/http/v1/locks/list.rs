//! `GET /v1/locks`.

use axum::{Json, extract::State};

use crate::{
    broker::view::{List, LockView},
    edge::http::{Edge, Reads, auth::Authenticated, problem::Problem},
};

/// List the locks in force
#[utoipa::path(
    get, path = "/v1/locks", tag = "locks", operation_id = "listLocks",
    responses((status = 200, description = "The locks in force", body = List<LockView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
) -> Result<Json<List<LockView>>, Problem> {
    Ok(Json(edge.broker.locks(&ctx).await?))
}
