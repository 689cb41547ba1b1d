//! Sources of identities and their tokens, as they are shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::identity::SourceKind;

/// Where identities come from.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SourceView {
    /// Its id.
    pub id: String,
    /// Its unique name.
    pub name: String,
    /// How it speaks.
    pub kind: SourceKind,
    /// It takes over what is kept here, by its unique name.
    pub adopts: bool,
    /// It may fill the groups that administer and audit.
    pub administers: bool,
    /// When it was last heard of, to the minute.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<String>,
    /// Identities that it owns.
    pub people: u64,
    /// Those of them that are active.
    pub active: u64,
    /// Groups that it owns.
    pub groups: u64,
    /// Its tokens, newest first; never the tokens themselves.
    pub tokens: Vec<SourceTokenView>,
}

/// A token of a source, without the token.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SourceTokenView {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub label: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it stops working.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// When it was taken back.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<String>,
    /// Does it work now?
    pub works: bool,
}
