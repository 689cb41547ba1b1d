//! Sources of identities: which one calls, and the tokens that they show.

use std::time::Duration;

use super::{
    Broker, BrokerError,
    authenticate::{token_hash, well_formed},
    record::Cause,
};
use crate::domain::{
    id::{CorrelationId, SourceId},
    identity::Source,
    time::Timestamp,
};

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

/// That a source was heard of is written down at most this often.
const HEARD_EVERY: Duration = Duration::from_secs(60);

impl Broker {
    /// Remember, now and then, that a source was heard of.
    async fn source_heard(&self, id: SourceId, now: Timestamp) {
        {
            let mut heard = self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if heard.get(&id).is_some_and(|at| now.since(*at) < HEARD_EVERY) || self.may_change().is_err() {
                return;
            }
            heard.insert(id, now);
        }
        let written = async {
            loop {
                let mut tx = self.store.begin_background().await?;
                let written = tx.source_seen(id, now).await;
                if let Some(result) = tx.end(written).await {
                    return result;
                }
            }
        };
        if let Err(error) = written.await {
            tracing::warn!(source = %id, error = %error, "it could not be written down that a source was heard of");
        }
    }

    /// The source behind a bearer token.
    pub async fn authenticate_source(&self, bearer: &str, via: &'static str) -> Result<SourceCtx, BrokerError> {
        let now = self.now();
        if !well_formed(bearer, SOURCE_TOKEN) {
            return Err(BrokerError::Unauthenticated);
        }
        let source = self.store.source_of_token(&token_hash(bearer), now).await?;
        let source = source.ok_or(BrokerError::Unauthenticated)?;
        self.source_heard(source.id, now).await;
        Ok(SourceCtx { source, via, correlation: CorrelationId::new(self.entropy.ulid(now)?), now })
    }
}
