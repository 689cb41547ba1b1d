//! Inbound adapters: parse, call exactly one broker verb, render. They have no rules of their own and never see the
//! store.

pub mod http;
pub mod inbound;
mod scim;

use axum::{Router, middleware};
use bytes::Bytes;

use self::inbound::{
    call,
    metrics::Routes,
    problem::{Kind, Problem},
    state::Shared,
};
pub use self::{
    http::openapi,
    inbound::{EdgeParts, Limits, Rate},
};

/// Every way in, with a fallback that answers 404 as a problem. Serve it with
/// `into_make_service_with_connect_info::<SocketAddr>()`, or all clients share one address.
pub fn router(parts: EdgeParts) -> Router {
    let (router, document) = http::routes();
    let json = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    let scim = scim::templates();
    let templates = document.paths.paths.keys().chain(&scim).map(String::as_str);
    let edge = Shared::new(parts, Routes::new(templates), json);
    router
        .merge(scim::routes())
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_route)
        .layer(middleware::from_fn_with_state(edge.clone(), call::around))
        .with_state(edge)
}

async fn unknown_route() -> Problem {
    Problem::new(Kind::UnknownRoute, "there is nothing at this path; see /openapi.json for what there is")
}

async fn wrong_method() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "this path does not have this method; the `Allow` header lists those it has")
}
