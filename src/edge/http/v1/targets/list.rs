//! `GET /v1/targets`.

use axum::{Json, extract::State};

use crate::{
    broker::view::{List, TargetView},
    edge::http::{Edge, Reads, auth::Authenticated, problem::Problem},
};

/// List targets
///
/// What each can do, how it is, and which entitlements are on it.
#[utoipa::path(
    get, path = "/v1/targets", tag = "targets", operation_id = "listTargets",
    responses((status = 200, description = "The targets", body = List<TargetView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
) -> Result<Json<List<TargetView>>, Problem> {
    Ok(Json(edge.broker.targets(&ctx).await?))
}
