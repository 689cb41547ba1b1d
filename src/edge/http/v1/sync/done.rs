//! `POST /v1/sync/tasks/{id}/done`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::sync_view::TaskView,
    domain::id::TaskId,
    edge::http::{
        Changes, Edge, auth::Authenticated, body::JsonBody, call::carry_through, input::PathId, problem::Problem,
    },
};

/// That a task is done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"evidence": "Deactivated in the console; screenshot in ticket IT-311"}))]
pub struct DoneInput {
    /// What shows it. Goes to the audit log.
    evidence: String,
}

/// Say that a task is done
///
/// For its owner and administrators. The account counts as verified from then on, by the word of whoever said so.
#[utoipa::path(
    post, path = "/v1/sync/tasks/{id}/done", tag = "sync", operation_id = "finishTask", request_body = DoneInput,
    params(("id" = String, Path, description = "Id of the task")),
    responses((status = 200, description = "The task, closed", body = TaskView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<TaskId>,
    JsonBody(input): JsonBody<DoneInput>,
) -> Result<Json<TaskView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.finish_task(&ctx, id, &input.evidence).await }).await?))
}
