//! `GET /v1/audit/consistency`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::edge::http::{Edge, ReadsOne, auth::Authenticated, input::Parameters, problem::Problem};

/// Between which checkpoints.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Between {
    /// Size of the earlier checkpoint.
    from: u64,
    /// Size of the later checkpoint; the newest if missing.
    #[serde(default)]
    #[param(required = false)]
    to: Option<u64>,
}

/// Prove that the log only grew
///
/// Two signed heads, and the hashes which show that the later log begins with the earlier one (RFC 6962 §2.1.2).
#[utoipa::path(
    get, path = "/v1/audit/consistency", tag = "audit", operation_id = "getConsistency", params(Between),
    responses((status = 200, description = "The consistency proof", body = Object), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Parameters(between): Parameters<Between>,
) -> Result<Json<serde_json::Value>, Problem> {
    Ok(Json(edge.broker.consistency(&ctx, between.from, between.to).await?))
}
