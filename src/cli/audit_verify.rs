//! `tidegate audit verify`: offline verification of an export or of proofs, and what it says to people.
//! Talks to no server and opens no file: the caller hands in a reader.

use std::{
    fmt::Write as _,
    io::{self, BufRead, Read as _},
};

use super::exit::Exit;
use crate::domain::{
    checkpoint::VerifierKey,
    export::{Finding, Growth, Proof, Report, Trust, Verifier, verify_growth, verify_proof},
};

/// A line longer than this is not one of ours.
const MAX_LINE: u64 = 16 << 20;

/// What came of verifying: what was proven, or what was found.
pub type Outcome = Result<Report, Vec<Finding>>;

/// Verify an export in one pass. The error is that of the reader; everything wrong with the content is a finding.
pub fn verify_export(mut reader: impl BufRead, trust: Trust) -> io::Result<Outcome> {
    let mut verifier = Verifier::new(trust);
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut buffer)? == 0 {
            return Ok(verifier.finish());
        }
        let line = buffer.strip_suffix(b"\n");
        if line.is_none() && u64::try_from(buffer.len()).is_ok_and(|n| n >= MAX_LINE) {
            verifier.malformed("the line is too long to be one of an audit export");
            return Ok(verifier.finish());
        }
        match std::str::from_utf8(line.unwrap_or(&buffer)) {
            Ok(line) => verifier.line(line),
            Err(_) => verifier.malformed("the line is not UTF-8 text"),
        }
    }
}

/// Whether everything holds, under the key that the caller gave, or else under the one in the file, which the text says.
pub fn exit(outcome: &Outcome) -> Exit {
    match outcome {
        Ok(_) => Exit::Ok,
        Err(_) => Exit::Error,
    }
}

/// For people.
pub fn text(outcome: &Outcome) -> String {
    let mut out = String::new();
    match outcome {
        Ok(report) => {
            let last = (report.from + report.events).saturating_sub(1);
            let _ =
                writeln!(out, "verified: {} events ({} to {last}) of {}", report.events, report.from, report.origin);
            let _ = writeln!(out, "  root         {} at size {}", report.root, report.size);
            let _ = writeln!(out, "  checkpoints  {} signed by {}", report.checkpoints, report.key);
            if report.pins > 0 {
                let _ = writeln!(out, "  pinned       {} earlier checkpoints are part of this log", report.pins);
            }
            if !report.key_trusted {
                out.push_str(
                    "warning: the key was read from the file itself. The file is consistent, but anybody could have \
                     made it; give the key that you know with --key.\n",
                );
            }
        }
        Err(findings) => {
            let _ = writeln!(out, "NOT verified: {} findings", findings.len());
            for finding in findings {
                let _ = writeln!(out, "  {finding}");
            }
        }
    }
    out
}

/// Verify proofs as `tidegate audit prove` writes them, one JSON object a line: that an event is in the log, or that one
/// checkpoint grew out of another. Gives a text for people, and as an error the text of what does not hold.
pub fn verify_proofs(proofs: &str, keys: &[VerifierKey]) -> Result<String, String> {
    let (mut out, mut count) = (String::new(), 0_u32);
    for (number, line) in (1_u32..).zip(proofs.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        out.push_str(&match serde_json::from_str::<Growth>(line) {
            Ok(growth) => grown(&growth, keys, number)?,
            Err(_) => contained(line, keys, number)?,
        });
        count += 1;
    }
    if count == 0 {
        return Err("there is no proof in the file".to_owned());
    }
    if keys.is_empty() {
        out.push_str("warning: the key was read from the proof itself; give the key that you know with --key.\n");
    }
    Ok(out)
}

fn contained(line: &str, keys: &[VerifierKey], number: u32) -> Result<String, String> {
    let proof: Proof = serde_json::from_str(line).map_err(|e| format!("line {number}: not a proof: {e}"))?;
    let own: Vec<VerifierKey> = proof.verifier_key.iter().cloned().collect();
    let checkpoint = verify_proof(&proof, if keys.is_empty() { &own } else { keys })
        .map_err(|e| format!("NOT proven: event {} (line {number}): {e}", proof.index))?;
    let (origin, size) = (checkpoint.origin, checkpoint.size);
    Ok(format!("proven: event {} is in {origin} at size {size}\n  {}\n", proof.index, proof.leaf))
}

fn grown(growth: &Growth, keys: &[VerifierKey], number: u32) -> Result<String, String> {
    let own: Vec<VerifierKey> = growth.verifier_key.iter().cloned().collect();
    let (old, new) = verify_growth(growth, if keys.is_empty() { &own } else { keys })
        .map_err(|e| format!("NOT proven: the growth of the log (line {number}): {e}"))?;
    Ok(format!("proven: {} at size {} begins with all that it had at size {}\n", new.origin, new.size, old.size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        checkpoint::{Checkpoint, tests::pair},
        export::{Header, checkpoint_line, event_line},
        merkle::{Frontier, leaf_hash},
        time::Timestamp,
    };

    const ORIGIN: &str = "example.com/tidegate";

    fn export(n: u64) -> (String, VerifierKey) {
        let (key, sign) = pair(ORIGIN, 1);
        let mut tree = Frontier::default();
        let mut out = Header::new(ORIGIN, &tree, Some(key.clone()), Timestamp::default()).line() + "\n";
        for seq in 0..n {
            let leaf = format!("{{\"n\":{seq}}}");
            tree.append(leaf_hash(leaf.as_bytes()));
            out += &(event_line(seq, &leaf) + "\n");
        }
        let note = Checkpoint::new(ORIGIN, n, tree.root()).unwrap().sign(&key, sign).unwrap();
        (out + &checkpoint_line(&note) + "\n", key)
    }

    #[test]
    fn what_people_read() {
        let (export, key) = export(3);
        let good = verify_export(export.as_bytes(), Trust { keys: vec![key.clone()], pins: vec![] }).unwrap();
        let alone = verify_export(export.as_bytes(), Trust::default()).unwrap();
        let changed = export.replace(r#"\"n\":1"#, r#"\"n\":7"#);
        let bad = verify_export(changed.as_bytes(), Trust { keys: vec![key], pins: vec![] }).unwrap();
        assert_eq!([&good, &alone, &bad].map(exit), [Exit::Ok, Exit::Ok, Exit::Error]);
        insta::assert_snapshot!(format!("{}\n{}\n{}", text(&good), text(&alone), text(&bad)));
    }

    #[test]
    fn bytes_that_are_no_lines_are_findings() {
        let (export, key) = export(3);
        let trust = Trust { keys: vec![key], pins: vec![] };
        let mut bytes = export.clone().into_bytes();
        bytes.extend(b"\xff\xfe\n");
        assert!(verify_export(&bytes[..], trust.clone()).unwrap().is_err());
        let endless = export.as_bytes().chain(io::BufReader::new(io::repeat(b' ')));
        assert!(verify_export(endless, trust.clone()).unwrap().is_err());
        assert!(verify_export(&b""[..], trust.clone()).unwrap().is_err());
        assert!(verify_export(export.trim_end().as_bytes(), trust).unwrap().is_ok(), "a last newline is not needed");
    }

    #[test]
    fn proofs_are_read_line_by_line() {
        let (key, sign) = pair(ORIGIN, 1);
        let leaf = "{\"n\":0}".to_owned();
        let root = leaf_hash(leaf.as_bytes());
        let checkpoint = Checkpoint::new(ORIGIN, 1, root).unwrap().sign(&key, sign).unwrap();
        let proof = Proof { index: 0, leaf, size: 1, path: vec![], checkpoint, verifier_key: Some(key.clone()) };
        let line = serde_json::to_string(&proof).unwrap();
        let keys = [key];
        assert!(verify_proofs(&format!("{line}\n{line}\n"), &keys).unwrap().starts_with("proven: event 0"));
        assert!(verify_proofs(&line, &[]).unwrap().contains("warning"));
        assert!(verify_proofs(&line.replace("n\\\":0", "n\\\":1"), &keys).unwrap_err().starts_with("NOT proven"));
        assert!(verify_proofs(&line, &[pair(ORIGIN, 2).0]).is_err());
        assert!(verify_proofs("\n", &keys).is_err());
    }
}
