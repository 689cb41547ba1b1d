//! SCIM 2.0 service provider under `/scim/v2` (RFC 7643, 7644, 9865): parse, call one verb, render. Everything here is
//! answered as `application/scim+json`, refusals too; the call middleware sees to those.

mod answer;
mod bulk;
mod caller;
mod discovery;
mod groups;
mod me;
mod search;
mod users;

use axum::{
    Router,
    routing::{MethodRouter, any, get, post},
};

use crate::edge::inbound::Edge;

/// Path that all of it is under.
pub const PREFIX: &str = "/scim/v2";

/// Paths and their methods; each is there with a slash at its end too.
fn paths() -> Vec<(&'static str, MethodRouter<Edge>)> {
    vec![
        ("/Users", get(users::list).post(users::create)),
        ("/Users/.search", post(users::search)),
        ("/Users/{id}", get(users::read).put(users::replace).patch(users::change).delete(users::delete)),
        ("/Groups", get(groups::list).post(groups::create)),
        ("/Groups/.search", post(groups::search)),
        ("/Groups/{id}", get(groups::read).put(groups::replace).patch(groups::change).delete(groups::delete)),
        ("/Bulk", post(bulk::bulk)),
        ("/Me", any(me::me)),
        ("/.search", post(search::search)),
        ("/ServiceProviderConfig", get(discovery::config)),
        ("/ResourceTypes", get(discovery::resource_types)),
        ("/ResourceTypes/{id}", get(discovery::resource_type)),
        ("/Schemas", get(discovery::schemas)),
        ("/Schemas/{id}", get(discovery::schema)),
        ("", get(search::list)),
    ]
}

/// All of it.
pub(super) fn routes() -> Router<Edge> {
    paths().into_iter().fold(Router::new(), |router, (path, methods)| {
        router.route(&format!("{PREFIX}{path}"), methods.clone()).route(&format!("{PREFIX}{path}/"), methods)
    })
}

/// Templates of the paths, for the metrics.
pub(super) fn templates() -> Vec<String> {
    paths().into_iter().flat_map(|(path, _)| [format!("{PREFIX}{path}"), format!("{PREFIX}{path}/")]).collect()
}
