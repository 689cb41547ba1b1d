//! Answers as `application/scim+json`, and refusals as problems that the middleware writes in SCIM's form.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    broker::{
        BrokerError,
        scim::{ListAnswer, Precondition, Resource, ScimFailure},
    },
    domain::scim::ScimError,
    edge::inbound::problem::{Kind, Problem},
};

/// Media type of all of it.
pub const MEDIA_TYPE: &str = "application/scim+json";

/// A problem for a refusal.
pub fn refused(error: ScimError) -> Problem {
    let kind = match error.status {
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        409 => Kind::StateConflict,
        412 => Kind::PreconditionFailed,
        413 => Kind::BodyTooLarge,
        501 => Kind::NotImplemented,
        _ => Kind::InvalidInput,
    };
    Problem::new(kind, error.detail).of_scim_type(error.scim_type)
}

impl From<ScimFailure> for Problem {
    fn from(failure: ScimFailure) -> Self {
        match failure {
            ScimFailure::Refused(error) => refused(error),
            collides @ ScimFailure::Collides(_) => refused(ScimError::uniqueness(collides.to_string())),
            ScimFailure::Broker(error @ BrokerError::Invalid { .. }) => refused(ScimError::value(error.to_string())),
            ScimFailure::Broker(error) => error.into(),
        }
    }
}

/// JSON with its media type.
pub fn document(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = Response::new(Body::from(serde_json::to_vec(value).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

/// A resource with its address and version; 204 if it is not told.
pub fn resource(status: StatusCode, resource: &Resource) -> Response {
    let mut response = match &resource.document {
        Some(it) => document(status, it),
        None => StatusCode::NO_CONTENT.into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&resource.location) {
        headers.insert(header::LOCATION, location);
    }
    if let Ok(version) = HeaderValue::from_str(&resource.version) {
        headers.insert(header::ETAG, version);
    }
    response
}

/// A resource that was read: 304 if the caller has it already.
pub fn read(it: &Resource, when: &Precondition) -> Response {
    let mut response = resource(StatusCode::OK, it);
    if when.has(&it.version) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
    }
    response
}

/// A page (RFC 7644 §3.4.2).
pub fn list(page: &ListAnswer) -> Response {
    let mut out = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": page.total,
        "itemsPerPage": page.resources.len(),
    });
    if let Value::Object(out) = &mut out {
        out.extend(page.start_index.map(|n| ("startIndex".to_owned(), json!(n))));
        out.extend(page.next_cursor.as_ref().map(|c| ("nextCursor".to_owned(), json!(c))));
        out.insert("Resources".to_owned(), json!(page.resources));
    }
    document(StatusCode::OK, &out)
}
