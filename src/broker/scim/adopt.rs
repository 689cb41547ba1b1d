//! Whom a source means when it makes somebody who is here already.

use super::ScimFailure;
use crate::{
    broker::{Broker, SourceCtx},
    domain::identity::Identity,
    store::{ScimUser, Tx},
};

impl Broker {
    /// Somebody whom no source owns and who becomes this source's instead of a new person: never silently, always by a
    /// rule. By unique name, if an administrator let this source take over what is kept here.
    pub(super) async fn adopt(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        proposed: &Identity,
    ) -> Result<Option<ScimUser>, ScimFailure> {
        let Some(there) = tx.scim_user_named(&proposed.name).await? else { return Ok(None) };
        Ok(if self.may_adopt(tx, ctx, &there.identity).await? { Some(there) } else { None })
    }
}
