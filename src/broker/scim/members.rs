//! Members of a group: what a change of them comes to, without reading those that it does not concern.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::ScimFailure;
use crate::{
    broker::{Broker, SourceCtx, record::Cause},
    domain::{
        id::{GroupId, IdentityId},
        identity::Group,
        scim::{
            ScimError,
            filter::{Filter, Literal, Op, Target},
            matching::fits,
            patch::{Change, Verb},
        },
    },
    store::Tx,
};

type Ids = BTreeSet<IdentityId>;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// These are members too.
    Add(Ids),
    /// These are the members.
    Set(Ids),
    /// These are no members.
    Remove(Ids),
    /// Those that fit are no members.
    RemoveWhere(Filter),
}

/// Tell the changes of members from the others.
pub(super) fn split(changes: Vec<Change>) -> Result<(Vec<Change>, Vec<Step>), ScimError> {
    let (mut others, mut steps) = (Vec::new(), Vec::new());
    for change in changes {
        match &change.target {
            Target::Attribute { path, values } if path.attribute.name == "members" => {
                steps.push(step(&change, path.sub.map(|s| s.name), values.as_ref())?);
            }
            // The members may be in it too.
            Target::Schema(_) => return Err(ScimError::path("name the attribute, not the schema")),
            Target::Attribute { .. } => others.push(change),
        }
    }
    Ok((others, steps))
}

fn step(change: &Change, sub: Option<&str>, values: Option<&Filter>) -> Result<Step, ScimError> {
    let fixed = || ScimError::mutability("a member is added or removed as a whole");
    if let Some(filter) = values {
        if change.verb != Verb::Remove || sub.is_some_and(|s| s != "value") {
            return Err(fixed());
        }
        return Ok(named(filter).map_or_else(|| Step::RemoveWhere(filter.clone()), Step::Remove));
    }
    if sub.is_some_and(|s| s != "value") {
        return Err(fixed());
    }
    let given = change.value.as_ref().filter(|v| !v.is_null());
    Ok(match (change.verb, given) {
        (Verb::Add, given) => Step::Add(ids(given)?),
        (Verb::Replace, given) => Step::Set(ids(given)?),
        (Verb::Remove, None) => Step::Set(Ids::new()),
        (Verb::Remove, given) => Step::Remove(ids(given)?),
    })
}

/// Whom a filter names, if it only names: `value eq "…" or value eq "…"`.
fn named(filter: &Filter) -> Option<Ids> {
    match filter {
        Filter::Or(any) => any.iter().map(named).try_fold(Ids::new(), |mut all, some| {
            all.extend(some?);
            Some(all)
        }),
        Filter::Compare(path, Op::Eq, Literal::Text(id)) if path.leaf().name == "value" => {
            Some(id.parse().into_iter().collect())
        }
        _ => None,
    }
}

/// The members that a value names. Whoever cannot be one of ours is passed over, as somebody who is gone is: a source that
/// tells of them a moment too late is not to be stopped. Groups within groups are refused.
pub(super) fn ids(value: Option<&Value>) -> Result<Ids, ScimError> {
    let one;
    let items = match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(items)) => items.as_slice(),
        Some(value) => {
            one = [value.clone()];
            one.as_slice()
        }
    };
    let mut found = Ids::new();
    for item in items {
        let text = match item {
            Value::String(text) => Some(text.as_str()),
            Value::Object(object) => member(object),
            Value::Null => None,
            _ => return Err(ScimError::value("a member is to be an object with a `value`")),
        };
        let Some(text) = text else { continue };
        if text.parse::<GroupId>().is_ok() {
            return Err(ScimError::value("groups do not contain groups; name the people themselves"));
        }
        found.extend(text.parse::<IdentityId>());
    }
    Ok(found)
}

fn member(object: &Map<String, Value>) -> Option<&str> {
    let get = |name: &str| object.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).and_then(|(_, v)| v.as_str());
    get("value").or_else(|| get("$ref").and_then(|address| address.rsplit('/').next()))
}

impl Broker {
    /// Take the steps; how many memberships changed.
    pub(super) async fn change_members(
        &self,
        tx: &mut Tx,
        ctx: &SourceCtx,
        group: &Group,
        steps: &[Step],
    ) -> Result<usize, ScimFailure> {
        let (mut add, mut remove) = (Ids::new(), Ids::new());
        // All there are, once somebody had to know.
        let mut there: Option<Ids> = None;
        for step in steps {
            match step {
                Step::Add(ids) => {
                    add.extend(ids);
                    remove.retain(|id| !ids.contains(id));
                }
                Step::Remove(ids) => {
                    remove.extend(ids);
                    add.retain(|id| !ids.contains(id));
                }
                Step::Set(ids) => {
                    let there = all(tx, group, &mut there).await?;
                    remove = there.difference(ids).copied().collect();
                    add = ids.difference(there).copied().collect();
                }
                Step::RemoveWhere(filter) => {
                    let there = all(tx, group, &mut there).await?;
                    let now = there.iter().chain(add.iter()).copied();
                    let gone: Ids = now.filter(|id| fits(filter, &shown(*id))).collect();
                    add.retain(|id| !gone.contains(id));
                    remove.extend(gone);
                }
            }
        }
        let cause = Cause::from(ctx);
        let wanted: Vec<IdentityId> = add.into_iter().collect();
        let mut changed = 0;
        for id in tx.present(&wanted).await? {
            changed += usize::from(self.record_member(tx, &cause, group, id, true).await?);
        }
        for id in remove {
            changed += usize::from(self.record_member(tx, &cause, group, id, false).await?);
        }
        Ok(changed)
    }
}

async fn all<'t>(tx: &mut Tx, group: &Group, there: &'t mut Option<Ids>) -> Result<&'t Ids, ScimFailure> {
    if there.is_none() {
        *there = Some(tx.members_standing_in(group.id, u32::MAX).await?.into_iter().collect());
    }
    Ok(there.get_or_insert_default())
}

fn shown(id: IdentityId) -> Map<String, Value> {
    let mut member = Map::new();
    member.insert("value".to_owned(), json!(id));
    member.insert("type".to_owned(), json!("User"));
    member
}
