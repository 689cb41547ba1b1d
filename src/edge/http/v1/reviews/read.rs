//! `GET /v1/reviews/{review}`.

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    broker::{
        review::{Review, ReviewLine},
        view::List,
    },
    edge::http::{Edge, ReadsOne, auth::Authenticated, input::Parameters, problem::Problem},
};

/// How far back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Since {
    /// For `dormant`: after how many days without use; 30 if missing.
    #[param(minimum = 1, maximum = 3650)]
    days: Option<u64>,
}

/// Review what has gone stale
///
/// `dormant`, `orphans`, `standing`, `advice`, `collisions` or `held`; for administrators and auditors. Each line says
/// why it is there and which one step settles it.
#[utoipa::path(
    get, path = "/v1/reviews/{review}", tag = "reviews", operation_id = "readReview",
    params(("review" = Review, Path, description = "Which review"), Since),
    responses((status = 200, description = "Its lines", body = List<ReviewLine>), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Path(review): Path<String>,
    Parameters(since): Parameters<Since>,
) -> Result<Json<List<ReviewLine>>, Problem> {
    let review = serde_json::from_value(review.into()).map_err(|_| Problem::not_found("review"))?;
    let items = edge.broker.review(&ctx, review, since.days.unwrap_or(30)).await?;
    Ok(Json(List { items, next: None }))
}
