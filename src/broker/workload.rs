//! Workloads and agents: registered with an accountable person, deactivated with everything they hold.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use super::{
    Broker, BrokerError, Ctx,
    ask::clean_text,
    input::{NewWorkload, WorkloadChange},
    record::Cause,
    view::WorkloadView,
};
use crate::{
    domain::{
        id::IdentityId,
        identity::{Identity, IdentityKind, Subject, TEAM, is_reserved},
        secret::Secret,
        time::Ttl,
    },
    store::{StoreError, TokenKind},
};

/// Lifetime of a client secret when none is given.
const DEFAULT_SECRET_TTL: Ttl = Ttl::seconds_or_one(90 * 86_400);

impl Broker {
    /// Register a workload or agent. A person may register what they will own; only administrators put it into groups.
    pub async fn register_workload(&self, ctx: &Ctx, new: NewWorkload) -> Result<WorkloadView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        if !new.kind.is_non_human() {
            return Err(BrokerError::invalid("kind", "is `workload` or `agent`; people come from the directory"));
        }
        let name = clean_name(&new.name)?;
        let owner = self.owner_of_new(ctx, new.owner.as_deref()).await?;
        let backup_owner = match &new.backup_owner {
            Some(key) => Some(self.backup_owner(ctx, key, Some(owner)).await?),
            None => None,
        };
        let ttl = new.secret_ttl.unwrap_or(DEFAULT_SECRET_TTL);
        if ttl > self.settings.max_token_ttl {
            return Err(BrokerError::invalid("secret_ttl", format!("at most {}", self.settings.max_token_ttl)));
        }
        if !new.groups.is_empty() && !ctx.is_admin() {
            return Err(BrokerError::Forbidden("only administrators put workloads into groups"));
        }
        let mut groups = Vec::new();
        for group in &new.groups {
            if is_reserved(group) {
                return Err(BrokerError::invalid("groups", "only people administer or audit"));
            }
            let known = self.store.group(group).await?;
            groups.push(known.ok_or_else(|| BrokerError::invalid("groups", format!("there is no group `{group}`")))?);
        }
        let mut attributes = BTreeMap::new();
        if let Some(team) = &new.team {
            self.set_team(&mut attributes, team).await?;
        }
        let identity = Identity {
            backup_owner,
            attributes,
            display_name: clean_text("display_name", new.display_name.as_deref().unwrap_or(&name))?,
            owner: Some(owner),
            ..Identity::new(IdentityId::new(self.entropy.ulid(ctx.now)?), new.kind, name)
        };
        let cause = Cause::from(ctx);
        let (token, secret) = self.make_token(identity.id, TokenKind::ClientSecret, "client secret", ctx.now, ttl)?;
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                if tx.identity_name_taken(&identity.name).await? {
                    return Err(BrokerError::State(format!("the name `{}` is taken", identity.name)));
                }
                self.record_joiner(&mut tx, &cause, &identity, json!({})).await?;
                for group in &groups {
                    self.record_member(&mut tx, &cause, group, identity.id, true).await?;
                }
                self.record_token(&mut tx, &cause, &token).await
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        let mut view = self.workload_view(ctx, identity.id, Some(&secret)).await?;
        view.secret_expires_at = Some(token.expires_at.to_string());
        Ok(view)
    }

    async fn owner_of_new(&self, ctx: &Ctx, owner: Option<&str>) -> Result<IdentityId, BrokerError> {
        let Some(key) = owner else {
            if ctx.actor.identity.kind == IdentityKind::Person {
                return Ok(ctx.actor_id());
            }
            return Err(BrokerError::Forbidden("workloads and agents are registered by people"));
        };
        let found = self.find_subject(key, ctx.now).await?;
        let accountable = |s: &Subject| s.identity.kind == IdentityKind::Person && s.identity.active;
        let subject =
            found.filter(accountable).ok_or_else(|| BrokerError::invalid("owner", "must be an active person"))?;
        if subject.identity.id == ctx.actor_id() || ctx.is_admin() {
            Ok(subject.identity.id)
        } else {
            Err(BrokerError::Forbidden("only administrators register workloads for others"))
        }
    }

    /// An active person other than the owner.
    async fn backup_owner(&self, ctx: &Ctx, key: &str, owner: Option<IdentityId>) -> Result<IdentityId, BrokerError> {
        let found = self.find_subject(key, ctx.now).await?.map(|s| s.identity);
        let fits = |i: &Identity| i.kind == IdentityKind::Person && i.active && Some(i.id) != owner;
        let unfit = || BrokerError::invalid("backup_owner", "must be an active person, and not the owner");
        Ok(found.filter(fits).ok_or_else(unfit)?.id)
    }

    async fn set_team(&self, attributes: &mut BTreeMap<String, String>, team: &str) -> Result<(), BrokerError> {
        if team.is_empty() {
            attributes.remove(TEAM);
            return Ok(());
        }
        let known = self.store.group(team).await?;
        let group = known.ok_or_else(|| BrokerError::invalid("team", format!("there is no group `{team}`")))?;
        attributes.insert(TEAM.to_owned(), group.name);
        Ok(())
    }

    /// Who answers for an orphan from now on; false if the change does not say.
    async fn accept_orphan(
        &self,
        ctx: &Ctx,
        before: &Identity,
        after: &mut Identity,
        change: &WorkloadChange,
    ) -> Result<bool, BrokerError> {
        let Some(key) = change.owner.as_ref().filter(|_| before.orphaned_at.is_some()) else { return Ok(false) };
        after.owner = Some(self.owner_of_new(ctx, Some(key)).await?);
        if after.backup_owner == after.owner {
            after.backup_owner = None;
        }
        (after.orphaned_at, after.answer_by) = (None, None);
        // A team that is gone cannot be answered to any more.
        if let Some(team) = before.team().filter(|_| change.team.is_none())
            && !self.store.has_people(&team).await?
        {
            after.attributes.remove(TEAM);
        }
        Ok(true)
    }

    /// Change a workload or agent: its owner and administrators, and whoever is asked to answer for an orphan. Its
    /// secrets end when it is taken over: whoever answered for it before may have seen them.
    pub async fn update_workload(
        self: &Arc<Self>,
        ctx: &Ctx,
        id: IdentityId,
        change: WorkloadChange,
    ) -> Result<WorkloadView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        let subject = self.visible_identity(ctx, &id.to_string()).await?;
        let before = subject.identity;
        if !before.kind.is_non_human() {
            return Err(BrokerError::State("this is a person; people come from the directory".to_owned()));
        }
        let asked = before.orphaned_at.is_some() && before.backup_owner == Some(ctx.actor_id());
        if before.owner != Some(ctx.actor_id()) && !asked && !ctx.is_admin() {
            return Err(BrokerError::Forbidden("only its owner and administrators change a workload"));
        }
        if change.active == Some(true) && !before.active {
            if !ctx.is_admin() {
                return Err(BrokerError::Forbidden("only administrators activate a workload again"));
            }
            if before.deleted_at.is_some() {
                return Err(BrokerError::State("it was deleted at its source, and stays so".to_owned()));
            }
        }
        let mut after = Identity { active: change.active.unwrap_or(before.active), ..before.clone() };
        if let Some(name) = &change.display_name {
            after.display_name = clean_text("display_name", name)?;
        }
        if let Some(key) = &change.backup_owner {
            after.backup_owner = Some(self.backup_owner(ctx, key, before.owner).await?);
        }
        let accepted = self.accept_orphan(ctx, &before, &mut after, &change).await?;
        if let Some(key) = change.owner.as_ref().filter(|_| !accepted) {
            if !ctx.is_admin() {
                return Err(BrokerError::Forbidden("only administrators hand a workload to another owner"));
            }
            after.owner = Some(self.owner_of_new(ctx, Some(key)).await?);
        }
        if let Some(team) = &change.team {
            self.set_team(&mut after.attributes, team).await?;
        }
        let fresh = if change.rotate_secret {
            let made = self.make_token(id, TokenKind::ClientSecret, "client secret", ctx.now, DEFAULT_SECRET_TTL)?;
            Some(made)
        } else {
            None
        };
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let details = json!({
                    "display_name": after.display_name, "owner": after.owner, "active": after.active,
                    "secret_rotated": fresh.is_some(), "accepted": accepted,
                });
                self.record_change(&mut tx, &cause, &before, &after, details).await?;
                if fresh.is_some() || accepted {
                    tx.end_credentials_of(id, ctx.now).await?;
                }
                if let Some((token, _)) = &fresh {
                    self.record_token(&mut tx, &cause, token).await?;
                }
                Ok(())
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => {
                    return Err(BrokerError::State("it was changed meanwhile; look at it again".to_owned()));
                }
                Some(result) => {
                    result?;
                    break;
                }
            }
        }
        self.wake();
        let mut view = self.workload_view(ctx, id, fresh.as_ref().map(|(_, secret)| secret)).await?;
        view.secret_expires_at = fresh.map(|(token, _)| token.expires_at.to_string());
        Ok(view)
    }

    async fn workload_view(
        &self,
        ctx: &Ctx,
        id: IdentityId,
        secret: Option<&Secret>,
    ) -> Result<WorkloadView, BrokerError> {
        let subject = self.store.subject(id, ctx.now).await?.ok_or(BrokerError::NotFound("workload"))?;
        Ok(WorkloadView {
            identity: self.render_identity(&subject).await,
            client_id: id.to_string(),
            client_secret: secret.map(|s| s.expose().to_owned()),
            secret_expires_at: None,
        })
    }
}

fn clean_name(name: &str) -> Result<String, BrokerError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@/".contains(c);
    if name.is_empty() || name.len() > 100 || !name.chars().all(fits) {
        return Err(BrokerError::invalid("name", "use 1 to 100 letters, digits and `-_.@/`"));
    }
    Ok(name.to_owned())
}
