//! `POST /v1/deliveries/{id}/replay`.

use axum::{Json, extract::State};

use crate::{
    broker::view::DeliveryView,
    domain::id::MessageId,
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::{Nothing, OptionalBody},
        call::carry_through,
        input::PathId,
        problem::Problem,
    },
};

/// Deliver a message again
///
/// For administrators. It goes out under the id that it had, so that a receiver that has it already can drop it.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/replay", tag = "deliveries", operation_id = "replayDelivery",
    params(("id" = String, Path, description = "Id of the message, `msg_…`")),
    responses((status = 200, description = "It is due now", body = DeliveryView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<MessageId>,
    OptionalBody(Nothing {}): OptionalBody<Nothing>,
) -> Result<Json<DeliveryView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.replay_delivery(&ctx, id).await }).await?))
}
