//! What a server says that it can do. Each feature is read by itself: a missing or odd one says nothing of the others.

use http::StatusCode;
use serde_json::Value;

use super::{ScimClient, transport::Call};
use crate::ports::connector::Fault;

/// A server's `ServiceProviderConfig`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Resources can be changed in part; `None` if it does not say.
    pub patch: Option<bool>,
    /// Lists can be filtered; `None` if it does not say.
    pub filter: Option<bool>,
    /// Lists are walked by a cursor only (RFC 9865).
    pub cursor_only: bool,
}

/// A boolean, as servers write it.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(b) => Some(*b),
        Value::String(s) if s.eq_ignore_ascii_case("true") => Some(true),
        Value::String(s) if s.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

impl Features {
    fn read(config: &Value) -> Self {
        let supported = |name: &str| config.get(name).and_then(|f| f.get("supported")).and_then(truth);
        let paging = |name: &str| config.get("pagination").and_then(|p| p.get(name)).and_then(truth);
        Self {
            patch: supported("patch"),
            filter: supported("filter"),
            cursor_only: paging("cursor") == Some(true) && paging("index") == Some(false),
        }
    }
}

impl ScimClient {
    /// What the server can do: asked once. One that does not tell can do what the RFC says.
    pub async fn features(&self) -> Result<Features, Fault> {
        if let Some(features) = *self.features.lock().await {
            return Ok(features);
        }
        let features = self.ask_features().await?;
        *self.features.lock().await = Some(features);
        Ok(features)
    }

    /// The same, asked now: is the server there, and what does it say today?
    pub async fn ask_features(&self) -> Result<Features, Fault> {
        let answer = self.call(Call::get(&["ServiceProviderConfig"], &[])).await?;
        match answer.status {
            s if s.is_success() => Ok(Features::read(&answer.body)),
            StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED | StatusCode::FORBIDDEN => {
                Ok(Features::read(&Value::Null))
            }
            _ => Err(answer.fault()),
        }
    }

    /// It says that it can change resources in part, and cannot.
    pub(super) async fn cannot_patch(&self, cannot: bool) {
        if let Some(features) = &mut *self.features.lock().await {
            features.patch = Some(!cannot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_missing_limit_of_one_feature_takes_nothing_from_the_others() {
        let config = json!({"patch": {"supported": true}, "bulk": {"supported": false}, "filter": {"supported": "True", "maxResults": null}});
        assert_eq!(Features::read(&config), Features { patch: Some(true), filter: Some(true), cursor_only: false });
        assert_eq!(Features::read(&json!("<html>")), Features { patch: None, filter: None, cursor_only: false });
    }
}
