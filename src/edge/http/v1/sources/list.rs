//! `GET /v1/sources`.

use axum::{Json, extract::State};

use crate::{
    broker::view::{List, SourceView},
    edge::http::{Edge, Reads, auth::Authenticated, problem::Problem},
};

/// List the sources of identities
///
/// Each with what it owns, when it was last heard of, and its tokens. For administrators and auditors.
#[utoipa::path(
    get, path = "/v1/sources", tag = "directory", operation_id = "listSources",
    responses((status = 200, description = "All of them, by name", body = List<SourceView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
) -> Result<Json<List<SourceView>>, Problem> {
    Ok(Json(edge.broker.sources(&ctx).await?))
}
