//! `GET /v1/deliveries`.

use axum::{Json, extract::State};

use crate::{
    broker::view::{DeliveryView, List},
    edge::http::{
        Edge, Reads,
        auth::Authenticated,
        input::{PageQuery, Parameters},
        problem::Problem,
    },
};

/// List what was told to notifiers
///
/// For administrators and auditors, newest first: each message to each receiver, whether it was delivered, and what the
/// receiver answered last. What was delivered is forgotten after a day.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "deliveries", operation_id = "listDeliveries", params(PageQuery),
    responses((status = 200, description = "A page of deliveries", body = List<DeliveryView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Parameters(page): Parameters<PageQuery>,
) -> Result<Json<List<DeliveryView>>, Problem> {
    Ok(Json(edge.broker.deliveries(&ctx, page.paging()?).await?))
}
