//! Errors as RFC 9457 `application/problem+json`, with stable types that `docs/errors.md` lists.
//!
//! A [`Problem`] travels as a response without a body; the call middleware renders it, because only it knows the
//! request id. What went wrong inside is written to the log under that id and is never sent.

use std::borrow::Cow;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    broker::BrokerError,
    domain::{
        decision::{Condition, Reason},
        id::CorrelationId,
    },
};

/// Where the types live; the documentation of each is at `docs/errors.md`.
pub const BASE: &str = "https://tidegate.dev/problems/";

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $status:ident $slug:literal $title:literal;)*) => {
        /// The stable types of problems.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        impl Kind {
            /// All of them, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Last part of the type's address; never changes.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// A few words for people; the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }
        }
    };
}

kinds! {
    /// The body is not JSON.
    InvalidJson = BAD_REQUEST "invalid-json" "The body is not valid JSON";
    /// A field, header or parameter has the wrong form.
    InvalidInput = BAD_REQUEST "invalid-input" "The input has the wrong form";
    /// No valid token.
    Unauthenticated = UNAUTHORIZED "unauthenticated" "Sign in first";
    /// Policy says no.
    PolicyDenied = FORBIDDEN "policy-denied" "Policy does not allow this";
    /// Not for this actor, whatever policy says.
    Forbidden = FORBIDDEN "forbidden" "This is not for you to do";
    /// The last sign-in is too long ago.
    ProveAgain = FORBIDDEN "prove-again" "Sign in again first";
    /// Not there, or not for you to see.
    NotFound = NOT_FOUND "not-found" "There is no such thing";
    /// No such path.
    UnknownRoute = NOT_FOUND "unknown-route" "There is nothing at this path";
    /// The path has other methods.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method-not-allowed" "This path does not have this method";
    /// The body trickled in too slowly.
    SlowBody = REQUEST_TIMEOUT "slow-body" "The body came in too slowly";
    /// The state of things does not allow it.
    StateConflict = CONFLICT "state-conflict" "The state does not allow this";
    /// Idempotency key with another body.
    KeyReused = CONFLICT "idempotency-key-reused" "The Idempotency-Key belongs to another request";
    /// It is not the version that the caller knows.
    PreconditionFailed = PRECONDITION_FAILED "precondition-failed" "It was changed meanwhile";
    /// Too large a body.
    BodyTooLarge = PAYLOAD_TOO_LARGE "body-too-large" "The body is too large";
    /// Not the media type that is read here.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "The body has the wrong media type";
    /// Well-formed, but of no use.
    UnusableInput = UNPROCESSABLE_ENTITY "unusable-input" "The input cannot be used";
    /// Nobody could approve.
    NobodyCanApprove = UNPROCESSABLE_ENTITY "nobody-can-approve" "Nobody can approve this";
    /// A kill switch is in force.
    Locked = LOCKED "locked" "A lock is in force";
    /// Too much open already.
    TooManyOpen = TOO_MANY_REQUESTS "too-many-open" "Too much is open already";
    /// Too many calls.
    RateLimited = TOO_MANY_REQUESTS "rate-limited" "Too many calls";
    /// A bug or a broken machine.
    Internal = INTERNAL_SERVER_ERROR "internal" "Something went wrong inside the broker";
    /// Not something that is done here.
    NotImplemented = NOT_IMPLEMENTED "not-implemented" "This is not implemented";
    /// The target said no.
    TargetRefused = BAD_GATEWAY "target-refused" "The target refused";
    /// The target does not answer.
    TargetUnavailable = SERVICE_UNAVAILABLE "target-unavailable" "The target is unavailable";
    /// The ledger does not answer.
    LedgerUnavailable = SERVICE_UNAVAILABLE "ledger-unavailable" "The ledger is unavailable";
    /// A source would take away too many people at once.
    MassChangeHeld = SERVICE_UNAVAILABLE "mass-change-held" "Too many people would leave at once";
    /// Too many calls at once, over all callers.
    Overloaded = SERVICE_UNAVAILABLE "overloaded" "The broker is busy";
    /// Restored or cloned: observes only.
    Observing = SERVICE_UNAVAILABLE "observing" "The broker only observes";
    /// Shutting down.
    Closing = SERVICE_UNAVAILABLE "closing" "The broker is shutting down";
    /// It took too long.
    TimedOut = GATEWAY_TIMEOUT "timed-out" "The answer took too long";
}

/// A refusal on its way to the client.
#[derive(Debug, Clone)]
pub struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    detail: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    reasons: Vec<Reason>,
    conditions: Vec<Condition>,
    retry_after: Option<u32>,
    token_given: bool,
    shown: bool,
    cause: Option<String>,
    scim_type: Option<&'static str>,
}

/// The rendered document (RFC 9457 §3).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "https://tidegate.dev/problems/policy-denied", "title": "Policy does not allow this", "status": 403,
    "detail": "policy does not allow this", "instance": "cor_01KVF3T2M8XQ4B7N9D5R6S1W0Z",
    "conditions": [{"text": "a ticket is given", "met": false}]
}))]
pub struct ProblemDocument<'a> {
    /// Stable address of the type; `docs/errors.md` lists them.
    #[serde(rename = "type")]
    r#type: String,
    /// A few words, the same for every occurrence of the type.
    title: &'a str,
    /// The HTTP status again.
    status: u16,
    /// What happened this time, and what to do about it.
    detail: &'a str,
    /// The request id; also in the `X-Request-Id` header and in the log.
    instance: String,
    /// The field, parameter or header at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// The policies that decided.
    #[serde(skip_serializing_if = "<[Reason]>::is_empty")]
    #[schema(required = false)]
    reasons: &'a [Reason],
    /// What would have to hold.
    #[serde(skip_serializing_if = "<[Condition]>::is_empty")]
    #[schema(required = false)]
    conditions: &'a [Condition],
}

impl Problem {
    /// A problem of that kind.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            detail: detail.into(),
            field: None,
            reasons: Vec::new(),
            conditions: Vec::new(),
            retry_after: None,
            token_given: false,
            shown: false,
            cause: None,
            scim_type: None,
        }))
    }

    /// A field, parameter or header that has the wrong form (400).
    pub fn input(field: impl Into<Cow<'static, str>>, detail: impl std::fmt::Display) -> Self {
        let field = field.into();
        let mut problem = Self::new(Kind::InvalidInput, format!("{field}: {detail}"));
        problem.0.field = Some(field);
        problem
    }

    /// Not there, or not for you to see.
    pub fn not_found(what: &'static str) -> Self {
        BrokerError::NotFound(what).into()
    }

    /// No valid token; `given` if there was one, which goes into the challenge (RFC 6750 §3).
    pub fn unauthenticated(given: bool) -> Self {
        let mut problem = Self::from(BrokerError::Unauthenticated);
        problem.0.token_given = given;
        problem
    }

    /// A failure of ours: `cause` goes to the log only.
    pub fn internal(cause: impl Into<String>) -> Self {
        let mut problem =
            Self::new(Kind::Internal, "nothing is known to have been changed; tell an administrator the instance");
        problem.0.cause = Some(cause.into());
        problem
    }

    /// Name the field, parameter or header at fault.
    #[must_use]
    pub fn at(mut self, field: &'static str) -> Self {
        self.0.field = Some(Cow::Borrowed(field));
        self
    }

    /// Add what policy said.
    #[must_use]
    pub fn explained(mut self, reasons: Vec<Reason>, conditions: Vec<Condition>) -> Self {
        self.0.reasons = reasons;
        self.0.conditions = conditions;
        self
    }

    /// Add what is for the log only.
    #[must_use]
    pub fn because(mut self, cause: String) -> Self {
        self.0.cause = Some(cause);
        self
    }

    /// Say what SCIM calls it (RFC 7644 §3.12).
    #[must_use]
    pub fn of_scim_type(mut self, scim_type: Option<&'static str>) -> Self {
        self.0.scim_type = scim_type;
        self
    }

    /// Say when to come again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.0.retry_after = Some(seconds.max(1));
        self
    }

    /// Which type it is.
    pub const fn kind(&self) -> Kind {
        self.0.kind
    }

    /// What is for the log only.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// What the client is told.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The field, parameter or header at fault.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// The policies that decided.
    pub fn reasons(&self) -> &[Reason] {
        &self.0.reasons
    }

    /// What would have to hold.
    pub fn conditions(&self) -> &[Condition] {
        &self.0.conditions
    }

    /// When to come again.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.0.retry_after
    }

    /// The answer has a body that tells of it already: only the log is still to hear of it.
    #[must_use]
    pub fn shown(mut self) -> Self {
        self.0.shown = true;
        self
    }

    /// Has the answer a body already?
    pub fn is_shown(&self) -> bool {
        self.0.shown
    }

    /// The document, as bytes.
    pub fn render(&self, instance: CorrelationId) -> Vec<u8> {
        let inner = &*self.0;
        let document = ProblemDocument {
            r#type: format!("{BASE}{}", inner.kind.slug()),
            title: inner.kind.title(),
            status: inner.kind.status().as_u16(),
            detail: &inner.detail,
            instance: instance.to_string(),
            field: inner.field.as_deref(),
            reasons: &inner.reasons,
            conditions: &inner.conditions,
        };
        serde_json::to_vec(&document).unwrap_or_default()
    }
}

impl Problem {
    /// The same as an error of SCIM (RFC 7644 §3.12).
    pub fn scim_body(&self) -> serde_json::Value {
        let scim_type = match self.0.kind {
            Kind::InvalidJson => Some("invalidSyntax"),
            _ => self.0.scim_type,
        };
        let mut body = serde_json::json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": self.0.kind.status().as_u16().to_string(),
            "detail": self.0.detail,
        });
        if let (serde_json::Value::Object(body), Some(scim_type)) = (&mut body, scim_type) {
            body.insert("scimType".to_owned(), scim_type.into());
        }
        body
    }
}

impl IntoResponse for Problem {
    /// Status and headers; the call middleware adds the body.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.0.kind.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.0.kind == Kind::Unauthenticated {
            let challenge = if self.0.token_given {
                "Bearer realm=\"tidegate\", error=\"invalid_token\""
            } else {
                "Bearer realm=\"tidegate\""
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response.extensions_mut().insert(self);
        response
    }
}
