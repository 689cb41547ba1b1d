//! Lists: by filter, and page by page.

use serde_json::Value;

use super::{ScimClient, transport::Call};
use crate::ports::connector::Fault;

/// One page of resources.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// The resources.
    pub resources: Vec<Value>,
    /// Pass as `after` to go on.
    pub next: Option<String>,
    /// It ended before as many were listed as it says that there are.
    pub short: bool,
}

/// A text within a filter.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn number(value: Option<&Value>) -> Option<u64> {
    match value? {
        Value::Number(n) => n.as_u64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    }
}

/// The resources of a list, whatever the server calls them.
fn resources(body: &Value) -> Option<Vec<Value>> {
    match body.get("Resources").or_else(|| body.get("resources")) {
        Some(Value::Array(items)) => Some(items.clone()),
        Some(Value::Null) => Some(Vec::new()),
        // An empty list has no such member at some servers.
        None if number(body.get("totalResults")) == Some(0) => Some(Vec::new()),
        _ => None,
    }
}

impl ScimClient {
    /// The resources that a filter finds; at most the first page of them.
    pub(super) async fn search(&self, kind: &str, filter: &str) -> Result<Vec<Value>, Fault> {
        let answer = self.call(Call::get(&[kind], &[("filter", filter)])).await?;
        if !answer.status.is_success() {
            return Err(answer.fault());
        }
        resources(&answer.body).ok_or_else(not_a_list)
    }

    /// A page of all resources of a kind.
    pub async fn page(&self, kind: &str, after: Option<&str>) -> Result<Listed, Fault> {
        let by_cursor = self.features().await?.cursor_only;
        let count = self.page_size.to_string();
        let (name, start) =
            if by_cursor { ("cursor", after.unwrap_or("")) } else { ("startIndex", after.unwrap_or("1")) };
        let answer = self.call(Call::get(&[kind], &[(name, start), ("count", &count)])).await?;
        if !answer.status.is_success() {
            return Err(answer.fault());
        }
        let resources = resources(&answer.body).ok_or_else(not_a_list)?;
        let mut short = false;
        let next = if by_cursor {
            answer.body.get("nextCursor").and_then(Value::as_str).filter(|c| !c.is_empty()).map(str::to_owned)
        } else {
            // By what came, and not by what was asked for: servers have limits of their own.
            let next = start.parse::<u64>().unwrap_or(1).saturating_add(resources.len() as u64);
            let total = number(answer.body.get("totalResults"));
            short = resources.is_empty() && total.is_some_and(|total| next <= total);
            let more = !resources.is_empty() && total.is_none_or(|total| next <= total);
            more.then(|| next.to_string())
        };
        Ok(Listed { resources, next, short })
    }

    /// Does the server list resources of that kind? Tells "not there" from "not a SCIM server any more".
    pub(super) async fn is_there(&self, kind: &str) -> Result<(), Fault> {
        let answer = self.call(Call::get(&[kind], &[("count", "1")])).await?;
        if answer.status.is_success() && resources(&answer.body).is_some() {
            return Ok(());
        }
        Err(Fault::Unavailable("it answers 404 to everything; see whether the URL is right".to_owned()))
    }
}

fn not_a_list() -> Fault {
    Fault::Unavailable("its answer is no list of resources".to_owned())
}
