//! Which problem each refusal of the broker becomes. The broker knows nothing of HTTP, so the table is here.

use super::problem::{Kind, Problem};
use crate::{broker::BrokerError, ports::connector::Fault};

/// Seconds after which a transient failure is worth another try.
const SOON: u32 = 2;
/// Seconds after which a target, or a broker that starts or stops, is worth another try.
const LATER: u32 = 10;
/// Seconds after which a source that was stopped may try again: people decide meanwhile.
const HELD: u32 = 300;

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        let text = error.to_string();
        match error {
            BrokerError::Unauthenticated => Self::new(Kind::Unauthenticated, text),
            BrokerError::Invalid { field, .. } => Self::new(Kind::UnusableInput, text).at(field),
            BrokerError::NotFound(_) => Self::new(Kind::NotFound, text),
            BrokerError::Denied { reasons, conditions } => {
                Self::new(Kind::PolicyDenied, text).explained(reasons, conditions)
            }
            BrokerError::Forbidden(_) => Self::new(Kind::Forbidden, text),
            BrokerError::ProveAgain(_) => Self::new(Kind::ProveAgain, text),
            BrokerError::Locked { .. } => Self::new(Kind::Locked, text),
            BrokerError::NobodyCanApprove { .. } => Self::new(Kind::NobodyCanApprove, text),
            BrokerError::State(_) => Self::new(Kind::StateConflict, text),
            BrokerError::KeyReused(_) => Self::new(Kind::KeyReused, text).at("Idempotency-Key"),
            BrokerError::TooMany(_) => Self::new(Kind::TooManyOpen, text),
            BrokerError::Held { .. } => Self::new(Kind::MassChangeHeld, text).retry_after(HELD),
            BrokerError::Target(Fault::Unavailable(_)) => Self::new(Kind::TargetUnavailable, text).retry_after(LATER),
            BrokerError::Target(Fault::Refused(_) | Fault::Foreign(_)) => Self::new(Kind::TargetRefused, text),
            BrokerError::Observing => Self::new(Kind::Observing, text).retry_after(LATER),
            BrokerError::Closing => Self::new(Kind::Closing, text).retry_after(SOON),
            BrokerError::Store(error) if error.is_transient() => {
                Self::new(Kind::LedgerUnavailable, text).retry_after(SOON).because(chain(&error))
            }
            BrokerError::Store(error) if error.is_contention() => Self::new(
                Kind::StateConflict,
                "somebody else changed this at the same moment; look at it again before repeating",
            )
            .because(chain(&error)),
            BrokerError::Store(error) => Self::internal(chain(&error)),
            BrokerError::Entropy(error) => Self::internal(chain(&error)),
            BrokerError::Sign(error) => Self::internal(chain(&error)),
        }
    }
}

/// An error with everything that led to it, for the log.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http::{StatusCode, header};

    use super::*;
    use crate::{
        domain::decision::{Condition, Reason},
        ports::entropy::EntropyError,
    };

    fn status(error: BrokerError) -> StatusCode {
        Problem::from(error).kind().status()
    }

    #[test]
    fn every_refusal_has_its_status() {
        let text = || "x".to_owned();
        for (error, want) in [
            (BrokerError::Unauthenticated, 401),
            (BrokerError::invalid("reason", "too long"), 422),
            (BrokerError::NotFound("grant"), 404),
            (BrokerError::Denied { reasons: Vec::new(), conditions: Vec::new() }, 403),
            (BrokerError::Forbidden("admins only"), 403),
            (BrokerError::ProveAgain(crate::domain::time::Ttl::seconds_or_one(60)), 403),
            (BrokerError::Locked { kind: "target", reason: text() }, 423),
            (BrokerError::NobodyCanApprove { needed: 1, groups: text(), available: 0 }, 422),
            (BrokerError::State(text()), 409),
            (BrokerError::TooMany(text()), 429),
            (BrokerError::Held { name: text() }, 503),
            (BrokerError::Target(Fault::Refused(text())), 502),
            (BrokerError::Target(Fault::Foreign(text())), 502),
            (BrokerError::Target(Fault::Unavailable(text())), 503),
            (BrokerError::Observing, 503),
            (BrokerError::Closing, 503),
            (BrokerError::Entropy(EntropyError), 500),
        ] {
            let name = format!("{error:?}");
            assert_eq!(status(error).as_u16(), want, "{name}");
        }
    }

    #[test]
    fn a_bad_field_is_named() {
        let problem = Problem::from(BrokerError::invalid("ticket", "at most 100 characters"));
        assert_eq!(problem.field(), Some("ticket"));
        assert_eq!(problem.detail(), "ticket: at most 100 characters");
    }

    #[test]
    fn a_failure_inside_is_not_told() {
        let problem = Problem::from(BrokerError::Entropy(EntropyError));
        assert!(!problem.detail().contains("random"), "{}", problem.detail());
        assert_eq!(problem.cause(), Some("the system's random number generator failed"));
    }

    #[test]
    fn what_passes_says_when_to_come_again() {
        let response = Problem::from(BrokerError::Target(Fault::Unavailable("down".into()))).into_response();
        assert_eq!(response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()), Some("10"));
    }

    #[test]
    fn a_denial_carries_reasons_and_conditions() {
        let denied = BrokerError::Denied {
            reasons: vec![Reason {
                action: "Request".into(),
                policy: "prod-needs-ticket".into(),
                effect: "forbid".into(),
                text: "production needs a ticket".into(),
            }],
            conditions: vec![Condition { text: "a ticket is given".into(), met: false }],
        };
        let id = crate::domain::id::CorrelationId::new(ulid::Ulid::from_parts(1, 2));
        let body: serde_json::Value = serde_json::from_slice(&Problem::from(denied).render(id)).unwrap();
        insta::assert_json_snapshot!(body);
    }
}
