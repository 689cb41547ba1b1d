//! `PATCH /v1/workloads/{id}`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::{input::WorkloadChange, view::WorkloadView},
    domain::id::IdentityId,
    edge::http::{
        Changes, Edge, auth::Authenticated, body::JsonBody, call::carry_through, input::PathId, problem::Problem,
    },
};

/// A change; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WorkloadChange, example = json!({"rotate_secret": true}))]
pub struct Change {
    /// Name for people to read.
    #[serde(default)]
    display_name: Option<String>,
    /// Id or unique name of a new accountable person. For an orphan this is how it is taken over: by its backup owner,
    /// who names themselves, or by an administrator. Its secrets end then; `rotate_secret` makes a new one.
    #[serde(default)]
    owner: Option<String>,
    /// Id or unique name of the person who is asked if the owner is gone.
    #[serde(default)]
    backup_owner: Option<String>,
    /// Name of the group that it belongs to; empty for none.
    #[serde(default)]
    team: Option<String>,
    /// False ends everything that it holds.
    #[serde(default)]
    active: Option<bool>,
    /// End all its secrets and make a new one, which is in this answer and in no other.
    #[serde(default)]
    rotate_secret: bool,
}

/// Change a workload or agent
///
/// For its owner and administrators, and for whoever is asked to answer for an orphan.
#[utoipa::path(
    patch, path = "/v1/workloads/{id}", tag = "directory", operation_id = "updateWorkload",
    params(("id" = String, Path, description = "Id of the workload, `idn_…`")),
    request_body = Change,
    responses((status = 200, description = "The workload after it", body = WorkloadView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<IdentityId>,
    JsonBody(body): JsonBody<Change>,
) -> Result<Json<WorkloadView>, Problem> {
    let change = WorkloadChange {
        display_name: body.display_name,
        owner: body.owner,
        backup_owner: body.backup_owner,
        team: body.team,
        active: body.active,
        rotate_secret: body.rotate_secret,
    };
    Ok(Json(carry_through(async move { edge.broker.update_workload(&ctx, id, change).await }).await?))
}
