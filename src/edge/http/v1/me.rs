//! `GET /v1/me`.

use axum::{Json, extract::State};

use crate::{
    broker::view::MeView,
    edge::http::{Edge, Reads, auth::Authenticated, problem::Problem},
};

/// Who am I?
///
/// The caller, with groups, roles and the grants that are not final.
#[utoipa::path(
    get, path = "/v1/me", tag = "me", operation_id = "getMe",
    responses((status = 200, description = "The caller", body = MeView), Reads)
)]
pub async fn handler(State(edge): State<Edge>, Authenticated(ctx): Authenticated) -> Result<Json<MeView>, Problem> {
    Ok(Json(edge.broker.me(&ctx).await?))
}
