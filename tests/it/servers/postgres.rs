//! A throwaway PostgreSQL cluster: one for the whole run, or one of its own for tests that stop it.
//!
//! A small shell is the parent of the server and waits for the end of its own standard input, which this process
//! holds open. So no server outlives the tests, not even when they are killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::HashMap,
    fs,
    net::{TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, postgres::PgConnectOptions};

use super::certificate;

/// Starts the server and ends it, and its directory unless `keep` lies there, when the tests are gone.
///
/// A frozen server makes the kernel hang up on the whole process group when the tests are killed: hence the `trap`.
const WATCHER: &str = r#"
trap '' HUP
dir=$1; shift
"$@" </dev/null >>"$dir/log" 2>&1 &
pid=$!
echo $pid >"$dir/pid"
cat >/dev/null
kill -CONT $pid $(cat "/proc/$pid/task/$pid/children") 2>/dev/null
kill -TERM $pid 2>/dev/null
kill -INT $pid 2>/dev/null
wait $pid
[ -e "$dir/keep" ] || rm -rf "$dir"
"#;

/// One cluster. The superuser `postgres` comes in without a password, everybody else with one (SCRAM).
pub struct Postgres {
    dir: PathBuf,
    port: u16,
    bin: PathBuf,
    owner: Option<(u32, u32)>,
    flags: Vec<String>,
    watcher: Mutex<Option<Child>>,
}

/// The cluster of this run, started when first asked for. `log_statement=all`, no fsync.
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| Postgres::dedicated(&["fsync=off", "max_connections=200", "log_statement=all"]))
}

impl Postgres {
    /// A cluster of its own, ended on drop. `settings` are `name=value` of `postgresql.conf`.
    pub fn dedicated(settings: &[&str]) -> Self {
        let bin = binaries();
        let owner = unprivileged();
        let dir = tempfile::Builder::new().prefix("tidegate-pg-").tempdir().expect("a temporary directory").keep();
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).expect("chown of the cluster's directory");
        }
        let it = Self {
            port: 0,
            flags: settings.iter().map(|s| (*s).to_owned()).collect(),
            watcher: Mutex::new(None),
            dir,
            bin,
            owner,
        };
        let made = it
            .command(&it.bin.join("initdb"))
            .args(["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--no-locale", "-D"])
            .arg(it.data())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let hba = "host all,replication postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(it.data().join("pg_hba.conf"), hba).expect("pg_hba.conf");
        it.somewhere()
    }

    /// A standby of it that hears of everything and applies it an hour later: its answers are stale.
    pub fn late_standby(&self) -> Self {
        let dir = tempfile::Builder::new().prefix("tidegate-pg-").tempdir().expect("a temporary directory").keep();
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).expect("chown of the cluster's directory");
        }
        let it = Self {
            port: 0,
            flags: self.flags.iter().cloned().chain(["recovery_min_apply_delay=1h".to_owned()]).collect(),
            watcher: Mutex::new(None),
            dir,
            bin: self.bin.clone(),
            owner: self.owner,
        };
        let made = it
            .command(&it.bin.join("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-c", "fast", "-p", &self.port.to_string(), "-D"])
            .arg(it.data())
            .output()
            .expect("pg_basebackup runs");
        assert!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
        it.somewhere()
    }

    /// Started on a free port.
    fn somewhere(mut self) -> Self {
        for attempt in 0.. {
            self.port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
            match self.try_start() {
                Ok(()) => break,
                // Another process may have taken the port meanwhile.
                Err(log) => assert!(attempt < 4, "PostgreSQL does not start:\n{log}"),
            }
        }
        self
    }

    /// A certificate of its own authority, in the server's directory; to be named in the settings of a cluster that is
    /// started again.
    pub fn with_tls(settings: &[&str]) -> Self {
        let mut it = Self::dedicated(settings);
        certificate::issue(&it.dir, "127.0.0.1");
        for file in ["cert.pem", "key.pem"] {
            let path = it.dir.join(file);
            if let Some((uid, gid)) = it.owner {
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("chown of the certificate");
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod of the certificate");
        }
        let at = it.dir.display().to_string();
        let tls = ["ssl=on".to_owned(), format!("ssl_cert_file={at}/cert.pem"), format!("ssl_key_file={at}/key.pem")];
        it.flags.extend(tls);
        it.stop();
        it.start();
        it
    }

    /// The authority that signed its certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How `user` connects.
    pub fn options(&self, user: &str, password: &str, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(user)
            .password(password)
            .database(database)
            .disable_statement_logging()
    }

    /// A connection as superuser.
    pub async fn admin(&self, database: &str) -> PgConnection {
        self.options("postgres", "", database).connect().await.expect("the superuser connects")
    }

    /// Run statements as superuser.
    pub async fn run(&self, database: &str, sql: &str) {
        let mut admin = self.admin(database).await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut admin).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// One value as text, asked as superuser.
    pub async fn ask(&self, database: &str, sql: &str) -> Option<String> {
        let mut admin = self.admin(database).await;
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT ({sql})::text")))
            .fetch_one(&mut admin)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// A new, empty database; its name.
    pub async fn fresh_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name}")).await;
        name
    }

    /// What the server has written to its log: nothing, as long as it has not begun.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("log")).unwrap_or_default()).into_owned()
    }

    /// Stop the server, as an administrator would; the data stay.
    pub fn stop(&self) {
        fs::write(self.dir.join("keep"), "").expect("the mark to keep the data");
        self.end();
    }

    /// Start it again on the same port.
    pub fn start(&self) {
        let _ = fs::remove_file(self.dir.join("keep"));
        self.try_start().unwrap_or_else(|log| panic!("PostgreSQL does not start again:\n{log}"));
    }

    /// Let every process of the server sleep: it accepts connections and never answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Wake it up.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let main = self.pid().expect("the server's pid");
        let mut pids = vec![main];
        pids.extend(parents().into_iter().filter(|(_, parent)| *parent == main).map(|(pid, _)| pid));
        for pid in pids {
            let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
        }
    }

    fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.dir.join("pid")).ok()?.trim().parse().ok()
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn watcher(&self) -> MutexGuard<'_, Option<Child>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, program: &Path) -> Command {
        let mut it = Command::new(program);
        if let Some((uid, gid)) = self.owner {
            it.gid(gid).uid(uid);
        }
        it.current_dir("/").env("TZ", "UTC");
        it
    }

    fn try_start(&self) -> Result<(), String> {
        let mut it = self.command(Path::new("/bin/sh"));
        // Its own process group: Ctrl-C in the terminal reaches the tests, and the server ends with them.
        it.args(["-c", WATCHER, "watcher"]).arg(&self.dir).process_group(0);
        it.arg(self.bin.join("postgres")).arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        let fixed = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "log_line_prefix=%u "];
        for setting in fixed.iter().copied().chain(self.flags.iter().map(String::as_str)) {
            it.args(["-c", setting]);
        }
        let _ = fs::remove_file(self.dir.join("pid"));
        let child = it.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh runs");
        *self.watcher() = Some(child);
        for _ in 0..3_000 {
            std::thread::sleep(Duration::from_millis(10));
            let alive = self.pid().is_none_or(|pid| Path::new(&format!("/proc/{pid}")).exists());
            let ready = self.log().matches("system is ready to accept").count();
            if alive && ready > self.starts() && TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                fs::write(self.dir.join("starts"), ready.to_string()).expect("the count of starts");
                return Ok(());
            }
            if !alive {
                break;
            }
        }
        let log = self.log();
        fs::write(self.dir.join("keep"), "").expect("the mark to keep the data");
        self.end();
        let _ = fs::remove_file(self.dir.join("keep"));
        Err(log)
    }

    fn starts(&self) -> usize {
        fs::read_to_string(self.dir.join("starts")).ok().and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    fn end(&self) {
        if let Some(mut watcher) = self.watcher().take() {
            drop(watcher.stdin.take());
            let _ = watcher.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The server's programs: `PG_BIN`, Debian's place, `PATH`.
fn binaries() -> PathBuf {
    let mut places: Vec<PathBuf> = std::env::var_os("PG_BIN").map(PathBuf::from).into_iter().collect();
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|v| v.path().join("bin")).collect())
        .unwrap_or_default();
    debian.sort();
    places.extend(debian.into_iter().rev());
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    places.into_iter().find(|p| p.join("initdb").exists() && p.join("postgres").exists()).expect(
        "these tests need PostgreSQL's server programs (`initdb`, `postgres`): install the package `postgresql`, \
         or name their directory in PG_BIN",
    )
}

/// PostgreSQL refuses to run as root: then it runs as the system's user `postgres`.
fn unprivileged() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").expect("/proc").uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let fields: Vec<&str> = users
        .lines()
        .find(|l| l.starts_with("postgres:"))
        .expect("as root, these tests need a system user `postgres` to run PostgreSQL as")
        .split(':')
        .collect();
    Some((fields[2].parse().expect("its uid"), fields[3].parse().expect("its gid")))
}

/// Every process and its parent.
fn parents() -> HashMap<u32, u32> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
    };
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}
