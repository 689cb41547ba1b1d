//! Who calls? `Authorization: Bearer` with a personal token or an access token; nothing else signs in here, so there
//! is nothing that a foreign site could ride on.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::{HeaderMap, header, request::Parts};

use super::{
    problem::Problem,
    state::{Call, Edge},
};
use crate::broker::{BrokerError, Ctx};

/// The name of this surface in the audit log.
pub const VIA: &str = "api";

/// The caller. Put it first among a handler's arguments: nothing else is looked at before it is known who asks.
pub struct Authenticated(pub Ctx);

impl FromRequestParts<Edge> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let call = call(parts)?;
        let token = bearer(&parts.headers);
        let known = match token {
            Some(token) => edge.broker.authenticate(token, VIA).await,
            None => Err(BrokerError::Unauthenticated),
        };
        admit(edge, &call, known, token.is_some()).map(Self)
    }
}

/// The call that a handler is in.
pub fn call(parts: &Parts) -> Result<Arc<Call>, Problem> {
    parts.extensions.get::<Arc<Call>>().cloned().ok_or_else(|| Problem::internal("the call middleware is missing"))
}

/// Let in whoever is known, within the rate of that identity; charge the address otherwise.
pub fn admit(edge: &Edge, call: &Call, known: Result<Ctx, BrokerError>, token_given: bool) -> Result<Ctx, Problem> {
    match known {
        Ok(mut ctx) => {
            ctx.correlation = call.id;
            let _ = call.actor.set(ctx.actor_id());
            edge.gate.identity(ctx.actor_id())?;
            Ok(ctx)
        }
        Err(BrokerError::Unauthenticated) => {
            edge.gate.address(call.address)?;
            Err(Problem::unauthenticated(token_given))
        }
        Err(error) => Err(error.into()),
    }
}

/// The bearer token, if there is exactly one `Authorization` header and it has one.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = authorization(headers)?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Scheme and rest of the one `Authorization` header.
pub fn authorization(headers: &HeaderMap) -> Option<(&str, &str)> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (one, None) = (all.next()?, all.next()) else { return None };
    let (scheme, rest) = one.to_str().ok()?.split_once(' ')?;
    Some((scheme, rest.trim()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        assert_eq!(bearer(&headers(&["Bearer tgp_x"])), Some("tgp_x"));
        assert_eq!(bearer(&headers(&["bearer  tgp_x "])), Some("tgp_x"));
        for bad in [&[][..], &["Basic eDp5"], &["Bearer"], &["Bearer "], &["tgp_x"], &["Bearer a", "Bearer b"]] {
            assert_eq!(bearer(&headers(bad)), None, "{bad:?}");
        }
    }
}
