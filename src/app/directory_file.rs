//! A directory in a file: the people and groups that a ledger begins with, before a source of truth feeds it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    domain::{
        audit::Event,
        id::{CorrelationId, EventId, GroupId, IdentityId},
        identity::{Group, Identity, IdentityKind},
        time::Timestamp,
    },
    ports::entropy::Entropy,
    store::Store,
};

/// People, workloads and groups, by name.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryFile {
    /// Groups beyond those that identities name.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Identities.
    #[serde(default, rename = "identity")]
    pub identities: Vec<Entry>,
}

/// One identity.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Unique name.
    pub name: String,
    /// Person, workload or agent.
    #[serde(default = "Entry::person")]
    pub kind: IdentityKind,
    /// Name for people to read.
    pub display_name: Option<String>,
    /// Work e-mail.
    pub email: Option<String>,
    /// Unique name of the accountable person.
    pub owner: Option<String>,
    /// Groups; made if they are not there.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Department, title…
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

impl Entry {
    const fn person() -> IdentityKind {
        IdentityKind::Person
    }
}

/// Ids by name, of what was there and what was made.
pub type Seeded = BTreeMap<String, IdentityId>;

impl DirectoryFile {
    /// Make what is missing; change nothing that is there.
    pub async fn apply(&self, store: &Store, entropy: &dyn Entropy, now: Timestamp) -> anyhow::Result<Seeded> {
        let mut groups: BTreeMap<String, GroupId> = BTreeMap::new();
        let names = self.groups.iter().chain(self.identities.iter().flat_map(|i| &i.groups));
        for name in names {
            if groups.contains_key(name) {
                continue;
            }
            let id = if let Some(group) = store.group(name).await? {
                group.id
            } else {
                let new = Group::new(GroupId::new(entropy.ulid(now)?), name.as_str(), now);
                loop {
                    let mut tx = store.begin().await?;
                    let made = tx.insert_group(&new).await;
                    if let Some(result) = tx.end(made).await {
                        result?;
                        break;
                    }
                }
                new.id
            };
            groups.insert(name.clone(), id);
        }
        let mut seeded = Seeded::new();
        for entry in &self.identities {
            let id = self.apply_entry(entry, store, entropy, now, &groups, &seeded).await?;
            seeded.insert(entry.name.clone(), id);
        }
        Ok(seeded)
    }

    async fn apply_entry(
        &self,
        entry: &Entry,
        store: &Store,
        entropy: &dyn Entropy,
        now: Timestamp,
        groups: &BTreeMap<String, GroupId>,
        seeded: &Seeded,
    ) -> anyhow::Result<IdentityId> {
        if let Some(there) = store.subject_by_name(&entry.name, now).await? {
            return Ok(there.identity.id);
        }
        let owner = match &entry.owner {
            None => None,
            Some(name) => {
                if let Some(id) = seeded.get(name) {
                    Some(*id)
                } else {
                    let found = store.subject_by_name(name, now).await?;
                    let found = found.ok_or_else(|| {
                        anyhow::anyhow!(
                            "{}: there is no owner `{name}`; put the owner before what is owned",
                            entry.name
                        )
                    })?;
                    Some(found.identity.id)
                }
            }
        };
        anyhow::ensure!(
            !entry.kind.is_non_human() || owner.is_some(),
            "{}: a workload or agent needs an accountable person as owner",
            entry.name
        );
        let mut new = Identity {
            email: entry.email.clone(),
            owner,
            attributes: entry.attributes.clone(),
            ..Identity::new(IdentityId::new(entropy.ulid(now)?), entry.kind, entry.name.as_str())
        };
        if let Some(name) = &entry.display_name {
            new.display_name.clone_from(name);
        }
        let event = Event {
            id: EventId::new(entropy.ulid(now)?),
            at: now,
            action: "identity.created".to_owned(),
            actor: None,
            via: "console".to_owned(),
            subject: Some(new.id),
            request: None,
            grant: None,
            target: None,
            correlation: CorrelationId::new(entropy.ulid(now)?),
            cause: None,
            details: serde_json::json!({
                "name": new.kind.is_non_human().then_some(&new.name), "kind": new.kind, "owner": new.owner, "groups": entry.groups,
                "origin": "directory file",
            }),
        };
        loop {
            let mut tx = store.begin().await?;
            let written = async {
                tx.insert_identity(&new, now).await?;
                for group in &entry.groups {
                    if let Some(id) = groups.get(group) {
                        tx.add_standing(*id, &[new.id], None, now).await?;
                    }
                }
                tx.audit(event.clone());
                Ok::<_, crate::store::StoreError>(())
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                return Ok(new.id);
            }
        }
    }
}
