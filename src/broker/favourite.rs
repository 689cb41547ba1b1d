//! Mark what one asks for often.

use super::{Broker, BrokerError, Ctx};

/// Marks of one person.
const MOST: usize = 50;

impl Broker {
    /// Names of the entitlements that the caller has marked.
    pub async fn favourites(&self, ctx: &Ctx) -> Result<std::collections::BTreeSet<String>, BrokerError> {
        Ok(self.store.favourites(ctx.actor_id()).await?)
    }

    /// Mark an entitlement of the catalog, or take the mark away.
    pub async fn mark_favourite(&self, ctx: &Ctx, entitlement: &str, on: bool) -> Result<(), BrokerError> {
        self.may_change()?;
        if on && self.policy().catalog().get(entitlement).is_none() {
            return Err(BrokerError::NotFound("entitlement"));
        }
        if on && self.store.favourites(ctx.actor_id()).await?.len() >= MOST {
            return Err(BrokerError::TooMany(format!("{MOST} favourites are enough; take some back first")));
        }
        loop {
            let mut tx = self.store.begin().await?;
            let written = tx.mark_favourite(ctx.actor_id(), entitlement, on).await;
            if let Some(result) = tx.end(written).await {
                return Ok(result?);
            }
        }
    }
}
