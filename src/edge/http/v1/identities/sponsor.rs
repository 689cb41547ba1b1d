//! `POST /v1/identities/{id}/sponsor`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::view::IdentityView,
    domain::id::IdentityId,
    edge::http::{
        Changes, Edge, auth::Authenticated, body::JsonBody, call::carry_through, input::PathId, problem::Problem,
    },
};

/// Who answers for a guest.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"sponsor": "ben"}))]
pub struct Sponsorship {
    /// Id or unique name of a person.
    sponsor: String,
}

/// Say who answers for a guest
///
/// For administrators, and only of people who came by a first login and whom no source owns. A guest whose sponsor has left
/// goes on with the new one.
#[utoipa::path(
    post, path = "/v1/identities/{id}/sponsor", tag = "directory", operation_id = "sponsorIdentity",
    params(("id" = String, Path, description = "Id of the identity, `idn_…`")),
    request_body = Sponsorship,
    responses((status = 200, description = "The identity after it", body = IdentityView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<IdentityId>,
    JsonBody(body): JsonBody<Sponsorship>,
) -> Result<Json<IdentityView>, Problem> {
    Ok(Json(carry_through(async move { edge.broker.sponsor_identity(&ctx, id, &body.sponsor).await }).await?))
}
