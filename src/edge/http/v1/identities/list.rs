//! `GET /v1/identities`.

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

/// List identities
///
/// People, workloads and agents that the caller may see.
#[utoipa::path(
    get, path = "/v1/identities", tag = "directory", operation_id = "listIdentities", params(PageQuery),
    responses((status = 200, description = "A page of identities", body = List<IdentityView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<List<IdentityView>>, Problem> {
    Ok(Json(edge.broker.identities(&ctx, page.paging()?).await?))
}
