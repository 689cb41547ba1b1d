//! What the verifier finds, and how it is put to people.

use std::fmt;

use serde::Serialize;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "finding")]
pub enum Finding {
    /// A line that is not of the format.
    Malformed {
        /// Line number, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// The text of this event is not what its hash says.
    Changed {
        /// Which event.
        seq: u64,
    },
    /// These events are not in the file.
    Missing {
        /// The first one.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// This event stands where it does not belong.
    Moved {
        /// Which event.
        seq: u64,
    },
    /// This event is there twice.
    Repeated {
        /// Which event.
        seq: u64,
    },
    /// A checkpoint that does not fit the events: at least one from `from` to `to` was changed, removed, added or moved.
    Mismatch {
        /// The first event that the last good checkpoint does not cover.
        from: u64,
        /// The last event that this checkpoint covers.
        to: u64,
    },
    /// Two signed checkpoints of one size with different roots: the log showed two histories.
    Equivocation {
        /// Their size.
        size: u64,
    },
    /// A checkpoint that stands behind more events than it covers.
    Misplaced {
        /// The checkpoint's size.
        size: u64,
        /// How many events stand before it.
        behind: u64,
    },
    /// A checkpoint that is not properly signed, or not of this log.
    Unsigned {
        /// Line number, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// No checkpoint covers these events.
    Uncovered {
        /// The first one.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// The file has no checkpoint that holds.
    NoCheckpoint,
    /// A pinned checkpoint that cannot be read, is not of this log, or lies outside the file.
    BadPin {
        /// What is wrong.
        problem: String,
    },
    /// The log does not contain the pinned checkpoint: history was rewritten.
    Forked {
        /// The pinned checkpoint's size.
        size: u64,
    },
    /// The log is shorter than at the pinned checkpoint: its end was cut off.
    Truncated {
        /// The pinned checkpoint's size.
        pinned: u64,
        /// How far the file goes.
        size: u64,
    },
    /// There is more than can be listed.
    More {
        /// How many findings were left out.
        count: u64,
    },
}

impl Finding {
    /// The first event that it is about, if it is about events.
    pub const fn event(&self) -> Option<u64> {
        match self {
            Self::Changed { seq: at }
            | Self::Moved { seq: at }
            | Self::Repeated { seq: at }
            | Self::Missing { from: at, .. }
            | Self::Mismatch { from: at, .. }
            | Self::Uncovered { from: at, .. }
            | Self::Equivocation { size: at }
            | Self::Misplaced { size: at, .. }
            | Self::Forked { size: at }
            | Self::Truncated { size: at, .. } => Some(*at),
            Self::Malformed { .. }
            | Self::Unsigned { .. }
            | Self::BadPin { .. }
            | Self::NoCheckpoint
            | Self::More { .. } => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = |from: &u64, to: &u64| {
            if from == to { format!("event {from}") } else { format!("events {from} to {to}") }
        };
        match self {
            Self::Malformed { line, problem } => write!(f, "line {line}: {problem}"),
            Self::Changed { seq } => write!(f, "event {seq} was changed: its text does not match its hash"),
            Self::Missing { from, to } => write!(f, "missing: {}", events(from, to)),
            Self::Moved { seq } => write!(f, "event {seq} was moved: it stands too late in the file"),
            Self::Repeated { seq } => write!(f, "event {seq} is there more than once"),
            Self::Mismatch { from, to } => write!(
                f,
                "the signed checkpoint behind event {to} does not match: something in {} was changed, removed, added or moved",
                events(from, to)
            ),
            Self::Equivocation { size } => {
                write!(f, "two signed checkpoints of size {size} disagree: the log showed two histories")
            }
            Self::Misplaced { size, behind } => {
                write!(f, "the checkpoint over {size} events stands behind {behind}: events were added or lines moved")
            }
            Self::Unsigned { line, problem } => write!(f, "line {line}: checkpoint refused: {problem}"),
            Self::Uncovered { from, to } => write!(f, "no signed checkpoint covers {}", events(from, to)),
            Self::NoCheckpoint => f.write_str("the file has no valid checkpoint, so nothing in it is proven"),
            Self::BadPin { problem } => write!(f, "pinned checkpoint: {problem}"),
            Self::Forked { size } => {
                write!(f, "the log does not contain the pinned checkpoint of size {size}: history was rewritten")
            }
            Self::Truncated { pinned, size } => {
                write!(
                    f,
                    "the log once had {pinned} events (pinned) and the file goes only to {size}: its end is missing"
                )
            }
            Self::More { count } => write!(f, "and {count} more findings"),
        }
    }
}
