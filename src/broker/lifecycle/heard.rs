//! A source says what one of its people is now, whole: whoever reads people from a file or asks for them says it with this.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    super::{Broker, BrokerError, SourceCtx, record::Cause},
    Adoptee, Change,
};
use crate::{
    domain::{
        id::IdentityId,
        identity::{Identity, IdentityKind, Origin, SourceKind},
        roster::Entry,
        time::Timestamp,
    },
    store::{Collision, StoreError, Tx},
};

/// One person in a source's words. What is left out is not so.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// The source's own id, for ever.
    pub external_id: String,
    /// Unique name.
    pub name: String,
    /// Name for people to read; the unique name if empty.
    pub display_name: String,
    /// Work e-mail.
    pub email: Option<String>,
    /// False: they have left.
    pub active: bool,
    /// They are no longer there at all: their name is free again.
    pub deleted: bool,
    /// Hard end of the relationship.
    pub contract_end: Option<Timestamp>,
    /// Department, title, employment…
    pub attributes: BTreeMap<String, String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hearing {
    /// Somebody new.
    Joined(IdentityId),
    /// Somebody who was known, and is the source's from now on.
    Adopted(IdentityId),
    /// Facts changed.
    Changed(IdentityId),
    /// They are gone.
    Left(IdentityId),
    /// It was so already.
    Unchanged(IdentityId),
    /// It may be somebody who is known already: nothing was changed, and people decide.
    Collided(IdentityId),
    /// It was gone already, or never there.
    Nobody,
}

/// What came of it within a change that is still under way.
pub(crate) enum Told {
    Done(Hearing),
    /// Nothing has been written; the collision is kept with a change of its own.
    Collides(Collision),
    /// Another has that unique name; nothing has been written.
    Taken,
}

impl Hearing {
    /// Whom it is about.
    pub(crate) const fn whose(&self) -> Option<IdentityId> {
        match self {
            Self::Joined(id)
            | Self::Adopted(id)
            | Self::Changed(id)
            | Self::Left(id)
            | Self::Unchanged(id)
            | Self::Collided(id) => Some(*id),
            Self::Nobody => None,
        }
    }
}

impl Broker {
    /// A source says what one of its people is now. [`BrokerError::Held`] if it takes away too many at once.
    pub async fn hear(&self, ctx: &SourceCtx, heard: &Heard) -> Result<Hearing, BrokerError> {
        self.may_change()?;
        let cause = Cause::from(ctx);
        let told = loop {
            let mut tx = self.store.begin().await?;
            let written = self.record_heard(&mut tx, ctx, &cause, heard).await;
            match tx.end(written).await {
                // Changed meanwhile, or another call made it: look again.
                None | Some(Err(BrokerError::Store(StoreError::Conflict))) => {}
                Some(result) => break result?,
            }
        };
        self.wake();
        match told {
            Told::Done(hearing) => Ok(hearing),
            Told::Taken => Err(BrokerError::State(format!("there is somebody of the name `{}` already", heard.name))),
            Told::Collides(collision) => {
                self.record_collision(&cause, &collision).await?;
                Ok(Hearing::Collided(collision.identity))
            }
        }
    }

    /// The same within a change under way: feeds and directories that are read say it so, one by one.
    pub(crate) async fn record_heard(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        cause: &Cause,
        heard: &Heard,
    ) -> Result<Told, BrokerError> {
        let source = ctx.source.id;
        let origin = if ctx.source.kind == SourceKind::Feed { Origin::Feed } else { Origin::Scim };
        let details = json!({"source": ctx.source.name});
        let known = tx.identity_of_source(source, &heard.external_id, ctx.now).await?;
        if let Some(before) = known.map(|s| s.identity) {
            let after = heard.over(&before, ctx.now);
            if after == before {
                return Ok(Told::Done(Hearing::Unchanged(before.id)));
            }
            if taken(tx, &before, &after).await? {
                return Ok(Told::Taken);
            }
            let change = self.record_change(tx, cause, &before, &after, details).await?;
            let left = change == Change::Left;
            return Ok(Told::Done(if left { Hearing::Left(after.id) } else { Hearing::Changed(after.id) }));
        }
        if heard.deleted {
            return Ok(Told::Done(Hearing::Nobody));
        }
        let id = IdentityId::new(self.entropy.ulid(ctx.now)?);
        let blank = Identity { source: Some(source), origin, ..Identity::new(id, IdentityKind::Person, "") };
        let new = heard.over(&blank, ctx.now);
        match self.adoptee(tx, source, &new, ctx.now).await? {
            Adoptee::Nobody if tx.identity_name_taken(&new.name).await? => Ok(Told::Taken),
            Adoptee::Nobody => {
                self.record_joiner(tx, cause, &new, details).await?;
                Ok(Told::Done(Hearing::Joined(new.id)))
            }
            Adoptee::Known(before, by) => {
                let after = Identity { source: Some(source), ..heard.over(&before, ctx.now) };
                if taken(tx, &before, &after).await? {
                    return Ok(Told::Taken);
                }
                self.record_change(tx, cause, &before, &after, json!({"source": ctx.source.name, "by": by})).await?;
                Ok(Told::Done(Hearing::Adopted(after.id)))
            }
            Adoptee::Collides(collision) => Ok(Told::Collides(collision)),
        }
    }
}

/// Is the new name of somebody another's?
async fn taken(tx: &mut Tx, before: &Identity, after: &Identity) -> Result<bool, BrokerError> {
    let renamed = after.name.to_lowercase() != before.name.to_lowercase();
    Ok(renamed && tx.identity_name_taken(&after.name).await?)
}

impl From<&Entry> for Heard {
    fn from(entry: &Entry) -> Self {
        Self {
            external_id: entry.external_id.clone(),
            name: entry.name.clone(),
            display_name: entry.display_name.clone().unwrap_or_default(),
            email: entry.email.clone(),
            active: entry.active,
            deleted: false,
            contract_end: entry.contract_end,
            attributes: entry.attributes.clone(),
        }
    }
}

impl Heard {
    /// What was known, with what is said now.
    fn over(&self, before: &Identity, now: Timestamp) -> Identity {
        let display_name = if self.display_name.is_empty() { &self.name } else { &self.display_name };
        Identity {
            name: self.name.clone(),
            display_name: display_name.clone(),
            email: self.email.clone(),
            active: self.active && !self.deleted,
            contract_end: self.contract_end,
            attributes: self.attributes.clone(),
            external_id: Some(self.external_id.clone()),
            deleted_at: if self.deleted { before.deleted_at.or(Some(now)) } else { None },
            ..before.clone()
        }
    }
}
