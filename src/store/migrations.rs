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
            3 "scim" "0003_scim.sql",
            4 "lifecycle" "0004_lifecycle.sql",
            5 "sessions" "0005_sessions.sql",
            6 "sync" "0006_sync.sql",
            7 "slack" "0007_slack.sql",
            8 "shared access" "0008_shared_access.sql",
            9 "account order" "0009_account_order.sql",
            10 "people" "0010_people.sql",
            11 "sources" "0011_sources.sql",
            14 "inbox" "0014_inbox.sql",
            15 "portal" "0015_portal.sql",
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
