//! `GET /v1/sync/{id}/explain`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    broker::sync_view::ExplainView,
    edge::http::{
        Edge, ReadsOne,
        auth::Authenticated,
        input::{Parameters, PathName},
        problem::Problem,
    },
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Whom {
    /// Whose account, by name or id.
    identity: String,
}

/// Explain an account
///
/// Who makes somebody's account in an application (the sync, their first sign-in, nobody) and by which rule, what it should
/// be now, and how it stands.
#[utoipa::path(
    get, path = "/v1/sync/{id}/explain", tag = "sync", operation_id = "explainAccount",
    params(("id" = String, Path, description = "Name of the application"), Whom),
    responses((status = 200, description = "Why it is as it is", body = ExplainView), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(name): PathName,
    Parameters(whom): Parameters<Whom>,
) -> Result<Json<ExplainView>, Problem> {
    Ok(Json(edge.broker.explain_account(&ctx, &name, &whom.identity).await?))
}
