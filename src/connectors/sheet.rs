//! The sheet of a kind of target: its prose with what its connector says of itself.
//!
//! `src/connectors/<kind>/sheet.md` is written by hand. Its first `toml` block is an example of a target; the connector
//! that is made from it fills the places `<!-- promises -->`, `<!-- rights -->` and `<!-- crash -->`. The whole is
//! `docs/connectors/<kind>.md`, which a test compares and `make generate` writes.

use std::fmt::Write as _;

use crate::domain::capability::Description;

const PROMISES: &str = "<!-- promises -->";
const RIGHTS: &str = "<!-- rights -->";
const CRASH: &str = "<!-- crash -->";

/// What the sheet is about: the rest of its first line, after the kind.
pub fn title(sheet: &str) -> &str {
    let first = sheet.lines().next().unwrap_or_default().trim_start_matches("# ");
    first.split_once(": ").map_or(first, |(_, title)| title)
}

/// The sheet with what the connector says of itself; `None` if a place for it is missing.
pub fn render(sheet: &str, description: &Description) -> Option<String> {
    let mut text = sheet.to_owned();
    for (place, words) in [
        (PROMISES, promises(description)),
        (RIGHTS, rights(description)),
        (CRASH, format!("{}\n", description.after_crash)),
    ] {
        if text.matches(place).count() != 1 {
            return None;
        }
        text = text.replace(place, words.trim_end());
    }
    Some(text)
}

fn promises(d: &Description) -> String {
    let yes = |b: bool| if b { "yes" } else { "no" };
    let mut text = "| promise | of the target in the example below |\n|---|---|\n".to_owned();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "| {name} | {} |", value.replace('|', "\\|"));
    };
    row("opens", &d.summary);
    row("revocation class", &format!("`{}`", d.revocation_class.as_str()));
    row("residual window", &format!("{} s. {}", d.residual_window_seconds, d.residual_window));
    row("ends by itself, with the broker dead", yes(d.native_expiry));
    row("enforced after the end, with broker and target up", &format!("within {} s", d.enforcement_seconds));
    row("read back: asked whether it is gone", yes(d.read_back));
    row("cuts open sessions", yes(d.cuts_sessions));
    row(
        "a claim",
        match (d.mints_secrets, d.replaces_copies) {
            (false, _) => "mints nothing: the access holds as it is",
            (true, true) => "mints a credential and ends the copy of an earlier claim",
            (true, false) => "mints a credential; an earlier copy stays, so one claim is the bound (`max_claims`)",
        },
    );
    text
}

fn rights(d: &Description) -> String {
    if d.rights.statements.is_empty() {
        return format!("{}\n", d.rights.needs);
    }
    format!("{}\n\n```{}\n{}\n```\n", d.rights.needs, d.rights.language, d.rights.statements.trim_end())
}
