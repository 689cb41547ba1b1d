//! Shared commits: changes that wait at the same time go to disk together.
//!
//! Each writer owns one connection behind a fair lock. There are two ways in:
//!
//! - A [`Change`] is rows. It waits in a queue; the committer takes what is there, people's before workers', and writes
//!   it in few statements. If the condition of one does not hold, that one is told so and the others are written again.
//! - A [`Tx`] is statements, for verbs that must read what they have locked. It takes the lock, writes its rows into the
//!   open transaction, leaves its audit events and lets go. If it fails after it has written something, the whole
//!   transaction is rolled back and the other [`Tx`]s in it are told to run again: such a change is a function of the
//!   database, and running it twice is harmless because nothing of the first run remains.
//!
//! The committer queues for the lock behind every change that was waiting already, then numbers the events, writes
//! them and commits for all.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex as Quick, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use sqlx::{AnyConnection, Executor, any::AnyConnectOptions, any::AnyRow};
use tokio::sync::{Mutex, Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{
    Backend, StoreError, audit,
    change::{self, Change, Refusal, Written},
    connection::{self, Options},
    queue::{Lane, Pending, Queue},
    rows::AnyQuery,
};
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
    /// Events and messages of those who wait.
    left: Change,
    /// Rows whose condition did not hold took the statements of others with them: those go first next time, alone.
    disturbed: bool,
}

struct Shared {
    backend: Backend,
    options: AnyConnectOptions,
    patience: Duration,
    state: Arc<Mutex<State>>,
    queue: Quick<Queue>,
    /// Bounds the changes under way.
    room: Arc<Semaphore>,
    places: u32,
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
        bounds: &Options,
        committed: watch::Sender<u64>,
        stats: Arc<WriteStats>,
    ) -> Self {
        let state = State {
            connection: None,
            open: false,
            torn: false,
            waiting: Vec::new(),
            left: Change::default(),
            disturbed: false,
        };
        let shared = Arc::new(Shared {
            backend,
            options,
            patience: bounds.patience,
            state: Arc::new(Mutex::new(state)),
            queue: Quick::default(),
            room: Arc::new(Semaphore::new(bounds.queue as usize)),
            places: bounds.queue,
            handed_in: Notify::new(),
            committed,
            stats,
        });
        let committer = tokio::spawn(Arc::clone(&shared).commit_for_ever());
        Self { shared, committer }
    }

    /// Changes that wait or are being written.
    pub(super) fn waiting(&self) -> usize {
        (self.shared.places as usize).saturating_sub(self.shared.room.available_permits())
    }

    pub(super) fn expects_people(&self) -> bool {
        self.shared.queue().expects_people()
    }

    pub(super) async fn begin(&self, lane: Lane) -> Result<Tx, StoreError> {
        let shared = &self.shared;
        if lane == Lane::People {
            shared.queue().expect_people();
        }
        let room = Arc::clone(&shared.room).try_acquire_owned().map_err(|_| StoreError::Busy)?;
        let mut state = Arc::clone(&shared.state).lock_owned().await;
        shared.make_ready(&mut state).await?;
        Ok(Tx {
            state,
            shared: Arc::clone(shared),
            left: Change::default(),
            wrote: false,
            broken: false,
            victim: false,
            ended: false,
            _room: room,
            turn: None,
        })
    }

    /// Have a change written with others.
    pub(super) async fn write(&self, change: Change, lane: Lane) -> Result<Written, StoreError> {
        let shared = &self.shared;
        let room = Arc::clone(&shared.room).try_acquire_owned().map_err(|_| StoreError::Busy)?;
        let (answer, outcome) = oneshot::channel();
        shared.queue().of(lane).push_back(Pending { change, answer, lane, alone: false, _room: room });
        shared.handed_in.notify_one();
        outcome.await.unwrap_or(Err(StoreError::Unconfirmed))
    }

    /// Nothing new gets in, and whatever is in gets its answer.
    pub(super) async fn close(&self) {
        let all_out = self.shared.room.acquire_many(self.shared.places);
        let _ = tokio::time::timeout(self.shared.patience, all_out).await;
        self.shared.room.close();
        let mut state = self.shared.state.lock().await;
        // Statements that were handed in have left the room already.
        self.shared.commit(&mut state).await;
        self.committer.abort();
        if let Some(connection) = state.connection.take() {
            use sqlx::Connection;
            let _ = connection.close().await;
        }
    }
}

impl Shared {
    /// A database that does not answer at all is one that is not there: nobody waits for it with the lock in hand.
    async fn answered<T>(&self, call: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        tokio::time::timeout(self.patience, call).await.unwrap_or_else(|_| Err(silent()))
    }

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
                let connecting = tokio::time::timeout(self.patience, connection::connect(&self.options));
                state.connection = Some(connecting.await.unwrap_or_else(|_| Err(silent().into()))?);
            }
            let Some(connection) = state.connection.as_mut() else { return Err(StoreError::Busy) };
            let begin = match self.backend {
                Backend::Sqlite => "BEGIN IMMEDIATE",
                Backend::Postgres => "BEGIN",
            };
            match self.answered(connection.execute(begin)).await {
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
        state.left = Change::default();
        self.stats.reruns.fetch_add(state.waiting.len() as u64, Ordering::Relaxed);
        for waiter in state.waiting.drain(..) {
            let _ = waiter.send(Fate::RunAgain);
        }
        if state.open {
            let rolled_back = match state.connection.as_mut() {
                Some(connection) => self.answered(connection.execute("ROLLBACK")).await.is_ok(),
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
            if AssertUnwindSafe(self.commit(&mut state)).catch_unwind().await.is_err() {
                self.recover(&mut state);
            }
        }
    }

    /// The committer panicked. What it had in hand is answered for: nobody knows whether it was committed. The next one
    /// begins with a new connection.
    fn recover(&self, state: &mut State) {
        metrics::counter!("tidegate_worker_panics_total").increment(1);
        tracing::error!("the committer panicked; it goes on with a new connection");
        for waiter in state.waiting.drain(..) {
            let _ = waiter.send(Fate::Failed(StoreError::Unconfirmed));
        }
        state.connection = None;
        state.torn = true;
        self.handed_in.notify_one();
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn commit(&self, state: &mut State) {
        // A transaction whose connection is gone is nobody's.
        if state.torn || (state.open && state.connection.is_none()) {
            self.roll_back(state).await;
        }
        let batch = self.queue().take();
        let disturbed = state.disturbed && !state.waiting.is_empty();
        if disturbed || batch.iter().any(|pending| pending.alone) {
            // Not together with the statements of others.
            state.disturbed = false;
            self.commit_with(state, Vec::new()).await;
        }
        self.commit_with(state, batch).await;
        if !self.queue().is_empty() {
            self.handed_in.notify_one();
        }
    }

    /// What was written into the open transaction, and these.
    async fn commit_with(&self, state: &mut State, mut batch: Vec<Pending>) {
        while !(batch.is_empty() && state.waiting.is_empty()) {
            let outcome = tokio::time::timeout(self.patience, self.write_all(state, &batch)).await;
            let outcome = outcome.unwrap_or_else(|_| {
                // Closing it ends its transaction, unless the commit was under way.
                state.connection = None;
                Err(Refusal::Failed(StoreError::Unconfirmed))
            });
            match outcome {
                Ok(written) => return self.answer_all(state, batch, written),
                Err(Refusal::Conflicts(which)) => {
                    state.disturbed |= !state.waiting.is_empty();
                    self.roll_back(state).await;
                    let mut kept = Vec::with_capacity(batch.len());
                    for (n, pending) in batch.into_iter().enumerate() {
                        if which.contains(&n) {
                            pending.answer(Err(StoreError::Conflict));
                        } else {
                            kept.push(pending);
                        }
                    }
                    batch = kept;
                }
                Err(Refusal::Failed(error)) => return self.fail(state, batch, error).await,
            }
        }
    }

    async fn write_all(&self, state: &mut State, batch: &[Pending]) -> Result<(Vec<Written>, u64), Refusal> {
        self.make_ready(state).await?;
        let left = std::mem::take(&mut state.left);
        let Some(connection) = state.connection.as_mut() else {
            return Err(StoreError::Unavailable(sqlx::Error::PoolClosed).into());
        };
        let mut changes: Vec<&Change> = vec![&left];
        changes.extend(batch.iter().map(|pending| &pending.change));
        let written = change::write(connection, &changes).await.map_err(|refusal| match refusal {
            // The first is not one of the batch, and has no conditions.
            Refusal::Conflicts(which) => Refusal::Conflicts(which.into_iter().map(|n| n.saturating_sub(1)).collect()),
            failed @ Refusal::Failed(_) => failed,
        })?;
        let events = change::events_of(&changes, &written);
        audit::append(connection, &events).await?;
        if self.backend == Backend::Postgres {
            connection.execute("NOTIFY tidegate").await?;
        }
        crate::failpoint::hit("store.before_commit");
        if let Err(e) = connection.execute("COMMIT").await {
            return Err(Refusal::Failed(match StoreError::from(e) {
                StoreError::Unavailable(_) => StoreError::Unconfirmed,
                other => other,
            }));
        }
        crate::failpoint::hit("store.after_commit");
        state.open = false;
        Ok((written, events.len() as u64))
    }

    fn answer_all(&self, state: &mut State, batch: Vec<Pending>, (written, events): (Vec<Written>, u64)) {
        self.stats.commits.fetch_add(1, Ordering::Relaxed);
        self.stats.changes.fetch_add((state.waiting.len() + batch.len()) as u64, Ordering::Relaxed);
        self.stats.events.fetch_add(events, Ordering::Relaxed);
        for waiter in state.waiting.drain(..) {
            let _ = waiter.send(Fate::Committed);
        }
        for (pending, written) in batch.into_iter().zip(written.into_iter().skip(1)) {
            pending.answer(Ok(written));
        }
        self.committed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Nothing of the transaction remains. If the cause may lie in one of several, each is tried on its own; else the
    /// first who waits gets the cause, the others its kind.
    async fn fail(&self, state: &mut State, mut batch: Vec<Pending>, error: StoreError) {
        let victim = matches!(error, StoreError::Conflict);
        let several = !batch.is_empty() && batch.len() + state.waiting.len() > 1;
        let peculiar = !error.is_transient() && several;
        let waiters = std::mem::take(&mut state.waiting);
        self.roll_back(state).await;
        let again = victim || peculiar;
        let mut error = Some(error);
        for waiter in waiters {
            let fate = if again { Fate::RunAgain } else { Fate::Failed(StoreError::next_of(&mut error)) };
            let _ = waiter.send(fate);
        }
        if again {
            for pending in &mut batch {
                pending.alone |= peculiar;
            }
            self.stats.reruns.fetch_add(batch.len() as u64, Ordering::Relaxed);
            self.queue().put_back(batch);
        } else {
            for pending in batch {
                pending.answer(Err(StoreError::next_of(&mut error)));
            }
        }
    }
}

/// What a database that does not answer is told as.
pub(super) fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the database did not answer"))
}

/// A change under way. Reads see what it has written.
pub struct Tx {
    state: OwnedMutexGuard<State>,
    shared: Arc<Shared>,
    /// Events and messages, written at commit.
    left: Change,
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

impl Tx {
    pub(super) fn hold_turn(&mut self, turn: OwnedSemaphorePermit) {
        self.turn = Some(turn);
    }

    /// Leave an audit event; it gets its place in the log at commit.
    pub fn audit(&mut self, event: Event) {
        self.left.audit(event);
    }

    fn connection(&mut self) -> Result<&mut AnyConnection, StoreError> {
        self.state.connection.as_mut().ok_or(StoreError::Unavailable(sqlx::Error::PoolClosed))
    }

    pub(super) fn connection_to_write(&mut self) -> Result<&mut AnyConnection, StoreError> {
        self.wrote = true;
        self.connection()
    }

    pub(super) fn broke(&mut self, error: sqlx::Error) -> StoreError {
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
        let shared = Arc::clone(&self.shared);
        let result = shared.answered(query.execute(self.connection()?)).await;
        let rows = result.map(|done| done.rows_affected()).map_err(|e| self.broke(e))?;
        // What touched no row leaves the work of others alone if it fails.
        self.wrote |= rows > 0;
        Ok(rows)
    }

    /// May others write at the same time?
    pub(super) fn has_several_writers(&self) -> bool {
        self.shared.backend == Backend::Postgres
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
        let rows = self.read_all(query).await?;
        self.wrote |= !rows.is_empty();
        Ok(rows)
    }

    /// Read one row, seeing what this change has written.
    pub(super) async fn read_optional(&mut self, query: AnyQuery<'_>) -> Result<Option<AnyRow>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let result = shared.answered(query.fetch_optional(self.connection()?)).await;
        result.map_err(|e| self.broke(e))
    }

    /// Read rows, seeing what this change has written.
    pub(super) async fn read_all(&mut self, query: AnyQuery<'_>) -> Result<Vec<AnyRow>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let result = shared.answered(query.fetch_all(self.connection()?)).await;
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
        let left = std::mem::take(&mut self.left);
        self.state.left.take_over(left);
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

impl AsMut<Change> for Tx {
    fn as_mut(&mut self) -> &mut Change {
        &mut self.left
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
