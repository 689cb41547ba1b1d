//! `DELETE /v1/locks/{id}`.

use axum::{Json, extract::State};

use crate::{
    broker::view::LockView,
    domain::id::LockId,
    edge::http::{Changes, Edge, auth::Authenticated, call::carry_through, input::PathId, problem::Problem},
};

/// Lift a lock
///
/// For administrators. What ended because of it stays ended.
#[utoipa::path(
    delete, path = "/v1/locks/{id}", tag = "locks", operation_id = "liftLock",
    params(("id" = String, Path, description = "Id of the lock, `lck_…`")),
    responses((status = 200, description = "The lock that was lifted", body = LockView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<LockId>,
) -> Result<Json<LockView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.unlock(&ctx, id).await }).await?))
}
