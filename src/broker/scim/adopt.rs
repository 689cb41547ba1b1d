//! Whom a source means when it makes somebody who is here already.

use super::{ScimFailure, facts};
use crate::{
    broker::{Broker, SourceCtx, lifecycle::Adoptee, record::Cause},
    domain::{
        identity::Identity,
        scim::{Document, ScimError},
    },
    store::{Collision, ScimUser, Tx},
};

impl Broker {
    /// Somebody whom no source owns and who becomes this source's instead of a new person: never silently, always by a
    /// rule. By unique name, if an administrator let this source take over what is kept here; or, for who came by a first
    /// login, as its rule says. Who may be meant, and no rule says so, is [`ScimFailure::Collides`].
    pub(super) async fn adopt(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        proposed: &Identity,
    ) -> Result<Option<ScimUser>, ScimFailure> {
        let email = proposed.email.as_deref();
        let known = tx.namesakes(&proposed.name, email, proposed.external_id.as_deref(), ctx.now).await?;
        let name = proposed.name.to_lowercase();
        if let Some(there) = known.iter().find(|k| k.identity.name.to_lowercase() == name)
            && self.may_take_over(tx, ctx, &there.identity).await?
        {
            return Ok(tx.scim_user(there.identity.id).await?);
        }
        let taken = known.iter().any(|k| k.identity.name.to_lowercase() == name);
        match self.adoptee_among(tx, ctx.source.id, proposed, known).await? {
            Adoptee::Nobody if taken => {
                Err(ScimError::uniqueness("there is somebody of that `userName` already").into())
            }
            Adoptee::Nobody => Ok(None),
            Adoptee::Known(identity, _) => Ok(tx.scim_user(identity.id).await?),
            Adoptee::Collides(collision) => Err(ScimFailure::Collides(Box::new(collision))),
        }
    }

    /// Whoever is changed before a source has made them: most look first, and change whom they find. Who came by a first
    /// login becomes the source's by the same rules as if it had made them.
    pub(super) async fn adopt_known(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        there: &Identity,
        whole: &Document,
    ) -> Result<(), ScimFailure> {
        let mut said = there.clone();
        facts::apply(self.settings.users, whole, &mut said)?;
        match self.adoptee_known(tx, ctx.source.id, there, &said).await? {
            Adoptee::Collides(collision) => Err(ScimFailure::Collides(Box::new(collision))),
            Adoptee::Known(..) | Adoptee::Nobody => Ok(()),
        }
    }

    /// After its change was taken back: a collision is kept until somebody decides, and the source is told of it.
    pub(super) async fn refuse_collision(&self, ctx: &SourceCtx, collision: &Collision) -> ScimFailure {
        match self.record_collision(&Cause::from(ctx), collision).await {
            Err(error) => error.into(),
            Ok(()) => ScimError::uniqueness(format!(
                "somebody of that {} is here already, and no rule says that it is the same person; an administrator decides \
                 (`tidegate review collisions`), then send it again",
                collision.matched
            ))
            .into(),
        }
    }
}
