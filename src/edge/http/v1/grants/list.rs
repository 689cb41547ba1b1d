//! `GET /v1/grants`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    broker::{
        Ctx,
        input::GrantQuery,
        view::{GrantView, List},
    },
    domain::{
        grant::GrantState,
        id::{IdError, IdentityId},
    },
    edge::http::{
        Edge, Reads,
        auth::Authenticated,
        input::{Parameters, paging},
        problem::Problem,
    },
};

/// Which grants.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only in this state.
    state: Option<GrantState>,
    /// Only held by this identity: an id, or `me`. Administrators who give none see all, others their own.
    holder: Option<String>,
    /// Only those that are not final.
    #[serde(default)]
    live: bool,
    /// Rows wanted, 1 to 200; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// Cursor: `next` of the page before.
    after: Option<String>,
}

fn holder(given: &str, ctx: &Ctx) -> Result<IdentityId, Problem> {
    if given == "me" {
        return Ok(ctx.actor_id());
    }
    given.parse().map_err(|error: IdError| Problem::input("holder", error))
}

/// List grants
///
/// Newest first.
#[utoipa::path(
    get, path = "/v1/grants", tag = "grants", operation_id = "listGrants", params(Which),
    responses((status = 200, description = "A page of grants", body = List<GrantView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Parameters(which): Parameters<Which>,
) -> Result<Json<List<GrantView>>, Problem> {
    let query = GrantQuery {
        state: which.state,
        holder: which.holder.map(|given| holder(&given, &ctx)).transpose()?,
        live: which.live,
        over: false,
        page: paging(which.limit, which.after)?,
    };
    Ok(Json(edge.broker.grants(&ctx, query).await?))
}
