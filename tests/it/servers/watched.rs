//! A server in a directory of its own that no test run leaves behind.
//!
//! A small shell is the parent of the server and waits for the end of its own standard input, which this process
//! holds open. So no server outlives the tests, not even when they are killed.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Starts the server and ends it, and its directory unless `keep` lies there, when the tests are gone.
const WATCHER: &str = r#"
trap '' HUP
dir=$1; shift
"$@" </dev/null >>"$dir/log" 2>&1 &
pid=$!
echo $pid >"$dir/pid"
cat >/dev/null
kill -CONT $pid 2>/dev/null
kill -INT $pid 2>/dev/null
kill -TERM $pid 2>/dev/null
wait $pid
[ -e "$dir/keep" ] || rm -rf "$dir"
"#;

/// One server that listens on this machine only.
pub struct Watched {
    pub dir: PathBuf,
    watcher: Mutex<Option<Child>>,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

impl Watched {
    /// Not started yet.
    pub fn new(prefix: &str) -> Self {
        let dir = tempfile::Builder::new().prefix(prefix).tempdir().expect("a temporary directory").keep();
        Self { dir, watcher: Mutex::new(None) }
    }

    /// Start it and wait until it listens; its log if it ends instead.
    pub fn start(&self, program: &Path, arguments: &[String], port: u16) -> Result<(), String> {
        self.start_at(program, arguments, ("127.0.0.1", port))
    }

    /// The same, where it listens on another of this machine's own addresses.
    pub fn start_at(&self, program: &Path, arguments: &[String], place: (&str, u16)) -> Result<(), String> {
        let _ = fs::remove_file(self.dir.join("keep"));
        let _ = fs::remove_file(self.dir.join("pid"));
        let mut it = Command::new("/bin/sh");
        // Its own process group: Ctrl-C in the terminal reaches the tests, and the server ends with them.
        it.args(["-c", WATCHER, "watcher"]).arg(&self.dir).arg(program).args(arguments).process_group(0);
        let child = it.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh runs");
        *self.watcher() = Some(child);
        for _ in 0..6_000 {
            std::thread::sleep(Duration::from_millis(10));
            match self.pid() {
                Some(pid) if !Path::new(&format!("/proc/{pid}")).exists() => break,
                Some(_) if TcpStream::connect(place).is_ok() => return Ok(()),
                _ => {}
            }
        }
        let log = self.log();
        self.stop();
        Err(log)
    }

    /// Stop it; its directory stays.
    pub fn stop(&self) {
        fs::write(self.dir.join("keep"), "").expect("the mark to keep the data");
        self.end();
    }

    /// Let it sleep: it accepts connections and never answers.
    pub fn freeze(&self) {
        self.signal("STOP");
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid().expect("the server's pid")));
        // The signal is sent at once and heeded a little later.
        for _ in 0..1_000 {
            if fs::read_dir(&tasks).expect("its threads").flatten().all(|task| is_stopped(&task.path())) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it does not stop");
    }

    /// Wake it up.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// What it has written.
    pub fn log(&self) -> String {
        fs::read(self.dir.join("log")).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().expect("the server's pid").to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid).status().expect("kill runs");
        assert!(sent.success());
    }

    fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.dir.join("pid")).ok()?.trim().parse().ok()
    }

    fn watcher(&self) -> MutexGuard<'_, Option<Child>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        if let Some(mut watcher) = self.watcher().take() {
            drop(watcher.stdin.take());
            let _ = watcher.wait();
        }
    }
}

/// Does that thread sleep until it is told to go on?
fn is_stopped(task: &Path) -> bool {
    let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
    // The state stands after the name, which is in brackets and may be anything.
    stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('T'))
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.dir.join("keep"));
        self.end();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
