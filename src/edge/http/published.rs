//! `GET /published/{target}/{name}`: what the verifiers at a target fetch, without a token: revocation lists, public
//! keys. Nothing here is secret.

use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode, header};

use super::{Edge, Public, problem::Problem};

/// Fetch a file for verifiers
///
/// By target and name: `krl`, `ca.pub`. Ask with `If-None-Match` to fetch it only when it has changed.
#[utoipa::path(
    get, path = "/published/{target}/{name}", tag = "verifiers", operation_id = "getPublication", security(()),
    params(("target" = String, Path, description = "Name of the target"), ("name" = String, Path, description = "Name of the file")),
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 304, description = "It has not changed"),
        (status = 404, description = "Problem: `not-found`", body = super::problem::ProblemDocument, content_type = "application/problem+json"),
        Public
    )
)]
pub async fn handler(
    State(edge): State<Edge>,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // What cannot be read names nothing.
    let Path((target, name)) = path.map_err(|_| Problem::not_found("publication"))?;
    let file = edge.broker.publication(&target, &name).await.ok_or_else(|| Problem::not_found("publication"))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &file.body);
    let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest.as_ref()));
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok());
    let caching = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if known.is_some_and(|list| list.split(',').any(|t| t.trim().trim_start_matches("W/") == tag)) {
        return Ok((StatusCode::NOT_MODIFIED, caching).into_response());
    }
    Ok((caching, [(header::CONTENT_TYPE, file.content_type)], file.body).into_response())
}
