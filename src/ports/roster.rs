//! The roster port: a source of truth that is asked who exists.

use async_trait::async_trait;

use super::connector::Fault;
use crate::domain::roster::Line;

/// A source that can be read from its beginning to its end.
#[async_trait]
pub trait Roster: Send + Sync {
    /// Begin to read.
    async fn open(&self) -> Result<Box<dyn Reading>, Fault>;
}

/// One reading.
#[async_trait]
pub trait Reading: Send {
    /// The next lines; none at the end. A fault is no end: whoever was not read is not gone.
    async fn next(&mut self) -> Result<Vec<Line>, Fault>;
}
