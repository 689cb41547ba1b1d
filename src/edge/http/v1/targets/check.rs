//! `POST /v1/targets/{id}/check`.

use axum::{Json, extract::State};

use crate::{
    broker::view::CheckView,
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::{Nothing, OptionalBody},
        call::carry_through,
        input::PathName,
        problem::Problem,
    },
};

/// Check a target
///
/// Is it reachable, and are the rights of the broker there enough? Changes nothing.
#[utoipa::path(
    post, path = "/v1/targets/{id}/check", tag = "targets", operation_id = "checkTarget",
    params(("id" = String, Path, description = "Name of the target")),
    responses((status = 200, description = "What was found", body = CheckView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(name): PathName,
    OptionalBody(_nothing): OptionalBody<Nothing>,
) -> Result<Json<CheckView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.check_target(&ctx, &name).await }).await?))
}
