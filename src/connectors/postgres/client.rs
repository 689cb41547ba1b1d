//! Connections to one server: a few are kept open, a batch of statements costs one round trip, and every failure
//! says what it was. The broker's password is read from its file whenever a connection is opened.
//!
//! Never logs a statement, and never gives a connection back that met an error: it is closed instead.

use std::{sync::Mutex, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::{sync::Semaphore, time::timeout};
use zeroize::Zeroizing;

use super::config::Settings;
use crate::ports::connector::Fault;

/// Tries of a connection that the server has no room for, and the first and the longest pause between two: some four
/// seconds.
const TRIES: u32 = 12;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(400);

/// What a batch can end with.
#[derive(Debug)]
pub(super) struct Failure {
    /// SQLSTATE; empty where the server said nothing.
    pub code: String,
    /// As the broker is to see it.
    pub fault: Fault,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        failure.fault
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
pub(super) mod code {
    pub(in super::super) const DUPLICATE_OBJECT: &str = "42710";
    pub(in super::super) const UNDEFINED_OBJECT: &str = "42704";
    pub(in super::super) const DEPENDENT_OBJECTS: &str = "2BP01";
    pub(in super::super) const UNDEFINED_DATABASE: &str = "3D000";
    pub(in super::super) const TOO_MANY_CONNECTIONS: &str = "53300";
    /// "tuple concurrently updated": somebody else changed the same role.
    pub(in super::super) const INTERNAL: &str = "XX000";
}

/// The connections to one server.
pub(super) struct Client {
    options: PgConnectOptions,
    password_file: Option<std::path::PathBuf>,
    address: String,
    connect_timeout: Duration,
    batch_timeout: Duration,
    permits: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

impl Client {
    /// Opens nothing yet.
    pub(super) fn new(settings: &Settings) -> Self {
        let seconds = u64::from(settings.statement_timeout_seconds);
        let mut options = PgConnectOptions::new_without_pgpass()
            .host(&settings.host)
            .port(settings.port)
            .username(&settings.user)
            .password("")
            .database(&settings.database)
            .ssl_mode(settings.tls.mode())
            .application_name("tidegate")
            .options([
                // Nothing that a holder left in a schema is ever called by name.
                ("search_path", "pg_catalog"),
                ("standard_conforming_strings", "on"),
                ("statement_timeout", &format!("{seconds}s")),
                ("lock_timeout", &format!("{}ms", seconds * 500)),
                ("idle_in_transaction_session_timeout", "60s"),
            ])
            .disable_statement_logging();
        if let Some(path) = &settings.tls_root_cert {
            options = options.ssl_root_cert(path);
        }
        Self {
            options,
            password_file: settings.password_file.clone(),
            address: format!("{}:{}", settings.host, settings.port),
            connect_timeout: Duration::from_secs(settings.connect_timeout_seconds.into()),
            batch_timeout: Duration::from_secs(seconds + 2),
            permits: Semaphore::new(settings.pool_size.into()),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Run statements in the maintenance database, in one round trip, and give all their rows.
    ///
    /// The text is sent again if a kept connection turns out to be dead: statements must bear repetition.
    pub(super) async fn batch(&self, sql: &str) -> Result<Vec<PgRow>, Failure> {
        let _permit = timeout(self.batch_timeout, self.permits.acquire())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| self.unavailable("all connections are busy; raise `pool_size`"))?;
        let mut pause = FIRST_PAUSE;
        for left in (0..TRIES).rev() {
            if let Some(mut kept) = self.kept() {
                match self.run(&mut kept, sql).await {
                    Ok(rows) => return Ok(self.keep(kept, rows)),
                    Err(e) if !is_lost(&e) => return Err(self.failure(&e)),
                    Err(_) => self.forget(),
                }
            }
            match self.connect(None).await {
                Ok(mut fresh) => {
                    let rows = self.run(&mut fresh, sql).await.map_err(|e| self.failure(&e))?;
                    return Ok(self.keep(fresh, rows));
                }
                // There is no room for one more: one of ours may be free in a moment.
                Err(e) if e.code == code::TOO_MANY_CONNECTIONS && left > 0 => {}
                Err(e) => return Err(e),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(self.unavailable("the server has no room for a connection"))
    }

    /// A connection of its own, to another database or to the maintenance database.
    pub(super) async fn open(&self, database: Option<&str>) -> Result<Session<'_>, Failure> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            match self.connect(database).await {
                Err(e) if e.code == code::TOO_MANY_CONNECTIONS => {}
                other => return other.map(|connection| Session { client: self, connection }),
            }
            // One that is kept for later makes room.
            if let Some(kept) = self.kept() {
                let _ = timeout(Duration::from_secs(1), kept.close()).await;
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
        Ok(Session { client: self, connection: self.connect(database).await? })
    }

    fn kept(&self) -> Option<PgConnection> {
        self.idle.lock().ok()?.pop()
    }

    fn keep<T>(&self, connection: PgConnection, result: T) -> T {
        if let Ok(mut idle) = self.idle.lock() {
            idle.push(connection);
        }
        result
    }

    /// One is dead, so the others are: the server was restarted, or the network was cut.
    fn forget(&self) {
        if let Ok(mut idle) = self.idle.lock() {
            idle.clear();
        }
    }

    async fn run(&self, connection: &mut PgConnection, sql: &str) -> Result<Vec<PgRow>, sqlx::Error> {
        timeout(self.batch_timeout, sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection))
            .await
            .unwrap_or_else(|_| Err(timed_out("no answer in time")))
    }

    async fn connect(&self, database: Option<&str>) -> Result<PgConnection, Failure> {
        let password = self.password().await?;
        match self.connect_once(database, &password).await {
            Err(e) if sqlstate(&e).starts_with("28") => {
                // The password may have been rotated between the reading and the asking.
                tokio::time::sleep(Duration::from_millis(100)).await;
                let again = self.password().await?;
                if again == password {
                    return Err(self.failure(&e));
                }
                self.connect_once(database, &again).await.map_err(|e| self.failure(&e))
            }
            other => other.map_err(|e| self.failure(&e)),
        }
    }

    async fn connect_once(&self, database: Option<&str>, password: &str) -> Result<PgConnection, sqlx::Error> {
        let mut options = self.options.clone().password(password);
        if let Some(database) = database {
            options = options.database(database);
        }
        timeout(self.connect_timeout, options.connect())
            .await
            .unwrap_or_else(|_| Err(timed_out("no connection in time")))
    }

    async fn password(&self) -> Result<Zeroizing<String>, Failure> {
        let Some(path) = &self.password_file else { return Ok(Zeroizing::default()) };
        let text = tokio::fs::read_to_string(path).await.map(Zeroizing::new).map_err(|e| {
            self.unavailable(&format!("the broker's password file {} cannot be read: {e}", path.display()))
        })?;
        Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
    }

    fn unavailable(&self, why: &str) -> Failure {
        Failure { code: String::new(), fault: Fault::Unavailable(format!("PostgreSQL at {}: {why}", self.address)) }
    }

    fn failure(&self, error: &sqlx::Error) -> Failure {
        let code = sqlstate(error);
        let text = match error {
            sqlx::Error::Database(e) => {
                let e = e.downcast_ref::<sqlx::postgres::PgDatabaseError>();
                // The detail of this one lists what is in the way; others may quote values.
                let detail = e.detail().filter(|_| code == code::DEPENDENT_OBJECTS).unwrap_or_default();
                format!("{} {detail}", e.message()).trim_end().replace('\n', "; ")
            }
            other => other.to_string(),
        };
        let sqlstate = if code.is_empty() { String::new() } else { format!(" ({code})") };
        let text = format!("PostgreSQL at {}: {text}{sqlstate}", self.address);
        let fault = if is_refusal(error, &code) { Fault::Refused(text) } else { Fault::Unavailable(text) };
        Failure { code, fault }
    }
}

/// A connection to one database, for several batches.
pub(super) struct Session<'a> {
    client: &'a Client,
    connection: PgConnection,
}

impl Session<'_> {
    /// Run statements in one round trip and give all their rows.
    pub(super) async fn batch(&mut self, sql: &str) -> Result<Vec<PgRow>, Failure> {
        self.client.run(&mut self.connection, sql).await.map_err(|e| self.client.failure(&e))
    }

    /// Say good-bye to the server.
    pub(super) async fn close(self) {
        let _ = timeout(Duration::from_secs(1), self.connection.close()).await;
    }
}

fn timed_out(what: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, what.to_owned()))
}

fn sqlstate(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).map(Into::into).unwrap_or_default()
}

/// Did the connection break, rather than the statement?
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(e) => e.kind() != std::io::ErrorKind::TimedOut,
        sqlx::Error::Protocol(_) => true,
        other => sqlstate(other).starts_with("57P") || sqlstate(other).starts_with("08"),
    }
}

/// Will the server say the same next time? Otherwise another try is of use: it is shutting down, full, a standby,
/// somebody holds a lock, or the broker's password is being rotated.
fn is_refusal(error: &sqlx::Error, code: &str) -> bool {
    match error {
        sqlx::Error::Database(_) => {
            !["08", "28", "40", "53", "55", "57", "58", "XX"].iter().any(|class| code.starts_with(class))
                && code != "25006"
        }
        sqlx::Error::Configuration(_) => true,
        _ => false,
    }
}
