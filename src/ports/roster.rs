//! The roster port: a source of truth that is asked who exists.

use async_trait::async_trait;

use super::connector::Fault;
use crate::domain::roster::Line;

/// A source that can be read from its beginning to its end.
#[async_trait]
pub trait Roster: Send + Sync {
    /// Begin to read.
    async fn open(&self) -> Result<Box<dyn Reading>, Fault>;

    /// Whoever was not listed, asked for by the source's own id: lists miss some. `None`: they are gone, or there is no
    /// asking.
    async fn ask(&self, _external_id: &str) -> Result<Option<Line>, Fault> {
        Ok(None)
    }
}

/// One reading.
#[async_trait]
pub trait Reading: Send {
    /// The next lines; none at the end. A fault is no end: whoever was not read is not gone.
    async fn next(&mut self) -> Result<Vec<Line>, Fault>;

    /// At the end: was it all that the source says it has?
    fn is_whole(&self) -> bool {
        true
    }
}
