//! `GET /v1/sync/tasks`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    broker::{sync_view::TaskView, view::List},
    edge::http::{
        Edge, Reads,
        auth::Authenticated,
        input::{Parameters, paging},
        problem::Problem,
    },
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Also those that are done or no longer needed.
    #[serde(default)]
    closed: bool,
    /// Rows wanted, 1 to 200; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// Cursor: `next` of the page before.
    after: Option<String>,
}

/// List what is to be done by hand
///
/// Administrators and auditors see all of it, others what is theirs to do.
#[utoipa::path(
    get, path = "/v1/sync/tasks", tag = "sync", operation_id = "listTasks", params(Which),
    responses((status = 200, description = "A page of tasks", body = List<TaskView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Parameters(which): Parameters<Which>,
) -> Result<Json<List<TaskView>>, Problem> {
    let page = paging(which.limit, which.after)?;
    Ok(Json(edge.broker.tasks(&ctx, which.closed, page).await?))
}
