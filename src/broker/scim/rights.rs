//! What a source may write. It writes what it owns. Two rights go beyond, and both are given by an administrator, by name:
//! to take over what is kept here (`adopts`), and to fill the groups that administer and audit (`administers`).

use super::ScimFailure;
use crate::{
    broker::{Broker, SourceCtx},
    domain::{
        identity::{Group, Identity, is_reserved},
        scim::ScimError,
    },
    store::Tx,
};

impl Broker {
    /// May this source write that identity?
    pub(super) async fn may_write_user(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        identity: &Identity,
    ) -> Result<(), ScimFailure> {
        if identity.kind.is_non_human() {
            return Err(
                ScimError::foreign("workloads and agents are registered here; sources do not write them").into()
            );
        }
        match identity.source {
            Some(owner) if owner == ctx.source.id => Ok(()),
            None if self.may_take_over(tx, ctx, identity).await? => Ok(()),
            None => {
                Err(ScimError::foreign("this person is kept here, not by your source; you may only read it").into())
            }
            Some(_) => Err(ScimError::foreign("this person belongs to another source; you may only read it").into()),
        }
    }

    /// May this source take over somebody whom no source owns? Whoever administers or audits only with the right to fill
    /// those groups.
    pub(super) async fn may_take_over(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        identity: &Identity,
    ) -> Result<bool, ScimFailure> {
        let rights = tx.source_rights(ctx.source.id).await?;
        if identity.source.is_some() || identity.kind.is_non_human() || !rights.adopts {
            return Ok(false);
        }
        Ok(rights.administers || !tx.standing_groups(identity.id).await?.iter().any(|g| is_reserved(&g.name)))
    }

    /// May this source write that group?
    pub(super) async fn may_write_group(&self, tx: &mut Tx, ctx: &SourceCtx, group: &Group) -> Result<(), ScimFailure> {
        match group.source {
            Some(owner) if owner == ctx.source.id => {}
            None if tx.source_rights(ctx.source.id).await?.adopts => {}
            None => {
                return Err(
                    ScimError::foreign("this group is kept here, not by your source; you may only read it").into()
                );
            }
            Some(_) => {
                return Err(ScimError::foreign("this group belongs to another source; you may only read it").into());
            }
        }
        self.may_use_name(tx, ctx, &group.name).await
    }

    /// May this source have a group of that name?
    pub(super) async fn may_use_name(&self, tx: &mut Tx, ctx: &SourceCtx, name: &str) -> Result<(), ScimFailure> {
        if is_reserved(name) && !tx.source_rights(ctx.source.id).await?.administers {
            return Err(ScimError::foreign(
                "members of this group administer or audit this broker; an administrator must allow your source to fill it",
            )
            .into());
        }
        Ok(())
    }
}
