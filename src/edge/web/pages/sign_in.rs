//! Signing in and out.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    http::request::Parts,
    response::Response,
};
use http::{HeaderMap, HeaderValue, header};

use crate::{
    broker::{Arrival, BrokerError, NewSession},
    domain::{identity::Subject, secret::Secret, time::Timestamp},
    edge::{
        inbound::{
            auth::call,
            call::carry_through,
            portal::Portal,
            problem::{Kind, Problem},
            state::{Call, Edge},
        },
        web::{
            cookie, filters,
            frame::{Frame, page, see_other},
            visit::{Fields, Posted, PostedOutside, is_same},
        },
    },
    ports::identity_provider::{Attempt, ProviderError, Redeemed},
};

/// A sign-in that is not over by then has to begin again.
const PATIENCE_SECONDS: u32 = 600;
/// Where the provider sends browsers back to.
const CALLBACK: &str = "/login/oidc/callback";

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page {
    frame: Frame,
    choices: Vec<String>,
    provider: Option<String>,
    next: String,
    trouble: Option<String>,
}

/// Where to go after signing in: a path of ours and nothing else.
pub fn safe_next(text: &str) -> &str {
    let ours = text.starts_with('/')
        && !text.starts_with("//")
        && !text.contains(['\\', '\r', '\n', '\t'])
        && text.is_ascii()
        && text.len() < 1000
        && !text.bytes().any(|b| b.is_ascii_control());
    let loops = text.starts_with("/login") || text.starts_with("/logout") || text.starts_with("/signed-out");
    if ours && !loops { text } else { "/" }
}

fn sign_in_page(edge: &Edge, headers: &HeaderMap, next: &str, trouble: Option<String>) -> Page {
    let frame = Frame::outside("Sign in", edge.broker.now());
    Page {
        frame: Frame { theme: cookie::theme(headers), ..frame },
        choices: edge.portal.choices.clone(),
        provider: edge.portal.provider.as_ref().map(|p| p.name().to_owned()),
        next: safe_next(next).to_owned(),
        trouble,
    }
}

/// `GET /login`.
pub async fn open(
    State(edge): State<Edge>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    page(&sign_in_page(&edge, &headers, &given.text("next"), None))
}

/// How somebody signed in, and when they showed who they are.
type How = (&'static str, Option<Timestamp>);

fn arrival(headers: &HeaderMap, call: &Call, (method, proved_at): How) -> Arrival {
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    Arrival { method, user_agent: agent.to_owned(), address: call.address.to_string(), correlation: call.id, proved_at }
}

/// Begin the session and hand over its cookie.
async fn begin(
    edge: &Edge,
    parts: &Parts,
    call: &Call,
    who: Subject,
    how: How,
    next: &str,
) -> Result<Response, Problem> {
    let arrival = arrival(&parts.headers, call, how);
    let before = cookie::read(&parts.headers, &edge.portal, cookie::SESSION).map(str::to_owned);
    let broker = edge.broker.clone();
    let begun: NewSession =
        carry_through(async move { broker.begin_session(&who, &arrival, before.as_deref()).await }).await?;
    let seconds = begun.expires_at.seconds_since(edge.broker.now()).seconds();
    let mut response = see_other(safe_next(next))?;
    give(&mut response, cookie::set(&edge.portal, cookie::SESSION, begun.secret.expose(), seconds));
    Ok(response)
}

fn give(response: &mut Response, cookie: Option<HeaderValue>) {
    if let Some(value) = cookie {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// `POST /login/dev`: one click, among those whom `tidegate dev` made, on loopback alone.
pub async fn choose(State(edge): State<Edge>, posted: PostedOutside) -> Result<Response, Problem> {
    let PostedOutside { fields, parts, call } = posted;
    let name = fields.text("who");
    // Without an address the call comes from within the process, as in tests.
    let here = call.address.is_loopback() || call.address.is_unspecified();
    if !here || !edge.portal.choices.contains(&name) {
        return Err(Problem::not_found("person to choose"));
    }
    let who = edge.broker.person_of_dev(&name).await?;
    let now = edge.broker.now();
    begin(&edge, &parts, &call, who, ("dev", Some(now)), &fields.text("next")).await
}

/// `GET /login/oidc`: off to the provider, with what ties its answer to this browser in a cookie.
pub async fn go(
    State(edge): State<Edge>,
    RawQuery(query): RawQuery,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    edge.gate.address(call(&parts)?.address)?;
    let headers = &parts.headers;
    let provider = edge.portal.provider.clone().ok_or_else(|| Problem::not_found("identity provider"))?;
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let random = || edge.entropy.text(32).map_err(BrokerError::from);
    let (state, nonce, verifier) = (random()?, random()?, random()?);
    let afresh = given.get("again").is_some();
    let kept = Kept { state, nonce, verifier, afresh, next: safe_next(&given.text("next")).to_owned() };
    let redirect = format!("{}{CALLBACK}", edge.portal.origin());
    match provider.begin(&kept.attempt(), &redirect, edge.broker.now()).await {
        Ok(url) => {
            let mut response = see_other(&url)?;
            give(&mut response, cookie::set(&edge.portal, cookie::SIGN_IN, &kept.text(), PATIENCE_SECONDS));
            Ok(response)
        }
        Err(error) => refused(&edge, headers, &kept.next, &error),
    }
}

/// Where somebody shows once more who they are, and comes back.
pub fn again_at(edge: &Edge, next: &str) -> String {
    let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
    match &edge.portal.provider {
        Some(_) => format!("/login/oidc?again=1&next={next}"),
        None => format!("/login?next={next}"),
    }
}

/// What the browser keeps of a sign-in that is on its way.
struct Kept {
    state: Secret,
    nonce: Secret,
    verifier: Secret,
    afresh: bool,
    next: String,
}

impl Kept {
    fn attempt(&self) -> Attempt {
        Attempt {
            state: self.state.expose().to_owned(),
            nonce: self.nonce.expose().to_owned(),
            verifier: Secret::new(self.verifier.expose().to_owned()),
            afresh: self.afresh,
        }
    }

    fn text(&self) -> String {
        let next: String = url::form_urlencoded::byte_serialize(self.next.as_bytes()).collect();
        let afresh = u8::from(self.afresh);
        format!("{}.{}.{}.{afresh}.{next}", self.state.expose(), self.nonce.expose(), self.verifier.expose())
    }

    fn read(headers: &HeaderMap, portal: &Portal) -> Option<Self> {
        let text = cookie::read(headers, portal, cookie::SIGN_IN)?;
        let mut parts = text.splitn(5, '.');
        let mut secret = || parts.next().filter(|p| p.len() == 43).map(|p| Secret::new(p.to_owned()));
        let (state, nonce, verifier) = (secret()?, secret()?, secret()?);
        let afresh = parts.next()? == "1";
        let next = url::form_urlencoded::parse(format!("n={}", parts.next()?).as_bytes())
            .next()
            .map_or_else(String::new, |(_, v)| v.into_owned());
        Some(Self { state, nonce, verifier, afresh, next })
    }
}

/// `GET /login/oidc/callback`: the provider's answer. A GET that begins a session, as the protocol wants it; tied to the
/// browser by the cookie, so that nobody is signed in as somebody else by a link.
pub async fn come_back(
    State(edge): State<Edge>,
    RawQuery(query): RawQuery,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let call = call(&parts)?;
    edge.gate.address(call.address)?;
    let provider = edge.portal.provider.clone().ok_or_else(|| Problem::not_found("identity provider"))?;
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let headers = &parts.headers;
    let Some(kept) = Kept::read(headers, &edge.portal) else {
        let stale = ProviderError::Untrusted("this sign-in did not begin in this browser, or took too long".to_owned());
        return refused(&edge, headers, "/", &stale);
    };
    if !is_same(given.get("state").unwrap_or_default(), kept.state.expose()) {
        let other = ProviderError::Untrusted("it belongs to another sign-in".to_owned());
        // The sign-in that did begin here may go on: anybody can make a link with a wrong state.
        return refusal(&edge, headers, &kept.next, &other);
    }
    if let Some(error) = given.get("error") {
        let words = given.get("error_description").unwrap_or(error).chars().take(200).collect();
        return refused(&edge, headers, &kept.next, &ProviderError::Refused(words));
    }
    let code = given.get("code").unwrap_or_default();
    let redirect = format!("{}{CALLBACK}", edge.portal.origin());
    let Redeemed { vouched, hint } = match provider.redeem(code, &kept.attempt(), &redirect, edge.broker.now()).await {
        Ok(redeemed) => redeemed,
        Err(error) => return refused(&edge, headers, &kept.next, &error),
    };
    let who = match edge.broker.person_of(&vouched).await {
        Ok(who) => who,
        Err(BrokerError::State(why)) => return again(&edge, headers, &kept.next, why),
        Err(BrokerError::Denied { reasons, .. }) => {
            let why = reasons.into_iter().map(|r| r.text).collect::<Vec<_>>().join("; ");
            return again(&edge, headers, &kept.next, why);
        }
        Err(other) => return Err(other.into()),
    };
    // A provider that does not say when may have asked long ago.
    let proved_at = vouched.proved_at.unwrap_or(Timestamp::from_micros(0));
    let how = ("oidc", Some(proved_at));
    let mut response = match begin(&edge, &parts, &call, who, how, &kept.next).await {
        Ok(response) => response,
        Err(problem) if problem.kind() == Kind::Unauthenticated => {
            let why = "Your account here is deactivated. Ask whoever runs the directory.".to_owned();
            return again(&edge, headers, &kept.next, why);
        }
        Err(problem) => return Err(problem),
    };
    give(&mut response, cookie::clear(&edge.portal, cookie::SIGN_IN));
    // As long as the session lasts at most. Without it, the provider asks which session is meant.
    let seconds = edge.broker.settings().session_ttl.seconds();
    give(&mut response, cookie::set(&edge.portal, cookie::HINT, hint.expose(), seconds));
    Ok(response)
}

fn refused(edge: &Edge, headers: &HeaderMap, next: &str, error: &ProviderError) -> Result<Response, Problem> {
    let mut response = refusal(edge, headers, next, error)?;
    give(&mut response, cookie::clear(&edge.portal, cookie::SIGN_IN));
    Ok(response)
}

/// The page that says why, and nothing else.
fn refusal(edge: &Edge, headers: &HeaderMap, next: &str, error: &ProviderError) -> Result<Response, Problem> {
    tracing::warn!(error = %error, "a sign-in was refused");
    let words = match error {
        ProviderError::Unavailable { name, .. } => format!(
            "{name} does not answer, so nobody can sign in at the moment. Whoever is signed in goes on working. Try \
             again in a minute."
        ),
        ProviderError::Untrusted(why) => format!("The sign-in does not hold: {why}. Begin again."),
        ProviderError::Refused(why) => format!("The identity provider said no: {why}."),
    };
    trouble(edge, headers, next, words)
}

/// The page for signing in, with what went wrong; the attempt is over.
fn again(edge: &Edge, headers: &HeaderMap, next: &str, words: String) -> Result<Response, Problem> {
    let mut response = trouble(edge, headers, next, words)?;
    give(&mut response, cookie::clear(&edge.portal, cookie::SIGN_IN));
    Ok(response)
}

fn trouble(edge: &Edge, headers: &HeaderMap, next: &str, words: String) -> Result<Response, Problem> {
    let mut response = page(&sign_in_page(edge, headers, next, Some(words)))?;
    *response.status_mut() = http::StatusCode::FORBIDDEN;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `POST /logout`.
pub async fn leave(State(edge): State<Edge>, posted: Posted) -> Result<Response, Problem> {
    let visitor = posted.visitor;
    let broker = edge.broker.clone();
    carry_through(async move { broker.end_session(&visitor.ctx, visitor.session).await }).await?;
    let mut response = see_other("/signed-out")?;
    give(&mut response, cookie::clear(&edge.portal, cookie::SESSION));
    let kept_pages = HeaderValue::from_static("\"cache\"");
    response.headers_mut().insert("clear-site-data", kept_pages);
    Ok(response)
}

#[derive(Template)]
#[template(path = "signed_out.html")]
struct Left {
    frame: Frame,
    provider: Option<(String, Secret)>,
}

/// `GET /signed-out`: with the way out at the provider too.
pub async fn left(State(edge): State<Edge>, headers: HeaderMap) -> Result<Response, Problem> {
    let hint = cookie::read(&headers, &edge.portal, cookie::HINT).map(|text| Secret::new(text.to_owned()));
    let provider = match &edge.portal.provider {
        Some(provider) => {
            let back = format!("{}/login", edge.portal.origin());
            let there = provider.end_session(&back, hint, edge.broker.now()).await;
            there.map(|url| (provider.name().to_owned(), url))
        }
        None => None,
    };
    let frame = Frame { theme: cookie::theme(&headers), ..Frame::outside("Signed out", edge.broker.now()) };
    let mut response = page(&Left { frame, provider })?;
    give(&mut response, None);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_signing_in_one_stays_here() {
        for good in ["/", "/requests/req_1", "/catalog?q=a%20b&all=1"] {
            assert_eq!(safe_next(good), good);
        }
        for bad in [
            "",
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "javascript:alert(1)",
            "evil",
            "/a\r\nb",
            "/a\tb",
            "/\u{e9}",
            "/login?next=/",
            "/logout",
        ] {
            assert_eq!(safe_next(bad), "/", "{bad:?}");
        }
    }
}
