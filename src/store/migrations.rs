//! The schema, one directory for each database, same versions in both.

use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::Backend;

macro_rules! migrations {
    ($directory:literal) => {
        vec![
            Migration::new(
                1,
                "ledger".into(),
                MigrationType::Simple,
                SqlStr::from_static(include_str!(concat!("../../migrations/", $directory, "/0001_ledger.sql"))),
                false,
            ),
            Migration::new(
                5,
                "sessions".into(),
                MigrationType::Simple,
                SqlStr::from_static(include_str!(concat!("../../migrations/", $directory, "/0005_sessions.sql"))),
                false,
            ),
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
