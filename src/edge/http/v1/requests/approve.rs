//! `POST /v1/requests/{id}/approve`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::{input::Decide, view::RequestView},
    domain::id::RequestId,
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::OptionalBody,
        call::carry_through,
        input::{DurationInput, PathId, optional_ttl},
        problem::Problem,
    },
};

/// An approval.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({"comment": "Go ahead", "duration": "30m"}))]
pub struct Approval {
    /// In the approver's words.
    comment: String,
    /// The `terms` of the request that were looked at: if they changed since, nothing is decided.
    #[serde(default)]
    terms: Option<String>,
    /// Shorter than asked for.
    duration: Option<DurationInput>,
}

/// Approve a request
///
/// An approver may shorten the access. When the last approval that is needed is there, the grants are opened. Nobody
/// approves for themselves, nor for a workload of theirs.
#[utoipa::path(
    post, path = "/v1/requests/{id}/approve", tag = "requests", operation_id = "approveRequest",
    params(("id" = String, Path, description = "Id of the request, `req_…`")),
    request_body = Option<Approval>,
    responses((status = 200, description = "The request after it", body = RequestView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<RequestId>,
    OptionalBody(body): OptionalBody<Approval>,
) -> Result<Json<RequestView>, Problem> {
    let decide = Decide {
        comment: body.comment,
        terms: body.terms,
        duration: optional_ttl(body.duration, "duration")?,
        ..Decide::default()
    };
    Ok(Json(carry_through(async move { edge.broker.approve(&ctx, id, decide).await }).await?))
}
