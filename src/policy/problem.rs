//! What is wrong with a policy directory: file, line, what, and what to do. Never stops at the first problem if it can
//! go on, and never quotes more of a file than a name.

use std::fmt;

use cedar_policy::ffi::DetailedError;
use serde::Serialize;

/// One thing that is wrong in one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file, with the directory as it was given.
    pub file: String,
    /// Line, from 1; 0 where the problem is the file itself.
    pub line: usize,
    /// Column in characters, from 1; 0 where the problem is the file itself.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.help.is_empty() {
            write!(f, "\n    {}", self.help)?;
        }
        Ok(())
    }
}

/// A policy directory that cannot be used; the set that ran before goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", listed(.problems))]
pub struct LoadError {
    /// Everything that was found, in the order of files and lines; at least one.
    pub problems: Vec<Problem>,
}

impl LoadError {
    /// Sorted, without repeats.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { problems }
    }
}

fn listed(problems: &[Problem]) -> String {
    let count = problems.len();
    let mut text = format!("{count} problem{} in the policy files:", if count == 1 { "" } else { "s" });
    for problem in problems {
        text.push('\n');
        text.push_str(&problem.to_string());
    }
    text
}

/// A file and its text, to say where something is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub file: &'a str,
    pub text: &'a str,
}

impl Place<'_> {
    /// A problem at a byte offset.
    pub fn at(&self, offset: usize, message: impl Into<String>, help: impl Into<String>) -> Problem {
        let (line, column) = self.position(offset);
        Problem { file: self.file.to_owned(), line, column, message: message.into(), help: help.into() }
    }

    /// A problem of the whole file.
    pub fn whole(&self, message: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem { file: self.file.to_owned(), line: 0, column: 0, message: message.into(), help: help.into() }
    }

    /// Line and column of a byte offset, from 1.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = self.text.get(..end).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }

    /// Cedar's own diagnosis, with all that is related to it.
    pub fn diagnosed(&self, error: &DetailedError, fallback: usize, help: &str) -> Vec<Problem> {
        let label = error.source_locations.first();
        let mut message = error.message.clone();
        if let Some(text) = label.and_then(|l| l.label.as_deref()).filter(|t| !message.contains(*t)) {
            message.push_str(": ");
            message.push_str(text);
        }
        let help = error.help.clone().unwrap_or_else(|| help.to_owned());
        let mut problems = vec![self.at(label.map_or(fallback, |l| l.loc.start), message, help.clone())];
        for related in &error.related {
            problems.extend(self.diagnosed(related, fallback, &help));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_from_one_and_in_characters() {
        let place = Place { file: "f", text: "aé\nbc" };
        assert_eq!(place.position(0), (1, 1));
        assert_eq!(place.position(3), (1, 3));
        assert_eq!(place.position(2), (1, 2));
        assert_eq!(place.position(4), (2, 1));
        assert_eq!(place.position(99), (2, 3));
    }
}
