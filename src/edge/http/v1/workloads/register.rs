//! `POST /v1/workloads`.

use axum::{Json, extract::State, response::IntoResponse};
use http::{StatusCode, header};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::{input::NewWorkload, view::WorkloadView},
    domain::identity::IdentityKind,
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::JsonBody,
        call::carry_through,
        input::{DurationInput, optional_ttl},
        problem::Problem,
    },
};

/// A workload or agent to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "deploy-bot", "kind": "workload", "owner": "ana", "secret_ttl": "30d"}))]
pub struct Registration {
    /// Unique name.
    name: String,
    /// Name for people to read.
    #[serde(default)]
    display_name: Option<String>,
    /// `workload` or `agent`.
    #[serde(default = "workload")]
    #[schema(default = "workload")]
    kind: IdentityKind,
    /// Id or unique name of the accountable person; the caller if missing.
    #[serde(default)]
    owner: Option<String>,
    /// Id or unique name of the person who is asked if the owner is gone.
    #[serde(default)]
    backup_owner: Option<String>,
    /// Name of the group that it belongs to: it is orphaned when that is gone or empty.
    #[serde(default)]
    team: Option<String>,
    /// Standing groups; administrators only.
    #[serde(default)]
    groups: Vec<String>,
    /// How long its secret works; 90 days if missing.
    #[serde(default)]
    secret_ttl: Option<DurationInput>,
}

const fn workload() -> IdentityKind {
    IdentityKind::Workload
}

/// Register a workload or agent
///
/// Somebody is accountable for it. Its secret is in this answer and in no other.
#[utoipa::path(
    post, path = "/v1/workloads", tag = "directory", operation_id = "registerWorkload", request_body = Registration,
    responses(
        (status = 201, description = "It exists now; its secret is shown this once", body = WorkloadView,
         headers(("Location" = String, description = "Path of the identity"))),
        Changes
    )
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    JsonBody(body): JsonBody<Registration>,
) -> Result<impl IntoResponse, Problem> {
    let workload = NewWorkload {
        name: body.name,
        display_name: body.display_name,
        kind: body.kind,
        owner: body.owner,
        backup_owner: body.backup_owner,
        team: body.team,
        groups: body.groups,
        secret_ttl: optional_ttl(body.secret_ttl, "secret_ttl")?,
    };
    let view = carry_through(async move { edge.broker.register_workload(&ctx, workload).await }).await?;
    let location = format!("/v1/identities/{}", view.identity.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(view)))
}
