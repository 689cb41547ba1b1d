//! `POST /v1/sync/{id}/plan`, `/apply`, `/verify`, `/drift`, and `GET /v1/sync/runs/{id}`.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::{Ctx, sync_view::RunView},
    domain::id::RunId,
    edge::http::{
        Changes, Edge, ReadsOne,
        auth::Authenticated,
        body::{Nothing, OptionalBody},
        call::carry_through,
        input::{PathId, PathName},
        problem::Problem,
    },
};

/// A run that is not done by then goes on, and the answer says so.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to apply.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyInput {
    /// Also if more people of a source would be deactivated than its `max_leavers_percent`.
    #[serde(default)]
    accept: bool,
}

async fn run(edge: Edge, ctx: Ctx, name: String, verb: &'static str, accept: bool) -> Result<Json<RunView>, Problem> {
    let view = carry_through(async move {
        let id = edge.broker.start_sync(&ctx, &name, verb, accept).await?;
        edge.broker.await_sync(&ctx, id, PATIENCE).await
    });
    Ok(Json(view.await?))
}

/// Plan
///
/// What `apply` would do, with reasons. Changes nothing.
#[utoipa::path(
    post, path = "/v1/sync/{id}/plan", tag = "sync", operation_id = "planSync",
    params(("id" = String, Path, description = "Name of the application or source")),
    responses((status = 200, description = "What would be done; `running` if it takes longer", body = RunView), Changes)
)]
pub async fn plan(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(name): PathName,
    OptionalBody(_nothing): OptionalBody<Nothing>,
) -> Result<Json<RunView>, Problem> {
    run(edge, ctx, name, "plan", false).await
}

/// Apply
///
/// Of an application: bring every account to what it should be. Of a source: bring the directory to what it says; if too
/// many people would be deactivated, it stops and asks.
#[utoipa::path(
    post, path = "/v1/sync/{id}/apply", tag = "sync", operation_id = "applySync",
    params(("id" = String, Path, description = "Name of the application or source")),
    request_body = ApplyInput,
    responses((status = 200, description = "What was done; `running` if it takes longer", body = RunView), Changes)
)]
pub async fn apply(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(name): PathName,
    OptionalBody(input): OptionalBody<ApplyInput>,
) -> Result<Json<RunView>, Problem> {
    run(edge, ctx, name, "apply", input.accept).await
}

/// Verify
///
/// Reads every account back, and records which are as they should be.
#[utoipa::path(
    post, path = "/v1/sync/{id}/verify", tag = "sync", operation_id = "verifySync",
    params(("id" = String, Path, description = "Name of the application")),
    responses((status = 200, description = "What was read back; `running` if it takes longer", body = RunView), Changes)
)]
pub async fn verify(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(name): PathName,
    OptionalBody(_nothing): OptionalBody<Nothing>,
) -> Result<Json<RunView>, Problem> {
    run(edge, ctx, name, "verify", false).await
}

/// Look for drift
///
/// Which accounts differ from what they should be, and which are nobody's.
#[utoipa::path(
    post, path = "/v1/sync/{id}/drift", tag = "sync", operation_id = "driftSync",
    params(("id" = String, Path, description = "Name of the application")),
    responses((status = 200, description = "What differs; `running` if it takes longer", body = RunView), Changes)
)]
pub async fn drift(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(name): PathName,
    OptionalBody(_nothing): OptionalBody<Nothing>,
) -> Result<Json<RunView>, Problem> {
    run(edge, ctx, name, "drift", false).await
}

/// Read a run
#[utoipa::path(
    get, path = "/v1/sync/runs/{id}", tag = "sync", operation_id = "getSyncRun",
    params(("id" = String, Path, description = "Id of the run")),
    responses((status = 200, description = "How it stands", body = RunView), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<RunId>,
) -> Result<Json<RunView>, Problem> {
    Ok(Json(edge.broker.sync_run(&ctx, id).await?))
}
