//! `tidegate completion`, `man` and `version`: what the binary says about itself.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use serde_json::json;

use super::{
    Cli,
    exit::{Done, Exit, Failure},
    output::Ui,
};

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print or write the manual pages
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write one page for each command into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Completion.
pub fn completion(args: &CompletionArgs, ui: &Ui) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tidegate", &mut script);
    ui.raw(&script)?;
    Ok(Exit::Ok)
}

/// Manual pages.
pub fn man(args: &ManArgs, ui: &Ui) -> Done {
    let command = Cli::command();
    if let Some(dir) = &args.out {
        let broken = |e| Failure::local(format!("{} could not be written: {e}", dir.display()));
        std::fs::create_dir_all(dir).map_err(broken)?;
        clap_mangen::generate_to(command, dir).map_err(broken)?;
        ui.note(&format!("written to {0}; read one with: man {0}/tidegate.1", dir.display()));
    } else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(|e| Failure::local(e.to_string()))?;
        ui.raw(&page)?;
    }
    Ok(Exit::Ok)
}

/// Version.
pub fn version(ui: &Ui) -> Done {
    let version = env!("CARGO_PKG_VERSION");
    let value = json!({
        "name": "tidegate", "version": version, "os": std::env::consts::OS, "arch": std::env::consts::ARCH,
    });
    ui.show(&value, || format!("tidegate {version}"))?;
    Ok(Exit::Ok)
}
