//! `GET /v1/workloads`.

use axum::{Json, extract::State};

use crate::{
    broker::view::{IdentityView, List},
    edge::http::{
        Edge, Reads,
        auth::Authenticated,
        input::{PageQuery, Parameters},
        problem::Problem,
    },
};

/// List workloads and agents
///
/// Those that the caller may see: their own, or all for administrators and auditors.
#[utoipa::path(
    get, path = "/v1/workloads", tag = "directory", operation_id = "listWorkloads", params(PageQuery),
    responses((status = 200, description = "A page of workloads and agents", body = List<IdentityView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<List<IdentityView>>, Problem> {
    Ok(Json(edge.broker.workloads(&ctx, page.paging()?).await?))
}
