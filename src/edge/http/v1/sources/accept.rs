//! `POST /v1/sources/{source}/accept`.

use axum::{
    Json,
    extract::{Path, State},
};

use crate::{
    broker::AcceptedView,
    edge::http::{Changes, Edge, auth::Authenticated, call::carry_through, problem::Problem},
};

/// Accept that so many people leave
///
/// For administrators, when a source was stopped because it would take away too many people at once;
/// `GET /v1/reviews/held` lists them. They are deactivated now, and the source may go on.
#[utoipa::path(
    post, path = "/v1/sources/{source}/accept", tag = "reviews", operation_id = "acceptDepartures",
    params(("source" = String, Path, description = "Name or id of the source")),
    responses((status = 200, description = "Who leaves", body = AcceptedView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Path(source): Path<String>,
) -> Result<Json<AcceptedView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.accept_departures(&ctx, &source).await }).await?))
}
