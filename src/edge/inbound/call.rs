//! What happens around every call, in one middleware: an id, a bound on calls at once, a time limit, a caught panic,
//! the rendered problem, security headers, one count and one line in the log.
//!
//! The line (target `tidegate::access`, level info) has these fields and never a token, a body or a query:
//! | field | meaning |
//! |---|---|
//! | `request_id` | the call's id, as in `X-Request-Id` |
//! | `method` | HTTP method |
//! | `route` | template of the path, or `unmatched` |
//! | `path` | the path, if it matched |
//! | `status` | status of the answer; 499 if the client hung up before it |
//! | `ms` | milliseconds from the head of the call to the head of the answer |
//! | `address` | where it came from |
//! | `actor` | id of the identity, once known |
//! | `source` | id of the source, once known |
//! | `problem` | the problem's type, if it is one |
//! | `cause` | what went wrong inside, if something did (then at level error) |

use std::{
    any::Any,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
};

use axum::{
    body::Body,
    extract::{ConnectInfo, MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tracing::Instrument;

use super::{
    problem::{Kind, Problem},
    state::{Call, Edge, Place},
};
use crate::{broker::BrokerError, telemetry::Stopwatch};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Status in the log of a call whose client hung up before the answer.
const HUNG_UP: u16 = 499;

/// The one middleware.
pub(in crate::edge) async fn around(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let call = Arc::new(Call {
        id: edge.next_id(),
        address: address(&request, edge.limits.behind_proxy),
        actor: OnceLock::new(),
        source: OnceLock::new(),
    });
    request.extensions_mut().insert(Arc::clone(&call));
    let scim = is_scim(request.uri().path());
    let mut line = Line {
        edge: Arc::clone(&edge),
        method: request.method().clone(),
        path: request.extensions().get::<MatchedPath>().cloned().map(|m| (m, request.uri().clone())),
        started: Stopwatch::start(),
        status: None,
        problem: None,
        call,
    };
    let mut response = answer(&edge, request, next, &line).await;
    line.problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = line.problem.as_ref().filter(|p| !p.is_shown()) {
        *response.body_mut() = if scim {
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/scim+json"));
            Body::from(problem.scim_body().to_string())
        } else {
            Body::from(problem.render(line.call.id))
        };
    }
    dress(response.headers_mut(), &line.call);
    line.status = Some(response.status());
    response
}

/// Refusals there have the form that SCIM gives them, whoever refuses.
fn is_scim(path: &str) -> bool {
    path.strip_prefix("/scim").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

async fn answer(edge: &Edge, request: Request, next: Next, line: &Line) -> Response {
    let route = edge.routes.get(line.template());
    let place = Place::take(edge, |shared| &shared.in_flight, edge.limits.in_flight);
    if place.is_none() && !route.operations {
        return Problem::new(Kind::Overloaded, "too many calls are being answered; nothing was changed, come again")
            .retry_after(1)
            .into_response();
    }
    let span = tracing::info_span!("call", request_id = %line.call.id);
    let work = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span);
    match tokio::time::timeout(edge.limits.answer_time, work).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => Problem::internal(words(&*panic)).into_response(),
        Err(_) => Problem::new(
            Kind::TimedOut,
            "the answer took too long; a change that has begun is carried through, so look before you repeat it",
        )
        .into_response(),
    }
}

/// Run a change to its end, even if the client hangs up in the middle of it.
pub async fn carry_through<T: Send + 'static, E: Into<Problem> + Send + 'static>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(done) => done.map_err(Into::into),
        Err(error) if error.is_panic() => Err(Problem::internal(words(&*error.into_panic()))),
        Err(_) => Err(BrokerError::Closing.into()),
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words");
    format!("a panic: {text}")
}

/// Headers that every answer has.
fn dress(headers: &mut HeaderMap, call: &Call) {
    if let Ok(id) = HeaderValue::try_from(call.id.to_string()) {
        headers.insert(&REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// Where the call came from: the peer, or what the proxy in front says about it.
fn address(request: &Request, behind_proxy: bool) -> IpAddr {
    let forwarded = || {
        let last = request.headers().get_all(&FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
        last.rsplit(',').next()?.trim().parse().ok()
    };
    let peer = || request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    behind_proxy.then(forwarded).flatten().or_else(peer).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// The call's line in the log and its count; written when dropped, so that a client that hangs up is seen too.
struct Line {
    edge: Edge,
    call: Arc<Call>,
    method: Method,
    path: Option<(MatchedPath, http::Uri)>,
    started: Stopwatch,
    status: Option<StatusCode>,
    problem: Option<Problem>,
}

impl Line {
    fn template(&self) -> Option<&str> {
        self.path.as_ref().map(|(matched, _)| matched.as_str())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let route = self.edge.routes.get(self.template());
        let status = self.status.map_or(HUNG_UP, |s| s.as_u16());
        route.record(&self.method, StatusCode::from_u16(status).unwrap_or_default(), took);
        let actor = self.call.actor.get().map(tracing::field::display);
        let source = self.call.source.get().map(tracing::field::display);
        let path = self.path.as_ref().map(|(_, uri)| uri.path());
        let problem = self.problem.as_ref().map(|p| p.kind().slug());
        let cause = self.problem.as_ref().and_then(Problem::cause);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "tidegate::access",
                    request_id = %self.call.id,
                    method = self.method.as_str(),
                    route = route.template(),
                    path,
                    status,
                    ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    address = %self.call.address,
                    actor,
                    source,
                    problem,
                    cause,
                )
            };
        }
        if cause.is_some() {
            line!(error);
        } else {
            line!(info);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(forwarded: Option<&str>) -> Request {
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 9))));
        if let Some(text) = forwarded {
            request.headers_mut().insert(&FORWARDED_FOR, HeaderValue::from_str(text).unwrap());
        }
        request
    }

    #[test]
    fn the_forwarded_address_counts_only_behind_a_proxy() {
        let (peer, client) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([198, 51, 100, 7]));
        let request = from(Some("10.0.0.1, 198.51.100.7"));
        assert_eq!(address(&request, false), peer);
        assert_eq!(address(&request, true), client);
        assert_eq!(address(&from(None), true), peer);
        assert_eq!(address(&from(Some("nonsense")), true), peer);
    }

    #[tokio::test]
    async fn a_panic_inside_a_change_becomes_a_problem() {
        let broken = carry_through::<(), BrokerError>(async { panic!("boom") }).await.unwrap_err();
        assert_eq!(broken.kind(), Kind::Internal);
        assert_eq!(broken.cause(), Some("a panic: boom"));
        assert!(!broken.detail().contains("boom"));
    }

    #[tokio::test]
    async fn a_change_goes_on_when_nobody_waits() {
        let (tx, rx) = tokio::sync::oneshot::channel();
        let mut change = Box::pin(carry_through(async move {
            tokio::task::yield_now().await;
            let _ = tx.send(());
            Ok::<_, BrokerError>(())
        }));
        assert!((&mut change).now_or_never().is_none());
        drop(change);
        assert_eq!(rx.await, Ok(()));
    }
}
