//! The schema, one directory for each database, same versions in both.

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::Backend;

macro_rules! migrations {
    ($directory:literal: $($version:literal $name:literal $file:literal),+ $(,)?) => {
        vec![$(Migration::new(
            $version,
            $name.into(),
            MigrationType::Simple,
            SqlStr::from_static(include_str!(concat!("../../migrations/", $directory, "/", $file))),
            false,
        )),+]
    };
    ($directory:literal) => {
        migrations!($directory:
            1 "ledger" "0001_ledger.sql",
            2 "directory" "0002_directory.sql",
            7 "slack" "0007_slack.sql",
        )
    };
}

/// What brings an empty or older database to this version.
pub(super) fn migrator(backend: Backend) -> Migrator {
    Migrator::with_migrations(match backend {
        Backend::Sqlite => migrations!("sqlite"),
        Backend::Postgres => migrations!("postgres"),
    })
}
