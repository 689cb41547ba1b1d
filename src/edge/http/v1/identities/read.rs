//! `GET /v1/identities/{id}`.

use axum::{Json, extract::State};

use crate::{
    broker::view::IdentityView,
    edge::http::{Edge, ReadsOne, auth::Authenticated, input::PathName, problem::Problem},
};

/// Read an identity
#[utoipa::path(
    get, path = "/v1/identities/{id}", tag = "directory", operation_id = "getIdentity",
    params(("id" = String, Path, description = "Id (`idn_…`) or unique name; `me` for the caller")),
    responses((status = 200, description = "The identity", body = IdentityView), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(key): PathName,
) -> Result<Json<IdentityView>, Problem> {
    Ok(Json(edge.broker.identity(&ctx, &key).await?))
}
