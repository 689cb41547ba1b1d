//! Shared reads: look-ups of one kind that wait at the same time are one statement.
//!
//! What a look-up answers was committed when it was asked or later, as with a statement of its own.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{AnyConnection, AnyPool, any::AnyRow};
use tokio::sync::oneshot;

use super::{
    StoreError,
    row::Reader,
    rows::{Bound, MOST, RowsSql},
    writer::silent,
};

/// Statements of one kind under way at once.
const STATEMENTS: usize = 2;

type Answer = oneshot::Sender<Result<Vec<AnyRow>, StoreError>>;

/// What look-ups are made with.
pub(super) struct Readers {
    pub(super) pool: AnyPool,
    pub(super) patience: Duration,
}

/// Look-ups of one kind by keys.
pub(super) struct SharedRead<K> {
    readers: AnyPool,
    /// How long to wait for an answer.
    patience: Duration,
    /// From rows of `n` and the columns of a key to rows with the same `n`.
    sql: RowsSql,
    /// How much to look at for a key at most: `$1`.
    limit: Option<fn(&K) -> i64>,
    bind: fn(Bound, &K) -> Bound,
    waiting: Mutex<Waiting<K>>,
}

struct Waiting<K> {
    keys: Vec<(K, Answer)>,
    statements: usize,
}

impl<K: Send + Sync + 'static> SharedRead<K> {
    /// `select` goes on after `WITH v (n, …) AS (VALUES …) `; `columns` of a key are named and bound in that order.
    pub(super) fn new(readers: &Readers, columns: &[&str], select: &str, bind: fn(Bound, &K) -> Bound) -> Arc<Self> {
        Self::with_limit(readers, columns, select, bind, None)
    }

    /// The same, with a limit as `$1`.
    pub(super) fn with_limit(
        readers: &Readers,
        columns: &[&str],
        select: &str,
        bind: fn(Bound, &K) -> Bound,
        limit: Option<fn(&K) -> i64>,
    ) -> Arc<Self> {
        let before = format!("WITH v (n, {}) AS (VALUES ", columns.join(", "));
        let sql = RowsSql::new(usize::from(limit.is_some()), &before, columns.len() + 1, &format!(") {select}"));
        let waiting = Mutex::new(Waiting { keys: Vec::new(), statements: 0 });
        Arc::new(Self { readers: readers.pool.clone(), patience: readers.patience, sql, limit, bind, waiting })
    }

    /// The rows for one key.
    pub(super) async fn rows(self: &Arc<Self>, key: K) -> Result<Vec<AnyRow>, StoreError> {
        let (answer, rows) = oneshot::channel();
        let begin = {
            let mut waiting = self.waiting();
            waiting.keys.push((key, answer));
            let begin = waiting.statements < STATEMENTS;
            waiting.statements += usize::from(begin);
            begin
        };
        if begin {
            // Of nobody's own: whoever asked may go away, and the others still wait.
            tokio::spawn(Arc::clone(self).answer_all());
        }
        rows.await.unwrap_or(Err(StoreError::Unavailable(sqlx::Error::PoolClosed)))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<K>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer_all(self: Arc<Self>) {
        loop {
            let batch = {
                let mut waiting = self.waiting();
                let most = waiting.keys.len().min(MOST);
                if most == 0 {
                    waiting.statements -= 1;
                    return;
                }
                waiting.keys.drain(..most).collect::<Vec<_>>()
            };
            match self.answered(&batch).await {
                Ok(answers) => {
                    for ((_, answer), rows) in batch.into_iter().zip(answers) {
                        let _ = answer.send(Ok(rows));
                    }
                }
                Err(error) => {
                    let mut error = Some(error);
                    for (_, answer) in batch {
                        let _ = answer.send(Err(StoreError::next_of(&mut error)));
                    }
                }
            }
        }
    }

    /// The same, within a bound: a database that has fallen silent keeps no connection, and nobody waiting.
    async fn answered(&self, batch: &[(K, Answer)]) -> Result<Vec<Vec<AnyRow>>, StoreError> {
        let mut connection = self.readers.acquire().await?;
        let answers = tokio::time::timeout(self.patience, self.read(&mut connection, batch)).await;
        answers.unwrap_or_else(|_| {
            connection.close_on_drop();
            Err(StoreError::Unavailable(silent()))
        })
    }

    /// The rows for each key. The last key fills the places that are left over.
    async fn read(&self, db: &mut AnyConnection, batch: &[(K, Answer)]) -> Result<Vec<Vec<AnyRow>>, StoreError> {
        let (places, mut statement) = self.sql.roomy(batch.len());
        let Some((last, _)) = batch.last() else { return Ok(Vec::new()) };
        if let Some(limit) = self.limit {
            statement = statement.bind(batch.iter().map(|(key, _)| limit(key)).max());
        }
        let keys = batch.iter().map(|(key, _)| key).chain(std::iter::repeat(last)).take(places);
        for (n, key) in (0_i64..).zip(keys) {
            statement = (self.bind)(statement.bind(n), key);
        }
        let mut answers: Vec<Vec<AnyRow>> = batch.iter().map(|_| Vec::new()).collect();
        for row in statement.fetch_all(db).await? {
            let n: usize = Reader::new("v", &row).number("n")?;
            if let Some(rows) = answers.get_mut(n) {
                rows.push(row);
            }
        }
        Ok(answers)
    }
}
