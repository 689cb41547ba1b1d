//! SQLite: what commits have appended to its log is moved into the database beside the writer, not within a commit that
//! somebody waits for. If this does not keep up, commits do it again (`wal_autocheckpoint`).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sqlx::{AnyConnection, Executor, any::AnyConnectOptions, query};
use tokio::{sync::watch, task::JoinHandle};

use super::{StoreError, WriteStats, connection, row::Reader};

/// How often to look.
const EVERY: Duration = Duration::from_millis(200);
/// Changes since the last time that are worth it.
const CHANGES: u64 = 500;
/// Pages in the log from which on it begins anew: the writer waits for the little that is left then.
const PAGES: i64 = 1000;

/// For as long as the store is open.
pub(super) fn start(
    options: AnyConnectOptions,
    mut committed: watch::Receiver<u64>,
    stats: Arc<WriteStats>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut connection = None;
        let mut moved = 0;
        while committed.changed().await.is_ok() {
            tokio::time::sleep(EVERY).await;
            let changes = stats.changes.load(Ordering::Relaxed);
            if changes.saturating_sub(moved) < CHANGES {
                continue;
            }
            moved = changes;
            if let Err(error) = move_log(&mut connection, &options).await {
                tracing::debug!(error = %error, "the log was not moved; the next commits do it");
                connection = None;
            }
        }
    })
}

async fn move_log(open: &mut Option<AnyConnection>, options: &AnyConnectOptions) -> Result<(), StoreError> {
    if open.is_none() {
        let mut fresh = connection::connect(options).await?;
        // Neither a reader nor the writer is waited for.
        fresh.execute("PRAGMA busy_timeout = 10").await?;
        *open = Some(fresh);
    }
    let Some(connection) = open else { return Ok(()) };
    let row = query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut *connection).await?;
    if Reader::new("wal_checkpoint", &row).integer("log")? >= PAGES {
        query("PRAGMA wal_checkpoint(RESTART)").fetch_one(&mut *connection).await?;
    }
    Ok(())
}
