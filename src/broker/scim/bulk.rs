//! Many changes in one call (RFC 7644 §3.7). Each is a change of its own; one may name what another makes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{MAX_OPERATIONS, Precondition, Resource, ScimFailure};
use crate::{
    broker::{Broker, SourceCtx},
    domain::scim::{ScimError, projection::Selection},
};

const REFERENCE: &str = "bulkId:";

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Make.
    Post,
    /// Replace.
    Put,
    /// Change.
    Patch,
    /// Delete.
    Delete,
}

impl Method {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// One operation.
#[derive(Debug, Clone)]
pub struct BulkOperation {
    method: Option<Method>,
    given_method: String,
    bulk_id: Option<String>,
    path: String,
    version: Option<String>,
    data: Value,
}

/// A bulk call.
#[derive(Debug, Clone)]
pub struct BulkRequest {
    /// Stop after so many failures.
    fail_on_errors: Option<u64>,
    operations: Vec<BulkOperation>,
}

/// What became of one operation.
#[derive(Debug)]
pub struct BulkAnswer {
    /// What it did.
    pub method: String,
    /// What the caller calls it.
    pub bulk_id: Option<String>,
    /// Address of what it made or changed.
    pub location: Option<String>,
    /// Its version now.
    pub version: Option<String>,
    /// The status, or why not.
    pub outcome: Result<u16, ScimFailure>,
}

impl BulkRequest {
    /// Read the body of a bulk call.
    pub fn read(body: &Value) -> Result<Self, ScimError> {
        let get = |value: &Value, name: &str| -> Option<Value> {
            value.as_object()?.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone())
        };
        let Some(Value::Array(items)) = get(body, "Operations") else {
            return Err(ScimError::syntax("`Operations` is to be a list"));
        };
        if items.len() > MAX_OPERATIONS {
            return Err(ScimError::too_large(format!("at most {MAX_OPERATIONS} operations are done in one call")));
        }
        let fail_on_errors = match get(body, "failOnErrors") {
            None | Some(Value::Null) => None,
            Some(number) => {
                let number = number.as_u64().filter(|n| *n > 0);
                Some(number.ok_or_else(|| ScimError::value("`failOnErrors` is to be a number from 1"))?)
            }
        };
        let mut operations = Vec::with_capacity(items.len());
        for item in &items {
            if !item.is_object() {
                return Err(ScimError::syntax("an operation is to be an object"));
            }
            let text = |name: &str| get(item, name).and_then(|v| v.as_str().map(str::to_owned));
            let given_method = text("method").unwrap_or_default();
            let known = [Method::Post, Method::Put, Method::Patch, Method::Delete];
            operations.push(BulkOperation {
                method: known.into_iter().find(|m| m.as_str().eq_ignore_ascii_case(&given_method)),
                given_method,
                bulk_id: text("bulkId"),
                path: text("path").unwrap_or_default(),
                version: text("version"),
                data: get(item, "data").unwrap_or(Value::Null),
            });
        }
        Ok(Self { fail_on_errors, operations })
    }
}

/// What is known of what an operation makes.
#[derive(Debug, Clone)]
enum Made {
    Waiting,
    Id(String),
    Failed,
}

/// Whether an operation can be done now.
enum Ready {
    Now(BulkOperation),
    Later,
    Never(ScimError),
}

impl Broker {
    /// Do the operations, each when what it names is there; answers are in the order of the call. After too many failures
    /// the rest is left undone and untold.
    pub async fn scim_bulk(&self, ctx: &SourceCtx, request: BulkRequest) -> Result<Vec<BulkAnswer>, ScimFailure> {
        self.may_change()?;
        let mut made: BTreeMap<String, Made> = BTreeMap::new();
        for operation in request.operations.iter().filter(|o| o.method == Some(Method::Post)) {
            if let Some(id) = &operation.bulk_id
                && made.insert(id.clone(), Made::Waiting).is_some()
            {
                return Err(ScimError::value(format!("two operations have the bulkId `{id}`")).into());
            }
        }
        let mut waiting: BTreeMap<usize, BulkOperation> = request.operations.into_iter().enumerate().collect();
        let mut answers: BTreeMap<usize, BulkAnswer> = BTreeMap::new();
        let mut failures = 0;
        loop {
            let round: Vec<usize> = waiting.keys().copied().collect();
            let before = waiting.len();
            let mut later = false;
            for at in round {
                let Some(operation) = waiting.get(&at) else { continue };
                let answer = match resolve(operation, &made) {
                    Ready::Later => {
                        later = true;
                        continue;
                    }
                    Ready::Never(error) => failed(operation, error.into()),
                    Ready::Now(operation) => self.operate(ctx, &operation).await,
                };
                if let Some(id) = answer.bulk_id.clone().filter(|_| answer.method == "POST") {
                    let fate = match (&answer.outcome, &answer.location) {
                        (Ok(_), Some(location)) => Made::Id(location.rsplit('/').next().unwrap_or_default().to_owned()),
                        _ => Made::Failed,
                    };
                    made.insert(id, fate);
                }
                failures += u64::from(answer.outcome.is_err());
                waiting.remove(&at);
                answers.insert(at, answer);
                if request.fail_on_errors.is_some_and(|most| failures >= most) {
                    return Ok(answers.into_values().collect());
                }
                // Whoever waited is first again, so that the order of the call is kept as far as it can be.
                if later {
                    break;
                }
            }
            if waiting.len() == before {
                break;
            }
        }
        // What is left waits for itself.
        for (at, operation) in waiting {
            let error =
                ScimError::conflict("the operations name each other in a circle; make them first, then tie them");
            answers.insert(at, failed(&operation, error.into()));
            failures += 1;
            if request.fail_on_errors.is_some_and(|most| failures >= most) {
                break;
            }
        }
        Ok(answers.into_values().collect())
    }

    async fn operate(&self, ctx: &SourceCtx, operation: &BulkOperation) -> BulkAnswer {
        let done = self.operate_on(ctx, operation).await;
        let mut answer = failed(operation, ScimError::conflict("").into());
        match done {
            Ok((status, resource)) => {
                answer.outcome = Ok(status);
                if let Some(resource) = resource {
                    answer.location = Some(resource.location);
                    answer.version = Some(resource.version);
                } else {
                    answer.location = Some(format!("{}{}", self.scim_base(), operation.path));
                }
            }
            Err(failure) => {
                answer.outcome = Err(failure);
                if operation.method != Some(Method::Post) {
                    answer.location = Some(format!("{}{}", self.scim_base(), operation.path));
                }
            }
        }
        answer
    }

    async fn operate_on(
        &self,
        ctx: &SourceCtx,
        operation: &BulkOperation,
    ) -> Result<(u16, Option<Resource>), ScimFailure> {
        let Some(method) = operation.method else {
            return Err(ScimError::syntax("`method` is to be POST, PUT, PATCH or DELETE").into());
        };
        let bad_path = || ScimError::path(format!("nothing can be done at `{}`", operation.path));
        let path = operation.path.split('?').next().unwrap_or_default().trim_matches('/');
        let (kind, id) = path.split_once('/').map_or((path, None), |(kind, id)| (kind, Some(id)));
        let users = match kind.to_ascii_lowercase().as_str() {
            "users" => true,
            "groups" => false,
            _ => return Err(bad_path().into()),
        };
        let when = Precondition { matches: operation.version.iter().cloned().collect(), none_of: Vec::new() };
        // A large group is not told in an answer to many changes.
        let all = Selection::default();
        let data = &operation.data;
        if method != Method::Delete && !data.is_object() {
            return Err(ScimError::syntax("`data` is missing").into());
        }
        Ok(match (method, id, users) {
            (Method::Post, None, true) => (201, Some(self.scim_create_user(ctx, data, &all).await?)),
            (Method::Post, None, false) => (201, Some(self.scim_create_group(ctx, data, &all).await?)),
            (Method::Put, Some(id), true) => (200, Some(self.scim_replace_user(ctx, id, data, &when, &all).await?)),
            (Method::Put, Some(id), false) => (200, Some(self.scim_replace_group(ctx, id, data, &when, &all).await?)),
            (Method::Patch, Some(id), true) => {
                (200, Some(self.scim_patch_user(ctx, id, data, &when, &all, false).await?))
            }
            (Method::Patch, Some(id), false) => (200, Some(self.scim_patch_group(ctx, id, data, &when, &all).await?)),
            (Method::Delete, Some(id), true) => {
                self.scim_delete_user(ctx, id, &when).await?;
                (204, None)
            }
            (Method::Delete, Some(id), false) => {
                self.scim_delete_group(ctx, id, &when).await?;
                (204, None)
            }
            _ => return Err(bad_path().into()),
        })
    }
}

fn failed(operation: &BulkOperation, failure: ScimFailure) -> BulkAnswer {
    BulkAnswer {
        method: operation.method.map_or_else(|| operation.given_method.clone(), |m| m.as_str().to_owned()),
        bulk_id: operation.bulk_id.clone(),
        location: None,
        version: None,
        outcome: Err(failure),
    }
}

/// Put ids in the place of what others make.
fn resolve(operation: &BulkOperation, made: &BTreeMap<String, Made>) -> Ready {
    let mut ready = operation.clone();
    let mut later = false;
    let mut refused = None;
    let mut look = |text: &mut String| {
        let Some(at) = text.find(REFERENCE).filter(|at| *at == 0 || text.as_bytes().get(at - 1) == Some(&b'/')) else {
            return;
        };
        let name = text.get(at + REFERENCE.len()..).unwrap_or_default().to_owned();
        match made.get(&name) {
            Some(Made::Id(id)) => text.replace_range(at.., id),
            Some(Made::Waiting) => later = true,
            Some(Made::Failed) => refused = Some(ScimError::conflict(format!("`{name}` was not made"))),
            None => refused = Some(ScimError::value(format!("no operation makes the bulkId `{name}`"))),
        }
    };
    look(&mut ready.path);
    walk(&mut ready.data, &mut look);
    match (refused, later) {
        (Some(error), _) => Ready::Never(error),
        (None, true) => Ready::Later,
        (None, false) => Ready::Now(ready),
    }
}

fn walk(value: &mut Value, look: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => look(text),
        Value::Array(items) => items.iter_mut().for_each(|v| walk(v, look)),
        Value::Object(map) => map.values_mut().for_each(|v| walk(v, look)),
        _ => {}
    }
}
