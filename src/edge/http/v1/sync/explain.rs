//! `GET /v1/sync/{id}/explain/{identity}`.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};

use crate::{
    broker::sync_view::ExplainView,
    edge::http::{Edge, ReadsOne, auth::Authenticated, problem::Problem},
};

/// Explain an account
///
/// Who makes somebody's account in an application (the sync, their first sign-in, nobody) and by which rule, what it should
/// be now, and how it stands.
#[utoipa::path(
    get, path = "/v1/sync/{id}/explain/{identity}", tag = "sync", operation_id = "explainAccount",
    params(
        ("id" = String, Path, description = "Name of the application"),
        ("identity" = String, Path, description = "Whose account, by unique name or id")
    ),
    responses((status = 200, description = "Why it is as it is", body = ExplainView), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Json<ExplainView>, Problem> {
    // What cannot be read names nothing.
    let Path((name, identity)) = path.map_err(|_| Problem::not_found("account"))?;
    Ok(Json(edge.broker.explain_account(&ctx, &name, &identity).await?))
}
