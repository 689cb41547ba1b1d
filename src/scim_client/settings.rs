//! How to reach a server.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

/// Settings that an application, a source or a target has in common if it speaks SCIM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Base URL, as in `https://app.example.com/scim/v2`; with or without a slash at its end.
    pub url: Url,
    /// File with the bearer token. Read again when the server refuses the token.
    pub token_file: Option<PathBuf>,
    /// The server stands on this machine; `http` is allowed then.
    #[serde(default)]
    pub allow_loopback: bool,
    /// `patch` or `put`; by what the server says of itself if missing.
    pub update: Option<Update>,
    /// Accounts on one page.
    #[serde(default = "Settings::default_page_size")]
    pub page_size: u32,
    /// Members in one change of a group.
    #[serde(default = "Settings::default_member_chunk")]
    pub member_chunk: usize,
}

impl Settings {
    const fn default_page_size() -> u32 {
        100
    }

    const fn default_member_chunk() -> usize {
        100
    }
}

/// How a resource is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// What differs.
    Patch,
    /// The whole of it.
    Put,
}

/// Settings that are of no use; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSettings(pub String);
