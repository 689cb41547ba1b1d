//! `/Users`.

use axum::{extract::State, response::Response};
use http::StatusCode;

use super::{
    answer,
    caller::{Body, Caller, Id, Parameters, Versions},
};
use crate::{
    broker::scim::ListRequest,
    edge::inbound::{Edge, call::carry_through, problem::Problem},
};

/// `GET /Users`.
pub async fn list(State(edge): State<Edge>, Caller(ctx): Caller, query: Parameters) -> Result<Response, Problem> {
    Ok(answer::list(&edge.broker.scim_list_users(&ctx, &query.list()?).await?))
}

/// `POST /Users/.search`.
pub async fn search(State(edge): State<Edge>, Caller(ctx): Caller, Body(body): Body) -> Result<Response, Problem> {
    let request = ListRequest::from_body(&body).map_err(answer::refused)?;
    Ok(answer::list(&edge.broker.scim_list_users(&ctx, &request).await?))
}

/// `POST /Users`.
pub async fn create(
    State(edge): State<Edge>,
    Caller(ctx): Caller,
    query: Parameters,
    Body(body): Body,
) -> Result<Response, Problem> {
    let selection = query.selection(edge.broker.scim_users_type());
    let made = carry_through(async move { edge.broker.scim_create_user(&ctx, &body, &selection).await }).await?;
    Ok(answer::resource(StatusCode::CREATED, &made))
}

/// `GET /Users/{id}`.
pub async fn read(
    State(edge): State<Edge>,
    Caller(ctx): Caller,
    Id(id): Id,
    query: Parameters,
    Versions(when): Versions,
) -> Result<Response, Problem> {
    let found = edge.broker.scim_user(&ctx, &id, &query.selection(edge.broker.scim_users_type())).await?;
    Ok(answer::read(&found, &when))
}

/// `PUT /Users/{id}`.
pub async fn replace(
    State(edge): State<Edge>,
    Caller(ctx): Caller,
    Id(id): Id,
    query: Parameters,
    Versions(when): Versions,
    Body(body): Body,
) -> Result<Response, Problem> {
    let selection = query.selection(edge.broker.scim_users_type());
    let work = async move { edge.broker.scim_replace_user(&ctx, &id, &body, &when, &selection).await };
    Ok(answer::resource(StatusCode::OK, &carry_through(work).await?))
}

/// `PATCH /Users/{id}`.
pub async fn change(
    State(edge): State<Edge>,
    Caller(ctx): Caller,
    Id(id): Id,
    query: Parameters,
    Versions(when): Versions,
    Body(body): Body,
) -> Result<Response, Problem> {
    let selection = query.selection(edge.broker.scim_users_type());
    let work = async move { edge.broker.scim_patch_user(&ctx, &id, &body, &when, &selection, query.is_entra()).await };
    Ok(answer::resource(StatusCode::OK, &carry_through(work).await?))
}

/// `DELETE /Users/{id}`.
pub async fn delete(
    State(edge): State<Edge>,
    Caller(ctx): Caller,
    Id(id): Id,
    Versions(when): Versions,
) -> Result<StatusCode, Problem> {
    carry_through(async move { edge.broker.scim_delete_user(&ctx, &id, &when).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
