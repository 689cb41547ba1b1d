//! Users: made, read, replaced, changed, deleted.

use serde_json::{Value, json};

use super::{
    Precondition, Resource, ScimFailure, TRIES, facts, fixed, in_one_change,
    render::{self, UserParts},
};
use crate::{
    broker::{Broker, BrokerError, SourceCtx, record::Cause},
    domain::{
        id::IdentityId,
        identity::{Identity, IdentityKind, Origin},
        scim::{Document, ScimError, patch, projection::Selection, read_document, schema::ResourceType},
    },
    store::{ScimUser, StoreError, Tx},
};

const NO_USER: &str = "there is no such user";

fn id_of(text: &str) -> Result<IdentityId, ScimError> {
    text.parse().map_err(|_| ScimError::not_found(NO_USER))
}

impl Broker {
    /// The address that everything of SCIM is under.
    pub fn scim_base(&self) -> String {
        format!("{}/scim/v2", self.issuer().trim_end_matches('/'))
    }

    /// Users as SCIM speaks of them here.
    pub const fn scim_users_type(&self) -> &'static ResourceType {
        self.settings.users
    }

    fn shown(&self, user: &ScimUser, selection: &Selection) -> Resource {
        let parts = UserParts {
            identity: &user.identity,
            created_at: user.created_at,
            updated_at: user.updated_at,
            document: user.document.as_ref(),
            groups: &user.groups,
        };
        render::user(self.settings.users, &parts, &self.scim_base(), selection)
    }

    pub(super) fn shown_users(&self, users: &[ScimUser], selection: &Selection) -> Vec<Resource> {
        users.iter().map(|user| self.shown(user, selection)).collect()
    }

    /// A user.
    pub async fn scim_user(&self, _ctx: &SourceCtx, id: &str, selection: &Selection) -> Result<Resource, ScimFailure> {
        let user = self.store.scim_user(id_of(id)?).await?.ok_or_else(|| ScimError::not_found(NO_USER))?;
        Ok(self.shown(&user, selection))
    }

    /// Make a user: from now on the person can ask.
    pub async fn scim_create_user(
        &self,
        ctx: &SourceCtx,
        body: &Value,
        selection: &Selection,
    ) -> Result<Resource, ScimFailure> {
        self.may_change()?;
        let whole = read_document(self.settings.users, body)?;
        let mut new = Identity {
            source: Some(ctx.source.id),
            origin: Origin::Scim,
            ..Identity::new(IdentityId::new(self.entropy.ulid(ctx.now)?), IdentityKind::Person, "")
        };
        facts::apply(self.settings.users, &whole, &mut new)?;
        fit(&new)?;
        let document = facts::kept(self.settings.users, &whole);
        let cause = Cause::from(ctx);
        let made = |identity: Identity| ScimUser {
            identity,
            created_at: ctx.now,
            updated_at: ctx.now,
            document: Some(document.clone()),
            groups: Vec::new(),
        };
        let details = json!({"source": ctx.source.name});
        // Nearly everybody who joins is nobody that is here.
        let simple = facts::manager(&whole).is_none() && !self.settings.users.has_unique();
        if simple && self.join(&cause, &new, &document, &details).await? {
            self.wake();
            return Ok(self.shown(&made(new), selection));
        }
        let made = in_one_change!(self, tx => {
            if let Some(there) = self.adopt(&mut tx, ctx, &new).await? {
                return self.write_user(&mut tx, ctx, &there, &whole).await;
            }
            let mut new = new.clone();
            self.unique(&mut tx, ctx, None, &new).await?;
            self.resolve_manager(&mut tx, ctx, &whole, None, &mut new).await?;
            self.record_joiner(&mut tx, &cause, &new, details.clone()).await?;
            self.keep_document(&mut tx, new.id, &document, true).await?;
            self.answer_for_reports(&mut tx, &cause, &new).await?;
            Ok(made(new))
        });
        let made = match made {
            Err(ScimFailure::Collides(collision)) => return Err(self.refuse_collision(ctx, &collision).await),
            made => made?,
        };
        self.wake();
        Ok(self.shown(&made, selection))
    }

    /// Replace what is said of a user. What is left out is no longer said; only `active` stays as it is.
    pub async fn scim_replace_user(
        &self,
        ctx: &SourceCtx,
        id: &str,
        body: &Value,
        precondition: &Precondition,
        selection: &Selection,
    ) -> Result<Resource, ScimFailure> {
        let id = id_of(id)?;
        let users = self.settings.users;
        let whole = read_document(users, body)?;
        self.change_user(ctx, id, precondition, selection, |before| {
            let mut after = whole.clone();
            fixed::keep(users, before, &mut after);
            Ok(after)
        })
        .await
    }

    /// Change a user, in all that is said or in nothing. `as_entra`: a value that a filter names is made also where the RFC
    /// finds none.
    pub async fn scim_patch_user(
        &self,
        ctx: &SourceCtx,
        id: &str,
        body: &Value,
        precondition: &Precondition,
        selection: &Selection,
        as_entra: bool,
    ) -> Result<Resource, ScimFailure> {
        let id = id_of(id)?;
        let users = self.settings.users;
        let changes = patch::read_changes(users, body, as_entra)?;
        self.change_user(ctx, id, precondition, selection, |whole| patch::apply(users, whole, &changes)).await
    }

    async fn change_user(
        &self,
        ctx: &SourceCtx,
        id: IdentityId,
        precondition: &Precondition,
        selection: &Selection,
        change: impl Fn(&Document) -> Result<Document, ScimError> + Send + Sync,
    ) -> Result<Resource, ScimFailure> {
        self.may_change()?;
        // What is to become of it is found out beside the ledger: nobody waits for that, however much there is to do.
        let mut seen = self.store.scim_user(id).await?.ok_or_else(|| ScimError::not_found(NO_USER))?;
        let mut tries = 0;
        let changed = loop {
            tries += 1;
            let known = facts::whole(&seen.identity, seen.document.as_ref());
            let whole = change(&known).and_then(|whole| fixed::check(self.settings.users, &known, whole));
            let mut tx = self.store.begin().await?;
            let written = async {
                let before = tx.scim_user(id).await?.ok_or_else(|| ScimError::not_found(NO_USER))?;
                precondition.hold(before.identity.version)?;
                let free = before.identity.source.is_none() && before.identity.origin == Origin::Jit;
                let by_rule = free && !self.may_take_over(&mut tx, ctx, &before.identity).await?;
                if !by_rule {
                    self.may_write_user(&mut tx, ctx, &before.identity).await?;
                }
                if before.identity.version != seen.identity.version {
                    seen = before;
                    return Err(StoreError::Conflict.into());
                }
                let whole = whole?;
                if by_rule {
                    self.adopt_known(&mut tx, ctx, &before.identity, &whole).await?;
                }
                self.write_user(&mut tx, ctx, &before, &whole).await
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(failure)) if failure.is_contention() && tries < TRIES => {}
                Some(Err(ScimFailure::Collides(collision))) => {
                    return Err(self.refuse_collision(ctx, &collision).await);
                }
                Some(done) => break done?,
            }
        };
        self.wake();
        Ok(self.shown(&changed, selection))
    }

    /// Bring a user to what a whole document says, through the lifecycle.
    async fn write_user(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        before: &ScimUser,
        whole: &Document,
    ) -> Result<ScimUser, ScimFailure> {
        let mut after = before.identity.clone();
        facts::apply(self.settings.users, whole, &mut after)?;
        fit(&after)?;
        after.source = Some(ctx.source.id);
        self.unique(tx, ctx, Some(before), &after).await?;
        self.resolve_manager(tx, ctx, whole, Some(before), &mut after).await?;
        let document = facts::kept(self.settings.users, whole);
        let said_anew = before.document.as_ref() != Some(&document);
        if after == before.identity && !said_anew {
            return Ok(before.clone());
        }
        let details = json!({"source": ctx.source.name});
        self.record_change(tx, &Cause::from(ctx), &before.identity, &after, details).await?;
        if said_anew {
            self.keep_document(tx, after.id, &document, false).await?;
        }
        after.version += 1;
        Ok(ScimUser {
            identity: after,
            created_at: before.created_at,
            updated_at: ctx.now,
            document: Some(document),
            groups: before.groups.clone(),
        })
    }

    /// Delete a user: it leaves every group and ends all it holds; its name is free again, and the log keeps it.
    pub async fn scim_delete_user(
        &self,
        ctx: &SourceCtx,
        id: &str,
        precondition: &Precondition,
    ) -> Result<(), ScimFailure> {
        self.may_change()?;
        let id = id_of(id)?;
        let cause = Cause::from(ctx);
        in_one_change!(self, tx => {
            let before = tx.scim_user(id).await?.ok_or_else(|| ScimError::not_found(NO_USER))?;
            precondition.hold(before.identity.version)?;
            self.may_write_user(&mut tx, ctx, &before.identity).await?;
            let details = json!({"source": ctx.source.name, "deleted": true});
            Ok(self.record_deletion(&mut tx, &cause, &before.identity, details).await?)
        })?;
        self.wake();
        Ok(())
    }

    /// Keep what was said of a user; nobody else has what only one may have.
    async fn keep_document(
        &self,
        tx: &mut Tx,
        id: IdentityId,
        document: &Document,
        new: bool,
    ) -> Result<(), ScimFailure> {
        let users = self.settings.users;
        tx.write_document(users, id, document, new).await?;
        match tx.claim_unique(users, id, document, new).await? {
            None => Ok(()),
            Some(path) => Err(ScimError::uniqueness(format!("there is somebody of that `{path}` already")).into()),
        }
    }

    /// Nobody else has that name, or is that to this source.
    async fn unique(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        before: Option<&ScimUser>,
        after: &Identity,
    ) -> Result<(), ScimFailure> {
        // Of somebody new it was asked before.
        let renamed = before.is_some_and(|b| b.identity.name.to_lowercase() != after.name.to_lowercase());
        if renamed && tx.identity_name_taken(&after.name).await? {
            return Err(ScimError::uniqueness("there is somebody of that `userName` already").into());
        }
        if let Some(external) = &after.external_id
            && before.is_none_or(|b| b.identity.external_id != after.external_id || b.identity.source != after.source)
            && let Some(other) = tx.scim_user_known_as(ctx.source.id, external).await?
            && other.identity.id != after.id
        {
            return Err(ScimError::uniqueness("your source has somebody of that `externalId` already").into());
        }
        Ok(())
    }

    /// Whom the document means by the manager: an id, a unique name, or the source's own name for somebody.
    async fn resolve_manager(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        whole: &Document,
        before: Option<&ScimUser>,
        after: &mut Identity,
    ) -> Result<(), ScimFailure> {
        let Some(named) = facts::manager(whole) else {
            after.attributes.remove(facts::MANAGER);
            return Ok(());
        };
        let same = before.and_then(|b| b.document.as_ref()).and_then(facts::manager) == Some(named);
        if same && after.attributes.contains_key(facts::MANAGER) {
            return Ok(());
        }
        let found = match named.parse::<IdentityId>() {
            Ok(id) => tx.present(&[id]).await?.first().copied(),
            Err(_) => match tx.scim_user_named(named).await? {
                Some(user) => Some(user.identity.id),
                None => tx.scim_user_known_as(ctx.source.id, named).await?.map(|u| u.identity.id),
            },
        };
        // Whoever is unknown manages nobody, but policy may still read the name.
        let manager = found.map_or_else(|| named.to_owned(), |id| id.to_string());
        after.attributes.insert(facts::MANAGER.to_owned(), manager);
        Ok(())
    }

    /// Whoever was said to be managed by somebody who was not here yet is managed by them from now on.
    async fn answer_for_reports(&self, tx: &mut Tx, cause: &Cause, new: &Identity) -> Result<(), ScimFailure> {
        let named = [Some(&new.name), new.external_id.as_ref()].map(|n| n.cloned().unwrap_or_default());
        for id in tx.managed_by(&named).await? {
            let Some(report) = tx.scim_user(id).await?.map(|u| u.identity) else { continue };
            let mut after = report.clone();
            let manager = after.attributes.get(facts::MANAGER);
            if report.source != new.source || !manager.is_some_and(|m| named.contains(m)) {
                continue;
            }
            after.attributes.insert(facts::MANAGER.to_owned(), new.id.to_string());
            self.record_change(tx, cause, &report, &after, json!({"why": "its manager is here now"})).await?;
        }
        Ok(())
    }

    /// Write down what is known of somebody as if a source had said it, so that filters find it.
    pub(in crate::broker) async fn describe_for_scim(&self, tx: &mut Tx, id: IdentityId) -> Result<(), BrokerError> {
        if let Some(user) = tx.scim_user(id).await?.filter(|u| u.document.is_none()) {
            tx.write_document(self.settings.users, id, &facts::document_of(&user.identity), true).await?;
        }
        Ok(())
    }

    /// The person behind a personal token, as a user.
    pub async fn scim_me(&self, id: IdentityId, selection: &Selection) -> Result<Resource, ScimFailure> {
        let user = self.store.scim_user(id).await?.ok_or_else(|| ScimError::not_found(NO_USER))?;
        Ok(self.shown(&user, selection))
    }
}

/// A name that is an id would be taken for somebody else's, here and in applications.
fn fit(identity: &Identity) -> Result<(), ScimError> {
    let names = [("userName", Some(&identity.name)), ("externalId", identity.external_id.as_ref())];
    match names.into_iter().find(|(_, name)| name.is_some_and(|n| n.parse::<IdentityId>().is_ok())) {
        Some((which, _)) => Err(ScimError::value(format!("`{which}` must not look like an id of this service"))),
        None => Ok(()),
    }
}
