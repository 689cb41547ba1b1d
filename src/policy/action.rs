//! The four questions that policy answers.

use std::fmt;

/// A Cedar action of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// May it be asked for?
    Request,
    /// Is it granted without people?
    AutoApprove,
    /// May this person approve it?
    Approve,
    /// May the holder claim a credential now?
    Mint,
}

impl Action {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Request, Self::AutoApprove, Self::Approve, Self::Mint];

    /// Its name in policies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "Request",
            Self::AutoApprove => "AutoApprove",
            Self::Approve => "Approve",
            Self::Mint => "Mint",
        }
    }

    /// From the name in policies.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.as_str() == s)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
