//! The composition root: configuration → adapters → broker → workers and edges. Decides nothing.

mod compose;
mod custody;
mod dev;
mod directory_file;
mod serve;
mod tour;

pub use compose::{Composed, Policies, Setup, compose};
pub use dev::{DevOptions, dev};
pub use directory_file::{DirectoryFile, Seeded};
pub use serve::{bootstrap, check, resume, serve};
