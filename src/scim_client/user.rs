//! Users.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    ScimClient,
    features::truth,
    list::quoted,
    resource::{self, member},
    settings::Update,
    transport::{Answer, Call},
};
use crate::{
    domain::account::{Account, Desired, Difference},
    ports::{
        application::{Changed, Created, Key},
        connector::Fault,
    },
};

const USERS: &str = "Users";
const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
pub(super) const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

fn text(resource: &Value, name: &str) -> Option<String> {
    member(resource, name).and_then(Value::as_str).map(str::to_owned)
}

/// A user as an account; `None` if it has no id, and so cannot be spoken of.
pub fn account(user: &Value, paths: &[String]) -> Option<Account> {
    let remote_id = match member(user, "id")? {
        Value::String(id) if !id.is_empty() => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    let attributes = paths.iter().filter_map(|path| Some((path.clone(), resource::get(user, path)?)));
    Some(Account {
        remote_id,
        external_id: text(user, "externalId").filter(|id| !id.is_empty()),
        user_name: text(user, "userName").unwrap_or_default(),
        // RFC 7643 leaves the meaning of a missing one to the server; whoever is not said to be inactive can sign in.
        active: member(user, "active").and_then(truth).unwrap_or(true),
        attributes: attributes.collect(),
    })
}

fn no_id() -> Fault {
    Fault::Unavailable("it answers a user without an id".to_owned())
}

impl ScimClient {
    /// The one user of that key.
    pub async fn find_user(&self, key: Key<'_>, paths: &[String]) -> Result<Option<Account>, Fault> {
        let (name, value) = match key {
            Key::ExternalId(id) => ("externalId", id),
            Key::UserName(name) => ("userName", name),
        };
        if self.features().await?.filter == Some(false) {
            return self.walk_for(key, paths).await;
        }
        let found = self.search(USERS, &format!("{name} eq {}", quoted(value))).await?;
        let fits = |a: &Account| match key {
            Key::ExternalId(id) => a.external_id.as_deref() == Some(id),
            Key::UserName(name) => a.user_name.to_lowercase() == name.to_lowercase(),
        };
        let (fitting, others): (Vec<_>, Vec<_>) = found.iter().filter_map(|user| account(user, paths)).partition(fits);
        let mut fitting = fitting.into_iter();
        match (fitting.next(), fitting.next()) {
            (_, Some(_)) => Err(Fault::Foreign(format!("it has several users with that {name}; leave one of them"))),
            // A server that overlooks the filter answers everybody, and the first page of them proves nothing.
            (None, None) if !others.is_empty() => self.walk_for(key, paths).await,
            (first, None) => Ok(first),
        }
    }

    async fn walk_for(&self, key: Key<'_>, paths: &[String]) -> Result<Option<Account>, Fault> {
        let mut after: Option<String> = None;
        let mut first = None;
        loop {
            let page = self.page(USERS, after.as_deref()).await?;
            let begins = page.resources.first().and_then(|user| account(user, &[])).map(|a| a.remote_id);
            if page.short || (first.is_some() && first == begins) {
                return Err(Fault::Unavailable("its list of users does not come to its end".to_owned()));
            }
            first = begins;
            let found = page.resources.iter().filter_map(|user| account(user, paths)).find(|a| match key {
                Key::ExternalId(id) => a.external_id.as_deref() == Some(id),
                Key::UserName(name) => a.user_name.to_lowercase() == name.to_lowercase(),
            });
            match (found, page.next) {
                (None, Some(next)) => after = Some(next),
                (found, _) => return Ok(found),
            }
        }
    }

    async fn raw_user(&self, id: &str) -> Result<Option<Answer>, Fault> {
        let answer = self.call(Call::get(&[USERS, id], &[])).await?;
        match answer.status {
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                if !answer.is_scim_error() {
                    self.is_there(USERS).await?;
                }
                Ok(None)
            }
            s if s.is_success() && answer.body.is_object() => Ok(Some(answer)),
            s if s.is_success() => Err(Fault::Unavailable("its answer is no user".to_owned())),
            _ => Err(answer.fault()),
        }
    }

    /// The user of that id; `None` if the server itself says that there is none.
    pub async fn read_user(&self, id: &str, paths: &[String]) -> Result<Option<Account>, Fault> {
        match self.raw_user(id).await? {
            Some(answer) => account(&answer.body, paths).map(Some).ok_or_else(no_id),
            None => Ok(None),
        }
    }

    /// A user as the server shows it, by its id, or by what stands at a path of it.
    pub async fn show_user(&self, path: &str, value: &str) -> Result<Option<Value>, Fault> {
        if path == "id" {
            return Ok(self.raw_user(value).await?.map(|answer| answer.body));
        }
        let found = self.search(USERS, &format!("{path} eq {}", quoted(value))).await?;
        Ok(found.into_iter().find(|user| resource::get(user, path).as_deref() == Some(value)))
    }

    /// Make a user.
    pub async fn create_user(&self, desired: &Desired) -> Result<Created, Fault> {
        let mut user = Map::new();
        user.insert("schemas".to_owned(), json!([USER]));
        user.insert("externalId".to_owned(), json!(desired.external_id));
        user.insert("userName".to_owned(), json!(desired.user_name));
        user.insert("active".to_owned(), json!(true));
        for (path, value) in &desired.attributes {
            if value.is_some() {
                resource::set(&mut user, path, value.as_deref());
            }
        }
        let body = Value::Object(user);
        let answer = self.call(Call::send(Method::POST, &[USERS], &body)).await?;
        match answer.status {
            StatusCode::CONFLICT => Ok(Created::Taken),
            s if s.is_success() => {
                let id = account(&answer.body, &[]).map(|a| a.remote_id);
                Ok(Created::Made(id.or_else(|| Self::id_in(answer.location.as_deref()?))))
            }
            _ => Err(answer.fault()),
        }
    }

    /// The last part of a `Location` below our own base URL. It is never called.
    fn id_in(location: &str) -> Option<String> {
        let (_, id) = location.trim_end_matches('/').rsplit_once("/Users/")?;
        (!id.is_empty() && !id.contains('/')).then(|| id.to_owned())
    }

    /// Set right what differs.
    pub async fn update_user(&self, is: &Account, desired: &Desired, what: &[Difference]) -> Result<Changed, Fault> {
        // A value without a type is picked by no filter: looked at only where that can be.
        let typed = what.iter().any(|d| d.is.is_some() && resource::has_types(&d.attribute));
        let now = if typed { self.raw_user(&is.remote_id).await? } else { None };
        let untyped = |name: &str| now.as_ref().is_some_and(|answer| resource::is_untyped(&answer.body, name));
        let operations = what.iter().map(|d| match d.attribute.as_str() {
            "active" => json!({"op": "replace", "path": "active", "value": true}),
            name => resource::operation(name, d.is.as_deref(), d.should.as_deref(), untyped(name)),
        });
        let operations = operations.collect();
        self.change(&is.remote_id, operations, |user| {
            user.insert("active".to_owned(), json!(true));
            user.insert("userName".to_owned(), json!(desired.user_name));
            user.insert("externalId".to_owned(), json!(desired.external_id));
            for (path, value) in &desired.attributes {
                resource::set(user, path, value.as_deref());
            }
        })
        .await
    }

    /// Let nobody sign in with it.
    pub async fn deactivate_user(&self, id: &str) -> Result<Changed, Fault> {
        let operations = vec![json!({"op": "replace", "path": "active", "value": false})];
        self.change(id, operations, |user| {
            user.insert("active".to_owned(), json!(false));
        })
        .await
    }

    /// Delete a user.
    pub async fn delete_user(&self, id: &str) -> Result<Changed, Fault> {
        let call = Call { method: Method::DELETE, path: &[USERS, id], query: &[], body: None, if_match: None };
        let answer = self.call(call).await?;
        match answer.status {
            s if s.is_success() => Ok(Changed::Done),
            StatusCode::NOT_FOUND | StatusCode::GONE if self.raw_user(id).await?.is_none() => Ok(Changed::Gone),
            _ => Err(answer.fault()),
        }
    }

    /// In part, or as a whole where the server cannot do that.
    async fn change(
        &self,
        id: &str,
        operations: Vec<Value>,
        edit: impl Fn(&mut Map<String, Value>) + Send + Sync,
    ) -> Result<Changed, Fault> {
        let features = self.features().await?;
        let patch_first = self.update.map_or(features.patch != Some(false), |update| update == Update::Patch);
        let body = json!({"schemas": [PATCH_OP], "Operations": operations});
        for attempt in [patch_first, !patch_first] {
            let answer = if attempt {
                self.call(Call::send(Method::PATCH, &[USERS, id], &body)).await?
            } else {
                let Some(now) = self.raw_user(id).await? else { return Ok(Changed::Gone) };
                let whole = whole(&now.body, &edit);
                let path = [USERS, id];
                let call = Call::send(Method::PUT, &path, &whole);
                self.call(Call { if_match: now.etag.as_deref(), ..call }).await?
            };
            match answer.status {
                s if s.is_success() => {
                    if attempt != patch_first {
                        self.cannot_patch(patch_first).await;
                    }
                    return Ok(Changed::Done);
                }
                // "No such user", or "no such method"?
                StatusCode::NOT_FOUND if self.raw_user(id).await?.is_none() => return Ok(Changed::Gone),
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
                    if attempt == patch_first && self.update.is_none() => {}
                _ => return Err(answer.fault()),
            }
        }
        Err(Fault::Refused("it takes neither PATCH nor PUT for a user".to_owned()))
    }
}

/// A resource to be put back: everything that it has, known here or not, but what only the server writes.
fn whole(now: &Value, edit: impl Fn(&mut Map<String, Value>)) -> Value {
    let mut user = now.as_object().cloned().unwrap_or_default();
    for name in ["meta", "groups", "password"] {
        user.remove(name);
    }
    edit(&mut user);
    Value::Object(user)
}
