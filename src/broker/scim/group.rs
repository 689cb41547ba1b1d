//! Groups: made, read, replaced, changed, deleted. Members are memberships, never part of a document.

use serde_json::{Value, json};

use super::{
    Precondition, Resource, ScimFailure, in_one_change,
    members::{self, Step},
    render,
};
use crate::{
    broker::{Broker, SourceCtx, record::Cause},
    domain::{
        id::GroupId,
        identity::Group,
        scim::{Document, ScimError, core::GROUPS_TYPE, document::text, patch, projection::Selection, read_document},
    },
    store::Tx,
};

const NO_GROUP: &str = "there is no such group";
/// A changed group with more members than this is answered without a body, unless attributes are asked for.
const TOLD_UNASKED: u32 = 200;

fn id_of(text: &str) -> Result<GroupId, ScimError> {
    text.parse().map_err(|_| ScimError::not_found(NO_GROUP))
}

/// What is to become of a group.
struct Wanted {
    name: String,
    external_id: Option<String>,
    steps: Vec<Step>,
}

impl Wanted {
    fn of(document: &Document, steps: Vec<Step>) -> Self {
        Self {
            name: text(document, "displayName").unwrap_or_default().to_owned(),
            external_id: text(document, "externalId").map(str::to_owned),
            steps,
        }
    }

    /// From a whole group. One that names no members says nothing of them.
    fn read(body: &Value) -> Result<Self, ScimError> {
        let mut document = read_document(&GROUPS_TYPE, body)?;
        document.remove("members");
        let members = body.as_object().and_then(|b| b.iter().find(|(k, _)| k.eq_ignore_ascii_case("members")));
        let steps = match members {
            Some((_, Value::Null)) | None => Vec::new(),
            Some((_, members)) => vec![Step::Set(members::whole(members)?)],
        };
        Ok(Self::of(&document, steps))
    }
}

fn document_of(group: &Group) -> Document {
    let mut document = Document::new();
    document.insert("displayName".to_owned(), json!(group.name));
    if let Some(external) = &group.external_id {
        document.insert("externalId".to_owned(), json!(external));
    }
    document
}

impl Broker {
    /// A group.
    pub async fn scim_group(&self, _ctx: &SourceCtx, id: &str, selection: &Selection) -> Result<Resource, ScimFailure> {
        let group = self.store.group_by_id(id_of(id)?).await?.ok_or_else(|| ScimError::not_found(NO_GROUP))?;
        self.shown_group(&group, selection).await
    }

    /// A group with all of its members, if they are wanted.
    pub(super) async fn shown_group(&self, group: &Group, selection: &Selection) -> Result<Resource, ScimFailure> {
        let members = if selection.wants_core(&GROUPS_TYPE, "members") {
            Some(self.store.members_standing_in(group.id, u32::MAX).await?)
        } else {
            None
        };
        Ok(render::group(group, members.as_deref(), &self.scim_base(), selection))
    }

    /// Make a group.
    pub async fn scim_create_group(
        &self,
        ctx: &SourceCtx,
        body: &Value,
        selection: &Selection,
    ) -> Result<Resource, ScimFailure> {
        self.may_change()?;
        let wanted = Wanted::read(body)?;
        let made = in_one_change!(self, tx => {
            if let Some(there) = tx.group_named(&wanted.name).await? {
                let free = there.source.is_none() && tx.source_rights(ctx.source.id).await?.adopts;
                if !free {
                    return Err(ScimError::uniqueness("there is a group of that `displayName` already").into());
                }
                self.may_write_group(&mut tx, ctx, &there).await?;
                return self.write_group(&mut tx, ctx, &there, &wanted, false).await;
            }
            self.may_use_name(&mut tx, ctx, &wanted.name).await?;
            let group = Group {
                source: Some(ctx.source.id),
                external_id: wanted.external_id.clone(),
                ..Group::new(GroupId::new(self.entropy.ulid(ctx.now)?), wanted.name.as_str(), ctx.now)
            };
            self.unique_group(&mut tx, ctx, None, &group).await?;
            tx.insert_group(&group).await?;
            let event = self.event(&Cause::from(ctx), "group.created", details(ctx, &group))?;
            self.note(&mut tx, event)?;
            self.change_members(&mut tx, ctx, &group, &members::of_new(&wanted.steps)).await?;
            Ok(group)
        })?;
        self.wake();
        self.shown_group(&made, selection).await
    }

    /// Replace a group; its members too, if any are named.
    pub async fn scim_replace_group(
        &self,
        ctx: &SourceCtx,
        id: &str,
        body: &Value,
        precondition: &Precondition,
        selection: &Selection,
    ) -> Result<Resource, ScimFailure> {
        self.may_change()?;
        let id = id_of(id)?;
        let wanted = Wanted::read(body)?;
        let changed = in_one_change!(self, tx => {
            let before = self.group_to_write(&mut tx, ctx, id, precondition).await?;
            self.write_group(&mut tx, ctx, &before, &wanted, !precondition.matches.is_empty()).await
        })?;
        self.wake();
        self.shown_group(&changed, selection).await
    }

    /// Change a group, in all that is said or in nothing.
    pub async fn scim_patch_group(
        &self,
        ctx: &SourceCtx,
        id: &str,
        body: &Value,
        precondition: &Precondition,
        selection: &Selection,
    ) -> Result<Resource, ScimFailure> {
        self.may_change()?;
        let id = id_of(id)?;
        let (changes, steps) = members::split(patch::read_changes(&GROUPS_TYPE, body, false)?)?;
        let changed = in_one_change!(self, tx => {
            let before = self.group_to_write(&mut tx, ctx, id, precondition).await?;
            let document = patch::apply(&GROUPS_TYPE, &document_of(&before), &changes)?;
            let wanted = Wanted::of(&document, steps.clone());
            self.write_group(&mut tx, ctx, &before, &wanted, !precondition.matches.is_empty()).await
        })?;
        self.wake();
        if selection.is_some() || !selection.wants_core(&GROUPS_TYPE, "members") {
            return self.shown_group(&changed, selection).await;
        }
        let members = self.store.members_standing_in(changed.id, TOLD_UNASKED + 1).await?;
        let mut shown = render::group(&changed, Some(&members), &self.scim_base(), selection);
        if members.len() > TOLD_UNASKED as usize {
            shown.document = None;
        }
        Ok(shown)
    }

    /// Delete a group: nobody is in it any more.
    pub async fn scim_delete_group(
        &self,
        ctx: &SourceCtx,
        id: &str,
        precondition: &Precondition,
    ) -> Result<(), ScimFailure> {
        self.may_change()?;
        let id = id_of(id)?;
        let cause = Cause::from(ctx);
        in_one_change!(self, tx => {
            let before = self.group_to_write(&mut tx, ctx, id, precondition).await?;
            let members = tx.members_standing_in(id, u32::MAX).await?;
            self.record_members(&mut tx, &cause, &before, &members, false).await?;
            tx.delete_group(id, cause.recheck()).await?;
            let event = self.event(&cause, "group.deleted", details(ctx, &before))?;
            self.note(&mut tx, event)?;
            Ok(())
        })?;
        self.wake();
        Ok(())
    }

    async fn group_to_write(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        id: GroupId,
        precondition: &Precondition,
    ) -> Result<Group, ScimFailure> {
        let group = tx.group_by_id(id).await?.ok_or_else(|| ScimError::not_found(NO_GROUP))?;
        precondition.hold(group.version)?;
        self.may_write_group(tx, ctx, &group).await?;
        Ok(group)
    }

    /// Bring a group to what is wanted. Only a change of the group itself, or one on condition of its version, needs to be
    /// the only one of its moment; members come and go side by side.
    async fn write_group(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        before: &Group,
        wanted: &Wanted,
        alone: bool,
    ) -> Result<Group, ScimFailure> {
        let mut after = Group {
            name: wanted.name.clone(),
            external_id: wanted.external_id.clone(),
            source: Some(ctx.source.id),
            ..before.clone()
        };
        let edited = after != *before;
        let cause = Cause::from(ctx);
        if edited {
            self.unique_group(tx, ctx, Some(before), &after).await?;
            if after.name != before.name {
                self.may_use_name(tx, ctx, &after.name).await?;
            }
        }
        let moved = self.change_members(tx, ctx, &after, &wanted.steps).await?;
        if !edited && moved == 0 {
            return Ok(after);
        }
        if edited || alone {
            tx.update_group(&after, ctx.now).await?;
        } else {
            tx.touch_group(after.id, ctx.now).await?;
        }
        if edited {
            let mut details = details(ctx, &after);
            if let Value::Object(details) = &mut details
                && after.name != before.name
            {
                // Policies know groups by name.
                tx.recheck_members(after.id, cause.recheck()).await?;
                let members = tx.members_standing_in(after.id, u32::MAX).await?;
                self.record_downstream(tx, &cause, &members, true).await?;
                details.insert("before".to_owned(), json!(before.name));
            }
            let event = self.event(&cause, "group.updated", details)?;
            self.note(tx, event)?;
        }
        after.version += 1;
        after.updated_at = ctx.now;
        Ok(after)
    }

    async fn unique_group(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        before: Option<&Group>,
        after: &Group,
    ) -> Result<(), ScimFailure> {
        let renamed = before.is_none_or(|b| b.name.to_lowercase() != after.name.to_lowercase());
        if renamed && tx.group_named(&after.name).await?.is_some() {
            return Err(ScimError::uniqueness("there is a group of that `displayName` already").into());
        }
        if let Some(external) = &after.external_id
            && tx.group_known_as(ctx.source.id, external).await?.is_some_and(|g| g.id != after.id)
        {
            return Err(ScimError::uniqueness("your source has a group of that `externalId` already").into());
        }
        Ok(())
    }
}

fn details(ctx: &SourceCtx, group: &Group) -> Value {
    json!({"group": group.name, "group_id": group.id, "source": ctx.source.name})
}
