//! `tidegate audit export`: the log page by page, so that its length does not matter.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
};

use super::{ExportArgs, Format, leaf, proof, table};
use crate::{
    broker::view::EventView,
    cli::{
        client::typed,
        exit::{Done, Exit, Failure},
        global::Cx,
    },
    domain::{
        export::{Header, checkpoint_line, event_line},
        merkle::Frontier,
        ocsf,
    },
};

/// Where lines go.
type Lines<'a> = dyn FnMut(&str) -> Result<(), Failure> + 'a;

/// Run it.
pub async fn run(args: ExportArgs, cx: &Cx) -> Done {
    let events = match &args.out {
        None => write(args.format, cx, &mut |line| cx.ui.raw(format!("{line}\n").as_bytes())).await?,
        Some(path) => {
            let broken = |e: std::io::Error| Failure::local(format!("{} could not be written: {e}", path.display()));
            let mut file = BufWriter::new(File::create(path).map_err(broken)?);
            let events = write(args.format, cx, &mut |line| writeln!(file, "{line}").map_err(broken)).await?;
            file.flush().map_err(broken)?;
            events
        }
    };
    cx.ui.note(&format!("{events} events exported"));
    if let Some(path) = args.out.filter(|_| args.format == Format::Jsonl) {
        cx.ui.note(&format!("check it anywhere: tidegate audit verify {}", path.display()));
    }
    Ok(Exit::Ok)
}

/// Write the log up to the newest checkpoint; gives the number of events.
pub async fn write(format: Format, cx: &Cx, out: &mut Lines<'_>) -> Result<u64, Failure> {
    let client = cx.client()?;
    let note = client.text(&["v1", "audit", "checkpoint"]).await?;
    let mut head = note.lines();
    let origin = head.next().unwrap_or_default().to_owned();
    let size = head.next().and_then(|size| size.parse::<u64>().ok()).ok_or_else(|| {
        Failure::local("the server's checkpoint is not understood").next("use a `tidegate` of the server's version")
    })?;
    if format == Format::Csv {
        out(&table::head()?)?;
    }
    let (mut after, mut seq) = (None, 0_u64);
    while seq < size || seq == 0 {
        let (rows, next) = client.page(&["v1", "audit"], &[], after.as_deref(), 200).await?;
        if seq == 0 && format == Format::Jsonl {
            // The key is for convenience: whoever verifies should know it from elsewhere.
            let first = rows.first().and_then(|row| row.pointer("/event/id")?.as_str().map(str::to_owned));
            let key = match first.filter(|_| size > 0) {
                Some(id) => proof(&id, cx).await?.verifier_key,
                None => None,
            };
            out(&Header::new(&origin, &Frontier::default(), key, cx.ui.now()).line())?;
        }
        for row in rows {
            let (_, row) = typed::<EventView>(row)?;
            if row.seq >= size {
                break;
            }
            if row.seq != seq {
                return Err(Failure::new(Exit::Denied, format!("the server left out event {seq}"))
                    .kept("An export must be whole, or it cannot be verified.")
                    .next("use the token of an auditor or administrator, who see every event"));
            }
            let (event, leaf) = leaf(&row)?;
            out(&match format {
                Format::Jsonl => event_line(seq, &leaf),
                Format::Ocsf => ocsf::map(&event, Some(seq)).to_string(),
                Format::Csv => table::row(seq, &event)?,
            })?;
            seq += 1;
        }
        if next.is_none() {
            break;
        }
        after = next;
    }
    if seq < size {
        return Err(Failure::local(format!("the log has {size} events and the server gave {seq}"))
            .next("use the token of an auditor or administrator, who see every event"));
    }
    if format == Format::Jsonl {
        out(&checkpoint_line(&note))?;
    }
    Ok(seq)
}
