//! The composition root: configuration → adapters → broker → workers and edges. Decides nothing.

mod compose;
mod custody;
mod dev;
mod directory_file;
pub mod fake_slack;
mod serve;
mod slack;
mod slack_tools;
mod tour;

pub use compose::{Composed, Policies, Setup, Wrap, compose};
pub use custody::Custody;
pub use dev::{DevOptions, dev, seed_directory, seed_targets};
pub use directory_file::{DirectoryFile, Seeded};
pub use serve::{bootstrap, check, resume, serve};
pub use slack_tools::{slack_doctor, slack_manifest, webhook_test};
