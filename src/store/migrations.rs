//! The schema, one directory for each database, same versions in both.

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::Backend;

macro_rules! step {
    ($directory:literal, $version:literal, $title:literal, $file:literal) => {
        Migration::new(
            $version,
            $title.into(),
            MigrationType::Simple,
            SqlStr::from_static(include_str!(concat!("../../migrations/", $directory, "/", $file, ".sql"))),
            false,
        )
    };
}

macro_rules! migrations {
    ($directory:literal) => {
        vec![
            step!($directory, 1, "ledger", "0001_ledger"),
            step!($directory, 2, "directory", "0002_directory"),
            step!($directory, 6, "sync", "0006_sync"),
            step!($directory, 8, "shared access", "0008_shared_access"),
        ]
    };
}

/// What brings an empty or older database to this version.
pub(super) fn migrator(backend: Backend) -> Migrator {
    Migrator::with_migrations(match backend {
        Backend::Sqlite => migrations!("sqlite"),
        Backend::Postgres => migrations!("postgres"),
    })
}
