//! What AWS says when it does not do what was asked, and what that means for the broker.

use std::error::Error;

use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

use crate::ports::connector::Fault;

/// An operation that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// AWS's own code (`NoSuchEntity`); empty if AWS was not reached.
    pub code: String,
    /// AWS's words, or what went wrong on the way. Free of secrets.
    pub message: String,
    /// HTTP status; 0 if there was none.
    pub status: u16,
}

impl ApiError {
    /// AWS was not reached, or its answer was not.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self { code: String::new(), message: short(&message.into()), status: 0 }
    }

    /// What AWS answered.
    pub fn answered(code: &str, message: &str, status: u16) -> Self {
        Self { code: code.to_owned(), message: short(message), status }
    }

    /// From the SDK.
    pub fn of_sdk<E: ProvideErrorMetadata + Error + 'static>(error: &SdkError<E>) -> Self {
        match error {
            SdkError::ServiceError(context) => {
                let meta = context.err().meta();
                let status = context.raw().status().as_u16();
                let code = meta.code().unwrap_or(if status >= 500 { "InternalFailure" } else { "Unknown" });
                Self::answered(code, meta.message().unwrap_or("no message"), status)
            }
            other => {
                let mut cause: &dyn Error = other;
                while let Some(next) = cause.source() {
                    cause = next;
                }
                Self::unreachable(cause.to_string())
            }
        }
    }

    /// It is not there.
    pub fn is_missing(&self) -> bool {
        self.code == "NoSuchEntity"
    }

    /// The broker's own credentials were refused: they may have been rotated or have expired.
    pub fn is_about_credentials(&self) -> bool {
        const CODES: [&str; 8] = [
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "RequestExpired",
            "IncompleteSignature",
        ];
        CODES.contains(&self.code.as_str())
    }

    /// AWS is busy: the same call is of use in a moment.
    pub fn is_busy(&self) -> bool {
        const CODES: [&str; 10] = [
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "TooManyRequestsException",
            "RequestLimitExceeded",
            "SlowDown",
            "ConcurrentModification",
            "EntityTemporarilyUnmodifiable",
            "IDPCommunicationError",
        ];
        CODES.contains(&self.code.as_str()) || self.status == 429 || self.status >= 500
    }
}

impl From<ApiError> for Fault {
    fn from(e: ApiError) -> Self {
        if e.code.is_empty() {
            return Self::Unavailable(e.message);
        }
        let text = format!("{}: {}", e.code, e.message);
        if e.is_about_credentials() {
            // Heals when they are put right: nothing is given up for it.
            return Self::Unavailable(format!("AWS does not accept the broker's own credentials: {text}"));
        }
        if e.is_busy() { Self::Unavailable(text) } else { Self::Refused(text) }
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_try_is_of_use_when_aws_is_busy_or_does_not_know_us() {
        for (code, status, transient) in [
            ("Throttling", 400, true),
            ("Anything", 429, true),
            ("ServiceFailure", 500, true),
            ("ExpiredToken", 403, true),
            ("InvalidClientTokenId", 403, true),
            ("AccessDenied", 403, false),
            ("LimitExceeded", 409, false),
            ("ValidationError", 400, false),
        ] {
            assert_eq!(Fault::from(ApiError::answered(code, "x", status)).is_transient(), transient, "{code}");
        }
        assert!(Fault::from(ApiError::unreachable("refused")).is_transient());
    }
}
