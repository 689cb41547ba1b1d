//! Kill switches: let one fall, lift one.

use axum::{extract::State, response::Response};

use crate::{
    broker::{input::NewLock, view::LockKind},
    domain::id::LockId,
    edge::{
        inbound::{call::carry_through, path::PathId, problem::Problem, state::Edge},
        web::{
            frame::see_other,
            visit::{Fields, Posted},
        },
    },
};

/// Pages that have such forms.
const BACK: [&str; 3] = ["/agents", "/grants", "/people"];

fn back(fields: &Fields, said: &str) -> Result<Response, Problem> {
    let wanted = fields.get("back").unwrap_or_default();
    let known = BACK.iter().find(|p| wanted == **p);
    let person = wanted.strip_prefix("/people/").and_then(|id| id.parse::<crate::domain::id::IdentityId>().ok());
    match (known, person) {
        (_, Some(id)) => see_other(&format!("/people/{id}?said={said}")),
        (Some(path), None) => see_other(&format!("{path}?said={said}")),
        (None, None) => see_other(&format!("/grants?said={said}")),
    }
}

/// `POST /locks`.
pub async fn fall(State(edge): State<Edge>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let kind = match fields.get("kind") {
        Some("identity") => LockKind::Identity,
        Some("target") => LockKind::Target,
        Some("entitlement") => LockKind::Entitlement,
        _ => return Err(Problem::input("kind", "is `identity`, `target` or `entitlement`")),
    };
    let lock = NewLock { kind, value: fields.text("value"), reason: fields.text("reason") };
    carry_through(async move { edge.broker.lock(&visitor.ctx, lock).await }).await?;
    back(&fields, "locked")
}

/// `POST /locks/{id}/lift`.
pub async fn lift(State(edge): State<Edge>, PathId(id): PathId<LockId>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    carry_through(async move { edge.broker.unlock(&visitor.ctx, id).await }).await?;
    back(&fields, "lifted")
}
