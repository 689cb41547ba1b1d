//! Inbound adapters: parse, call exactly one broker verb, render. They have no rules of their own and never see the
//! store.

pub mod http;
pub mod inbound;
mod scim;
pub mod slack;
pub mod web;

use std::sync::Arc;

use ::http::{HeaderMap, Method, header};
use axum::{
    Router,
    extract::{Request, State},
    middleware,
    response::{IntoResponse, Response},
};
use bytes::Bytes;

use self::inbound::{
    call,
    metrics::Routes,
    problem::{Kind, Problem},
    state::{Edge, Shared},
};
pub use self::{
    http::openapi,
    inbound::{EdgeParts, Limits, Portal, Rate},
    web::paths as web_paths,
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
    let scim = scim::templates();
    let templates =
        document.paths.paths.keys().chain(&scim).map(String::as_str).chain(web::paths()).chain(slack::PATHS);
    let edge = Shared::new(parts, Routes::new(templates), json);
    let router = if edge.portal.is_on() { router.merge(web::routes(&edge)) } else { router };
    router
        .merge(scim::routes())
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_route)
        .layer(middleware::from_fn_with_state(edge.clone(), call::around))
        .with_state(edge)
}

async fn unknown_route(State(edge): State<Edge>, request: Request) -> Response {
    if edge.portal.is_on() && request.method() == Method::GET && wants_a_page(request.headers()) {
        return web::unknown(&edge, request.uri().path());
    }
    let problem =
        Problem::new(Kind::UnknownRoute, "there is nothing at this path; see /openapi.json for what there is");
    problem.into_response()
}

/// Browsers ask for HTML by name.
fn wants_a_page(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|text| text.contains("text/html"))
}

async fn wrong_method() -> Problem {
    Problem::new(Kind::MethodNotAllowed, "this path does not have this method; the `Allow` header lists those it has")
}
