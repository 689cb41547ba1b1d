//! `docs/cli.md`, written from the commands themselves, so that it cannot say anything else than `--help`.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;

const INTRODUCTION: &str = "\
# Command line

Written from the commands themselves (`UPDATE=1 cargo test --lib cli::reference`); do not edit.

Data goes to stdout, everything else to stderr. Nothing is asked unless stdin is a terminal: elsewhere a command that
would ask fails and names the flag. Secrets are read from files or stdin, never from arguments, and are never shown to a
terminal unless `--reveal` says so.

| exit code | means |
|---|---|
| 0 | done |
| 1 | error |
| 2 | the command line cannot be used |
| 3 | denied, by policy or by a person |
| 4 | sign in: no token, or one that does not work |
| 5 | not there, or not for you to see |
| 6 | conflict: decided, active or changed already |
| 7 | lapsed, or waited long enough |
| 8 | waiting for people |
| 9 | the server cannot be reached or cannot answer now; trying again may help |
| 130 | Ctrl-C |

`exec` ends with the code of the command that it runs.
";

/// The whole document.
pub fn markdown() -> String {
    let mut command = Cli::command();
    command.build();
    let mut text = INTRODUCTION.to_owned();
    let _ = write!(text, "\n## Global options\n\n{}", options(command.get_arguments().filter(|a| is_global(a))));
    for sub in visible(&command) {
        section(&mut text, sub, "tidegate", 2);
    }
    text
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help")
}

/// On every command; described once.
fn is_global(arg: &Arg) -> bool {
    arg.is_global_set()
}

fn section(text: &mut String, command: &Command, above: &str, depth: usize) {
    let name = format!("{above} {}", command.get_name());
    let _ = write!(text, "\n{} {name}\n\n", "#".repeat(depth));
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let aliases: Vec<String> = command.get_visible_aliases().map(|a| format!("`{a}`")).collect();
    let aliases = if aliases.is_empty() { String::new() } else { format!(" Also called {}.", aliases.join(", ")) };
    let _ = writeln!(text, "{about}.{aliases}");
    if visible(command).next().is_some() {
        for sub in visible(command) {
            section(text, sub, &name, depth + 1);
        }
        return;
    }
    let words: Vec<String> = command.get_positionals().map(positional).collect();
    let _ = write!(text, "\n```\n{}\n```\n", [vec![name, "[OPTIONS]".to_owned()], words].concat().join(" "));
    let own = || command.get_arguments().filter(|a| !is_global(a) && a.get_id() != "help" && !a.is_hide_set());
    if own().next().is_some() {
        let _ = write!(text, "\n{}", options(own()));
    }
    if let Some(after) = command.get_after_help() {
        let lines = after.to_string();
        let _ = write!(text, "\n{}\n", lines.lines().collect::<Vec<_>>().join("  \n"));
    }
}

fn positional(arg: &Arg) -> String {
    let name =
        arg.get_value_names().and_then(|n| n.first()).map_or_else(|| arg.get_id().to_string(), ToString::to_string);
    let many = if arg.get_num_args().is_some_and(|n| n.max_values() > 1) { "..." } else { "" };
    let dashes = if arg.is_last_set() { "-- " } else { "" };
    if arg.is_required_set() { format!("{dashes}<{name}>{many}") } else { format!("[{dashes}{name}]{many}") }
}

fn options<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let mut text = "| option | does |\n|---|---|\n".to_owned();
    for arg in args {
        let takes = arg.get_action().takes_values();
        let value = arg.get_value_names().and_then(|n| n.first()).map(ToString::to_string).filter(|_| takes);
        let name = match (arg.get_short(), arg.get_long()) {
            (None, None) => positional(arg),
            (short, long) => {
                let names = [short.map(|s| format!("-{s}")), long.map(|l| format!("--{l}"))];
                let value = match (value, arg.get_num_args().is_some_and(|n| n.min_values() == 0)) {
                    (Some(value), true) => format!("[={value}]"),
                    (Some(value), false) => format!(" {value}"),
                    (None, _) => String::new(),
                };
                names.into_iter().flatten().collect::<Vec<_>>().join(", ") + &value
            }
        };
        let mut does = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if arg.is_required_set() && arg.get_long().is_some() {
            does += " (required)";
        }
        let choices: Vec<String> = arg
            .get_possible_values()
            .iter()
            .filter(|v| !v.is_hide_set())
            .map(|v| format!("`{}`", v.get_name()))
            .collect();
        if takes && !choices.is_empty() {
            let _ = write!(does, ": {}", choices.join(", "));
        }
        let defaults: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
        if takes && !defaults.is_empty() && !arg.is_hide_default_value_set() {
            let _ = write!(does, " (default `{}`)", defaults.join(","));
        }
        if let Some(env) = arg.get_env() {
            let _ = write!(does, " (env `{}`)", env.to_string_lossy());
        }
        let escape = |t: String| t.replace('|', "\\|");
        let _ = writeln!(text, "| `{}` | {} |", escape(name), escape(does));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md");
        let text = super::markdown();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            there == text,
            "docs/cli.md is old: run `UPDATE=1 cargo test --lib cli::reference` and review the difference"
        );
    }
}
