//! `GET /v1/audit`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    broker::{
        input::AuditQuery,
        view::{EventView, List},
    },
    domain::id::{GrantId, IdError, RequestId},
    edge::http::{
        Edge, Reads,
        auth::Authenticated,
        input::{Parameters, paging},
        problem::Problem,
    },
};

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Only about this request.
    request: Option<String>,
    /// Only about this grant.
    grant: Option<String>,
    /// Only those that follow from one ask: the `correlation_id` of a request or grant.
    correlation: Option<String>,
    /// Rows wanted, 1 to 200; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// Cursor: `next` of the page before.
    after: Option<String>,
}

impl Which {
    fn query(self) -> Result<AuditQuery, Problem> {
        let request = self.request.map(|text| text.parse::<RequestId>()).transpose();
        let grant = self.grant.map(|text| text.parse::<GrantId>()).transpose();
        Ok(AuditQuery {
            request: request.map_err(|error: IdError| Problem::input("request", error))?,
            grant: grant.map_err(|error: IdError| Problem::input("grant", error))?,
            correlation: self.correlation,
            page: paging(self.limit, self.after)?,
        })
    }
}

/// Read the audit log
///
/// Oldest first. Administrators and auditors see all of it, others what concerns them.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit", operation_id = "listEvents", params(Which),
    responses((status = 200, description = "A page of events", body = List<EventView>), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    Parameters(which): Parameters<Which>,
) -> Result<Json<List<EventView>>, Problem> {
    Ok(Json(edge.broker.audit(&ctx, which.query()?).await?))
}
