//! Exit codes, which scripts rely on, and the one error type of the command line.

use std::fmt;

/// How a command ended. The numbers are a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Something went wrong that none of the others names.
    Error,
    /// The command line cannot be used as it is.
    Usage,
    /// Policy or a person said no.
    Denied,
    /// No token, or one that does not work.
    Login,
    /// Not there, or not for you to see.
    NotFound,
    /// Decided, active or changed already.
    Conflict,
    /// Lapsed, or waited long enough.
    Expired,
    /// Waiting for people.
    Pending,
    /// The server cannot be reached or cannot answer now; trying again may help.
    Unreachable,
    /// Ctrl-C.
    Interrupted,
    /// What the child process of `exec` ended with.
    Child(u8),
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::Denied => 3,
            Self::Login => 4,
            Self::NotFound => 5,
            Self::Conflict => 6,
            Self::Expired => 7,
            Self::Pending => 8,
            Self::Unreachable => 9,
            Self::Interrupted => 130,
            Self::Child(code) => code,
        }
    }

    /// What an HTTP status of the API means here.
    pub const fn of_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            401 => Self::Login,
            403 | 423 => Self::Denied,
            404 => Self::NotFound,
            409 | 412 => Self::Conflict,
            410 => Self::Expired,
            408 | 425 | 429 | 502..=504 => Self::Unreachable,
            _ => Self::Error,
        }
    }
}

/// What every command gives back.
pub type Done = Result<Exit, Failure>;

/// Why a command did not do what was asked: what happened, what was not lost, what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened. Empty if nothing is to be said.
    pub what: String,
    /// More about it, a line each.
    pub details: Vec<String>,
    /// What was not lost.
    pub kept: Option<String>,
    /// What to do next.
    pub next: Option<String>,
}

impl Failure {
    /// With a text.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), details: Vec::new(), kept: None, next: None }
    }

    /// Something on this machine went wrong.
    pub fn local(what: impl Into<String>) -> Self {
        Self::new(Exit::Error, what)
    }

    /// The command line cannot be used as it is.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// End with this code and say nothing.
    pub fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// What was not lost.
    #[must_use]
    pub fn kept(mut self, kept: impl Into<String>) -> Self {
        self.kept = Some(kept.into());
        self
    }

    /// What to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for line in self.details.iter().chain(&self.kept) {
            write!(f, "\n  {line}")?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  next: {next}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_become_codes() {
        for (status, code) in [
            (200, 0),
            (201, 0),
            (400, 1),
            (401, 4),
            (403, 3),
            (404, 5),
            (409, 6),
            (410, 7),
            (422, 1),
            (423, 3),
            (429, 9),
            (500, 1),
            (502, 9),
            (503, 9),
        ] {
            assert_eq!(Exit::of_status(status).code(), code, "{status}");
        }
        assert_eq!(Exit::Interrupted.code(), 130);
        assert_eq!(Exit::Child(42).code(), 42);
    }

    #[test]
    fn a_failure_reads_from_what_happened_to_what_to_do() {
        let failure = Failure::local("it broke").kept("Nothing was changed.").next("try again");
        assert_eq!(failure.to_string(), "it broke\n  Nothing was changed.\n  next: try again");
    }
}
