//! Named leases: which broker does a periodic task.

use sqlx::query;

use super::{StoreError, Tx};
use crate::domain::time::Timestamp;

impl Tx {
    /// Take or renew a named lease; false if another broker holds it.
    pub async fn take_lease(
        &mut self,
        name: &str,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO leases (name, owner, until, epoch) VALUES ($1, $2, $3, 1) \
                           ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until, \
                           epoch = leases.epoch + 1 WHERE leases.owner = excluded.owner OR leases.until <= $4";
        let touched = self.execute(query(SQL).bind(name).bind(owner).bind(until.micros()).bind(now.micros())).await?;
        Ok(touched == 1)
    }
}
