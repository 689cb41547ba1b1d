//! The outbox: messages written with the change that caused them, delivered later.

use sqlx::{any::AnyRow, query};

use super::{StoreError, Tx, row::Reader};
use crate::{domain::time::Timestamp, ports::notifier::Message};

/// A message that a worker has leased.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Which notifier delivers it.
    pub notifier: String,
    /// The message.
    pub message: Message,
    /// Tries so far.
    pub attempts: u32,
    /// Fencing token.
    pub epoch: i64,
}

fn outgoing(row: &AnyRow) -> Result<Outgoing, StoreError> {
    let r = Reader::new("outbox", row);
    Ok(Outgoing {
        notifier: r.text("notifier")?,
        message: Message { id: r.parsed("id")?, kind: r.text("kind")?, at: r.instant("at")?, data: r.json("data")? },
        attempts: r.number("attempts")?,
        epoch: r.integer("epoch")?,
    })
}

impl super::Store {
    /// Messages that wait for delivery.
    pub async fn outbox_depth(&self) -> Result<u64, StoreError> {
        let row =
            query("SELECT count(*) AS n FROM outbox WHERE due_at IS NOT NULL").fetch_one(&self.inner.readers).await?;
        Reader::new("outbox", &row).number("n")
    }
}

impl Tx {
    /// Lease messages that are due. Rows that do not decode come back as errors, one each.
    pub async fn lease_messages(
        &mut self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Result<Outgoing, StoreError>>, StoreError> {
        const SQL: &str = "UPDATE outbox SET due_at = $1, epoch = epoch + 1 \
                           WHERE id IN (SELECT id FROM outbox WHERE due_at <= $2 ORDER BY due_at LIMIT $3) \
                           AND due_at <= $2 RETURNING id, notifier, kind, at, data, attempts, epoch";
        let rows = self
            .write_returning(query(SQL).bind(lease_until.micros()).bind(now.micros()).bind(i64::from(limit)))
            .await?;
        Ok(rows.iter().map(outgoing).collect())
    }

    /// Delivered, or given up because the receiver is gone.
    pub async fn settle_message(
        &mut self,
        id: &str,
        epoch: i64,
        at: Timestamp,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE outbox SET due_at = NULL, delivered_at = $1, last_error = $2, attempts = attempts + 1 \
                 WHERE id = $3 AND epoch = $4",
            )
            .bind(at.micros())
            .bind(error)
            .bind(id)
            .bind(epoch),
        )
        .await
    }

    /// Try again later.
    pub async fn postpone_message(
        &mut self,
        id: &str,
        epoch: i64,
        due_at: Timestamp,
        error: &str,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE outbox SET due_at = $1, last_error = $2, attempts = attempts + 1 WHERE id = $3 AND epoch = $4",
            )
            .bind(due_at.micros())
            .bind(error)
            .bind(id)
            .bind(epoch),
        )
        .await
    }
}
