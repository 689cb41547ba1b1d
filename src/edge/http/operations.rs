//! What operators and their machines look at. These need no token and tell nothing about anybody; keep them from the
//! public internet all the same.

use std::sync::atomic::Ordering;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use super::{Edge, Public, problem::Problem};
use crate::broker::Readiness;

/// The OpenAPI 3.1 document
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations", operation_id = "getOpenApi", security(()),
    responses((status = 200, description = "This document", body = Object), Public)
)]
pub async fn openapi(State(edge): State<Edge>) -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "public, max-age=300")], edge.openapi.clone())
        .into_response()
}

/// Is the process alive?
///
/// Looks at nothing else: a broker whose database is down must not be restarted for it.
#[utoipa::path(
    get, path = "/healthz", tag = "operations", operation_id = "getHealth", security(()),
    responses((status = 200, description = "It is", body = String, content_type = "text/plain"), Public)
)]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Is it fit to take calls?
#[utoipa::path(
    get, path = "/readyz", tag = "operations", operation_id = "getReadiness", security(()),
    responses(
        (status = 200, description = "It is", body = Readiness),
        (status = 503, description = "It is not, for these reasons", body = Readiness),
        (status = 500, description = "Problem: `internal`", body = super::problem::ProblemDocument, content_type = "application/problem+json")
    )
)]
pub async fn readyz(State(edge): State<Edge>) -> impl IntoResponse {
    let readiness = edge.broker.ready().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

/// Metrics for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "operations", operation_id = "getMetrics", security(()),
    responses(
        (status = 200, description = "In the text format", body = String, content_type = "text/plain"),
        (status = 404, description = "Problem: `not-found`: metrics are switched off", body = super::problem::ProblemDocument, content_type = "application/problem+json"),
        Public
    )
)]
pub async fn metrics(State(edge): State<Edge>) -> Result<impl IntoResponse, Problem> {
    let handle = edge.prometheus.as_ref().ok_or_else(|| Problem::not_found("metrics"))?;
    let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    metrics::gauge!("tidegate_http_requests_in_flight").set(count(edge.in_flight.load(Ordering::Relaxed)));
    metrics::gauge!("tidegate_http_event_streams").set(count(edge.streams.load(Ordering::Relaxed)));
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()))
}
