//! Signing in on the command line: the page where a person says yes to a client, and the two endpoints that the client
//! itself calls (RFC 8252 with PKCE, RFC 8628).

use askama::Template;
use axum::{
    Json,
    body::Body,
    extract::{RawQuery, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;
use url::{Host, Url};

use crate::{
    broker::{NewToken, NoToken},
    domain::{secret::Secret, time::Timestamp},
    edge::{
        inbound::{
            auth::call,
            body::read,
            call::carry_through,
            problem::{Kind, Problem},
            state::Edge,
        },
        web::{
            filters,
            frame::{Frame, page, see_other},
            visit::{Fields, Posted, Visitor},
            words::{self, Clock},
        },
    },
};

/// The one client that may ask.
const CLIENT: &str = "tidegate-cli";
/// Grant type of the device flow (RFC 8628 §3.4).
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

#[derive(Template)]
#[template(path = "authorize.html")]
struct Consent {
    frame: Frame,
    client: String,
    redirect: String,
    challenge: String,
    state: String,
}

/// What a client on this machine asks for.
struct Wanted {
    client: String,
    redirect: Url,
    challenge: String,
    state: String,
}

impl Wanted {
    /// Codes go to this very machine and nowhere else, and only with PKCE.
    fn of(fields: &Fields) -> Result<Self, Problem> {
        let wrong = |field: &'static str, why: &str| Problem::input(field, why);
        if fields.get("client_id") != Some(CLIENT) || fields.get("response_type") != Some("code") {
            return Err(wrong("client_id", "is not a client of this portal"));
        }
        let redirect: Url = fields.text("redirect_uri").parse().map_err(|e| Problem::input("redirect_uri", e))?;
        let here = match redirect.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            _ => false,
        };
        let plain = redirect.query().is_none() && redirect.fragment().is_none() && redirect.username().is_empty();
        if redirect.scheme() != "http" || !here || redirect.port().is_none() || !plain {
            return Err(wrong("redirect_uri", "must be a port of this machine, http://127.0.0.1:PORT/…"));
        }
        let challenge = fields.text("code_challenge");
        if challenge.len() != 43 || fields.get("code_challenge_method") != Some("S256") {
            return Err(wrong("code_challenge", "is missing: PKCE with S256 is required"));
        }
        Ok(Self { client: fields.text("host"), redirect, challenge, state: fields.text("state") })
    }

    fn back(&self, pairs: &[(&str, &str)]) -> String {
        let mut url = self.redirect.clone();
        url.query_pairs_mut().extend_pairs(pairs).append_pair("state", &self.state);
        url.into()
    }
}

/// `GET /authorize`: a client on this machine asks.
pub async fn ask(State(_edge): State<Edge>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let wanted = Wanted::of(&Fields::parse(query.unwrap_or_default().as_bytes()))?;
    let mut response = page(&Consent {
        frame: visitor.frame("Sign in on the command line", "").await?,
        redirect: wanted.redirect.to_string(),
        client: wanted.client,
        challenge: wanted.challenge,
        state: wanted.state,
    })?;
    // The answer to this form leads to the client, so this page alone may lead there.
    let origin = wanted.redirect.origin().ascii_serialization();
    let policy = super::super::dress::policy_with_form_to(&origin);
    if let Ok(value) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, value);
    }
    Ok(response)
}

/// `POST /authorize`: the person has answered.
pub async fn answer(State(edge): State<Edge>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let wanted = Wanted::of(&fields)?;
    if fields.get("answer") != Some("yes") {
        return see_other(&wanted.back(&[("error", "access_denied")]));
    }
    let (client, challenge, redirect) = (wanted.client.clone(), wanted.challenge.clone(), wanted.redirect.to_string());
    let code = carry_through(async move {
        edge.broker.approve_loopback_sign_in(&visitor.ctx, &client, "this machine", &redirect, &challenge).await
    });
    see_other(&wanted.back(&[("code", code.await?.expose())]))
}

#[derive(Template)]
#[template(path = "device.html")]
struct Device {
    frame: Frame,
    code: String,
    wrong: bool,
    found: Option<(String, String, String, Clock)>,
    done: Option<bool>,
}

async fn device_page(visitor: &Visitor, device: Device) -> Result<Response, Problem> {
    let frame = visitor.frame("Sign in on another machine", "").await?;
    let mut response = page(&Device { frame, ..device })?;
    if device.wrong {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

fn empty_device(now: Timestamp) -> Device {
    Device { frame: Frame::outside("", now), code: String::new(), wrong: false, found: None, done: None }
}

/// `GET /device`: where a code is typed. No address fills it in: the person compares it with the other screen.
pub async fn device(State(edge): State<Edge>, visitor: Visitor) -> Result<Response, Problem> {
    device_page(&visitor, empty_device(edge.broker.now())).await
}

/// `POST /device`: a code, then yes or no.
pub async fn device_answer(State(edge): State<Edge>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let now = edge.broker.now();
    let code = fields.text("code");
    let blank = Device { code: code.clone(), ..empty_device(now) };
    let found = match edge.broker.device_sign_in(&visitor.ctx, &code).await.map_err(Problem::from) {
        Ok(found) => found,
        Err(problem) if problem.kind() == Kind::NotFound => {
            return device_page(&visitor, Device { wrong: true, ..blank }).await;
        }
        Err(problem) => return Err(problem),
    };
    let answer = fields.get("answer");
    if answer == Some("no") || (answer == Some("yes") && fields.get("sure").is_some()) {
        let yes = answer == Some("yes");
        let (broker, ctx) = (edge.broker.clone(), visitor.ctx.clone());
        carry_through(async move { broker.decide_device_sign_in(&ctx, &code, yes).await }).await?;
        return device_page(&visitor, Device { done: Some(yes), ..empty_device(now) }).await;
    }
    let facts = (
        found.client,
        found.address,
        words::distance(now, found.begun),
        words::clock("lapses", now, found.begun, found.lapses),
    );
    device_page(&visitor, Device { found: Some(facts), ..blank }).await
}

/// A call of the client itself: it brings no cookie, and none would count.
async fn fields_of(edge: &Edge, request: Request<Body>) -> Result<(Fields, String), Problem> {
    let (parts, body) = request.into_parts();
    let call = call(&parts)?;
    edge.gate.address(call.address)?;
    let bytes = read(&parts.headers, body, &edge.limits).await?;
    Ok((Fields::parse(&bytes), call.address.to_string()))
}

fn oauth_error(code: &str, words: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({"error": code, "error_description": words}))).into_response()
}

/// `POST /login/device`: a machine without a browser wants to sign in (RFC 8628 §3.1).
pub async fn begin_device(State(edge): State<Edge>, request: Request<Body>) -> Result<Response, Problem> {
    let (fields, address) = fields_of(&edge, request).await?;
    if fields.get("client_id") != Some(CLIENT) {
        return Ok(oauth_error("invalid_client", "this is not a client of this portal"));
    }
    let (broker, host) = (edge.broker.clone(), fields.text("host"));
    let begun = carry_through(async move { broker.begin_device_sign_in(&host, &address).await }).await?;
    let answer = json!({
        "device_code": begun.device_code.expose(), "user_code": begun.user_code,
        "verification_uri": format!("{}/device", edge.portal.origin()),
        "expires_in": begun.expires_in, "interval": begun.interval,
    });
    Ok(Json(answer).into_response())
}

/// `POST /login/token`: a code for a token (RFC 6749 §4.1.3, RFC 8628 §3.4).
pub async fn token(State(edge): State<Edge>, request: Request<Body>) -> Result<Response, Problem> {
    let (fields, _) = fields_of(&edge, request).await?;
    if fields.get("client_id") != Some(CLIENT) {
        return Ok(oauth_error("invalid_client", "this is not a client of this portal"));
    }
    let now = edge.broker.now();
    let broker = edge.broker.clone();
    let text = |name: &str| fields.text(name);
    let outcome: Result<NewToken, NoToken> = match fields.get("grant_type") {
        Some("authorization_code") => {
            let (code, verifier, redirect) = (text("code"), text("code_verifier"), text("redirect_uri"));
            carry_through(async move { broker.redeem_loopback_sign_in(&code, &verifier, &redirect).await }).await?
        }
        Some(DEVICE) => {
            let code = text("device_code");
            carry_through(async move { broker.redeem_device_sign_in(&code).await }).await?
        }
        _ => return Ok(oauth_error("unsupported_grant_type", "authorization_code, or device_code")),
    };
    Ok(match outcome {
        Ok(made) => {
            let left = words::instant(&made.expires_at).map_or(0, |at| at.seconds_since(now).seconds());
            let answer = json!({
                "access_token": made.token.expose(), "token_type": "Bearer", "expires_in": left,
                "expires_at": made.expires_at, "token_id": made.id,
            });
            Json(answer).into_response()
        }
        Err(NoToken::Pending) => oauth_error("authorization_pending", "nobody has said yes yet"),
        Err(NoToken::SlowDown) => oauth_error("slow_down", "ask less often"),
        Err(NoToken::Denied) => oauth_error("access_denied", "the sign-in was refused in the portal"),
        Err(NoToken::Expired) => oauth_error("expired_token", "it took too long; begin again"),
        Err(NoToken::Invalid) => oauth_error("invalid_grant", "the code is unknown or was used before"),
    })
}

/// `POST /login/end`: whoever holds a token may end it (RFC 7009). One that does not work is ended already.
pub async fn end_token(State(edge): State<Edge>, request: Request<Body>) -> Result<Response, Problem> {
    let (fields, _) = fields_of(&edge, request).await?;
    let (broker, token) = (edge.broker.clone(), Secret::new(fields.text("token")));
    carry_through(async move { broker.end_token_shown(token.expose()).await }).await?;
    Ok(Json(json!({"ended": true})).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_to_this_machine_and_nowhere_else() {
        let wanted = |redirect: &str| {
            let query = format!(
                "client_id=tidegate-cli&response_type=code&code_challenge={}&code_challenge_method=S256&state=s&redirect_uri={}",
                "x".repeat(43),
                url::form_urlencoded::byte_serialize(redirect.as_bytes()).collect::<String>()
            );
            Wanted::of(&Fields::parse(query.as_bytes())).map(|w| w.back(&[("code", "c")])).ok()
        };
        assert_eq!(
            wanted("http://127.0.0.1:4711/callback").as_deref(),
            Some("http://127.0.0.1:4711/callback?code=c&state=s")
        );
        assert!(wanted("http://[::1]:4711/callback").is_some());
        for bad in [
            "https://evil.example/",
            "http://evil.example:1/",
            "http://127.0.0.1.evil.example:1/",
            "http://localhost:1/",
            "http://127.0.0.1/",
            "http://u@127.0.0.1:1/",
            "http://127.0.0.1:1/?x=1",
            "javascript:alert(1)",
            "",
        ] {
            assert_eq!(wanted(bad), None, "{bad}");
        }
    }
}
