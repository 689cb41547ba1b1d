//! Errors as RFC 6749 §5.2 wants them. What has no code there (busy, broken, too many calls) is a problem as
//! everywhere else.

use std::collections::BTreeMap;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{Content, Ref, RefOr, ResponseBuilder},
};

use crate::edge::http::{Public, problem::Problem};

/// Codes of RFC 6749 §5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OAuthErrorCode)]
pub enum Code {
    /// A parameter is missing, doubled or malformed.
    InvalidRequest,
    /// The client is unknown or its secret wrong.
    InvalidClient,
    /// Not `client_credentials`.
    UnsupportedGrantType,
    /// A scope that does not exist.
    InvalidScope,
}

/// The document of an error.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OAuthError)]
pub struct Document {
    /// The code.
    error: Code,
    /// In words.
    error_description: String,
}

/// Why an OAuth endpoint refused.
#[derive(Debug)]
pub enum Refusal {
    /// With a code of the RFC.
    Coded(Code, String),
    /// As everywhere else.
    Problem(Problem),
}

impl Refusal {
    /// A parameter is missing, doubled or malformed.
    pub fn invalid(description: impl Into<String>) -> Self {
        Self::Coded(Code::InvalidRequest, description.into())
    }

    /// The client is unknown or its secret wrong.
    pub fn client() -> Self {
        Self::Coded(Code::InvalidClient, "the client is unknown, its secret is wrong, or it is deactivated".to_owned())
    }
}

impl<E: Into<Problem>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Problem(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Coded(code, error_description) => {
                let status = match code {
                    Code::InvalidClient => StatusCode::UNAUTHORIZED,
                    _ => StatusCode::BAD_REQUEST,
                };
                let mut response = (status, Json(Document { error: code, error_description })).into_response();
                if code == Code::InvalidClient {
                    let challenge = HeaderValue::from_static("Basic realm=\"tidegate\"");
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                }
                response
            }
        }
    }
}

impl IntoResponses for Refusal {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let coded = |description: &str| {
            let content = Content::new(Some(RefOr::Ref(Ref::from_schema_name("OAuthError"))));
            RefOr::T(ResponseBuilder::new().description(description).content("application/json", content).build())
        };
        let mut all = Public::responses();
        all.insert("400".to_owned(), coded("`invalid_request`, `unsupported_grant_type` or `invalid_scope`"));
        all.insert("401".to_owned(), coded("`invalid_client`"));
        all
    }
}
