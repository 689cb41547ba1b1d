//! `POST /v1/requests`.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    broker::{
        input::Ask,
        view::{Asked, PlanView, RequestView},
    },
    edge::http::{
        Changes, Edge,
        auth::Authenticated,
        body::JsonBody,
        call::carry_through,
        input::{DurationInput, body_hash, idempotency_key, optional_instant, optional_ttl},
        problem::Problem,
    },
};

/// What to ask for.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "entitlements": ["tokens:orders-read"], "duration": "1h", "reason": "Customer 4711 cannot check out", "ticket": "INC-1042"
}))]
pub struct NewRequest {
    /// Names of entitlements, at least one.
    entitlements: Vec<String>,
    /// How long, from activation; the entitlement's default if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration: Option<DurationInput>,
    /// Why.
    reason: String,
    /// Ticket reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ticket: Option<String>,
    /// When access is to start (RFC 3339); at once if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    start_at: Option<String>,
    /// Id or unique name of the identity that will hold the access; the caller if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<String>,
    /// It is an emergency.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    emergency: bool,
    /// Only say what would happen.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

impl NewRequest {
    fn ask(self, idempotency: Option<(String, Vec<u8>)>) -> Result<Ask, Problem> {
        Ok(Ask {
            duration: optional_ttl(self.duration, "duration")?,
            start_at: optional_instant(self.start_at.as_deref(), "start_at")?,
            entitlements: self.entitlements,
            reason: self.reason,
            ticket: self.ticket,
            on_behalf_of: self.on_behalf_of,
            emergency: self.emergency,
            dry_run: self.dry_run,
            idempotency,
        })
    }
}

/// Ask for access
///
/// Policy decides at once: granted, pending until people approve, or refused. With an `Idempotency-Key` a repeated
/// call answers with the request that the first one made (200), and another body under the same key is refused (409).
/// With `dry_run` nothing is recorded, and the answer is the plan.
#[utoipa::path(
    post, path = "/v1/requests", tag = "requests", operation_id = "createRequest",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters; makes a retry harmless")),
    request_body = NewRequest,
    responses(
        (status = 201, description = "It exists now", body = RequestView, headers(("Location" = String, description = "Path of the request"))),
        (status = 200, description = "It existed before (same key, same body), or the plan of a dry run", body = Answer),
        Changes
    )
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    headers: HeaderMap,
    JsonBody(body): JsonBody<NewRequest>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let idempotency = key.map(|key| Ok::<_, Problem>((key, body_hash("/v1/requests", &body)?))).transpose()?;
    let ask = body.ask(idempotency)?;
    let asked = carry_through(async move { edge.broker.ask(&ctx, ask).await }).await?;
    Ok(match &asked {
        Asked::Recorded(view) => {
            let location = [(header::LOCATION, format!("/v1/requests/{}", view.id))];
            (StatusCode::CREATED, location, Json(&asked)).into_response()
        }
        Asked::Repeated(_) | Asked::Planned(_) => Json(&asked).into_response(),
    })
}

/// The request, or the plan of a dry run.
#[derive(ToSchema)]
#[schema(as = RequestOrPlan)]
#[allow(dead_code, reason = "documents an answer of two shapes")]
enum Answer {
    #[schema(title = "The request that the first call made")]
    Repeated(Box<RequestView>),
    #[schema(title = "What would happen")]
    Planned(PlanView),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::time::Ttl,
        edge::http::{body::parse, problem::Kind},
    };

    fn ask(text: &str) -> Result<Ask, Problem> {
        parse::<NewRequest>(text.as_bytes()).and_then(|body| body.ask(None))
    }

    #[test]
    fn a_whole_request_is_read() {
        let ask = ask(
            r#"{"entitlements":["a","b"],"duration":"90m","reason":"r","ticket":"T-1","start_at":"2026-01-31T15:00:00+01:00",
                "on_behalf_of":"bob","emergency":true,"dry_run":true}"#,
        )
        .unwrap();
        assert_eq!(ask.duration.map(Ttl::seconds), Some(5400));
        assert_eq!(ask.start_at.map(|t| t.to_string()).as_deref(), Some("2026-01-31T14:00:00Z"));
        assert!(ask.emergency && ask.dry_run);
        assert_eq!(
            (ask.entitlements.len(), ask.on_behalf_of.as_deref(), ask.ticket.as_deref()),
            (2, Some("bob"), Some("T-1"))
        );
    }

    #[test]
    fn what_may_be_left_out_may_be_null() {
        let ask = ask(r#"{"entitlements":["a"],"reason":"r","duration":null,"ticket":null}"#).unwrap();
        assert!(ask.duration.is_none() && ask.ticket.is_none() && !ask.dry_run);
    }

    #[test]
    fn bad_fields_are_named() {
        for (text, field) in [
            (r#"{"entitlements":["a"],"reason":"r","duration":"0m"}"#, Some("duration")),
            (r#"{"entitlements":["a"],"reason":"r","start_at":"tomorrow"}"#, Some("start_at")),
            (r#"{"entitlements":"a","reason":"r"}"#, None),
            (r#"{"entitlements":["a"]}"#, None),
        ] {
            let problem = ask(text).unwrap_err();
            assert_eq!((problem.kind(), problem.field()), (Kind::InvalidInput, field), "{text}");
        }
    }
}
