//! `GET /v1/targets/{id}`.

use axum::{Json, extract::State};

use crate::{
    broker::view::TargetView,
    edge::http::{Edge, ReadsOne, auth::Authenticated, input::PathName, problem::Problem},
};

/// Read a target
#[utoipa::path(
    get, path = "/v1/targets/{id}", tag = "targets", operation_id = "getTarget",
    params(("id" = String, Path, description = "Name of the target")),
    responses((status = 200, description = "The target", body = TargetView), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(name): PathName,
) -> Result<Json<TargetView>, Problem> {
    Ok(Json(edge.broker.target(&ctx, &name).await?))
}
