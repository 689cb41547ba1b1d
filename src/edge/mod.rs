//! Inbound adapters: parse, call exactly one broker verb, render. They have no rules of their own and never see the
//! store.

pub mod http;
pub mod inbound;
pub mod slack;

use std::sync::Arc;

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
    router_with(parts, None)
}

/// The same, with the request URLs of Slack.
pub fn router_with(parts: EdgeParts, slack: Option<Arc<slack::Slack>>) -> Router {
    let (mut router, document) = http::routes();
    if let Some(slack) = slack {
        router = router.merge(slack::routes(slack));
    }
    let json = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    let templates = document.paths.paths.keys().map(String::as_str).chain(slack::PATHS);
    let edge = Shared::new(parts, Routes::new(templates), json);
    router
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
