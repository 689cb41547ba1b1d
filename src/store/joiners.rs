//! Joiners as rows: somebody new whom nobody here could be, written together with others.
//!
//! Whoever might be somebody who is here already (the same name, e-mail, login or name in the source), or is somebody's
//! manager already, is refused as a conflict; a verb with statements finds out what to do with them.

use std::sync::LazyLock;

use sqlx::{AnyConnection, any::AnyRow};

use super::{
    accounts,
    change::has_several_writers,
    identities::{bind_identity, new_identity_columns},
    row::to_json,
    rows::RowsSql,
    scim_users::{Entry, entries},
};
use crate::domain::{
    id::{CorrelationId, IdentityId},
    identity::Identity,
    scim::{Document, schema::ResourceType},
    time::Timestamp,
};

/// Somebody new, with what was said of them.
#[derive(Debug, Clone)]
pub struct Joiner {
    identity: Identity,
    document: String,
    entries: Vec<Entry>,
    applications: Vec<String>,
    cause: CorrelationId,
    at: Timestamp,
}

impl Joiner {
    /// `applications`: where they are to have accounts, if their facts say so.
    pub fn new(
        identity: Identity,
        of: &'static ResourceType,
        document: &Document,
        applications: impl Iterator<Item = String>,
        cause: CorrelationId,
        at: Timestamp,
    ) -> Self {
        Self {
            document: to_json(document),
            entries: entries(of, document),
            identity,
            applications: applications.collect(),
            cause,
            at,
        }
    }

    /// What no two joiners of one commit may both have: the statement sees only who was there before it.
    pub(super) fn marks(&self) -> impl Iterator<Item = String> {
        let email = self.identity.email.as_ref().map(|e| format!("e-mail {}", e.to_lowercase()));
        let external = self.identity.external_id.as_ref().map(|e| format!("external {e}"));
        std::iter::once(format!("name {}", self.identity.name.to_lowercase())).chain(email).chain(external)
    }

    /// Who.
    pub(super) const fn id(&self) -> IdentityId {
        self.identity.id
    }
}

static IDENTITIES: LazyLock<RowsSql> = LazyLock::new(|| {
    RowsSql::new(
        0,
        concat!("WITH v (", new_identity_columns!(), ") AS (VALUES "),
        20,
        concat!(
            ") INSERT INTO identities (",
            new_identity_columns!(),
            ", version, updated_at) SELECT ",
            new_identity_columns!(),
            ", 1, created_at FROM v \
             WHERE NOT EXISTS (SELECT 1 FROM identities i WHERE i.email_key = v.email_key AND i.deleted_at IS NULL) \
             AND NOT EXISTS (SELECT 1 FROM logins l WHERE l.subject = v.external_id) \
             AND NOT EXISTS (SELECT 1 FROM scim_values s WHERE s.path = 'enterprise:manager.value' \
             AND s.value_key IN (v.name, v.external_id) AND s.value_key <> '') \
             ON CONFLICT DO NOTHING RETURNING id"
        ),
    )
});
static DOCUMENTS: LazyLock<RowsSql> =
    LazyLock::new(|| RowsSql::new(0, "INSERT INTO scim_documents (identity_id, document) VALUES ", 2, ""));
static VALUES: LazyLock<RowsSql> =
    LazyLock::new(|| RowsSql::new(0, "INSERT INTO scim_values (path, value_key, identity_id, element) VALUES ", 4, ""));

/// With several writers: who joins is looked for among those who are here by one at a time, until it commits. Nobody is
/// made twice by two who could not see each other.
pub(super) const ALONE: &str = "SELECT 1 AS one FROM pg_advisory_xact_lock(7264771)";

/// Keep them; answers those that were kept.
pub(super) async fn insert_identities(db: &mut AnyConnection, joiners: &[&Joiner]) -> Result<Vec<AnyRow>, sqlx::Error> {
    if !joiners.is_empty() && has_several_writers(db) {
        sqlx::query(ALONE).execute(&mut *db).await?;
    }
    IDENTITIES.answers(db, joiners, |q, j| bind_identity(q, &j.identity, j.at)).await
}

/// What was said of those who were kept, and where they are to have accounts.
pub(super) async fn describe(db: &mut AnyConnection, joiners: &[&Joiner]) -> Result<(), sqlx::Error> {
    DOCUMENTS.run(db, joiners, |q, j| q.bind(j.identity.id.to_string()).bind(j.document.clone())).await?;
    let mut values: Vec<(&Entry, String)> =
        joiners.iter().flat_map(|j| j.entries.iter().map(|e| (e, j.identity.id.to_string()))).collect();
    // In the order of the tree that they go into.
    values.sort_unstable();
    VALUES
        .run(db, &values, |q, (e, id)| q.bind(e.path.clone()).bind(e.key.clone()).bind(id.clone()).bind(e.element))
        .await?;
    for joiner in joiners {
        for application in &joiner.applications {
            let due = accounts::due_sql(application, &[joiner.identity.id], false, joiner.cause, joiner.at);
            due.query().execute(&mut *db).await?;
        }
    }
    Ok(())
}
