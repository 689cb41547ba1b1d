//! Crash points for the crash matrix. Without the `failpoints` feature this module does nothing at all.

/// If `TIDEGATE_FAILPOINT` names this point, kill this very process with SIGKILL, as `kill -9` would.
#[cfg(feature = "failpoints")]
pub fn hit(point: &str) {
    if std::env::var("TIDEGATE_FAILPOINT").is_ok_and(|wanted| wanted == point) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::park();
    }
}

/// Compiled away.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn hit(_point: &str) {}
