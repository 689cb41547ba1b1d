//! Sessions of people in the portal, as hashes.

use sqlx::{any::AnyRow, query};

use super::{
    Store, StoreError, Tx,
    identities::{SEPARATOR, subject, subject_columns},
    row::{Reader, readable},
};
use crate::domain::{
    id::{CorrelationId, IdentityId, SessionId},
    identity::Subject,
    time::Timestamp,
};

/// Somebody who has signed in.
#[derive(Debug, Clone)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Who.
    pub identity: IdentityId,
    /// How they signed in.
    pub method: String,
    /// What the browser says about itself.
    pub user_agent: String,
    /// From where.
    pub address: String,
    /// The call that it began with.
    pub correlation: CorrelationId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was used last, to the minute.
    pub seen_at: Timestamp,
    /// It ends then, unless it is used before.
    pub idle_at: Timestamp,
    /// It ends then, whatever happens.
    pub expires_at: Timestamp,
    /// When the person last showed who they are.
    pub proved_at: Timestamp,
}

macro_rules! columns {
    () => {
        "s.id AS session_id, s.identity_id, s.method, s.user_agent, s.address, s.correlation_id, s.created_at, \
         s.seen_at, s.idle_at, s.expires_at, s.proved_at"
    };
}

fn session(row: &AnyRow) -> Result<Session, StoreError> {
    let r = Reader::new("sessions", row);
    Ok(Session {
        id: r.parsed("session_id")?,
        identity: r.parsed("identity_id")?,
        method: r.text("method")?,
        user_agent: r.text("user_agent")?,
        address: r.text("address")?,
        correlation: r.parsed("correlation_id")?,
        created_at: r.instant("created_at")?,
        seen_at: r.instant("seen_at")?,
        idle_at: r.instant("idle_at")?,
        expires_at: r.instant("expires_at")?,
        proved_at: r.optional_instant("proved_at")?.map_or_else(|| r.instant("created_at"), Ok)?,
    })
}

impl Store {
    /// The session with this hash, if it is live at `now`, and whose it is.
    pub async fn subject_of_session(
        &self,
        hash: &[u8],
        now: Timestamp,
    ) -> Result<Option<(Session, Subject)>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            columns!(),
            ", ",
            subject_columns!(),
            " FROM sessions s JOIN identities i ON i.id = s.identity_id \
             WHERE s.hash = $3 AND s.ended_at IS NULL AND s.idle_at > $1 AND s.expires_at > $1 AND i.active = 1"
        );
        let row = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(hash.to_vec())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(|row| Ok((session(row)?, subject(row)?))).transpose()
    }

    /// Live sessions of an identity at `now`, oldest first, at most `limit`.
    pub async fn sessions_of(
        &self,
        identity: IdentityId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            columns!(),
            " FROM sessions s WHERE s.identity_id = $1 AND s.ended_at IS NULL AND s.idle_at > $2 \
             AND s.expires_at > $2 ORDER BY s.id LIMIT $3"
        );
        let rows = query(SQL)
            .bind(identity.to_string())
            .bind(now.micros())
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, session))
    }
}

impl Tx {
    /// Keep a new session under the hash of its secret.
    pub async fn insert_session(&mut self, s: &Session, hash: &[u8]) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO sessions (id, identity_id, hash, method, user_agent, address, correlation_id, \
                           created_at, seen_at, idle_at, expires_at, proved_at) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        self.execute_one(
            query(SQL)
                .bind(s.id.to_string())
                .bind(s.identity.to_string())
                .bind(hash.to_vec())
                .bind(s.method.clone())
                .bind(s.user_agent.clone())
                .bind(s.address.clone())
                .bind(s.correlation.to_string())
                .bind(s.created_at.micros())
                .bind(s.seen_at.micros())
                .bind(s.idle_at.micros())
                .bind(s.expires_at.micros())
                .bind(s.proved_at.micros()),
        )
        .await
    }

    /// It was used. Says nothing about anybody's rights, so it leaves no event.
    pub async fn touch_session(
        &mut self,
        id: SessionId,
        seen_at: Timestamp,
        idle_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            query("UPDATE sessions SET seen_at = $1, idle_at = $2 WHERE id = $3 AND ended_at IS NULL AND seen_at < $1")
                .bind(seen_at.micros())
                .bind(idle_at.micros())
                .bind(id.to_string()),
        )
        .await?;
        Ok(())
    }

    /// A live session, held for the rest of the transaction: whoever ends it comes after. False if it does not live.
    pub async fn hold_session(&mut self, id: SessionId) -> Result<bool, StoreError> {
        let held = self
            .execute(
                query("UPDATE sessions SET ended_at = ended_at WHERE id = $1 AND ended_at IS NULL")
                    .bind(id.to_string()),
            )
            .await?;
        Ok(held == 1)
    }

    /// What hangs on one session hangs on another of the same person from now on.
    pub async fn hand_over_session(&mut self, from: SessionId, to: SessionId) -> Result<(), StoreError> {
        const TOKENS: &str = "UPDATE tokens SET session_id = $1 WHERE session_id = $2 AND revoked_at IS NULL";
        const CODES: &str = "UPDATE sign_in_codes SET session_id = $1 WHERE session_id = $2 AND state = 'approved'";
        for sql in [TOKENS, CODES] {
            self.execute(query(sql).bind(to.to_string()).bind(from.to_string())).await?;
        }
        Ok(())
    }

    /// End the tokens that hang on sessions of this identity which are over; how many there were.
    pub async fn revoke_tokens_of_ended_sessions(
        &mut self,
        identity: IdentityId,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE tokens SET revoked_at = $1 WHERE identity_id = $2 AND session_id IS NOT NULL \
                           AND revoked_at IS NULL AND EXISTS (SELECT 1 FROM sessions s WHERE s.id = tokens.session_id \
                           AND s.ended_at IS NOT NULL)";
        self.execute(query(SQL).bind(now.micros()).bind(identity.to_string())).await
    }

    /// End one session, of that identity if one is given; whose it was, or `None` if there is none that lives.
    pub async fn end_session(
        &mut self,
        id: SessionId,
        identity: Option<IdentityId>,
        now: Timestamp,
    ) -> Result<Option<IdentityId>, StoreError> {
        const SQL: &str = "UPDATE sessions SET ended_at = $1 WHERE id = $2 AND ($3 = '' OR identity_id = $3) \
                           AND ended_at IS NULL RETURNING identity_id";
        let rows = self
            .write_returning(
                query(SQL)
                    .bind(now.micros())
                    .bind(id.to_string())
                    .bind(identity.map_or_else(String::new, |i| i.to_string())),
            )
            .await?;
        rows.first().map(|row| Reader::new("sessions", row).parsed("identity_id")).transpose()
    }

    /// End all sessions of an identity; how many there were.
    pub async fn revoke_sessions_of(&mut self, identity: IdentityId, now: Timestamp) -> Result<u64, StoreError> {
        self.execute(
            query("UPDATE sessions SET ended_at = $1 WHERE identity_id = $2 AND ended_at IS NULL")
                .bind(now.micros())
                .bind(identity.to_string()),
        )
        .await
    }
}
