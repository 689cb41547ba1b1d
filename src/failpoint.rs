//! Crash points for the crash matrix. Without the `failpoints` feature this module does nothing at all.

/// If `TIDEGATE_FAILPOINT` names this point, kill this very process with SIGKILL, as `kill -9` would. `name@3` means
/// the third time that the point is reached, `panic:name` that it panics there instead.
///
/// # Panics
/// If that is what the test wants.
#[cfg(feature = "failpoints")]
pub fn hit(point: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };

    /// The point, and how often it may still be reached.
    static ARMED: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let text = std::env::var("TIDEGATE_FAILPOINT").ok()?;
        let (name, nth) = match text.split_once('@') {
            // A number that is none never comes up, and the test that waits for the crash says so.
            Some((name, nth)) => (name.to_owned(), nth.parse().unwrap_or(u64::MAX)),
            None => (text, 1),
        };
        Some((name, AtomicU64::new(nth)))
    });
    let Some((name, left)) = &*ARMED else { return };
    let (name, panics) = name.strip_prefix("panic:").map_or((name.as_str(), false), |name| (name, true));
    if name == point && left.fetch_sub(1, Ordering::AcqRel) == 1 {
        assert!(!panics, "at {point}, as the test wants");
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::park();
    }
}

/// Compiled away.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn hit(_point: &str) {}
