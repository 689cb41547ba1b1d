//! Sources of identities: which one calls, and the tokens that they show.

use super::{
    Broker, BrokerError,
    authenticate::{token_hash, well_formed},
    record::Cause,
};
use crate::domain::{id::CorrelationId, identity::Source, time::Timestamp};

/// Prefix of the tokens of sources; secret scanners look for it.
pub(super) const SOURCE_TOKEN: &str = "tgd_";

/// The context of one call of a source: the first parameter of the verbs that are for sources.
#[derive(Debug, Clone)]
pub struct SourceCtx {
    /// Which source calls: authenticated.
    pub source: Source,
    /// Which surface: `scim`, `feed`, `pull`.
    pub via: &'static str,
    /// Every effect of the call carries it.
    pub correlation: CorrelationId,
    /// When the call came in.
    pub now: Timestamp,
}

impl From<&SourceCtx> for Cause {
    fn from(ctx: &SourceCtx) -> Self {
        Self { actor: None, via: ctx.via, correlation: ctx.correlation, now: ctx.now }
    }
}

impl Broker {
    /// The source behind a bearer token.
    pub async fn authenticate_source(&self, bearer: &str, via: &'static str) -> Result<SourceCtx, BrokerError> {
        let now = self.now();
        if !well_formed(bearer, SOURCE_TOKEN) {
            return Err(BrokerError::Unauthenticated);
        }
        let source = self.store.source_of_token(&token_hash(bearer), now).await?;
        let source = source.ok_or(BrokerError::Unauthenticated)?;
        Ok(SourceCtx { source, via, correlation: CorrelationId::new(self.entropy.ulid(now)?), now })
    }
}
