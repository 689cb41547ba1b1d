//! Searches over all types: `POST /.search`, and `GET` of the base.

use axum::{extract::State, response::Response};

use super::{
    answer,
    caller::{Body, Caller, Parameters},
};
use crate::{
    broker::scim::ListRequest,
    edge::inbound::{Edge, problem::Problem},
};

/// `POST /.search`.
pub async fn search(State(edge): State<Edge>, Caller(ctx): Caller, Body(body): Body) -> Result<Response, Problem> {
    let request = ListRequest::from_body(&body).map_err(answer::refused)?;
    Ok(answer::list(&edge.broker.scim_search_all(&ctx, &request).await?))
}

/// `GET` of the base.
pub async fn list(State(edge): State<Edge>, Caller(ctx): Caller, query: Parameters) -> Result<Response, Problem> {
    Ok(answer::list(&edge.broker.scim_search_all(&ctx, &query.list()?).await?))
}
