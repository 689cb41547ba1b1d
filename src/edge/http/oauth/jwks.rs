//! `GET /jwks` and `GET /.well-known/jwks.json`: the same keys at two addresses.

use axum::{Json, extract::State, response::IntoResponse};
use http::header;

use crate::edge::http::{Edge, Public};

/// Keys may be kept this long; new ones are published longer than this before they sign.
const FRESH: &str = "public, max-age=300";

/// Public keys of access tokens
///
/// A JWK Set (RFC 7517 §5): current keys and those that still verify.
#[utoipa::path(
    get, path = "/jwks", tag = "verifiers", operation_id = "getKeys", security(()),
    responses((status = 200, description = "The keys", body = Object), Public)
)]
pub async fn handler(State(edge): State<Edge>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, FRESH)], Json(edge.broker.jwks()))
}

/// Public keys of access tokens, at their well-known address
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "verifiers", operation_id = "getWellKnownKeys", security(()),
    responses((status = 200, description = "The keys", body = Object), Public)
)]
pub async fn well_known(state: State<Edge>) -> impl IntoResponse {
    handler(state).await
}
