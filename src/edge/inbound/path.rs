//! Ids in paths.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::problem::Problem;
use crate::domain::id::{
    EventId, GrantId, IdentityId, LockId, MessageId, RequestId, RunId, SessionId, TaskId, TokenId,
};

/// An id that can stand in a path, and what it is an id of.
pub trait InPath: FromStr {
    /// What is not there if the id is none.
    const NOUN: &'static str;
}

macro_rules! in_path {
    ($($id:ident = $noun:literal;)*) => {$(
        impl InPath for $id {
            const NOUN: &'static str = $noun;
        }
    )*};
}

in_path! {
    RequestId = "request";
    GrantId = "grant";
    LockId = "lock";
    TokenId = "token";
    EventId = "event";
    SessionId = "session";
    TaskId = "task";
    RunId = "run";
    MessageId = "delivery";
    IdentityId = "identity";
}

/// The id in the path. What is not an id names nothing, so it is 404 and not 400.
pub struct PathId<T>(pub T);

impl<T: InPath, S: Send + Sync> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.map_err(|_| Problem::not_found(T::NOUN))?;
        text.0.parse().map(Self).map_err(|_| Problem::not_found(T::NOUN))
    }
}
