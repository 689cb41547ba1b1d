//! The audit log as a file: JSON lines that anybody can verify offline, and the verifier.
//!
//! First a header, then every event in order of `seq`, and each signed checkpoint right after the last event that it
//! covers, so that a log of any length is verified in one pass and in bounded memory. See `docs/audit.md`.
//!
//! The verifier takes lines and gives findings. It reads no file, asks no server, and trusts nothing in the file but
//! what a signature covers.

use serde::{Deserialize, Serialize};

use super::{
    checkpoint::{Checkpoint, CheckpointError, VerifierKey},
    merkle::{Frontier, Hash, leaf_hash},
    time::Timestamp,
};

mod finding;
mod proof;
#[cfg(test)]
mod tests;

pub use finding::Finding;
pub use proof::{Growth, Proof, ProofError, verify_growth, verify_proof};

/// What the header's `format` says.
pub const FORMAT: &str = "tidegate-audit";
/// The version of the format that is written and read here.
pub const VERSION: u32 = 1;
/// Findings beyond this are counted and not listed.
const MAX_FINDINGS: usize = 100;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`].
    pub version: u32,
    /// The log's unique name; every checkpoint begins with it.
    pub origin: String,
    /// `seq` of the first event in the file; 0 in a whole log.
    #[serde(default)]
    pub from: u64,
    /// Roots of the complete subtrees over the events before `from`, largest first. Nobody has to believe them: with
    /// wrong ones no checkpoint matches.
    #[serde(default)]
    pub frontier: Vec<Hash>,
    /// The key that the checkpoints are signed with, for convenience. It proves nothing unless it is known from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier_key: Option<VerifierKey>,
    /// When the file was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exported_at: Option<Timestamp>,
}

impl Header {
    /// The header of a file that begins where `before` ends: [`Frontier::default`] for a whole log.
    pub fn new(origin: &str, before: &Frontier, key: Option<VerifierKey>, at: Timestamp) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            origin: origin.to_owned(),
            from: before.size(),
            frontier: before.peaks().to_vec(),
            verifier_key: key,
            exported_at: Some(at),
        }
    }

    /// The line, without a newline.
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Every line after the first: an event, or a checkpoint.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaf: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<String>,
}

impl Line {
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The line of an event, without a newline: `seq` is its index in the log, from 0; `leaf` the exact bytes that were
/// hashed; `hash` its leaf hash.
pub fn event_line(seq: u64, leaf: &str) -> String {
    let hash = Some(leaf_hash(leaf.as_bytes()));
    Line { seq: Some(seq), hash, leaf: Some(leaf.to_owned()), checkpoint: None }.text()
}

/// The line of a checkpoint, without a newline. It stands right after the last event that it covers.
pub fn checkpoint_line(note: &str) -> String {
    Line { checkpoint: Some(note.to_owned()), ..Line::default() }.text()
}

/// What the one who verifies knows from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Keys that the log signs with: the present one and those before it. Without any, the header's key is taken, and
    /// the report says so.
    pub keys: Vec<VerifierKey>,
    /// Checkpoints (signed notes) that were put aside earlier; the log must contain each.
    pub pins: Vec<String>,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The log.
    pub origin: String,
    /// The key that signed the newest checkpoint.
    pub key: VerifierKey,
    /// The key was given by the one who verifies, and not read from the file.
    pub key_trusted: bool,
    /// `seq` of the first event in the file.
    pub from: u64,
    /// How many events the file holds.
    pub events: u64,
    /// Size of the newest checkpoint.
    pub size: u64,
    /// Root of the newest checkpoint.
    pub root: Hash,
    /// How many checkpoints were checked.
    pub checkpoints: u64,
    /// How many pinned checkpoints were found to be part of this log.
    pub pins: u64,
}

/// Checks an export line by line: [`Verifier::line`] for each, then [`Verifier::finish`].
#[derive(Debug)]
pub struct Verifier {
    trust: Trust,
    pins: Vec<Checkpoint>,
    pins_met: u64,
    header: Option<Header>,
    lines: u64,
    events: u64,
    /// The `seq` that comes next.
    next: u64,
    /// Events that were jumped over and have not turned up: first and last.
    gaps: Vec<(u64, u64)>,
    /// The tree so far; `None` once it cannot be computed any more.
    tree: Option<Frontier>,
    newest: Option<(Checkpoint, VerifierKey)>,
    checkpoints: u64,
    findings: Vec<Finding>,
    left_out: u64,
    dead: bool,
}

impl Verifier {
    /// Ready for the first line.
    pub fn new(trust: Trust) -> Self {
        Self {
            trust,
            pins: Vec::new(),
            pins_met: 0,
            header: None,
            lines: 0,
            events: 0,
            next: 0,
            gaps: Vec::new(),
            tree: None,
            newest: None,
            checkpoints: 0,
            findings: Vec::new(),
            left_out: 0,
            dead: false,
        }
    }

    fn found(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.left_out += 1;
        }
    }

    /// Something outside the lines is wrong, such as bytes that are no text.
    pub fn malformed(&mut self, problem: &str) {
        self.lines += 1;
        self.found(Finding::Malformed { line: self.lines, problem: problem.to_owned() });
    }

    /// The next line, without its newline.
    pub fn line(&mut self, line: &str) {
        self.lines += 1;
        if self.dead {
            return;
        }
        if self.header.is_none() {
            if let Err(problem) = self.open(line) {
                self.dead = true;
                self.found(Finding::Malformed { line: self.lines, problem });
            }
            return;
        }
        match serde_json::from_str::<Line>(line) {
            Ok(Line { seq: Some(seq), hash: Some(hash), leaf: Some(leaf), checkpoint: None }) => {
                self.event(seq, hash, &leaf);
            }
            Ok(Line { seq: None, hash: None, leaf: None, checkpoint: Some(note) }) => self.checkpoint(&note),
            Ok(_) => self.found(Finding::Malformed {
                line: self.lines,
                problem: "neither an event (`seq`, `hash`, `leaf`) nor a `checkpoint`".to_owned(),
            }),
            Err(error) => self.found(Finding::Malformed { line: self.lines, problem: error.to_string() }),
        }
    }

    fn open(&mut self, line: &str) -> Result<(), String> {
        let header: Header =
            serde_json::from_str(line).map_err(|e| format!("not the header of an audit export: {e}"))?;
        if header.format != FORMAT || header.version != VERSION {
            return Err(format!("not an audit export of version {VERSION} (`format` must be `{FORMAT}`)"));
        }
        let tree = Frontier::new(header.from, header.frontier.clone())
            .ok()
            .filter(|tree| tree.size() <= u64::MAX / 2)
            .ok_or("`frontier` does not fit `from`")?;
        self.next = header.from;
        self.open_pins(&header);
        self.header = Some(header);
        self.tree = Some(tree);
        self.compare_pins();
        Ok(())
    }

    fn keys(&self, header: &Header) -> Vec<VerifierKey> {
        if self.trust.keys.is_empty() { header.verifier_key.iter().cloned().collect() } else { self.trust.keys.clone() }
    }

    fn open_pins(&mut self, header: &Header) {
        let keys = self.keys(header);
        for note in std::mem::take(&mut self.trust.pins) {
            let pin = match Checkpoint::open(&note, &keys) {
                Ok((pin, _)) => pin,
                Err(error) => {
                    self.found(Finding::BadPin { problem: error.to_string() });
                    continue;
                }
            };
            if pin.origin != header.origin {
                let problem = format!("it is of the log `{}`, and this is `{}`", pin.origin, header.origin);
                self.found(Finding::BadPin { problem });
            } else if pin.size < header.from {
                let problem = format!("its size {} lies before the first event of the file, {}", pin.size, header.from);
                self.found(Finding::BadPin { problem });
            } else {
                self.pins.push(pin);
            }
        }
        self.pins.sort_by_key(|pin| std::cmp::Reverse(pin.size));
    }

    /// Pins of exactly the present size.
    fn compare_pins(&mut self) {
        let Some(tree) = &self.tree else { return };
        let (size, mut root) = (tree.size(), None);
        let mut forked = false;
        while let Some(pin) = self.pins.pop_if(|pin| pin.size == size) {
            if pin.root == *root.get_or_insert_with(|| tree.root()) {
                self.pins_met += 1;
            } else {
                forked = true;
            }
        }
        if forked {
            self.found(Finding::Forked { size });
        }
    }

    fn event(&mut self, seq: u64, hash: Hash, leaf: &str) {
        self.events += 1;
        if leaf_hash(leaf.as_bytes()) != hash {
            self.found(Finding::Changed { seq });
        }
        if seq < self.next {
            self.tree = None;
            let turned_up = self.unmiss(seq);
            return self.found(if turned_up { Finding::Moved { seq } } else { Finding::Repeated { seq } });
        }
        self.skip_to(seq);
        self.next = seq.saturating_add(1);
        if let Some(tree) = &mut self.tree {
            // The recorded hash even if the text does not match it: if a signed root confirms it, the text was changed.
            tree.append(hash);
        }
        self.compare_pins();
    }

    /// The next thing in the file belongs at `seq`.
    fn skip_to(&mut self, seq: u64) {
        if seq > self.next {
            self.tree = None;
            if self.gaps.len() < MAX_FINDINGS {
                self.gaps.push((self.next, seq - 1));
            } else {
                self.left_out += 1;
            }
            self.next = seq;
        }
    }

    /// Was `seq` jumped over? Then it has turned up now.
    fn unmiss(&mut self, seq: u64) -> bool {
        let Some(at) = self.gaps.iter().position(|(from, to)| (*from..=*to).contains(&seq)) else { return false };
        let (from, to) = self.gaps.swap_remove(at);
        if from < seq {
            self.gaps.push((from, seq - 1));
        }
        if seq < to {
            self.gaps.push((seq + 1, to));
        }
        true
    }

    fn checkpoint(&mut self, note: &str) {
        let Some(header) = &self.header else { return };
        let (keys, header_from) = (self.keys(header), header.from);
        let opened = Checkpoint::open(note, &keys).map(|(checkpoint, key)| (checkpoint, key.clone()));
        let (checkpoint, key) = match opened {
            Ok((checkpoint, _)) if checkpoint.origin != header.origin => {
                let problem = format!("it is of the log `{}`, and this is `{}`", checkpoint.origin, header.origin);
                return self.found(Finding::Unsigned { line: self.lines, problem });
            }
            Ok(opened) => opened,
            Err(error) => {
                let problem = match error {
                    CheckpointError::UnknownKey if keys.is_empty() => {
                        "no key is known; give the log's verifier key".to_owned()
                    }
                    other => other.to_string(),
                };
                return self.found(Finding::Unsigned { line: self.lines, problem });
            }
        };
        self.checkpoints += 1;
        if checkpoint.size < self.next {
            return self.found(Finding::Misplaced { size: checkpoint.size, behind: self.next });
        }
        self.skip_to(checkpoint.size);
        let before = self.newest.as_ref().map(|(c, _)| (c.size, c.root));
        let (from, size) = (before.map_or(header_from, |(size, _)| size), checkpoint.size);
        if before.is_some_and(|(size, root)| size == checkpoint.size && root != checkpoint.root) {
            return self.found(Finding::Equivocation { size });
        }
        if self.tree.as_ref().is_some_and(|tree| tree.root() != checkpoint.root) {
            self.tree = None;
            self.found(Finding::Mismatch { from, to: size.saturating_sub(1) });
        }
        self.newest = Some((checkpoint, key));
    }

    /// After the last line.
    pub fn finish(mut self) -> Result<Report, Vec<Finding>> {
        if self.lines == 0 {
            self.found(Finding::Malformed { line: 1, problem: "the file is empty".to_owned() });
        }
        for (from, to) in std::mem::take(&mut self.gaps) {
            self.found(Finding::Missing { from, to });
        }
        if !self.dead {
            let size = self.next;
            for pin in std::mem::take(&mut self.pins).into_iter().rev().filter(|pin| pin.size > size) {
                self.found(Finding::Truncated { pinned: pin.size, size });
            }
            match &self.newest {
                None => self.found(Finding::NoCheckpoint),
                Some((newest, _)) if newest.size < self.next => {
                    let (from, to) = (newest.size, self.next - 1);
                    self.found(Finding::Uncovered { from, to });
                }
                Some(_) => {}
            }
        }
        self.findings.sort_by_key(Finding::event);
        if self.left_out > 0 {
            self.findings.push(Finding::More { count: self.left_out });
        }
        match (self.header, self.newest) {
            (Some(header), Some((newest, key))) if self.findings.is_empty() => Ok(Report {
                origin: header.origin,
                key,
                key_trusted: !self.trust.keys.is_empty(),
                from: header.from,
                events: self.events,
                size: newest.size,
                root: newest.root,
                checkpoints: self.checkpoints,
                pins: self.pins_met,
            }),
            _ => Err(self.findings),
        }
    }
}
