//! How many people sources take away, who was held back, and who collided with somebody who is known already.

use sqlx::{any::AnyRow, query};

use super::{
    Store, StoreError, Tx,
    identities::{SEPARATOR, subject, subject_columns},
    joiners,
    row::{Reader, readable},
};
use crate::domain::{
    id::{CorrelationId, IdentityId, SourceId},
    identity::Subject,
    time::Timestamp,
};

/// What a source has taken away within the window, before the one that is leaving now.
#[derive(Debug, Clone, Copy)]
pub struct Departures {
    /// How many are gone.
    pub gone: u64,
    /// This one is held back already, until somebody accepts.
    pub held: bool,
    /// Until then an administrator has accepted whatever comes.
    pub accepted_until: Option<Timestamp>,
}

/// Somebody who would have left while the source was stopped.
#[derive(Debug, Clone)]
pub struct HeldDeparture {
    /// Which source says so.
    pub source: SourceId,
    /// Who.
    pub identity: IdentityId,
    /// When the source said so first.
    pub at: Timestamp,
    /// The call in which it did.
    pub cause: CorrelationId,
    /// It said that they are no longer there at all.
    pub deleted: bool,
}

/// Somebody of whom a source spoke, and who is known here already.
#[derive(Debug, Clone)]
pub struct Collision {
    /// The source.
    pub source: SourceId,
    /// Whom it met.
    pub identity: IdentityId,
    /// The name in the source's words.
    pub name: String,
    /// The source's own id for them.
    pub external_id: Option<String>,
    /// What was the same: `name`, `email`, `external_id`.
    pub matched: String,
}

fn held(row: &AnyRow) -> Result<HeldDeparture, StoreError> {
    let r = Reader::new("held_departures", row);
    Ok(HeldDeparture {
        source: r.parsed("source_id")?,
        identity: r.parsed("identity_id")?,
        at: r.instant("at")?,
        cause: r.parsed("correlation_id")?,
        deleted: r.integer("deleted")? == 1,
    })
}

impl Store {
    /// Who was held back, oldest first: of one source, or of all.
    pub async fn held_departures(&self, source: Option<SourceId>) -> Result<Vec<HeldDeparture>, StoreError> {
        const SQL: &str = "SELECT source_id, identity_id, at, correlation_id, deleted FROM held_departures \
                           WHERE $1 = '' OR source_id = $1 ORDER BY at, identity_id";
        let of = source.map_or_else(String::new, |s| s.to_string());
        Ok(readable(&query(SQL).bind(of).fetch_all(&self.inner.readers).await?, held))
    }

    /// Who was held back and has been accepted since, at most `limit`.
    pub async fn accepted_departures(&self, limit: u32) -> Result<Vec<HeldDeparture>, StoreError> {
        const SQL: &str = "SELECT h.source_id, h.identity_id, h.at, h.correlation_id, h.deleted FROM held_departures h \
                           JOIN departures d ON d.source_id = h.source_id WHERE d.held_at IS NULL \
                           AND d.accepted_until IS NOT NULL ORDER BY h.at LIMIT $1";
        Ok(readable(&query(SQL).bind(i64::from(limit)).fetch_all(&self.inner.readers).await?, held))
    }

    /// Collisions that wait for somebody to decide.
    pub async fn collisions(&self) -> Result<Vec<(Collision, Timestamp)>, StoreError> {
        const SQL: &str = "SELECT source_id, identity_id, name, external_id, matched, at FROM collisions \
                           WHERE resolved_at IS NULL ORDER BY at";
        let rows = query(SQL).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("collisions", row);
            let collision = Collision {
                source: r.parsed("source_id")?,
                identity: r.parsed("identity_id")?,
                name: r.text("name")?,
                external_id: r.optional_text("external_id")?,
                matched: r.text("matched")?,
            };
            Ok((collision, r.instant("at")?))
        }))
    }

    /// Whom an identity provider's subject is known as.
    pub async fn identity_of_login(
        &self,
        issuer: &str,
        subject_claim: &str,
        now: Timestamp,
    ) -> Result<Option<Subject>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            subject_columns!(),
            " FROM logins l JOIN identities i ON i.id = l.identity_id WHERE l.issuer = $3 AND l.subject = $4"
        );
        let row = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(issuer)
            .bind(subject_claim)
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(subject).transpose()
    }
}

impl Tx {
    /// What a source has taken away since `window_start`, and whether this one is held back. Nobody else of the source
    /// leaves until this change is in.
    pub async fn departures(
        &mut self,
        source: SourceId,
        identity: IdentityId,
        window_start: Timestamp,
    ) -> Result<Departures, StoreError> {
        const HOLD: &str = "INSERT INTO departures (source_id) VALUES ($1) \
                            ON CONFLICT (source_id) DO UPDATE SET source_id = excluded.source_id RETURNING accepted_until";
        const PASS: &str = "DELETE FROM departed WHERE source_id = $1 AND at <= $2";
        const COUNT: &str = "SELECT (SELECT count(*) FROM departed WHERE source_id = $1 AND identity_id <> $2) AS gone, \
                             (SELECT count(*) FROM held_departures WHERE source_id = $1 AND identity_id = $2) AS held";
        let source = source.to_string();
        let rows = self.write_returning(query(HOLD).bind(source.clone())).await?;
        let row = rows.first().ok_or(StoreError::Conflict)?;
        let accepted_until = Reader::new("departures", row).optional_instant("accepted_until")?;
        self.execute(query(PASS).bind(source.clone()).bind(window_start.micros())).await?;
        let row = self.read_optional(query(COUNT).bind(source).bind(identity.to_string())).await?;
        let row = row.ok_or(StoreError::Conflict)?;
        let r = Reader::new("departed", &row);
        Ok(Departures { gone: r.number("gone")?, held: r.integer("held")? > 0, accepted_until })
    }

    /// How many active people a source has, counted no further than `most`.
    pub async fn people_of_source(&mut self, source: SourceId, most: u64) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT count(*) AS people FROM (SELECT id FROM identities WHERE source_id = $1 AND active = 1 \
                           LIMIT $2) AS some_of_them";
        let sql = query(SQL).bind(source.to_string()).bind(i64::try_from(most).unwrap_or(i64::MAX));
        let row = self.read_optional(sql).await?.ok_or(StoreError::Conflict)?;
        Reader::new("identities", &row).number("people")
    }

    /// Count one who leaves.
    pub async fn count_departed(
        &mut self,
        source: SourceId,
        identity: IdentityId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO departed (source_id, identity_id, at) VALUES ($1, $2, $3) \
                           ON CONFLICT (source_id, identity_id) DO UPDATE SET at = excluded.at";
        self.execute_one(query(SQL).bind(source.to_string()).bind(identity.to_string()).bind(now.micros())).await
    }

    /// Somebody would have left, and waits until somebody accepts; true if nobody of that source waited before.
    pub async fn hold_departure(&mut self, held: &HeldDeparture) -> Result<bool, StoreError> {
        const MAKE: &str = "INSERT INTO departures (source_id) VALUES ($1) ON CONFLICT (source_id) DO NOTHING";
        const KEEP: &str = "INSERT INTO held_departures (source_id, identity_id, at, correlation_id, deleted) \
                            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (source_id, identity_id) DO UPDATE \
                            SET deleted = CASE WHEN excluded.deleted = 1 THEN 1 ELSE held_departures.deleted END";
        const HOLD: &str = "UPDATE departures SET held_at = $1, accepted_until = NULL \
                            WHERE source_id = $2 AND held_at IS NULL";
        let source = held.source.to_string();
        self.execute(query(MAKE).bind(source.clone())).await?;
        self.execute(
            query(KEEP)
                .bind(source.clone())
                .bind(held.identity.to_string())
                .bind(held.at.micros())
                .bind(held.cause.to_string())
                .bind(i64::from(held.deleted)),
        )
        .await?;
        Ok(self.execute(query(HOLD).bind(held.at.micros()).bind(source)).await? == 1)
    }

    /// A source goes on: what it takes away until then is accepted, and what it took away is counted no more.
    pub async fn accept_departures(&mut self, source: SourceId, until: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            query("UPDATE departures SET held_at = NULL, accepted_until = $1 WHERE source_id = $2")
                .bind(until.micros())
                .bind(source.to_string()),
        )
        .await?;
        self.execute(query("DELETE FROM departed WHERE source_id = $1").bind(source.to_string())).await?;
        Ok(())
    }

    /// Somebody is no longer held back: they are gone, or the source speaks of them as active. After the last one the
    /// source is as if nothing had been.
    pub async fn forget_held(&mut self, source: SourceId, identity: IdentityId) -> Result<(), StoreError> {
        const FORGET: &str = "DELETE FROM held_departures WHERE source_id = $1 AND identity_id = $2";
        const LAST: &str = "UPDATE departures SET held_at = NULL WHERE source_id = $1 AND held_at IS NOT NULL \
                            AND NOT EXISTS (SELECT 1 FROM held_departures WHERE source_id = $1)";
        let source = source.to_string();
        if self.execute(query(FORGET).bind(source.clone()).bind(identity.to_string())).await? > 0 {
            self.execute(query(LAST).bind(source)).await?;
        }
        Ok(())
    }

    /// The name of a source.
    pub async fn source_name(&mut self, id: SourceId) -> Result<String, StoreError> {
        let row = self.read_optional(query("SELECT name FROM sources WHERE id = $1").bind(id.to_string())).await?;
        row.map_or_else(|| Ok(id.to_string()), |row| Reader::new("sources", &row).text("name"))
    }

    /// Identities that may be the one that a source speaks of: by name, by e-mail, or made at a first login with that
    /// id or that verified e-mail.
    pub async fn namesakes(
        &mut self,
        name: &str,
        email: Option<&str>,
        external_id: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Subject>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            subject_columns!(),
            " FROM identities i WHERE i.deleted_at IS NULL AND i.id IN (\
             SELECT id FROM identities WHERE name_key = $3 \
             UNION SELECT id FROM identities WHERE email_key = $4 \
             UNION SELECT identity_id FROM logins WHERE subject = $5) ORDER BY i.id"
        );
        if self.has_several_writers() {
            self.read_optional(query(joiners::ALONE)).await?;
        }
        let sql = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(name.to_lowercase())
            .bind(email.unwrap_or_default().to_lowercase())
            .bind(external_id.unwrap_or_default().to_owned());
        let rows = self.read_all(sql).await?;
        Ok(readable(&rows, subject))
    }

    /// How an account that was made at its first login is known to its provider: issuer, subject, verified e-mail.
    pub async fn login_of(
        &mut self,
        identity: IdentityId,
    ) -> Result<Option<(String, String, Option<String>)>, StoreError> {
        let sql = query("SELECT issuer, subject, email_key FROM logins WHERE identity_id = $1");
        let row = self.read_optional(sql.bind(identity.to_string())).await?;
        row.map(|row| {
            let r = Reader::new("logins", &row);
            Ok((r.text("issuer")?, r.text("subject")?, r.optional_text("email_key")?))
        })
        .transpose()
    }

    /// Keep how somebody is known to an identity provider; [`StoreError::Duplicate`] if it knows them already.
    pub async fn insert_login(
        &mut self,
        issuer: &str,
        subject: &str,
        identity: IdentityId,
        verified_email: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "INSERT INTO logins (issuer, subject, identity_id, email_key, created_at) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(issuer)
            .bind(subject)
            .bind(identity.to_string())
            .bind(verified_email.map(str::to_lowercase))
            .bind(now.micros()),
        )
        .await
    }

    /// The same, unless the identity is another subject of that issuer, or the subject another identity: false then.
    pub async fn remember_login(
        &mut self,
        issuer: &str,
        subject: &str,
        identity: IdentityId,
        verified_email: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO logins (issuer, subject, identity_id, email_key, created_at) \
                           VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
        // Whoever is not here any more is in nobody's way.
        const GONE: &str = "DELETE FROM logins WHERE issuer = $1 AND subject = $2 AND EXISTS (SELECT 1 FROM identities i \
                            WHERE i.id = logins.identity_id AND i.active = 0)";
        self.execute(query(GONE).bind(issuer).bind(subject)).await?;
        let kept = self
            .execute(
                query(SQL)
                    .bind(issuer)
                    .bind(subject)
                    .bind(identity.to_string())
                    .bind(verified_email.map(str::to_lowercase))
                    .bind(now.micros()),
            )
            .await?;
        Ok(kept == 1)
    }

    /// The identity is known as no subject of any provider any more; how many there were.
    pub async fn forget_logins(&mut self, identity: IdentityId) -> Result<u64, StoreError> {
        self.execute(query("DELETE FROM logins WHERE identity_id = $1").bind(identity.to_string())).await
    }

    /// Keep a collision until somebody decides; false if it waits already.
    pub async fn insert_collision(&mut self, c: &Collision, now: Timestamp) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO collisions (source_id, identity_id, name, external_id, matched, at) \
                           VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (source_id, identity_id) DO NOTHING";
        let kept = self
            .execute(
                query(SQL)
                    .bind(c.source.to_string())
                    .bind(c.identity.to_string())
                    .bind(c.name.clone())
                    .bind(c.external_id.clone())
                    .bind(c.matched.clone())
                    .bind(now.micros()),
            )
            .await?;
        Ok(kept == 1)
    }

    /// Somebody decided that they are one and the same; [`StoreError::Conflict`] if there is no such collision.
    pub async fn resolve_collision(
        &mut self,
        source: SourceId,
        identity: IdentityId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE collisions SET resolved_at = $1 WHERE source_id = $2 AND identity_id = $3 \
                 AND resolved_at IS NULL",
            )
            .bind(now.micros())
            .bind(source.to_string())
            .bind(identity.to_string()),
        )
        .await
    }

    /// Was it decided that they are one and the same? The decision is used up by asking.
    pub async fn take_resolution(&mut self, source: SourceId, identity: IdentityId) -> Result<bool, StoreError> {
        let gone = self
            .execute(
                query("DELETE FROM collisions WHERE source_id = $1 AND identity_id = $2 AND resolved_at IS NOT NULL")
                    .bind(source.to_string())
                    .bind(identity.to_string()),
            )
            .await?;
        Ok(gone == 1)
    }
}
