//! The one place that names a database: opening it, and the readers' pool.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::{
    AnyConnection, AnyPool, ConnectOptions, Executor,
    any::{AnyConnectOptions, AnyPoolOptions},
};
use tokio::sync::{Semaphore, watch};

use super::{
    Change, StoreError, Tx, WriteStats, Written, checkpoint, queue::Lane, reads::Reads, shared::Readers, writer::Writer,
};

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Embedded, one broker.
    Sqlite,
    /// A server, several brokers.
    Postgres,
}

/// How to open the database.
#[derive(Debug, Clone)]
pub struct Options {
    /// `sqlite:///path/to/file.db` or `postgres://user@host/name`.
    pub url: String,
    /// Connections for reading.
    pub readers: u32,
    /// Connections for writing; SQLite always has one.
    pub writers: usize,
    /// Changes that may wait for the database before new ones are refused.
    pub queue: u32,
    /// How long the database may take over one statement of a change, or over one commit of many. Longer than its own
    /// limit for a statement: who exceeds this one does not answer at all.
    pub patience: Duration,
}

impl Options {
    /// The defaults for that database.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), readers: 4, writers: 4, queue: 4096, patience: Duration::from_secs(35) }
    }

    /// An SQLite file.
    pub fn sqlite(path: &Path) -> Self {
        Self::new(format!("sqlite://{}?mode=rwc", path.display()))
    }
}

/// The ledger at rest. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) backend: Backend,
    pub(super) readers: AnyPool,
    pub(super) reads: Reads,
    pub(super) writers: Vec<Writer>,
    next_writer: AtomicUsize,
    background: Arc<Semaphore>,
    pub(super) committed: watch::Sender<u64>,
    pub(super) stats: Arc<WriteStats>,
    /// Hears of other brokers' commits, or moves SQLite's log.
    beside: tokio::task::JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.beside.abort();
    }
}

/// Changes of the workers that may queue for the database at once.
const BACKGROUND: usize = 2;

/// WAL with `synchronous=FULL`: a commit that was answered survives a power cut.
const SQLITE_SETUP: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                            PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16000; \
                            PRAGMA wal_autocheckpoint = 16000";
const POSTGRES_SETUP: &str = "SET statement_timeout = '30s'; SET lock_timeout = '10s'; \
                              SET idle_in_transaction_session_timeout = '60s'; SET timezone = 'UTC'; \
                              SET synchronous_commit = on";

pub(super) async fn connect(options: &AnyConnectOptions) -> Result<AnyConnection, StoreError> {
    let mut connection = options.connect().await?;
    set_up(&mut connection).await?;
    Ok(connection)
}

async fn set_up(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let statements = if connection.backend_name() == "SQLite" { SQLITE_SETUP } else { POSTGRES_SETUP };
    connection.execute(statements).await?;
    Ok(())
}

impl Store {
    /// Open the database and bring its schema to this version.
    pub async fn open(options: &Options) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let backend = if options.url.starts_with("sqlite:") { Backend::Sqlite } else { Backend::Postgres };
        let connect_options: AnyConnectOptions = options.url.parse()?;
        let connect_options = connect_options.disable_statement_logging();
        if backend == Backend::Sqlite {
            // The first connection makes the file and switches it to WAL before readers come.
            let mut first = connect(&connect_options).await?;
            super::migrations::migrator(backend).run_direct(None, &mut first, false).await.map_err(migration_error)?;
            only_for_owner(&options.url)?;
        }
        let readers = AnyPoolOptions::new()
            .max_connections(options.readers)
            .acquire_timeout(Duration::from_secs(10))
            .after_connect(|connection, _| Box::pin(set_up(connection)))
            .connect_with(connect_options.clone())
            .await?;
        if backend == Backend::Postgres {
            super::migrations::migrator(backend).run(&readers).await.map_err(migration_error)?;
        }
        let committed = watch::Sender::new(0);
        let stats = Arc::new(WriteStats::default());
        let beside = match backend {
            Backend::Postgres => listen(options.url.clone(), committed.clone()),
            Backend::Sqlite => checkpoint::start(connect_options.clone(), committed.subscribe(), Arc::clone(&stats)),
        };
        let count = if backend == Backend::Sqlite { 1 } else { options.writers.max(1) };
        let writers = (0..count)
            .map(|_| Writer::start(backend, connect_options.clone(), options, committed.clone(), Arc::clone(&stats)))
            .collect();
        Ok(Self {
            inner: Arc::new(Inner {
                backend,
                reads: Reads::new(&Readers { pool: readers.clone(), patience: options.patience }),
                readers,
                writers,
                next_writer: AtomicUsize::new(0),
                background: Arc::new(Semaphore::new(BACKGROUND)),
                committed,
                stats,
                beside,
            }),
        })
    }

    /// Which database it is.
    pub fn backend(&self) -> Backend {
        self.inner.backend
    }

    fn writer(&self) -> Result<&Writer, StoreError> {
        let writers = &self.inner.writers;
        let turn = self.inner.next_writer.fetch_add(1, Ordering::Relaxed);
        writers.get(turn % writers.len().max(1)).ok_or(StoreError::Busy)
    }

    /// Record a change: all of it, or nothing and [`StoreError::Conflict`] if one of its conditions does not hold.
    pub async fn write(&self, change: Change) -> Result<Written, StoreError> {
        self.writer()?.write(change, Lane::People).await
    }

    /// Record a change that nobody waits for.
    pub async fn write_background(&self, change: Change) -> Result<Written, StoreError> {
        self.writer()?.write(change, Lane::Workers).await
    }

    /// Start a change that reads what it has locked. Write into it, then call [`Tx::end`].
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        self.writer()?.begin(Lane::People).await
    }

    /// Start a change that nobody waits for: only a few of these queue for the database at once, so that people's
    /// changes never stand behind a backlog of the workers'.
    pub async fn begin_background(&self) -> Result<Tx, StoreError> {
        let turn = Arc::clone(&self.inner.background).acquire_owned().await.map_err(|_| StoreError::Busy)?;
        let mut tx = self.writer()?.begin(Lane::Workers).await?;
        tx.hold_turn(turn);
        Ok(tx)
    }

    /// Do people wait for their changes, or have they just made some? Then what workers do at a time is to be small.
    pub fn expects_people(&self) -> bool {
        self.inner.writers.iter().any(Writer::expects_people)
    }

    /// Grows with every commit of this process and with every notice from another broker.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.inner.committed.subscribe()
    }

    /// Commits and state changes since the start.
    pub fn stats(&self) -> &WriteStats {
        &self.inner.stats
    }

    /// Is the database there?
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.inner.readers).await?;
        Ok(())
    }

    /// Finish what is waiting and close.
    pub async fn close(&self) {
        for writer in &self.inner.writers {
            writer.close().await;
        }
        self.inner.readers.close().await;
        self.inner.beside.abort();
    }
}

/// The ledger names who may do what: not for every account of the machine to read.
fn only_for_owner(url: &str) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    let path = url.trim_start_matches("sqlite:").trim_start_matches("//").split('?').next().unwrap_or_default();
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{path}{suffix}");
        if Path::new(&file).exists() {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).map_err(sqlx::Error::Io)?;
        }
    }
    Ok(())
}

/// Hear of commits of other brokers on the same ledger. Only wakes those who wait: everything due is found by looking.
fn listen(url: String, committed: watch::Sender<u64>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            if let Ok(mut listener) = sqlx::postgres::PgListener::connect(&url).await
                && listener.listen("tidegate").await.is_ok()
            {
                while listener.recv().await.is_ok() {
                    committed.send_modify(|n| *n = n.wrapping_add(1));
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
}

fn migration_error(error: sqlx::migrate::MigrateError) -> StoreError {
    match error {
        sqlx::migrate::MigrateError::Execute(e) => e.into(),
        other => StoreError::Other(sqlx::Error::Migrate(Box::new(other))),
    }
}
