//! The parts of the OpenAPI document that are not one endpoint's: title, tags, how to sign in, what every operation
//! can answer when it refuses.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, Modify, OpenApi,
    openapi::{
        self, Content, Ref, RefOr, Response, ResponseBuilder,
        security::{ClientCredentials, Flow, HttpAuthScheme, HttpBuilder, OAuth2, Scopes, SecurityScheme},
    },
};

use super::{
    oauth::ErrorDocument,
    problem::{Kind, ProblemDocument},
    v1::requests::list::RoleInput,
};
use crate::broker::review::Review;

/// Title, tags, schemes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Just-in-time privileged access: ask, get it for a while, and have it proven that it is gone.\n\n\
            Instants are RFC 3339 in UTC. Durations go in as `90m`, `1h30m` or seconds and come out as seconds. Lists \
            are `{\"items\": […], \"next\": cursor or null}`; pass `next` as `after` to go on. Refusals are RFC 9457 \
            problems with stable types. What you may not see is 404. Every answer has an `X-Request-Id`.",
    ),
    components(schemas(ProblemDocument, ErrorDocument, RoleInput, Review)),
    modifiers(&SignIn),
    security(("bearer" = []), ("workload" = [])),
    tags(
        (name = "me", description = "Who am I, what can I ask for"),
        (name = "requests", description = "Ask for access; decide on it"),
        (name = "grants", description = "Access that is held: claim, extend, end"),
        (name = "locks", description = "Kill switches"),
        (name = "directory", description = "Identities, and registration of workloads and agents"),
        (name = "reviews", description = "What has gone stale, and the one step that settles it"),
        (name = "targets", description = "Systems that access is given on"),
        (name = "sync", description = "Accounts in applications, sources of truth, what is to be done by hand"),
        (name = "audit", description = "The log, its signed head, proofs"),
        (name = "policy", description = "What would policy say?"),
        (name = "events", description = "What happens, as it happens"),
        (name = "oauth", description = "Tokens for workloads (RFC 6749, 7009, 7662, 8414)"),
        (name = "verifiers", description = "What targets fetch: public keys and revocation lists"),
        (name = "operations", description = "Health and metrics"),
    )
)]
pub(super) struct Document;

struct SignIn;

impl Modify for SignIn {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A personal token (`tgp_…`) or a workload's access token from `/oauth/token`."))
            .build();
        let flow = ClientCredentials::new("/oauth/token", Scopes::new());
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme(
            "workload",
            SecurityScheme::OAuth2(OAuth2::with_description(
                [Flow::ClientCredentials(flow)],
                "`client_credentials` for workloads and agents.",
            )),
        );
    }
}

fn problems(kinds: &[Kind]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for kind in kinds {
        by_status.entry(kind.status().as_u16().to_string()).or_default().push(kind.slug());
    }
    by_status
        .into_iter()
        .map(|(status, slugs)| {
            let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
            let response = ResponseBuilder::new()
                .description(format!("Problem: `{}`", slugs.join("`, `")))
                .content("application/problem+json", content)
                .build();
            (status, RefOr::T(response))
        })
        .collect()
}

const ALWAYS: [Kind; 9] = [
    Kind::InvalidInput,
    Kind::Unauthenticated,
    Kind::RateLimited,
    Kind::Internal,
    Kind::LedgerUnavailable,
    Kind::Overloaded,
    Kind::Observing,
    Kind::Closing,
    Kind::TimedOut,
];

/// What reading can be refused with.
pub struct Reads;

impl IntoResponses for Reads {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&ALWAYS[..], &[Kind::Forbidden]].concat())
    }
}

/// What reading one thing can be refused with.
pub struct ReadsOne;

impl IntoResponses for ReadsOne {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[&ALWAYS[..], &[Kind::Forbidden, Kind::NotFound]].concat())
    }
}

/// What a change can be refused with.
pub struct Changes;

impl IntoResponses for Changes {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let more = [
            Kind::InvalidJson,
            Kind::PolicyDenied,
            Kind::Forbidden,
            Kind::NotFound,
            Kind::SlowBody,
            Kind::StateConflict,
            Kind::KeyReused,
            Kind::BodyTooLarge,
            Kind::UnsupportedMediaType,
            Kind::UnusableInput,
            Kind::NobodyCanApprove,
            Kind::Locked,
            Kind::TooManyOpen,
            Kind::TargetRefused,
            Kind::TargetUnavailable,
        ];
        problems(&[&ALWAYS[..], &more].concat())
    }
}

/// What a public document can be refused with.
pub struct Public;

impl IntoResponses for Public {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[Kind::RateLimited, Kind::Internal, Kind::Overloaded])
    }
}
