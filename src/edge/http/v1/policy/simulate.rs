//! `POST /v1/policy/simulate`.

use axum::{Json, extract::State};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    broker::{input::Simulate, view::SimulationView},
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::JsonBody,
        input::{DurationInput, optional_instant, optional_ttl},
        problem::Problem,
    },
};

/// Who, what, when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"identity": "ana", "entitlement": "tokens:orders-read", "duration": "1h", "ticket": "INC-1042"}))]
pub struct Simulation {
    /// Id or unique name; the caller if missing. Others for administrators and auditors only.
    #[serde(default)]
    identity: Option<String>,
    /// Name of the entitlement.
    entitlement: String,
    /// How long; the entitlement's default if missing.
    #[serde(default)]
    duration: Option<DurationInput>,
    /// When (RFC 3339); now if missing.
    #[serde(default)]
    #[schema(format = DateTime)]
    at: Option<String>,
    /// With this reason.
    #[serde(default)]
    reason: Option<String>,
    /// With this ticket.
    #[serde(default)]
    ticket: Option<String>,
    /// As an emergency.
    #[serde(default)]
    emergency: bool,
}

/// Ask what policy would say
///
/// The verdict, the policies that decided, and what would have to hold. Records nothing.
#[utoipa::path(
    post, path = "/v1/policy/simulate", tag = "policy", operation_id = "simulatePolicy", request_body = Simulation,
    responses((status = 200, description = "The verdict", body = SimulationView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    JsonBody(body): JsonBody<Simulation>,
) -> Result<Json<SimulationView>, Problem> {
    let simulate = Simulate {
        duration: optional_ttl(body.duration, "duration")?,
        at: optional_instant(body.at.as_deref(), "at")?,
        identity: body.identity,
        entitlement: body.entitlement,
        reason: body.reason,
        ticket: body.ticket,
        emergency: body.emergency,
    };
    Ok(Json(edge.broker.simulate(&ctx, simulate).await?))
}
