//! Who was seen, to the hour: remembered in memory, and written once an hour for each, not with each call.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use lru::LruCache;

use super::{Broker, BrokerError};
use crate::domain::{
    id::{IdentityId, TokenId},
    time::Timestamp,
};

/// Kept apart from one another; more are written more than once an hour.
const KEPT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(49_999);
const HOUR: i64 = 3_600;

type Seen = (IdentityId, Option<TokenId>);

/// What is known of this hour.
pub(super) struct Sightings(Mutex<Recent>);

struct Recent {
    /// In which hour.
    hours: LruCache<Seen, i64>,
    waiting: Vec<(Seen, Timestamp)>,
}

impl Sightings {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Recent { hours: LruCache::new(KEPT), waiting: Vec::new() }))
    }

    /// Somebody was seen, with that token.
    pub(super) fn add(&self, identity: IdentityId, token: Option<TokenId>, now: Timestamp) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hour = now.seconds().div_euclid(HOUR);
        if recent.hours.put((identity, token), hour) != Some(hour) {
            recent.waiting.push(((identity, token), now));
        }
    }

    fn take(&self) -> Vec<(Seen, Timestamp)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting)
    }
}

impl Broker {
    /// Write who was seen since the last time; how many there were. What a crash forgets is seen again.
    pub async fn record_sightings(&self) -> Result<usize, BrokerError> {
        if self.is_observing() {
            return Ok(0);
        }
        let seen = self.sightings.take();
        for chunk in seen.chunks(100) {
            loop {
                let mut tx = self.store.begin_background().await?;
                let written = async {
                    for ((identity, token), at) in chunk {
                        if tx.record_sighting(*identity, *token, *at).await? {
                            self.record_first_login(&mut tx, *identity, *at).await?;
                        }
                    }
                    Ok(())
                }
                .await;
                if let Some(result) = tx.end::<_, BrokerError>(written).await {
                    result?;
                    break;
                }
            }
        }
        Ok(seen.len())
    }
}
