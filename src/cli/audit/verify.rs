//! `tidegate audit verify`: opens the file or asks the server, and leaves the judgement to the verifier.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _},
    path::Path,
};

use super::{Format, VerifyArgs, export};
use crate::{
    cli::{
        audit_verify,
        exit::{Done, Exit, Failure},
        global::Cx,
    },
    domain::export::{Growth, Proof, Trust, Verifier},
};

/// Proofs are small; a file of them that is larger than this is something else.
const MAX_PROOFS: u64 = 64 << 20;

/// Run it.
pub async fn run(args: VerifyArgs, cx: &Cx) -> Done {
    let pins = args.pin.iter().map(|path| std::fs::read_to_string(path).map_err(|e| unreadable(path, &e)));
    let trust = Trust { keys: args.key.clone(), pins: pins.collect::<Result<_, _>>()? };
    let outcome = match &args.file {
        None => {
            let mut verifier = Verifier::new(trust);
            let mut take = |line: &str| {
                verifier.line(line);
                Ok(())
            };
            export::write(Format::Jsonl, cx, &mut take).await?;
            verifier.finish()
        }
        Some(path) => {
            let file = File::open(path).map_err(|e| unreadable(path, &e))?;
            let mut reader = BufReader::new(file);
            if is_proof(&mut reader).map_err(|e| unreadable(path, &e))? {
                return proofs(reader, path, &args, cx);
            }
            audit_verify::verify_export(reader, trust).map_err(|e| unreadable(path, &e))?
        }
    };
    let value = match &outcome {
        Ok(report) => serde_json::json!({"verified": true, "report": report}),
        Err(findings) => {
            let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
            serde_json::json!({"verified": false, "findings": findings})
        }
    };
    cx.ui.show(&value, || audit_verify::text(&outcome).trim_end().to_owned())?;
    Ok(audit_verify::exit(&outcome))
}

fn unreadable(path: &Path, e: &std::io::Error) -> Failure {
    Failure::local(format!("{} could not be read: {e}", path.display()))
}

/// Is the first line a proof? Leaves the reader at the start.
fn is_proof(reader: &mut BufReader<File>) -> std::io::Result<bool> {
    let mut line = Vec::new();
    reader.by_ref().take(MAX_PROOFS).read_until(b'\n', &mut line)?;
    reader.rewind()?;
    Ok(serde_json::from_slice::<Proof>(&line).is_ok() || serde_json::from_slice::<Growth>(&line).is_ok())
}

fn proofs(reader: BufReader<File>, path: &Path, args: &VerifyArgs, cx: &Cx) -> Done {
    if !args.pin.is_empty() {
        return Err(Failure::usage("--pin is for exports, and this file holds proofs"));
    }
    let mut text = String::new();
    reader.take(MAX_PROOFS).read_to_string(&mut text).map_err(|e| unreadable(path, &e))?;
    let outcome = audit_verify::verify_proofs(&text, &args.key);
    let verified = outcome.is_ok();
    let (Ok(said) | Err(said)) = outcome;
    let value = serde_json::json!({"verified": verified, "text": said});
    cx.ui.show(&value, || said.trim_end().to_owned())?;
    Ok(if verified { Exit::Ok } else { Exit::Error })
}
