//! `DELETE /v1/groups/{group}/members/{identity}`.

use axum::extract::{Path, State, rejection::PathRejection};
use http::StatusCode;

use crate::edge::http::{Changes, Edge, auth::Authenticated, call::carry_through, problem::Problem};

/// End a standing membership
///
/// For administrators, in groups that are kept here. Temporary memberships end with their grants.
#[utoipa::path(
    delete, path = "/v1/groups/{group}/members/{identity}", tag = "reviews", operation_id = "removeStandingMember",
    params(
        ("group" = String, Path, description = "Id or name of the group"),
        ("identity" = String, Path, description = "Id or unique name of the member")
    ),
    responses((status = 204, description = "It has ended"), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode, Problem> {
    // What cannot be read names nothing.
    let Path((group, identity)) = path.map_err(|_| Problem::not_found("membership"))?;
    carry_through(async move { edge.broker.remove_standing(&ctx, &group, &identity).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
