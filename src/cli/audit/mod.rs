//! `tidegate audit`: read the log, check it, prove parts of it, take it elsewhere.

mod export;
mod prove;
mod table;
mod tail;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{
    exit::{Done, Failure},
    global::Cx,
};
use crate::{
    broker::view::EventView,
    domain::{audit::Event, checkpoint::VerifierKey, export::Proof},
};

/// Read, verify, prove and export the audit log
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Show the newest events
    Tail(TailArgs),
    /// Check an export or proofs offline, or the server's log
    Verify(VerifyArgs),
    /// Prove that an event, or every event of a grant or request, is in the log, or that the log only grew
    Prove(ProveArgs),
    /// Write the whole log, ready to be verified elsewhere
    Export(ExportArgs),
}

/// `tail`
#[derive(Debug, Args)]
pub struct TailArgs {
    /// So many of the newest
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: u32,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// Only of this grant
    #[arg(long, value_name = "GRANT")]
    grant: Option<String>,
    /// Only of this request
    #[arg(long, value_name = "REQUEST")]
    request: Option<String>,
    /// Only what one call brought about, and what followed from it
    #[arg(long, value_name = "CALL")]
    correlation: Option<String>,
}

/// `verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// An export or proofs; the server's log if none is given
    file: Option<PathBuf>,
    /// A verifier key that you know; may be given several times
    #[arg(long, value_name = "KEY")]
    key: Vec<VerifierKey>,
    /// A checkpoint that you put aside earlier and that the log must contain
    #[arg(long, value_name = "FILE")]
    pin: Vec<PathBuf>,
}

/// `prove`
#[derive(Debug, Args)]
pub struct ProveArgs {
    /// An event, a grant or a request
    #[arg(value_name = "EVENT|GRANT|REQUEST", required_unless_present = "from", conflicts_with_all = ["from", "to"])]
    id: Option<String>,
    /// Instead: that the log begins with all that it had at this size, of which there is a checkpoint
    #[arg(long, value_name = "SIZE")]
    from: Option<u64>,
    /// At this size, of which there is a checkpoint; the newest if it is not said
    #[arg(long, value_name = "SIZE", requires = "from")]
    to: Option<u64>,
}

/// `export`
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// In which form
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The log itself: verifiable, see docs/audit.md
    Jsonl,
    /// Events for a SIEM, OCSF 1.8
    Ocsf,
    /// A table for a spreadsheet, which cannot be verified
    Csv,
}

/// Run it.
pub async fn run(args: AuditArgs, cx: &Cx) -> Done {
    match args.command {
        AuditCommand::Tail(args) => tail::run(args, cx).await,
        AuditCommand::Verify(args) => verify::run(args, cx).await,
        AuditCommand::Prove(args) => prove::run(args, cx).await,
        AuditCommand::Export(args) => export::run(args, cx).await,
    }
}

/// The event in a row of the log, and the bytes of its leaf, which must have the hash that the server says.
fn leaf(row: &EventView) -> Result<(Event, String), Failure> {
    let unreadable = |why: String| {
        Failure::local(format!("event {} of the log {why}", row.seq)).next(
            "use a `tidegate` of the server's version; if it is, the log was changed: tell whoever is responsible",
        )
    };
    let event: Event = serde::Deserialize::deserialize(&row.event).map_err(|e: serde_json::Error| {
        unreadable(format!("is not understood: {}", super::text::clean(&e.to_string())))
    })?;
    let leaf = event.leaf();
    if crate::domain::merkle::leaf_hash(leaf.as_bytes()).to_string() != row.hash {
        return Err(unreadable("does not have the hash that the server says it has".to_owned()));
    }
    Ok((event, leaf))
}

/// The proof of one event.
async fn proof(event: &str, cx: &Cx) -> Result<Proof, Failure> {
    let (_, proof) = cx.client()?.get_as::<Proof>(&["v1", "audit", "proof", event]).await?;
    Ok(proof)
}
