//! The portal: pages for people, rendered here, useful without scripts, live with them.
//!
//! Asks and answers through the same verbs as every other surface and has no rules of its own. Never keeps anything of
//! a session in memory, never writes a secret anywhere but into the one answer that hands it over, and sends nothing
//! that was not built into the binary.

mod assets;
mod cookie;
mod dress;
mod filters;
mod frame;
mod marks;
mod pages;
mod timeline;
mod visit;
mod words;

use axum::{
    Router, middleware,
    routing::{MethodRouter, get, post},
};

use self::pages::{
    agents, approvals, audit, audit_export, break_glass, catalog, claim, decide, directory, grants, insights,
    integrations, live, locks, machine, my_access, people, policies, request, request_form, sign_in, slack_link,
    system,
};
pub use dress::unknown;

use super::inbound::Edge;

/// Everything that can be opened or sent. What changes something is a POST.
fn places() -> Vec<(&'static str, MethodRouter<Edge>)> {
    vec![
        ("/", get(my_access::handler)),
        ("/catalog", get(catalog::handler)),
        ("/catalog/mark", post(catalog::mark)),
        ("/request", get(request_form::open).post(request_form::send)),
        ("/requests/{id}", get(request::handler)),
        ("/requests/{id}/approve", post(decide::approve)),
        ("/requests/{id}/deny", post(decide::deny)),
        ("/requests/{id}/cancel", post(decide::cancel)),
        ("/requests/{id}/take-up", post(decide::take_up)),
        ("/requests/{id}/comment", post(decide::comment)),
        ("/approvals", get(approvals::handler)),
        ("/approvals/deny", post(decide::deny_many)),
        ("/grants", get(grants::list)),
        ("/grants/{id}", get(grants::one)),
        ("/grants/{id}/credential", post(claim::handler)),
        ("/grants/{id}/release", post(grants::release)),
        ("/grants/{id}/extend", post(grants::extend)),
        ("/grants/{id}/revoke", post(grants::revoke)),
        ("/grants/{id}/attest", post(grants::attest)),
        ("/people", get(people::list)),
        ("/people/{id}", get(people::one)),
        ("/people/{id}/sign-out", post(people::sign_out)),
        ("/people/{id}/sign-in/reset", post(people::reset_sign_in)),
        ("/people/{id}/slack/{account}/unlink", post(slack_link::unlink)),
        ("/slack/link", get(slack_link::ask).post(slack_link::answer)),
        ("/sessions/{id}/end", post(people::end_session)),
        ("/tokens/{id}/end", post(people::end_token)),
        ("/agents", get(agents::handler)),
        ("/locks", post(locks::fall)),
        ("/locks/{id}/lift", post(locks::lift)),
        ("/audit", get(audit::list)),
        ("/audit/export", get(audit_export::handler)),
        ("/audit/{id}", get(audit::one)),
        ("/policies", get(policies::handler)),
        ("/directory", get(directory::handler)),
        ("/directory/sources/{name}/accept", post(directory::accept)),
        ("/directory/sync/{name}", post(directory::run)),
        ("/directory/tasks/{id}/done", post(directory::done)),
        ("/insights", get(insights::handler)),
        ("/integrations", get(integrations::handler)),
        ("/integrations/{id}/replay", post(integrations::replay)),
        ("/system", get(system::handler)),
        ("/system/targets/{id}/check", post(system::check)),
        ("/break-glass", get(break_glass::open).post(break_glass::send)),
        ("/live", get(live::handler)),
        ("/login", get(sign_in::open)),
        ("/login/dev", post(sign_in::choose)),
        ("/login/oidc", get(sign_in::go)),
        ("/login/oidc/callback", get(sign_in::come_back)),
        ("/login/device", post(machine::begin_device)),
        ("/login/token", post(machine::token)),
        ("/login/end", post(machine::end_token)),
        ("/authorize", get(machine::ask).post(machine::answer)),
        ("/device", get(machine::device).post(machine::device_answer)),
        ("/logout", post(sign_in::leave)),
        ("/signed-out", get(sign_in::left)),
        (assets::PATH, get(assets::handler)),
    ]
}

/// Templates of all paths, for metrics.
pub fn paths() -> Vec<&'static str> {
    places().into_iter().map(|(path, _)| path).collect()
}

/// The portal's routes, dressed.
pub(super) fn routes(edge: &Edge) -> Router<Edge> {
    let all = places().into_iter().fold(Router::new(), |router, (path, place)| router.route(path, place));
    all.route_layer(middleware::from_fn_with_state(edge.clone(), dress::around))
}
