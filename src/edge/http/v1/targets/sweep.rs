//! `POST /v1/targets/{id}/sweep`.

use axum::{Json, extract::State};

use crate::{
    broker::view::SweepView,
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::{Nothing, OptionalBody},
        call::carry_through,
        input::PathName,
        problem::Problem,
    },
};

/// Sweep a target
///
/// Lists what bears our mark there. What has no live grant is revoked and verified; what is missing, or wider or longer
/// than granted, is reported.
#[utoipa::path(
    post, path = "/v1/targets/{id}/sweep", tag = "targets", operation_id = "sweepTarget",
    params(("id" = String, Path, description = "Name of the target")),
    responses((status = 200, description = "What was found, and what became of it", body = SweepView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(name): PathName,
    OptionalBody(_nothing): OptionalBody<Nothing>,
) -> Result<Json<SweepView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.sweep_target(&ctx, &name).await }).await?))
}
