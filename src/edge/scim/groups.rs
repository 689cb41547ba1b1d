//! `/Groups`.

use axum::{extract::State, response::Response};
use http::StatusCode;

use super::{
    answer,
    caller::{Body, Caller, Id, Parameters, Versions},
};
use crate::{
    broker::scim::ListRequest,
    domain::scim::core::GROUPS_TYPE,
    edge::inbound::{Edge, call::carry_through, problem::Problem},
};

/// `GET /Groups`.
pub async fn list(State(edge): State<Edge>, Caller(ctx): Caller, query: Parameters) -> Result<Response, Problem> {
    Ok(answer::list(&edge.broker.scim_list_groups(&ctx, &query.list()?).await?))
}

/// `POST /Groups/.search`.
pub async fn search(State(edge): State<Edge>, Caller(ctx): Caller, Body(body): Body) -> Result<Response, Problem> {
    let request = ListRequest::from_body(&body).map_err(answer::refused)?;
    Ok(answer::list(&edge.broker.scim_list_groups(&ctx, &request).await?))
}

/// `POST /Groups`.
pub async fn create(
    State(edge): State<Edge>,
    Caller(ctx): Caller,
    query: Parameters,
    Body(body): Body,
) -> Result<Response, Problem> {
    let selection = query.selection(&GROUPS_TYPE);
    let made = carry_through(async move { edge.broker.scim_create_group(&ctx, &body, &selection).await }).await?;
    Ok(answer::resource(StatusCode::CREATED, &made))
}

/// `GET /Groups/{id}`.
pub async fn read(
    State(edge): State<Edge>,
    Caller(ctx): Caller,
    Id(id): Id,
    query: Parameters,
    Versions(when): Versions,
) -> Result<Response, Problem> {
    let found = edge.broker.scim_group(&ctx, &id, &query.selection(&GROUPS_TYPE)).await?;
    Ok(answer::read(&found, &when))
}

/// `PUT /Groups/{id}`.
pub async fn replace(
    State(edge): State<Edge>,
    Caller(ctx): Caller,
    Id(id): Id,
    query: Parameters,
    Versions(when): Versions,
    Body(body): Body,
) -> Result<Response, Problem> {
    let selection = query.selection(&GROUPS_TYPE);
    let work = async move { edge.broker.scim_replace_group(&ctx, &id, &body, &when, &selection).await };
    Ok(answer::resource(StatusCode::OK, &carry_through(work).await?))
}

/// `PATCH /Groups/{id}`.
pub async fn change(
    State(edge): State<Edge>,
    Caller(ctx): Caller,
    Id(id): Id,
    query: Parameters,
    Versions(when): Versions,
    Body(body): Body,
) -> Result<Response, Problem> {
    let selection = query.selection(&GROUPS_TYPE);
    let work = async move { edge.broker.scim_patch_group(&ctx, &id, &body, &when, &selection).await };
    Ok(answer::resource(StatusCode::OK, &carry_through(work).await?))
}

/// `DELETE /Groups/{id}`.
pub async fn delete(
    State(edge): State<Edge>,
    Caller(ctx): Caller,
    Id(id): Id,
    Versions(when): Versions,
) -> Result<StatusCode, Problem> {
    carry_through(async move { edge.broker.scim_delete_group(&ctx, &id, &when).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
