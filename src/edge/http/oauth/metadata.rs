//! `GET /.well-known/oauth-authorization-server` (RFC 8414).

use axum::{Json, extract::State, response::IntoResponse};
use http::header;
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::http::{Edge, Public};

/// What this authorization server can do.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuthorizationServer)]
pub struct Metadata {
    /// Goes into `iss`.
    issuer: String,
    /// Where tokens are issued.
    token_endpoint: String,
    /// Where tokens are looked up.
    introspection_endpoint: String,
    /// Where tokens are ended.
    revocation_endpoint: String,
    /// Where the keys are.
    jwks_uri: String,
    /// Where the API is described.
    service_documentation: String,
    grant_types_supported: [&'static str; 1],
    /// Empty: there is no authorization endpoint.
    response_types_supported: [&'static str; 0],
    scopes_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: [&'static str; 2],
    introspection_endpoint_auth_methods_supported: [&'static str; 2],
    revocation_endpoint_auth_methods_supported: [&'static str; 2],
}

impl Metadata {
    fn of(issuer: &str) -> Self {
        let base = issuer.trim_end_matches('/');
        let by_secret = ["client_secret_basic", "client_secret_post"];
        Self {
            issuer: issuer.to_owned(),
            token_endpoint: format!("{base}/oauth/token"),
            introspection_endpoint: format!("{base}/oauth/introspect"),
            revocation_endpoint: format!("{base}/oauth/revoke"),
            jwks_uri: format!("{base}/.well-known/jwks.json"),
            service_documentation: format!("{base}/openapi.json"),
            grant_types_supported: ["client_credentials"],
            response_types_supported: [],
            scopes_supported: ["tidegate"],
            token_endpoint_auth_methods_supported: by_secret,
            introspection_endpoint_auth_methods_supported: by_secret,
            revocation_endpoint_auth_methods_supported: by_secret,
        }
    }
}

/// Metadata of the authorization server
#[utoipa::path(
    get, path = "/.well-known/oauth-authorization-server", tag = "oauth", operation_id = "getAuthorizationServer",
    security(()),
    responses((status = 200, description = "Where everything is", body = Metadata), Public)
)]
pub async fn handler(State(edge): State<Edge>) -> impl IntoResponse {
    ([(header::CACHE_CONTROL, "public, max-age=300")], Json(Metadata::of(edge.broker.issuer())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hang_on_the_issuer() {
        insta::assert_json_snapshot!(Metadata::of("https://tidegate.example"));
    }
}
