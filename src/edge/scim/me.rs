//! `/Me` (RFC 7644 §3.11): the person behind a personal token, to be read. A source's token is nobody's, so for it, and for
//! changes, this is not implemented.

use axum::{extract::State, response::Response};
use http::{HeaderValue, Method, header, request::Parts};

use super::{
    answer,
    caller::{Parameters, VIA, Versions},
};
use crate::{
    broker::BrokerError,
    domain::scim::ScimError,
    edge::inbound::{
        Edge,
        auth::{admit, bearer, call},
        problem::Problem,
    },
};

/// Any method.
pub async fn me(
    State(edge): State<Edge>,
    query: Parameters,
    Versions(when): Versions,
    method: Method,
    parts: Parts,
) -> Result<Response, Problem> {
    let call = call(&parts)?;
    let token = bearer(&parts.headers);
    let not_here = |what: &str| answer::refused(ScimError::not_implemented(what));
    if let Some(token) = token
        && edge.broker.authenticate_source(token, VIA).await.is_ok()
    {
        return Err(not_here("the token of a source is nobody's; /Me is for personal tokens"));
    }
    let known = match token {
        Some(token) => edge.broker.authenticate(token, VIA).await,
        None => Err(BrokerError::Unauthenticated),
    };
    let ctx = admit(&edge, &call, known, token.is_some())?;
    if method != Method::GET && method != Method::HEAD {
        return Err(not_here("people do not change themselves here; their source does"));
    }
    let found = edge.broker.scim_me(ctx.actor_id(), &query.selection(edge.broker.scim_users_type())).await?;
    let mut response = answer::read(&found, &when);
    if let Ok(location) = HeaderValue::from_str(&found.location) {
        response.headers_mut().insert(header::CONTENT_LOCATION, location);
    }
    Ok(response)
}
