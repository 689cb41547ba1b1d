//! The outbox: messages written with the change that caused them, delivered later.

use sqlx::{any::AnyRow, query};

use super::{Page, Store, StoreError, Tx, row::Reader};
use crate::{
    domain::{id::MessageId, time::Timestamp},
    ports::notifier::Message,
};

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

/// A message and what became of it.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Its id.
    pub id: MessageId,
    /// Which notifier delivers it.
    pub notifier: String,
    /// What it tells.
    pub kind: String,
    /// When that happened.
    pub at: Timestamp,
    /// When it is tried next.
    pub due_at: Option<Timestamp>,
    /// Tries so far.
    pub attempts: u32,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it was delivered, or given up.
    pub delivered_at: Option<Timestamp>,
}

fn delivery(row: &AnyRow) -> Result<Delivery, StoreError> {
    let r = Reader::new("outbox", row);
    Ok(Delivery {
        id: r.parsed("id")?,
        notifier: r.text("notifier")?,
        kind: r.text("kind")?,
        at: r.instant("at")?,
        due_at: r.optional_instant("due_at")?,
        attempts: r.number("attempts")?,
        last_error: r.optional_text("last_error")?,
        delivered_at: r.optional_instant("delivered_at")?,
    })
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
    /// Messages and what became of them, newest first, before the cursor.
    pub async fn deliveries(&self, after: Option<&str>, limit: u32) -> Result<Page<Delivery>, StoreError> {
        const SQL: &str = "SELECT id, notifier, kind, at, due_at, attempts, last_error, delivered_at FROM outbox \
                           WHERE id < $1 ORDER BY id DESC LIMIT $2";
        let rows =
            query(SQL).bind(after.unwrap_or("~")).bind(i64::from(limit) + 1).fetch_all(&self.inner.readers).await?;
        Ok(Page::read(&rows, limit, "id", delivery))
    }

    /// One message.
    pub async fn delivery(&self, id: MessageId) -> Result<Option<Delivery>, StoreError> {
        const SQL: &str = "SELECT id, notifier, kind, at, due_at, attempts, last_error, delivered_at FROM outbox \
                           WHERE id = $1";
        let row = query(SQL).bind(id.to_string()).fetch_optional(&self.inner.readers).await?;
        row.as_ref().map(delivery).transpose()
    }

    /// Messages that wait for delivery.
    pub async fn outbox_depth(&self) -> Result<u64, StoreError> {
        let row =
            query("SELECT count(*) AS n FROM outbox WHERE due_at IS NOT NULL").fetch_one(&self.inner.readers).await?;
        Reader::new("outbox", &row).number("n")
    }
}

impl Store {
    /// Notifiers that have a message which is due. One look at the index for each, however many messages there are.
    pub async fn notifiers_due(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        const NEXT: &str = "SELECT notifier FROM outbox WHERE due_at IS NOT NULL AND notifier > $1 \
                            ORDER BY notifier LIMIT 1";
        const DUE: &str = "SELECT id FROM outbox WHERE notifier = $1 AND due_at <= $2 LIMIT 1";
        let (mut due, mut last) = (Vec::new(), String::new());
        while let Some(row) = query(NEXT).bind(last).fetch_optional(&self.inner.readers).await? {
            last = Reader::new("outbox", &row).text("notifier")?;
            let waits = query(DUE).bind(last.clone()).bind(now.micros()).fetch_optional(&self.inner.readers).await?;
            if waits.is_some() {
                due.push(last.clone());
            }
        }
        Ok(due)
    }

    /// Why a receiver hears nothing more, if it said that it is gone.
    pub async fn notifier_gone(&self, name: &str) -> Result<Option<String>, StoreError> {
        let row = query("SELECT why FROM notifiers_gone WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| Reader::new("notifiers_gone", &row).text("why")).transpose()
    }
}

impl Tx {
    /// A receiver is gone: it hears nothing more.
    pub async fn notifier_is_gone(&mut self, name: &str, why: &str, at: Timestamp) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO notifiers_gone (name, at, why) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";
        self.execute(query(SQL).bind(name).bind(at.micros()).bind(why)).await?;
        Ok(())
    }

    /// It is to hear again.
    pub async fn notifier_is_back(&mut self, name: &str) -> Result<(), StoreError> {
        self.execute(query("DELETE FROM notifiers_gone WHERE name = $1").bind(name)).await?;
        Ok(())
    }

    /// Lease messages of a notifier that are due. Rows that do not decode come back as errors, one each.
    pub async fn lease_messages(
        &mut self,
        notifier: &str,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Result<Outgoing, StoreError>>, StoreError> {
        const SQL: &str = "UPDATE outbox SET due_at = $1, epoch = epoch + 1 \
                           WHERE id IN (SELECT id FROM outbox WHERE notifier = $4 AND due_at <= $2 ORDER BY due_at \
                           LIMIT $3) AND due_at <= $2 RETURNING id, notifier, kind, at, data, attempts, epoch";
        let rows = self
            .write_returning(
                query(SQL).bind(lease_until.micros()).bind(now.micros()).bind(i64::from(limit)).bind(notifier),
            )
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

    /// Due now, with all its tries ahead. Whoever is at it at this moment delivers it, and it is delivered once more.
    pub async fn replay_message(&mut self, id: MessageId, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE outbox SET due_at = $1, attempts = 0, epoch = epoch + 1, delivered_at = NULL, \
                           last_error = NULL WHERE id = $2";
        self.execute_one(query(SQL).bind(now.micros()).bind(id.to_string())).await
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
