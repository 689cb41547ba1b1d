//! Groups and who is in them.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    ScimClient,
    list::quoted,
    resource::member,
    settings::Update,
    transport::{Answer, Call},
    user::PATCH_OP,
};
use crate::ports::connector::Fault;

const GROUPS: &str = "Groups";

/// A group with its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The server's name for it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Ids of its members.
    pub members: BTreeSet<String>,
}

fn read(group: &Value) -> Option<Group> {
    let text = |value: &Value| match value {
        Value::String(s) => Some(s.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    };
    // Nobody is written as an empty list, as null, or not at all (RFC 7643 §2.5).
    let members = match member(group, "members") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(members)) => members,
        Some(_) => return None,
    };
    let ids = members.iter().map(|m| member(m, "value").and_then(text)).collect::<Option<BTreeSet<String>>>()?;
    Some(Group {
        id: member(group, "id").and_then(text)?,
        name: member(group, "displayName").and_then(Value::as_str).unwrap_or_default().to_owned(),
        members: ids,
    })
}

/// What cannot be read says nothing: neither that there is no group, nor that nobody is in it.
fn not_a_group() -> Fault {
    Fault::Unavailable("its answer is no group".to_owned())
}

impl ScimClient {
    /// The group of that name, with its members.
    pub async fn group(&self, name: &str) -> Result<Option<Group>, Fault> {
        let found = self.search(GROUPS, &format!("displayName eq {}", quoted(name))).await?;
        let mut fitting =
            found.iter().filter(|g| read(g).is_some_and(|g| g.name.to_lowercase() == name.to_lowercase()));
        let Some(first) = fitting.next() else { return Ok(None) };
        if fitting.next().is_some() {
            return Err(Fault::Foreign(format!("it has several groups `{name}`; leave one of them")));
        }
        match read(first) {
            Some(group) if member(first, "members").is_some() => Ok(Some(group)),
            // Some leave members out of lists.
            Some(group) => self.group_by_id(&group.id).await,
            None => Err(not_a_group()),
        }
    }

    async fn raw_group(&self, id: &str) -> Result<Option<Answer>, Fault> {
        let answer = self.call(Call::get(&[GROUPS, id], &[])).await?;
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                if !answer.is_scim_error() {
                    self.is_there(GROUPS).await?;
                }
                Ok(None)
            }
            s if s.is_success() && answer.body.is_object() => Ok(Some(answer)),
            s if s.is_success() => Err(not_a_group()),
            _ => Err(answer.fault()),
        }
    }

    /// The group of that id, with its members; `None` if the server itself says that there is none.
    pub async fn group_by_id(&self, id: &str) -> Result<Option<Group>, Fault> {
        let Some(answer) = self.raw_group(id).await? else { return Ok(None) };
        read(&answer.body).filter(|group| group.id == id).map(Some).ok_or_else(not_a_group)
    }

    /// Put users into a group.
    pub async fn add_members(&self, group: &str, users: &[&str]) -> Result<(), Fault> {
        for chunk in users.chunks(self.member_chunk) {
            let values: Vec<Value> = chunk.iter().map(|id| json!({"value": id})).collect();
            let operations = vec![json!({"op": "add", "path": "members", "value": values})];
            self.change_members(group, operations, |members| {
                members.extend(chunk.iter().map(|id| (*id).to_owned()));
            })
            .await?;
        }
        Ok(())
    }

    /// Take users out of a group, each by its id: never by a list of those who stay.
    pub async fn remove_members(&self, group: &str, users: &[&str]) -> Result<(), Fault> {
        for chunk in users.chunks(self.member_chunk) {
            let path = |id: &&str| format!("members[value eq {}]", quoted(id));
            let operations = chunk.iter().map(|id| json!({"op": "remove", "path": path(id)})).collect();
            self.change_members(group, operations, |members| members.retain(|m| !chunk.contains(&m.as_str()))).await?;
        }
        Ok(())
    }

    async fn change_members(
        &self,
        id: &str,
        operations: Vec<Value>,
        edit: impl Fn(&mut BTreeSet<String>) + Send + Sync,
    ) -> Result<(), Fault> {
        let features = self.features().await?;
        let patch = self.update.map_or(features.patch != Some(false), |update| update == Update::Patch);
        if patch {
            let body = json!({"schemas": [PATCH_OP], "Operations": operations});
            let answer = self.call(Call::send(Method::PATCH, &[GROUPS, id], &body)).await?;
            match answer.status {
                s if s.is_success() => return Ok(()),
                StatusCode::NOT_FOUND if self.raw_group(id).await?.is_none() => return Err(gone()),
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
                    if self.update.is_none() => {}
                _ => return Err(answer.fault()),
            }
        }
        let Some(now) = self.raw_group(id).await? else { return Err(gone()) };
        // Without an ETag, two writers of a whole group can undo each other; reading back shows it, and it is done again.
        let mut members = read(&now.body).ok_or_else(not_a_group)?.members;
        edit(&mut members);
        let mut group = now.body.as_object().cloned().unwrap_or_default();
        group.remove("meta");
        group.insert("members".to_owned(), members.iter().map(|id| json!({"value": id})).collect());
        let whole = Value::Object(group);
        let path = [GROUPS, id];
        let call = Call::send(Method::PUT, &path, &whole);
        let answer = self.call(Call { if_match: now.etag.as_deref(), ..call }).await?;
        if answer.status == StatusCode::PRECONDITION_FAILED {
            return Err(Fault::Unavailable("the group was changed by somebody else meanwhile".to_owned()));
        }
        if answer.status.is_success() { Ok(()) } else { Err(answer.fault()) }
    }
}

fn gone() -> Fault {
    Fault::Refused("the group is gone".to_owned())
}
