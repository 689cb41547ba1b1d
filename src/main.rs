//! Parse arguments, run, exit code; nothing else.

fn main() -> std::process::ExitCode {
    tidegate::cli::run(std::env::args_os())
}
