//! `GET /v1/entitlements`.

use axum::{Json, extract::State};

use crate::{
    broker::view::{EntitlementView, List},
    edge::http::{Edge, Reads, auth::Authenticated, problem::Problem},
};

/// What can I ask for?
///
/// Each with the verdict that asking now would have, what must hold for it, who approves, and how fast it can be taken
/// back.
#[utoipa::path(
    get, path = "/v1/entitlements", tag = "me", operation_id = "listEntitlements",
    responses((status = 200, description = "What can be asked for", body = List<EntitlementView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
) -> Result<Json<List<EntitlementView>>, Problem> {
    Ok(Json(edge.broker.entitlements(&ctx).await?))
}
