//! `GET /v1/audit/checkpoints`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    broker::view::List,
    edge::http::{Edge, Reads, auth::Authenticated, input::Parameters, problem::Problem},
};

/// Which checkpoints.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only those of a larger tree than this: a size, or `next` of the page before.
    #[serde(default)]
    #[param(required = false)]
    after: u64,
}

/// List checkpoints
///
/// Signed heads of the audit log that were kept, smallest tree first.
#[utoipa::path(
    get, path = "/v1/audit/checkpoints", tag = "audit", operation_id = "listCheckpoints", params(Which),
    responses((status = 200, description = "Signed notes", body = List<String>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Parameters(which): Parameters<Which>,
) -> Result<Json<List<String>>, Problem> {
    Ok(Json(edge.broker.checkpoints(&ctx, which.after).await?))
}
