//! Accounts that nobody uses, and people who are to be forgotten.

use sqlx::query;

use super::{
    Store, StoreError, Tx,
    identities::{SEPARATOR, subject, subject_columns},
    row::{Reader, readable},
};
use crate::domain::{
    id::IdentityId,
    identity::{Identity, Subject},
    time::Timestamp,
};

/// Somebody who has not been seen for long.
#[derive(Debug, Clone)]
pub struct Unused {
    /// Who.
    pub subject: Subject,
    /// When they were last seen, if ever.
    pub last_seen: Option<Timestamp>,
}

macro_rules! unused {
    ($which:literal) => {
        concat!(
            "SELECT i.last_seen_at, ",
            subject_columns!(),
            " FROM identities i WHERE i.active = 1 AND i.id > $3 AND ",
            $which,
            " ORDER BY i.id LIMIT $5"
        )
    };
}

impl Store {
    /// Active identities that were not seen since `before`, or made since, and of whom nobody was warned yet; by id.
    pub async fn unused_since(
        &self,
        before: Timestamp,
        after: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Unused>, StoreError> {
        const SQL: &str = unused!("i.unused_warned_at IS NULL AND coalesce(i.last_seen_at, i.created_at) < $4");
        self.unused(SQL, before, after, limit, now).await
    }

    /// Active identities that are not used, and of whom somebody was warned before `before`; by id.
    pub async fn warned_before(
        &self,
        before: Timestamp,
        after: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Unused>, StoreError> {
        const SQL: &str = unused!("i.unused_warned_at IS NOT NULL AND i.unused_warned_at <= $4");
        self.unused(SQL, before, after, limit, now).await
    }

    async fn unused(
        &self,
        sql: &'static str,
        before: Timestamp,
        after: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Unused>, StoreError> {
        let rows = query(sql)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(after.to_owned())
            .bind(before.micros())
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, |row| {
            let last_seen = Reader::new("identities", row).optional_instant("last_seen_at")?;
            Ok(Unused { subject: subject(row)?, last_seen })
        }))
    }

    /// People who have been gone since before `before`, of whom nothing is open at any target or application.
    pub async fn to_be_forgotten(&self, before: Timestamp, limit: u32) -> Result<Vec<IdentityId>, StoreError> {
        const SQL: &str = "SELECT i.id FROM identities i WHERE i.active = 0 AND i.erased_at IS NULL AND i.kind = 'person' \
             AND i.updated_at < $1 AND NOT EXISTS (SELECT 1 FROM grants g WHERE g.holder_id = i.id \
             AND g.state NOT IN ('ended', 'failed')) AND NOT EXISTS (SELECT 1 FROM accounts a \
             WHERE a.identity_id = i.id AND a.state NOT IN ('aligned', 'corrected')) ORDER BY i.id LIMIT $2";
        let rows = query(SQL).bind(before.micros()).bind(i64::from(limit)).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| Reader::new("identities", row).parsed("id")))
    }
}

/// Names of an identity that has letters beyond ASCII, and the keys that they are looked up by.
#[derive(Debug, Clone)]
pub struct FoldedNames {
    /// Whose.
    pub id: IdentityId,
    display_name: String,
    email: Option<String>,
}

impl Store {
    /// Identities after the cursor whose names have letters beyond ASCII: older versions left folding them to the
    /// database, and not every one knows how.
    pub async fn names_beyond_ascii(&self, after: &str, limit: u32) -> Result<Vec<FoldedNames>, StoreError> {
        const SQL: &str = "SELECT id, display_name, email FROM identities WHERE id > $1 AND deleted_at IS NULL \
                           AND (octet_length(display_name) > length(display_name) \
                           OR octet_length(email) > length(email)) ORDER BY id LIMIT $2";
        let rows = query(SQL).bind(after.to_owned()).bind(i64::from(limit)).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("identities", row);
            Ok(FoldedNames {
                id: r.parsed("id")?,
                display_name: r.text("display_name")?,
                email: r.optional_text("email")?,
            })
        }))
    }
}

impl Tx {
    /// Look names up by what they are now, unless they changed meanwhile.
    pub async fn fold_names(&mut self, names: &FoldedNames) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE identities SET display_key = $1, email_key = $2 WHERE id = $3 AND display_name = $4 \
                           AND coalesce(email, '') = $5";
        self.execute(
            query(SQL)
                .bind(names.display_name.to_lowercase())
                .bind(names.email.as_ref().map(|e| e.to_lowercase()))
                .bind(names.id.to_string())
                .bind(names.display_name.clone())
                .bind(names.email.clone().unwrap_or_default()),
        )
        .await?;
        Ok(())
    }

    /// Somebody was warned that it is not used; false if it was used meanwhile, or somebody was warned already.
    pub async fn mark_unused(&mut self, id: IdentityId, before: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE identities SET unused_warned_at = $1 WHERE id = $2 AND active = 1 \
                           AND unused_warned_at IS NULL AND coalesce(last_seen_at, created_at) < $3";
        Ok(self.execute(query(SQL).bind(now.micros()).bind(id.to_string()).bind(before.micros())).await? == 1)
    }

    /// Is it still unused, as it was when somebody was warned?
    pub async fn is_unused(&mut self, id: IdentityId) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT id FROM identities WHERE id = $1 AND active = 1 AND unused_warned_at IS NOT NULL";
        Ok(self.read_optional(query(SQL).bind(id.to_string())).await?.is_some())
    }

    /// Forget what was known of a person: `blank` is what stays. The log, and what hangs on the id alone, stay too.
    pub async fn forget_person(&mut self, blank: &Identity, now: Timestamp) -> Result<(), StoreError> {
        const ERASED: &str =
            "UPDATE identities SET erased_at = $1, unused_warned_at = NULL WHERE id = $2 AND erased_at IS NULL";
        self.update_identity(blank, None, now).await?;
        let id = blank.id.to_string();
        self.execute_one(query(ERASED).bind(now.micros()).bind(id.clone())).await?;
        self.forget_document(blank.id).await?;
        self.forget_logins(blank.id).await?;
        // What is about them and nobody asks for again.
        for sql in [
            "DELETE FROM collisions WHERE identity_id = $1",
            "DELETE FROM held_departures WHERE identity_id = $1",
            "DELETE FROM departed WHERE identity_id = $1",
            "DELETE FROM slack_links WHERE identity_id = $1",
            "UPDATE sessions SET user_agent = '', address = '' WHERE identity_id = $1",
            "UPDATE sign_in_codes SET client = '', address = '' WHERE identity_id = $1",
            "UPDATE tokens SET label = '' WHERE identity_id = $1",
            "UPDATE account_tasks SET details = '{}', evidence = NULL WHERE identity_id = $1 AND closed_at IS NOT NULL",
        ] {
            self.execute(query(sql).bind(id.clone())).await?;
        }
        Ok(())
    }

    /// Lists of names in reports of runs from before `before` are forgotten.
    pub async fn forget_reports(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE sync_runs SET report = NULL WHERE finished_at < $1 AND report IS NOT NULL";
        self.execute(query(SQL).bind(before.micros())).await
    }
}
