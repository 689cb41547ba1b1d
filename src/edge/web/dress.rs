//! What every answer of the portal wears: headers that keep foreign content out, and refusals as pages that say what
//! happened, what was not lost, and what to do next.

use askama::Template;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::{
    cookie, filters,
    frame::{Frame, page_with, see_other},
};
use crate::edge::inbound::{
    problem::{Kind, Problem},
    state::Edge,
};

/// Everything comes from here; nothing is inline, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The same for a page whose form is answered by leading to another place.
pub fn policy_with_form_to(origin: &str) -> String {
    POLICY.replace("form-action 'self'", &format!("form-action 'self' {origin}"))
}

/// The middleware of the portal's routes.
pub async fn around(State(edge): State<Edge>, request: Request, next: Next) -> Response {
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    let here = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let theme = cookie::theme(request.headers());
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = refused(&edge, problem, get, &here, theme);
    }
    headers(response.headers_mut(), edge.portal.is_secure());
    response
}

fn headers(headers: &mut HeaderMap, secure: bool) {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // `no-referrer` would make browsers hide where our own forms come from.
        (header::REFERRER_POLICY, "same-origin"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=()"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if secure {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.entry(header::STRICT_TRANSPORT_SECURITY).or_insert(year);
    }
}

/// A refusal as a page.
#[derive(Template)]
#[template(path = "refused.html")]
struct Refused<'a> {
    frame: Frame,
    heading: &'a str,
    detail: &'a str,
    next: &'a str,
    conditions: &'a [crate::domain::decision::Condition],
    reasons: &'a [crate::domain::decision::Reason],
    calm: bool,
    signed_out: bool,
}

fn refused(edge: &Edge, problem: Problem, get: bool, here: &str, theme: Option<&'static str>) -> Response {
    if problem.kind() == Kind::Unauthenticated && get {
        let next: String = url::form_urlencoded::byte_serialize(here.as_bytes()).collect();
        let to = if here == "/" { "/login".to_owned() } else { format!("/login?next={next}") };
        if let Ok(response) = see_other(&to) {
            return response;
        }
    }
    let status = problem.kind().status();
    let heading = match problem.kind() {
        Kind::NotFound | Kind::UnknownRoute => "There is nothing here",
        Kind::Unauthenticated => "Your session has ended",
        Kind::StateConflict => "Somebody was faster",
        Kind::PolicyDenied => "Policy does not allow this",
        kind => kind.title(),
    };
    let page = Refused {
        frame: Frame { theme, ..Frame::outside(heading, edge.broker.now()) },
        heading,
        detail: match problem.kind() {
            Kind::NotFound | Kind::UnknownRoute => {
                "The address is mistyped, or it leads to something that you may not see."
            }
            Kind::Unauthenticated => "Nothing was changed. Sign in again, and send it once more.",
            _ => problem.detail(),
        },
        next: advice(problem.kind()),
        conditions: problem.conditions(),
        reasons: problem.reasons(),
        calm: status.is_client_error(),
        signed_out: problem.kind() == Kind::Unauthenticated,
    };
    let mut response = page_with(status, &page).unwrap_or_else(|_| {
        let mut bare = Response::default();
        *bare.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        bare
    });
    if let Some(seconds) = problem.retry_after_seconds() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(problem.shown());
    response
}

fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::NotFound | Kind::UnknownRoute | Kind::MethodNotAllowed => "Go to what you hold and what waits for you.",
        Kind::StateConflict => "Go back and reload the page: it shows how things are now.",
        Kind::Internal => {
            "Try again in a minute. If it stays so, tell an administrator the number in the address of \
                           this call's log line."
        }
        Kind::Overloaded | Kind::RateLimited | Kind::LedgerUnavailable | Kind::TargetUnavailable | Kind::Closing => {
            "Nothing is lost. Try again in a moment."
        }
        Kind::Observing => {
            "An administrator has to say that this broker is in charge. What is open still ends in time."
        }
        _ => "Go back and change what you sent.",
    }
}

/// What there is not, for browsers.
pub fn unknown(edge: &Edge, here: &str) -> Response {
    let problem = Problem::new(Kind::UnknownRoute, "there is nothing at this path");
    let mut response = refused(edge, problem, true, here, None);
    headers(response.headers_mut(), edge.portal.is_secure());
    response
}
