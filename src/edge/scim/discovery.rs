//! What the service provider can do: readable without a token (RFC 7644 §4).

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    answer,
    caller::{Id, Parameters},
};
use crate::{
    domain::scim::ScimError,
    edge::inbound::{Edge, problem::Problem},
};

/// `GET /ServiceProviderConfig`.
pub async fn config(State(edge): State<Edge>) -> Response {
    answer::document(StatusCode::OK, &edge.broker.scim_config())
}

/// `GET /ResourceTypes`.
pub async fn resource_types(State(edge): State<Edge>, query: Parameters) -> Result<Response, Problem> {
    all(&query, &edge.broker.scim_resource_types())
}

/// `GET /ResourceTypes/{id}`.
pub async fn resource_type(State(edge): State<Edge>, Id(id): Id) -> Result<Response, Problem> {
    one(&id, &edge.broker.scim_resource_types())
}

/// `GET /Schemas`.
pub async fn schemas(State(edge): State<Edge>, query: Parameters) -> Result<Response, Problem> {
    all(&query, &edge.broker.scim_schemas())
}

/// `GET /Schemas/{id}`.
pub async fn schema(State(edge): State<Edge>, Id(id): Id) -> Result<Response, Problem> {
    one(&id, &edge.broker.scim_schemas())
}

fn all(query: &Parameters, items: &[Value]) -> Result<Response, Problem> {
    if query.is_filtered() {
        return Err(answer::refused(ScimError::forbidden("this list is told as a whole, and not filtered")));
    }
    let out = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": items.len(), "itemsPerPage": items.len(), "startIndex": 1, "Resources": items,
    });
    Ok(answer::document(StatusCode::OK, &out))
}

fn one(id: &str, items: &[Value]) -> Result<Response, Problem> {
    let same = |item: &&Value| item.get("id").and_then(Value::as_str).is_some_and(|i| i.eq_ignore_ascii_case(id));
    match items.iter().find(same) {
        Some(item) => Ok(answer::document(StatusCode::OK, item)),
        None => Err(answer::refused(ScimError::not_found("there is nothing of that id"))),
    }
}
