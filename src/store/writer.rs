//! Shared commits: changes that wait at the same time go to disk together.
//!
//! Each writer owns one connection behind a fair lock. A change takes the lock, writes its rows into the open
//! transaction, leaves its audit events and lets go; the committer queues for the same lock behind every change that
//! was waiting already, then numbers the events, writes them and commits for all. If a change fails after it has
//! written something, the whole transaction is rolled back and the others are told to run again: a change is a
//! function of the database, and running it twice is harmless because nothing of the first run remains.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sqlx::{AnyConnection, Executor, any::AnyArguments, any::AnyConnectOptions, any::AnyRow, query::Query};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{Backend, StoreError, audit, connection};
use crate::domain::audit::Event;

/// How many commits, and how many changes they carried.
#[derive(Debug, Default)]
pub struct WriteStats {
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Changes in them.
    pub changes: AtomicU64,
    /// Audit events in them: one for each state change.
    pub events: AtomicU64,
    /// Changes that had to run again because another one in their transaction failed.
    pub reruns: AtomicU64,
}

/// What became of a change that was handed in for commit.
enum Fate {
    Committed,
    RunAgain,
    Failed(StoreError),
}

struct State {
    connection: Option<AnyConnection>,
    /// A transaction is open on the connection.
    open: bool,
    /// A change was dropped half-way: roll back before anything else.
    torn: bool,
    waiting: Vec<oneshot::Sender<Fate>>,
    events: Vec<Event>,
}

struct Shared {
    backend: Backend,
    options: AnyConnectOptions,
    state: Arc<Mutex<State>>,
    /// Bounds the queue of changes.
    room: Arc<Semaphore>,
    handed_in: Notify,
    committed: watch::Sender<u64>,
    stats: Arc<WriteStats>,
}

/// One connection that writes, and its committer.
pub(super) struct Writer {
    shared: Arc<Shared>,
    committer: tokio::task::JoinHandle<()>,
}

impl Writer {
    pub(super) fn start(
        backend: Backend,
        options: AnyConnectOptions,
        queue: usize,
        committed: watch::Sender<u64>,
        stats: Arc<WriteStats>,
    ) -> Self {
        let state = State { connection: None, open: false, torn: false, waiting: Vec::new(), events: Vec::new() };
        let shared = Arc::new(Shared {
            backend,
            options,
            state: Arc::new(Mutex::new(state)),
            room: Arc::new(Semaphore::new(queue)),
            handed_in: Notify::new(),
            committed,
            stats,
        });
        let committer = tokio::spawn(Arc::clone(&shared).commit_for_ever());
        Self { shared, committer }
    }

    pub(super) async fn begin(&self) -> Result<Tx, StoreError> {
        let shared = &self.shared;
        let room = Arc::clone(&shared.room).try_acquire_owned().map_err(|_| StoreError::Busy)?;
        let mut state = Arc::clone(&shared.state).lock_owned().await;
        shared.make_ready(&mut state).await?;
        Ok(Tx {
            state,
            shared: Arc::clone(shared),
            events: Vec::new(),
            wrote: false,
            broken: false,
            victim: false,
            ended: false,
            _room: room,
            turn: None,
        })
    }

    pub(super) async fn close(&self) {
        let mut state = self.shared.state.lock().await;
        self.shared.commit(&mut state).await;
        self.committer.abort();
        if let Some(connection) = state.connection.take() {
            use sqlx::Connection;
            let _ = connection.close().await;
        }
        self.shared.room.close();
    }
}

impl Shared {
    /// A live connection with an open transaction.
    async fn make_ready(&self, state: &mut State) -> Result<(), StoreError> {
        if state.torn {
            self.roll_back(state).await;
        }
        if state.open {
            return Ok(());
        }
        // A connection that died while idle is replaced once.
        for fresh in [false, true] {
            if state.connection.is_none() {
                state.connection = Some(connection::connect(&self.options).await?);
            }
            let Some(connection) = state.connection.as_mut() else { return Err(StoreError::Busy) };
            let begin = match self.backend {
                Backend::Sqlite => "BEGIN IMMEDIATE",
                Backend::Postgres => "BEGIN",
            };
            match connection.execute(begin).await {
                Ok(_) => {
                    state.open = true;
                    return Ok(());
                }
                Err(e) => {
                    let error = StoreError::from(e);
                    if matches!(error, StoreError::Locked) {
                        return Err(error);
                    }
                    state.connection = None;
                    if fresh {
                        return Err(error);
                    }
                }
            }
        }
        Err(StoreError::Busy)
    }

    async fn roll_back(&self, state: &mut State) {
        // Stays so until it is done: if whoever rolls back is dropped half-way, the next one does it again. Nobody may
        // commit what is left of the transaction meanwhile, nor be told that it was.
        state.torn = true;
        state.events.clear();
        self.stats.reruns.fetch_add(state.waiting.len() as u64, Ordering::Relaxed);
        for waiter in state.waiting.drain(..) {
            let _ = waiter.send(Fate::RunAgain);
        }
        if state.open {
            let rolled_back = match state.connection.as_mut() {
                Some(connection) => connection.execute("ROLLBACK").await.is_ok(),
                None => false,
            };
            if !rolled_back {
                // Closing it ends its transaction too.
                state.connection = None;
            }
            state.open = false;
        }
        state.torn = false;
    }

    async fn commit_for_ever(self: Arc<Self>) {
        loop {
            self.handed_in.notified().await;
            let mut state = self.state.lock().await;
            self.commit(&mut state).await;
        }
    }

    async fn commit(&self, state: &mut State) {
        if state.torn {
            self.roll_back(state).await;
        }
        if state.waiting.is_empty() {
            return;
        }
        let events = std::mem::take(&mut state.events);
        let Some(connection) = state.connection.as_mut() else {
            self.roll_back(state).await;
            return;
        };
        let written = async {
            audit::append(connection, &events).await?;
            if self.backend == Backend::Postgres {
                connection.execute("NOTIFY tidegate").await?;
            }
            Ok::<_, StoreError>(())
        }
        .await;
        if let Err(error) = written {
            self.fail(state, error).await;
            return;
        }
        crate::failpoint::hit("store.before_commit");
        let committing = connection.execute("COMMIT").await;
        match committing {
            Ok(_) => {
                crate::failpoint::hit("store.after_commit");
                state.open = false;
                self.stats.commits.fetch_add(1, Ordering::Relaxed);
                self.stats.changes.fetch_add(state.waiting.len() as u64, Ordering::Relaxed);
                self.stats.events.fetch_add(events.len() as u64, Ordering::Relaxed);
                for waiter in state.waiting.drain(..) {
                    let _ = waiter.send(Fate::Committed);
                }
                self.committed.send_modify(|n| *n = n.wrapping_add(1));
            }
            Err(e) => {
                let error = match StoreError::from(e) {
                    StoreError::Unavailable(_) => StoreError::Unconfirmed,
                    other => other,
                };
                self.fail(state, error).await;
            }
        }
    }

    /// Nothing of the transaction remains; the first waiter gets the cause, the others its kind.
    async fn fail(&self, state: &mut State, error: StoreError) {
        let again = matches!(error, StoreError::Conflict);
        let waiters = std::mem::take(&mut state.waiting);
        self.roll_back(state).await;
        let mut error = Some(error);
        for waiter in waiters {
            let fate = if again { Fate::RunAgain } else { Fate::Failed(next_of(&mut error)) };
            let _ = waiter.send(fate);
        }
    }
}

/// The error itself once, then copies of its kind.
fn next_of(error: &mut Option<StoreError>) -> StoreError {
    let copy = match error.as_ref() {
        Some(StoreError::Full) => StoreError::Full,
        Some(StoreError::Locked) => StoreError::Locked,
        Some(StoreError::Unconfirmed) => StoreError::Unconfirmed,
        _ => StoreError::Unavailable(sqlx::Error::WorkerCrashed),
    };
    error.replace(copy).unwrap_or(StoreError::Busy)
}

/// A change under way. Reads see what it has written.
pub struct Tx {
    state: OwnedMutexGuard<State>,
    shared: Arc<Shared>,
    events: Vec<Event>,
    wrote: bool,
    /// A statement failed: the transaction cannot be committed.
    broken: bool,
    /// It failed because the database chose it as the victim of a deadlock.
    victim: bool,
    ended: bool,
    _room: OwnedSemaphorePermit,
    /// Of a change in the background: given up when the change is handed in.
    turn: Option<OwnedSemaphorePermit>,
}

type AnyQuery<'q> = Query<'q, sqlx::Any, AnyArguments>;

impl Tx {
    pub(super) fn hold_turn(&mut self, turn: OwnedSemaphorePermit) {
        self.turn = Some(turn);
    }

    /// Leave an audit event; it gets its place in the log at commit.
    pub fn audit(&mut self, event: Event) {
        self.events.push(event);
    }

    fn connection(&mut self) -> Result<&mut AnyConnection, StoreError> {
        self.state.connection.as_mut().ok_or(StoreError::Unavailable(sqlx::Error::PoolClosed))
    }

    fn broke(&mut self, error: sqlx::Error) -> StoreError {
        self.broken = true;
        let error = StoreError::from(error);
        self.victim |= matches!(error, StoreError::Conflict);
        if matches!(error, StoreError::Unavailable(_)) {
            self.state.connection = None;
        }
        error
    }

    /// Run a statement that writes; how many rows it touched.
    pub(super) async fn execute(&mut self, query: AnyQuery<'_>) -> Result<u64, StoreError> {
        self.wrote = true;
        let result = query.execute(self.connection()?).await;
        result.map(|done| done.rows_affected()).map_err(|e| self.broke(e))
    }

    /// Run a statement that must touch exactly one row; otherwise somebody else was first.
    pub(super) async fn execute_one(&mut self, query: AnyQuery<'_>) -> Result<(), StoreError> {
        match self.execute(query).await? {
            1 => Ok(()),
            _ => Err(StoreError::Conflict),
        }
    }

    /// Run a statement that writes and answers rows.
    pub(super) async fn write_returning(&mut self, query: AnyQuery<'_>) -> Result<Vec<AnyRow>, StoreError> {
        self.wrote = true;
        self.read_all(query).await
    }

    /// Read one row, seeing what this change has written.
    pub(super) async fn read_optional(&mut self, query: AnyQuery<'_>) -> Result<Option<AnyRow>, StoreError> {
        let result = query.fetch_optional(self.connection()?).await;
        result.map_err(|e| self.broke(e))
    }

    /// Read rows, seeing what this change has written.
    pub(super) async fn read_all(&mut self, query: AnyQuery<'_>) -> Result<Vec<AnyRow>, StoreError> {
        let result = query.fetch_all(self.connection()?).await;
        result.map_err(|e| self.broke(e))
    }

    /// Hand the change in for commit, or take it back. `None` means: nothing of it remains, run it again.
    pub async fn end<T, E: From<StoreError>>(mut self, outcome: Result<T, E>) -> Option<Result<T, E>> {
        self.ended = true;
        let value = match outcome {
            Ok(value) if !self.broken => value,
            Ok(_) => {
                self.shared.roll_back(&mut self.state).await;
                return None;
            }
            Err(error) => {
                // Also if nobody needs the transaction: it is not left open.
                if self.wrote || self.broken || self.state.waiting.is_empty() {
                    self.shared.roll_back(&mut self.state).await;
                }
                return if self.victim { None } else { Some(Err(error)) };
            }
        };
        let (sender, fate) = oneshot::channel();
        let events = std::mem::take(&mut self.events);
        self.state.events.extend(events);
        self.state.waiting.push(sender);
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.handed_in.notify_one();
        match fate.await {
            Ok(Fate::Committed) => Some(Ok(value)),
            Ok(Fate::RunAgain) => None,
            Ok(Fate::Failed(error)) => Some(Err(error.into())),
            Err(_) => Some(Err(StoreError::Unconfirmed.into())),
        }
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        // Dropped half-way: whoever holds the lock next rolls back first.
        if !self.ended {
            self.state.torn = true;
            self.shared.handed_in.notify_one();
        }
    }
}
