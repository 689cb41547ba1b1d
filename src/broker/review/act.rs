//! The one step that settles a line of a review, where no other verb has it. For administrators, and only on what is
//! kept here: what a source owns, only it changes.

use serde_json::json;

use super::super::{
    Broker, BrokerError, Ctx, ask::required_text, lock::only_admins, record::Cause, view::IdentityView,
};
use crate::{
    domain::{
        id::{GroupId, IdentityId},
        identity::{Identity, IdentityKind, Origin},
    },
    store::StoreError,
};

impl Broker {
    /// Deactivate an identity that is kept here, with everything that it holds.
    pub async fn deactivate_identity(
        &self,
        ctx: &Ctx,
        id: IdentityId,
        reason: &str,
    ) -> Result<IdentityView, BrokerError> {
        self.may_change()?;
        only_admins(ctx)?;
        self.not_locked(ctx).await?;
        let reason = required_text("reason", reason)?;
        if id == ctx.actor_id() {
            return Err(BrokerError::State("nobody deactivates themselves: ask another administrator".to_owned()));
        }
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let found = tx.identity(id, ctx.now).await?.ok_or(BrokerError::NotFound("identity"))?;
                let before = found.identity;
                if let Some(source) = before.source {
                    let name = tx.source_name(source).await?;
                    return Err(BrokerError::State(format!(
                        "{name} owns this account: deactivate it there; `tidegate lock identity {}` stops it meanwhile",
                        before.name
                    )));
                }
                if !before.active {
                    return Err(BrokerError::State("it is deactivated already".to_owned()));
                }
                let after = Identity { active: false, answer_by: None, ..before.clone() };
                self.record_change(&mut tx, &cause, &before, &after, json!({"why": reason})).await?;
                Ok(())
            }
            .await;
            match tx.end(written).await {
                None | Some(Err(BrokerError::Store(StoreError::Conflict))) => {}
                Some(result) => {
                    result?;
                    break;
                }
            }
        }
        self.wake();
        self.identity(ctx, &id.to_string()).await
    }

    /// Somebody else answers for a guest from now on.
    pub async fn sponsor_identity(
        &self,
        ctx: &Ctx,
        id: IdentityId,
        sponsor: &str,
    ) -> Result<IdentityView, BrokerError> {
        self.may_change()?;
        only_admins(ctx)?;
        self.not_locked(ctx).await?;
        let found = self.find_subject(sponsor, ctx.now).await?.map(|s| s.identity);
        let sponsor = found.filter(|i| i.active && i.kind == IdentityKind::Person && i.id != id);
        let sponsor = sponsor.ok_or_else(|| BrokerError::invalid("sponsor", "name another person who is active"))?.id;
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let found = tx.identity(id, ctx.now).await?.ok_or(BrokerError::NotFound("identity"))?;
                let before = found.identity;
                if before.origin != Origin::Jit || before.source.is_some() || !before.active {
                    return Err(BrokerError::State(
                        "nobody answers for it but its source, its owner or itself".to_owned(),
                    ));
                }
                // An orphan's clock stops; that of an account that a source is to take over goes on.
                let answer_by = before.answer_by.filter(|_| before.orphaned_at.is_none());
                let after = Identity { owner: Some(sponsor), orphaned_at: None, answer_by, ..before.clone() };
                self.record_change(&mut tx, &cause, &before, &after, json!({"sponsor": sponsor})).await?;
                Ok(())
            }
            .await;
            match tx.end(written).await {
                None | Some(Err(BrokerError::Store(StoreError::Conflict))) => {}
                Some(result) => {
                    result?;
                    break;
                }
            }
        }
        self.wake();
        self.identity(ctx, &id.to_string()).await
    }

    /// End a standing membership in a group that is kept here.
    pub async fn remove_standing(&self, ctx: &Ctx, group: &str, member: &str) -> Result<(), BrokerError> {
        self.may_change()?;
        only_admins(ctx)?;
        self.not_locked(ctx).await?;
        let found = match group.parse::<GroupId>() {
            Ok(id) => self.store.group_by_id(id).await?,
            Err(_) => self.store.group(group).await?,
        };
        let group = found.ok_or(BrokerError::NotFound("group"))?;
        if group.source.is_some() {
            return Err(BrokerError::State(format!("a source keeps {}: remove the membership there", group.name)));
        }
        let member = self.find_subject(member, ctx.now).await?.ok_or(BrokerError::NotFound("identity"))?;
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                if !self.record_member(&mut tx, &cause, &group, member.identity.id, false).await? {
                    return Err(BrokerError::State("there is no such standing membership".to_owned()));
                }
                Ok(tx.touch_group(group.id, ctx.now).await?)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        self.wake();
        Ok(())
    }
}
