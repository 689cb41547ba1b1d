//! What a kind of target can do, said before anybody asks for access on it (promise P12).

use serde::{Deserialize, Serialize};

/// How fast a revocation takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RevocationClass {
    /// Gone when the target has answered.
    Immediate,
    /// Gone when the change has reached every verifier.
    Propagating,
    /// Cannot be taken back; it ends by its own expiry.
    ExpiryOnly,
}

impl RevocationClass {
    /// The stored and public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Immediate => "immediate",
            Self::Propagating => "propagating",
            Self::ExpiryOnly => "expiry_only",
        }
    }
}

/// What a connector promises of its targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The connector's name, as in configuration: `postgres`, `ssh`.
    pub kind: String,
    /// One sentence for the catalogue.
    pub summary: String,
    /// How fast a revocation takes effect.
    pub revocation_class: RevocationClass,
    /// The access ends by itself with the broker dead (promise P2).
    pub native_expiry: bool,
    /// The target can be asked whether the access is gone.
    pub read_back: bool,
    /// Revoking ends sessions that are open.
    pub cuts_sessions: bool,
    /// A claim returns a secret.
    pub mints_secrets: bool,
    /// A later claim ends the copy of an earlier one. Where it does not, the catalog allows one claim unless it says
    /// another number.
    pub replaces_copies: bool,
    /// Seconds for which a copy of the access may still work after revocation.
    pub residual_window_seconds: u32,
    /// The residual window in words, for the sheet and for approvers.
    pub residual_window: String,
    /// Seconds after `not_after` within which the end is enforced with broker and target up (X of promise P1).
    pub enforcement_seconds: u32,
    /// What the broker must be allowed to do at the target.
    pub rights: Rights,
    /// What a crash of the broker leaves at the target, and how that is found, in words.
    pub after_crash: String,
}

/// The least that the broker must be allowed to do at a target, to copy and run there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rights {
    /// In words; what is not a statement.
    pub needs: String,
    /// What the statements are written in: `json` (a policy), `sql`, `ldif`, `hcl`, `text`; empty if there are none.
    pub language: String,
    /// The statements, for this very target as it is configured.
    pub statements: String,
}

impl Rights {
    /// Nothing to run at the target.
    pub fn none(needs: impl Into<String>) -> Self {
        Self { needs: needs.into(), ..Self::default() }
    }

    /// Statements of that language.
    pub fn statements(needs: impl Into<String>, language: &str, statements: impl Into<String>) -> Self {
        Self { needs: needs.into(), language: language.to_owned(), statements: statements.into() }
    }
}
