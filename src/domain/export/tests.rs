//! Exports that are whole, and exports that somebody laid hands on.

use proptest::prelude::*;

use super::*;
use crate::domain::{
    checkpoint::tests::pair,
    merkle::{Nodes, consistency_plan, consistency_proof, inclusion_proof, root_of},
};

const ORIGIN: &str = "example.com/tidegate";
const SEED: u8 = 3;

fn key() -> VerifierKey {
    pair(ORIGIN, SEED).0
}

fn leaf(seq: u64) -> String {
    format!(r#"{{"id":"evt_{seq}","action":"grant.ended","details":{{"note":"über \"{seq}\""}}}}"#)
}

fn note(leaves: &[String], seed: u8) -> String {
    let hashes: Vec<Hash> = leaves.iter().map(|l| leaf_hash(l.as_bytes())).collect();
    let (key, sign) = pair(ORIGIN, seed);
    Checkpoint::new(ORIGIN, hashes.len() as u64, root_of(&hashes)).unwrap().sign(&key, sign).unwrap()
}

/// `n` events with a checkpoint after every `batch` and after the last.
fn export(n: u64, batch: u64) -> Vec<String> {
    let mut lines = vec![Header::new(ORIGIN, &Frontier::default(), Some(key()), Timestamp::default()).line()];
    let mut leaves = Vec::new();
    for seq in 0..n {
        leaves.push(leaf(seq));
        lines.push(event_line(seq, &leaf(seq)));
        if (seq + 1) % batch == 0 || seq + 1 == n {
            lines.push(checkpoint_line(&note(&leaves, SEED)));
        }
    }
    lines
}

fn verify_with<S: AsRef<str>>(lines: &[S], trust: Trust) -> Result<Report, Vec<Finding>> {
    let mut verifier = Verifier::new(trust);
    for line in lines {
        verifier.line(line.as_ref());
    }
    verifier.finish()
}

fn verify<S: AsRef<str>>(lines: &[S]) -> Result<Report, Vec<Finding>> {
    verify_with(lines, Trust { keys: vec![key()], pins: vec![] })
}

/// Where the line of an event stands in `export(_, 4)`.
fn at(seq: usize) -> usize {
    1 + seq + seq / 4
}

#[test]
fn a_whole_export_holds() {
    let report = verify(&export(10, 4)).unwrap();
    assert_eq!((report.events, report.size, report.checkpoints, report.key_trusted), (10, 10, 3, true));
    let report = verify_with(&export(10, 4), Trust::default()).unwrap();
    assert!(!report.key_trusted, "the key was read from the file");
    insta::assert_snapshot!(export(1, 4).join("\n"));
}

#[test]
fn a_changed_event_is_named() {
    let mut lines = export(10, 4);
    lines[at(5)] = lines[at(5)].replace("grant.ended", "grant.active");
    assert_eq!(verify(&lines), Err(vec![Finding::Changed { seq: 5 }]));
}

#[test]
fn a_changed_event_with_a_mended_hash_is_found_between_two_checkpoints() {
    let mut lines = export(10, 4);
    lines[at(5)] = event_line(5, "{}");
    assert_eq!(verify(&lines), Err(vec![Finding::Mismatch { from: 4, to: 7 }]));
}

#[test]
fn a_changed_hash_is_found_too() {
    let mut lines = export(10, 4);
    let hash = leaf_hash(leaf(5).as_bytes());
    lines[at(5)] = lines[at(5)].replace(&hash.to_string(), &leaf_hash(b"").to_string());
    assert_eq!(verify(&lines), Err(vec![Finding::Mismatch { from: 4, to: 7 }, Finding::Changed { seq: 5 }]));
}

#[test]
fn a_removed_event_is_named() {
    for seq in 0..10 {
        let mut lines = export(10, 4);
        lines.remove(at(seq));
        let seq = seq as u64;
        assert_eq!(verify(&lines), Err(vec![Finding::Missing { from: seq, to: seq }]));
    }
}

#[test]
fn removed_and_renumbered_events_are_found_at_the_next_checkpoint() {
    let mut lines = export(8, 4);
    lines.drain(at(5)..);
    lines.push(event_line(5, &leaf(6)));
    lines.push(event_line(6, &leaf(7)));
    let leaves: Vec<String> = (0..8).map(leaf).collect();
    lines.push(checkpoint_line(&note(&leaves, SEED)));
    assert_eq!(verify(&lines), Err(vec![Finding::Missing { from: 7, to: 7 }]));
    lines.insert(lines.len() - 1, event_line(7, "{}"));
    assert_eq!(verify(&lines), Err(vec![Finding::Mismatch { from: 4, to: 7 }]));
}

#[test]
fn swapped_events_are_named() {
    let mut lines = export(10, 4);
    lines.swap(at(5), at(6));
    assert_eq!(verify(&lines), Err(vec![Finding::Moved { seq: 5 }]));
    let mut lines = export(10, 4);
    lines[at(5)] = event_line(5, &leaf(6));
    lines[at(6)] = event_line(6, &leaf(5));
    assert_eq!(verify(&lines), Err(vec![Finding::Mismatch { from: 4, to: 7 }]));
}

#[test]
fn a_repeated_event_is_named() {
    let mut lines = export(10, 4);
    lines.insert(at(5), lines[at(5)].clone());
    assert_eq!(verify(&lines), Err(vec![Finding::Repeated { seq: 5 }]));
}

#[test]
fn an_added_event_is_found() {
    let mut lines = export(8, 4);
    lines.push(event_line(8, "{}"));
    assert_eq!(verify(&lines), Err(vec![Finding::Uncovered { from: 8, to: 8 }]));
    lines.swap(10, 11);
    assert!(verify(&lines).unwrap_err().contains(&Finding::Misplaced { size: 8, behind: 9 }));
}

#[test]
fn a_truncated_tail_is_found() {
    let whole = export(10, 4);
    let last = whole.len() - 1;
    assert_eq!(verify(&whole[..last]), Err(vec![Finding::Uncovered { from: 8, to: 9 }]));
    assert_eq!(verify(&whole[..at(2)]), Err(vec![Finding::NoCheckpoint]));
    // Cut exactly behind a checkpoint, the file is what the log once was: only a pinned checkpoint tells.
    let cut = &whole[..at(8)];
    assert!(verify(cut).is_ok());
    let leaves: Vec<String> = (0..10).map(leaf).collect();
    let trust = Trust { keys: vec![key()], pins: vec![note(&leaves, SEED)] };
    assert_eq!(verify_with(cut, trust.clone()), Err(vec![Finding::Truncated { pinned: 10, size: 8 }]));
    assert_eq!(verify_with(&whole, trust).map(|r| r.pins), Ok(1));
}

#[test]
fn a_rewritten_log_does_not_contain_the_pin() {
    let mut leaves: Vec<String> = (0..6).map(leaf).collect();
    leaves[2] = "{}".to_owned();
    let trust = Trust { keys: vec![key()], pins: vec![note(&leaves, SEED), note(&leaves[..2], SEED)] };
    assert_eq!(verify_with(&export(10, 4), trust), Err(vec![Finding::Forked { size: 6 }]));
    let trust = Trust { keys: vec![key()], pins: vec![note(&leaves, 9)] };
    assert!(matches!(verify_with(&export(10, 4), trust).unwrap_err()[..], [Finding::BadPin { .. }]));
}

#[test]
fn a_changed_checkpoint_is_found() {
    let whole = export(10, 4);
    let (at, other) = (at(4) - 1, checkpoint_line(&note(&["{}".to_owned()], SEED)));
    let mut lines = whole.clone();
    lines[at] = lines[at].replace("\\n4\\n", "\\n5\\n");
    assert!(matches!(verify(&lines).unwrap_err()[..], [Finding::Unsigned { line: 6, .. }]));
    lines[at] = other;
    assert_eq!(verify(&lines), Err(vec![Finding::Misplaced { size: 1, behind: 4 }]));
    let mut leaves: Vec<String> = (0..4).map(leaf).collect();
    leaves[0] = "{}".to_owned();
    lines[at] = checkpoint_line(&note(&leaves, SEED));
    assert_eq!(verify(&lines), Err(vec![Finding::Mismatch { from: 0, to: 3 }]));
    let mut lines = whole;
    lines.insert(at + 1, checkpoint_line(&note(&leaves, SEED)));
    assert_eq!(verify(&lines), Err(vec![Finding::Equivocation { size: 4 }]));
}

#[test]
fn a_wrong_key_is_refused() {
    let (other, _) = pair(ORIGIN, 8);
    let findings = verify_with(&export(10, 20), Trust { keys: vec![other.clone()], pins: vec![] }).unwrap_err();
    assert!(matches!(findings[..], [Finding::Unsigned { line: 12, .. }, Finding::NoCheckpoint]), "{findings:?}");
    // A log of somebody else, sealed with his own key and carrying it: consistent, and not trusted.
    let leaves = vec![leaf(0)];
    let header = Header::new(ORIGIN, &Frontier::default(), Some(other), Timestamp::default()).line();
    let forged = [header, event_line(0, &leaves[0]), checkpoint_line(&note(&leaves, 8))];
    assert!(verify(&forged).is_err());
    assert_eq!(verify_with(&forged, Trust::default()).map(|r| r.key_trusted), Ok(false));
}

#[test]
fn keys_may_change_over_time() {
    let leaves: Vec<String> = (0..2).map(leaf).collect();
    let mut lines = export(1, 1);
    lines.push(event_line(1, &leaves[1]));
    lines.push(checkpoint_line(&note(&leaves, 8)));
    assert!(verify(&lines).is_err());
    let keys = vec![key(), pair(ORIGIN, 8).0];
    assert_eq!(verify_with(&lines, Trust { keys, pins: vec![] }).map(|r| r.key), Ok(pair(ORIGIN, 8).0));
}

#[test]
fn what_is_no_export_is_refused() {
    assert!(verify::<&str>(&[]).is_err());
    assert!(verify(&[""]).is_err());
    assert!(verify(&export(4, 4)[1..]).is_err());
    let header = export(1, 1).remove(0);
    for bad in [
        header.replace("tidegate-audit", "tidegate-audit-2"),
        header.replace("\"version\":1", "\"version\":2"),
        header.replace("\"from\":0", "\"from\":1"),
        header.replace(ORIGIN, "example.com/other"),
    ] {
        let mut lines = export(4, 4);
        lines[0] = bad;
        assert!(verify(&lines).is_err());
    }
    for bad in ["", "{}", "[]", r#"{"seq":0}"#, r#"{"seq":0,"seq":0}"#, r#"{"seq":0,"more":1}"#] {
        let mut lines = export(4, 4);
        lines.insert(2, bad.to_owned());
        assert!(matches!(verify(&lines).unwrap_err()[..], [Finding::Malformed { line: 3, .. }]), "{bad}");
    }
}

#[test]
fn a_part_of_a_log_is_verified_from_its_frontier() {
    let mut before = Frontier::default();
    for seq in 0..5 {
        before.append(leaf_hash(leaf(seq).as_bytes()));
    }
    let mut lines = export(10, 20);
    lines.drain(1..6);
    lines[0] = Header::new(ORIGIN, &before, Some(key()), Timestamp::default()).line();
    assert_eq!(verify(&lines).map(|r| (r.from, r.events, r.size)), Ok((5, 5, 10)));
    lines[0] = lines[0].replacen(&before.peaks()[0].to_string(), &leaf_hash(b"").to_string(), 1);
    assert_eq!(verify(&lines), Err(vec![Finding::Mismatch { from: 5, to: 9 }]));
}

#[test]
fn findings_are_bounded() {
    let mut lines = export(400, 500);
    for at in (1..400).step_by(2) {
        lines[at] = String::new();
    }
    let findings = verify(&lines).unwrap_err();
    assert!(findings.len() <= 202, "{}", findings.len());
    assert!(matches!(findings.last(), Some(Finding::More { .. })));
}

#[test]
fn proofs_stand_on_their_own() {
    let leaves: Vec<String> = (0..300).map(leaf).collect();
    let (mut nodes, mut frontier) = (Nodes::new(), Frontier::default());
    for (index, leaf) in leaves.iter().enumerate() {
        let hash = leaf_hash(leaf.as_bytes());
        nodes.insert(0, index as u64, hash);
        frontier.append(hash).into_iter().for_each(|n| nodes.insert(n.level, n.index, n.hash));
    }
    let keys = [key()];
    let path = inclusion_proof(7, 300, &nodes).unwrap();
    let checkpoint = note(&leaves, SEED);
    let proof = Proof { index: 7, leaf: leaf(7), size: 300, path, checkpoint, verifier_key: Some(key()) };
    let proof: Proof = serde_json::from_str(&serde_json::to_string(&proof).unwrap()).unwrap();
    assert_eq!(verify_proof(&proof, &keys).map(|c| c.size), Ok(300));
    for bad in [
        Proof { index: 8, ..proof.clone() },
        Proof { leaf: leaf(8), ..proof.clone() },
        Proof { size: 299, ..proof.clone() },
        Proof { path: proof.path[1..].to_vec(), ..proof.clone() },
        Proof { checkpoint: note(&leaves[..299], SEED), size: 299, ..proof.clone() },
        Proof { checkpoint: note(&leaves, 9), ..proof.clone() },
    ] {
        assert!(verify_proof(&bad, &keys).is_err(), "{bad:?}");
    }
    assert!(!consistency_plan(77, 300).unwrap().is_empty());
    let path = consistency_proof(77, 300, &nodes).unwrap();
    let growth = Growth { old: note(&leaves[..77], SEED), new: note(&leaves, SEED), path, verifier_key: None };
    assert!(verify_growth(&growth, &keys).is_ok());
    assert!(verify_growth(&Growth { old: note(&leaves[..76], SEED), ..growth.clone() }, &keys).is_err());
    assert!(verify_growth(&Growth { path: vec![], ..growth }, &keys).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_changed_byte_of_an_event_or_of_the_last_checkpoint_is_found(pick in any::<usize>(), bit in 0_u32..7) {
        let whole = export(9, 4);
        let text: String = whole[1..].join("\n");
        let mut bytes = text.clone().into_bytes();
        let at = pick % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(changed) = String::from_utf8(bytes) {
            let lines: Vec<&str> = std::iter::once(whole[0].as_str()).chain(changed.split('\n')).collect();
            prop_assert!(verify(&lines).is_err(), "{at}: {changed}");
        }
    }

    #[test]
    fn lines_taken_out_doubled_or_exchanged_are_found(a in 1_usize..10, b in 1_usize..10) {
        let whole = export(9, 20);
        let mut lines = whole.clone();
        lines.remove(a);
        prop_assert!(verify(&lines).is_err());
        let mut lines = whole.clone();
        lines.insert(b, whole[a].clone());
        prop_assert!(verify(&lines).is_err());
        let mut lines = whole;
        lines.swap(a, b);
        prop_assert_eq!(verify(&lines).is_err(), a != b);
    }
}
