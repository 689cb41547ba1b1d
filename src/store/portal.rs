//! What the portal keeps and asks beside requests and grants: who looks at what, favourites, versions of the policy.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::query;
use ulid::Ulid;

use super::{
    Store, StoreError, Tx,
    identities::SEPARATOR,
    reads::{AskedKey, TakerKey},
    row::{Reader, readable, to_json},
};
use crate::domain::{
    id::{GrantId, IdentityId, RequestId},
    request::RequestState,
    time::Timestamp,
};

/// A request that somebody made a while ago.
#[derive(Debug, Clone)]
pub struct AskedLately {
    /// What became of it.
    pub state: RequestState,
    /// What it was for.
    pub entitlements: Vec<String>,
}

/// A request as far as figures need it.
#[derive(Debug, Clone)]
pub struct AskedFigures {
    /// What became of it.
    pub state: RequestState,
    /// What it was for.
    pub entitlements: Vec<String>,
    /// An emergency.
    pub emergency: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was decided.
    pub decided_at: Option<Timestamp>,
    /// People had to decide.
    pub by_people: bool,
}

/// A policy version that was in force.
#[derive(Debug, Clone)]
pub struct PolicyVersion {
    /// Its name.
    pub version: String,
    /// When it was seen first.
    pub loaded_at: Timestamp,
}

impl Store {
    /// What somebody asked for since then: the newest, at most so many.
    pub async fn asked_lately(
        &self,
        requester: IdentityId,
        since: Timestamp,
        most: u32,
    ) -> Result<Vec<AskedLately>, StoreError> {
        // Ids begin with the instant that they were made at.
        let first = Ulid::from_parts(u64::try_from(since.micros() / 1000).unwrap_or(0), 0);
        let key = AskedKey { requester, since: RequestId::new(first).to_string(), most };
        let rows = self.inner.reads.asked.rows(key).await?;
        let Some(row) = rows.first() else { return Ok(Vec::new()) };
        let lines = Reader::new("requests", row).optional_text("lines")?.unwrap_or_default();
        let read = |line: &str| {
            let (state, entitlements) = line.split_once(' ')?;
            Some(AskedLately {
                state: RequestState::parse(state)?,
                entitlements: serde_json::from_str(entitlements).ok()?,
            })
        };
        Ok(lines.split(SEPARATOR).filter_map(read).collect())
    }

    /// Who has looked at a request since then, and since when.
    pub async fn taker_of(
        &self,
        request: RequestId,
        since: Timestamp,
    ) -> Result<Option<(IdentityId, Timestamp)>, StoreError> {
        let rows = self.inner.reads.takers.rows(TakerKey { request, since }).await?;
        let taker = |row| {
            let r = Reader::new("request_takers", row);
            Ok((r.parsed("identity_id")?, r.instant("at")?))
        };
        rows.first().map(taker).transpose()
    }

    /// How long the latest decisions took after the request was made, in microseconds: at most so many.
    pub async fn decision_times(&self, most: u32) -> Result<Vec<u64>, StoreError> {
        const SQL: &str = "SELECT a.at - r.created_at AS took FROM approvals a JOIN requests r ON r.id = a.request_id \
                           ORDER BY a.id DESC LIMIT $1";
        let rows = query(SQL).bind(i64::from(most)).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| Reader::new("approvals", row).number("took")))
    }

    /// What somebody has marked in the catalog.
    pub async fn favourites(&self, of: IdentityId) -> Result<BTreeSet<String>, StoreError> {
        let rows = query("SELECT entitlement FROM favourites WHERE identity_id = $1")
            .bind(of.to_string())
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, |row| Reader::new("favourites", row).text("entitlement")).into_iter().collect())
    }

    /// The groups that an identity is in at `now`: name, grant if it is by one, end.
    pub async fn memberships_of(
        &self,
        of: IdentityId,
        now: Timestamp,
    ) -> Result<Vec<(String, Option<GrantId>, Option<Timestamp>)>, StoreError> {
        const SQL: &str = "SELECT g.name, m.grant_id, m.not_after FROM memberships m JOIN groups g ON g.id = m.group_id \
                           WHERE m.identity_id = $1 AND (m.not_after IS NULL OR m.not_after > $2) \
                           ORDER BY g.name_key, m.grant_id";
        let rows = query(SQL).bind(of.to_string()).bind(now.micros()).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("memberships", row);
            Ok((r.text("name")?, r.text("grant_id")?.parse().ok(), r.optional_instant("not_after")?))
        }))
    }

    /// The latest requests, the newest first, as far as figures need them.
    pub async fn latest_asked(&self, most: u32) -> Result<Vec<AskedFigures>, StoreError> {
        const SQL: &str = "SELECT id, state, entitlements, emergency, created_at, decided_at, needs FROM requests \
                           ORDER BY id DESC LIMIT $1";
        let rows = query(SQL).bind(i64::from(most)).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("requests", row);
            Ok(AskedFigures {
                state: r.named("state", RequestState::parse)?,
                entitlements: r.json("entitlements")?,
                emergency: r.flag("emergency")?,
                created_at: r.instant("created_at")?,
                decided_at: r.optional_instant("decided_at")?,
                by_people: r.text("needs")? != "[]",
            })
        }))
    }

    /// The latest emergencies, the newest first.
    pub async fn emergencies(&self, most: u32) -> Result<Vec<RequestId>, StoreError> {
        let rows = query("SELECT id FROM requests WHERE emergency = 1 ORDER BY id DESC LIMIT $1")
            .bind(i64::from(most))
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, |row| Reader::new("requests", row).parsed("id")))
    }

    /// Policy versions, the newest first.
    pub async fn policy_versions(&self, most: u32) -> Result<Vec<PolicyVersion>, StoreError> {
        let rows = query("SELECT version, loaded_at FROM policy_versions ORDER BY loaded_at DESC LIMIT $1")
            .bind(i64::from(most))
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("policy_versions", row);
            Ok(PolicyVersion { version: r.text("version")?, loaded_at: r.instant("loaded_at")? })
        }))
    }

    /// The texts of one version, by name.
    pub async fn policy_texts(&self, version: &str) -> Result<Option<BTreeMap<String, String>>, StoreError> {
        let row = query("SELECT version, files FROM policy_versions WHERE version = $1")
            .bind(version)
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| Reader::new("policy_versions", &row).json("files")).transpose()
    }
}

impl Tx {
    /// Somebody looks at a request from now on; whoever did before, does no more.
    pub async fn take_up_request(
        &mut self,
        request: RequestId,
        who: IdentityId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO request_takers (request_id, identity_id, at) VALUES ($1, $2, $3) \
                           ON CONFLICT (request_id) DO UPDATE SET identity_id = excluded.identity_id, at = excluded.at";
        self.execute_one(query(SQL).bind(request.to_string()).bind(who.to_string()).bind(at.micros())).await
    }

    /// Mark an entitlement, or take the mark away. An order of one's own catalog: it says nothing about anybody's rights,
    /// so it leaves no event.
    pub async fn mark_favourite(&mut self, of: IdentityId, entitlement: &str, on: bool) -> Result<(), StoreError> {
        let sql = if on {
            "INSERT INTO favourites (identity_id, entitlement) VALUES ($1, $2) ON CONFLICT DO NOTHING"
        } else {
            "DELETE FROM favourites WHERE identity_id = $1 AND entitlement = $2"
        };
        self.execute(query(sql).bind(of.to_string()).bind(entitlement.to_owned())).await?;
        Ok(())
    }

    /// Keep the texts of a policy version that is in force; again is done.
    pub async fn keep_policy(
        &mut self,
        version: &str,
        files: &BTreeMap<String, String>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO policy_versions (version, loaded_at, files) VALUES ($1, $2, $3) \
                           ON CONFLICT (version) DO UPDATE SET loaded_at = excluded.loaded_at";
        self.execute(query(SQL).bind(version.to_owned()).bind(at.micros()).bind(to_json(files))).await?;
        Ok(())
    }
}
