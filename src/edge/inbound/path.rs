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

impl InPath for RequestId {
    const NOUN: &'static str = "request";
}
impl InPath for GrantId {
    const NOUN: &'static str = "grant";
}
impl InPath for LockId {
    const NOUN: &'static str = "lock";
}
impl InPath for TokenId {
    const NOUN: &'static str = "token";
}
impl InPath for EventId {
    const NOUN: &'static str = "event";
}
impl InPath for SessionId {
    const NOUN: &'static str = "session";
}
impl InPath for TaskId {
    const NOUN: &'static str = "task";
}
impl InPath for RunId {
    const NOUN: &'static str = "run";
}
impl InPath for MessageId {
    const NOUN: &'static str = "delivery";
}
impl InPath for IdentityId {
    const NOUN: &'static str = "identity";
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
