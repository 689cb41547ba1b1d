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

/// Most filters by which one change looks through the members.
const MAX_FILTERS: usize = 10;

/// Tell the changes of members from the others. What comes before all members are named anew is of no consequence.
pub(super) fn split(changes: Vec<Change>) -> Result<(Vec<Change>, Vec<Step>), ScimError> {
    let (mut others, mut steps) = (Vec::new(), Vec::new());
    for change in changes {
        match &change.target {
            Target::Attribute { path, values } if path.attribute.name == "members" => {
                let step = step(&change, path.sub.map(|s| s.name), values.as_ref())?;
                if matches!(step, Some(Step::Set(_))) {
                    steps.clear();
                }
                steps.extend(step);
            }
            // The members may be in it too.
            Target::Schema(_) => return Err(ScimError::path("name the attribute, not the schema")),
            Target::Attribute { .. } => others.push(change),
        }
    }
    if steps.iter().filter(|s| matches!(s, Step::RemoveWhere(_))).count() > MAX_FILTERS {
        return Err(ScimError::too_many(format!(
            "one PATCH has at most {MAX_FILTERS} filters of members that do not name them by `value eq`"
        )));
    }
    Ok((others, steps))
}

/// The same of a group that is just made: nobody was in it.
pub(super) fn of_new(steps: &[Step]) -> Vec<Step> {
    let step = |step: &Step| match step {
        Step::Set(ids) => Step::Add(ids.clone()),
        other => other.clone(),
    };
    steps.iter().map(step).collect()
}

/// The step that a change is; none if it says nothing of members.
fn step(change: &Change, sub: Option<&str>, values: Option<&Filter>) -> Result<Option<Step>, ScimError> {
    let fixed = || ScimError::mutability("a member is added or removed as a whole");
    if let Some(filter) = values {
        if change.verb != Verb::Remove || sub.is_some_and(|s| s != "value") {
            return Err(fixed());
        }
        return Ok(Some(named(filter).map_or_else(|| Step::RemoveWhere(filter.clone()), Step::Remove)));
    }
    if sub.is_some_and(|s| s != "value") {
        return Err(fixed());
    }
    let given = change.value.as_ref().filter(|v| !v.is_null());
    Ok(match (change.verb, given) {
        (Verb::Remove, None) => Some(Step::Set(Ids::new())),
        // `null` is what some send for what they do not know: nobody is meant by it.
        (_, None) => None,
        (Verb::Add, given) => Some(Step::Add(ids(given)?)),
        (Verb::Replace, Some(given)) => Some(Step::Set(whole(given)?)),
        (Verb::Remove, given) => Some(Step::Remove(ids(given)?)),
    })
}

/// All members as they are to be. A list that names nobody of ours is a mistake, and no wish to empty the group.
pub(super) fn whole(value: &Value) -> Result<Ids, ScimError> {
    let found = ids(Some(value))?;
    let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    if found.is_empty() && !empty { Err(names_nobody()) } else { Ok(found) }
}

fn names_nobody() -> ScimError {
    ScimError::value(
        "none of these members is anybody here: give the ids that this service gave; `[]` empties the group",
    )
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
                    let known = ids.is_empty() || ids.iter().any(|id| there.contains(id));
                    if !known && tx.present(&ids.iter().copied().collect::<Vec<_>>()).await?.is_empty() {
                        return Err(names_nobody().into());
                    }
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
        let come = tx.present(&wanted).await?;
        let go: Vec<IdentityId> = remove.into_iter().collect();
        let came = self.record_members(tx, &cause, group, &come, true).await?;
        Ok(came + self.record_members(tx, &cause, group, &go, false).await?)
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
