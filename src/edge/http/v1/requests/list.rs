//! `GET /v1/requests`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    broker::{
        input::{RequestQuery, Role},
        view::{List, RequestView},
    },
    domain::request::RequestState,
    edge::http::{
        Edge, Reads,
        auth::Authenticated,
        input::{Parameters, paging},
        problem::Problem,
    },
};

/// From which side to look at requests.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RequestRole)]
pub enum RoleInput {
    /// Asked by me or for me.
    Requester,
    /// Waiting for me, or decided by my groups.
    Approver,
}

/// Which requests.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only in this state.
    state: Option<RequestState>,
    /// From which side; administrators who give none see all, others their own.
    role: Option<RoleInput>,
    /// Rows wanted, 1 to 200; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// Cursor: `next` of the page before.
    after: Option<String>,
}

/// List requests
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/requests", tag = "requests", operation_id = "listRequests", params(Which),
    responses((status = 200, description = "A page of requests", body = List<RequestView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Parameters(which): Parameters<Which>,
) -> Result<Json<List<RequestView>>, Problem> {
    let query = RequestQuery {
        state: which.state,
        role: which.role.map(|role| match role {
            RoleInput::Requester => Role::Requester,
            RoleInput::Approver => Role::Approver,
        }),
        page: paging(which.limit, which.after)?,
    };
    Ok(Json(edge.broker.requests(&ctx, query).await?))
}
