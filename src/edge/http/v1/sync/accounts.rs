//! `GET /v1/sync/{id}/accounts`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    broker::{sync_view::AccountView, view::List},
    domain::account::AccountState,
    edge::http::{
        Edge, ReadsOne,
        auth::Authenticated,
        input::{Parameters, PathName, paging},
        problem::Problem,
    },
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only those that stand so.
    state: Option<AccountState>,
    /// Rows wanted, 1 to 200; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// Cursor: `next` of the page before.
    after: Option<String>,
}

/// List the accounts of an application
#[utoipa::path(
    get, path = "/v1/sync/{id}/accounts", tag = "sync", operation_id = "listAccounts",
    params(("id" = String, Path, description = "Name of the application"), Which),
    responses((status = 200, description = "A page of accounts", body = List<AccountView>), ReadsOne)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathName(name): PathName,
    Parameters(which): Parameters<Which>,
) -> Result<Json<List<AccountView>>, Problem> {
    let page = paging(which.limit, which.after)?;
    Ok(Json(edge.broker.accounts(&ctx, &name, which.state, page).await?))
}
