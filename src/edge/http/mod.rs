//! The HTTP API under `/v1`, and what operators and verifiers fetch.
//!
//! One endpoint is one file with its input, output, documentation and tests; the whole of it is in [`endpoints`].
//! Handlers parse, call one verb of the broker, and render. Nothing here decides anything, opens the store, or writes
//! a secret anywhere but into the one answer that hands it over.

mod document;
pub mod input;
mod oauth;
mod operations;
mod published;
mod v1;

use axum::Router;
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use super::inbound::{Edge, auth, body, call, problem, state};
pub use document::{Changes, Public, Reads, ReadsOne};

/// Everything that can be called.
fn endpoints() -> OpenApiRouter<Edge> {
    OpenApiRouter::with_openapi(document::Document::openapi())
        .routes(routes!(v1::me::handler))
        .routes(routes!(v1::slack_link::list))
        .routes(routes!(v1::slack_link::unlink))
        .routes(routes!(v1::entitlements::handler))
        .routes(routes!(v1::requests::create::handler, v1::requests::list::handler))
        .routes(routes!(v1::requests::read::handler))
        .routes(routes!(v1::requests::approve::handler))
        .routes(routes!(v1::requests::deny::handler))
        .routes(routes!(v1::requests::cancel::handler))
        .routes(routes!(v1::requests::comment::handler))
        .routes(routes!(v1::requests::take_up::handler))
        .routes(routes!(v1::grants::list::handler))
        .routes(routes!(v1::grants::read::handler))
        .routes(routes!(v1::grants::claim::handler))
        .routes(routes!(v1::grants::extend::handler))
        .routes(routes!(v1::grants::release::handler))
        .routes(routes!(v1::grants::revoke::handler))
        .routes(routes!(v1::grants::attest::handler))
        .routes(routes!(v1::locks::create::handler, v1::locks::list::handler))
        .routes(routes!(v1::locks::lift::handler))
        .routes(routes!(v1::identities::list::handler))
        .routes(routes!(v1::identities::read::handler))
        .routes(routes!(v1::workloads::register::handler, v1::workloads::list::handler))
        .routes(routes!(v1::workloads::update::handler))
        .routes(routes!(v1::identities::deactivate::handler))
        .routes(routes!(v1::identities::sponsor::handler))
        .routes(routes!(v1::groups::remove_member::handler))
        .routes(routes!(v1::sources::accept::handler))
        .routes(routes!(v1::reviews::read::handler))
        .routes(routes!(v1::reviews::resolve::handler))
        .routes(routes!(v1::tokens::create::handler))
        .routes(routes!(v1::tokens::end::handler))
        .routes(routes!(v1::sources::list::handler))
        .routes(routes!(v1::sources::create::handler))
        .routes(routes!(v1::sources::rotate::handler))
        .routes(routes!(v1::sources::revoke::handler))
        .routes(routes!(v1::targets::list::handler))
        .routes(routes!(v1::targets::read::handler))
        .routes(routes!(v1::targets::check::handler))
        .routes(routes!(v1::targets::sweep::handler))
        .routes(routes!(v1::sync::list::handler))
        .routes(routes!(v1::sync::tasks::handler))
        .routes(routes!(v1::sync::done::handler))
        .routes(routes!(v1::sync::run::handler))
        .routes(routes!(v1::sync::read::handler))
        .routes(routes!(v1::sync::accounts::handler))
        .routes(routes!(v1::sync::explain::handler))
        .routes(routes!(v1::sync::run::plan))
        .routes(routes!(v1::sync::run::apply))
        .routes(routes!(v1::sync::run::verify))
        .routes(routes!(v1::sync::run::drift))
        .routes(routes!(v1::audit::list::handler))
        .routes(routes!(v1::audit::checkpoint::handler))
        .routes(routes!(v1::audit::checkpoints::handler))
        .routes(routes!(v1::audit::proof::handler))
        .routes(routes!(v1::audit::consistency::handler))
        .routes(routes!(v1::deliveries::list::handler))
        .routes(routes!(v1::deliveries::replay::handler))
        .routes(routes!(v1::policy::simulate::handler))
        .routes(routes!(v1::events::handler))
        .routes(routes!(oauth::token::handler))
        .routes(routes!(oauth::introspect::handler))
        .routes(routes!(oauth::revoke::handler))
        .routes(routes!(oauth::metadata::handler))
        .routes(routes!(oauth::jwks::handler))
        .routes(routes!(oauth::jwks::well_known))
        .routes(routes!(published::handler))
        .routes(routes!(operations::openapi))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
}

/// All of it, with the OpenAPI document that describes it.
pub(super) fn routes() -> (Router<Edge>, utoipa::openapi::OpenApi) {
    endpoints().split_for_parts()
}

/// The OpenAPI 3.1 document of all of it.
pub fn openapi() -> utoipa::openapi::OpenApi {
    endpoints().into_openapi()
}

#[cfg(test)]
mod tests;
