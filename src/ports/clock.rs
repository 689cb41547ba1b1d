//! Time comes from here and from nowhere else.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::domain::time::Timestamp;

/// The one source of time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock, guarded by its monotonic one: a step forward is followed, a step back is not, and
/// time never stands still, so that no grant is prolonged by a clock that was set wrongly.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    /// Largest difference seen between the wall clock and the time since `started`, in microseconds.
    offset: AtomicI64,
}

impl SystemClock {
    /// Starts at the wall clock's time.
    #[allow(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
    pub fn new() -> Self {
        Self { started: Instant::now(), offset: AtomicI64::new(i64::MIN) }
    }
}

impl SystemClock {
    /// So long after the start, while the wall clock says this.
    fn guarded(&self, elapsed: i64, wall: i64) -> Timestamp {
        let offset = wall.saturating_sub(elapsed);
        let offset = offset.max(self.offset.fetch_max(offset, Ordering::AcqRel));
        Timestamp::from_micros(offset.saturating_add(elapsed))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place where the machine's clock is read")]
    fn now(&self) -> Timestamp {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        let elapsed = micros(self.started.elapsed());
        let wall = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        self.guarded(elapsed, wall)
    }
}

/// A clock that is moved by hand, for tests.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Starts at `at`.
    pub const fn at(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.micros()))
    }

    /// Move it forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::AcqRel);
    }

    /// Set it, also backwards.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.micros(), Ordering::Release);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_forward_is_followed_and_a_step_back_is_not() {
        let clock = SystemClock::new();
        let at = |elapsed, wall| clock.guarded(elapsed, wall).micros();
        assert_eq!(at(0, 1_000_000), 1_000_000);
        assert_eq!(at(10, 1_000_010), 1_000_010);
        assert_eq!(at(20, 5_000_000), 5_000_000, "a step forward");
        assert_eq!(at(30, 1_000_030), 5_000_010, "a step back: time goes on from where it was");
        assert_eq!(at(40, 0), 5_000_020, "also a clock that lost its battery");
        assert_eq!(at(50, 5_000_030), 5_000_030, "and is told by the wall again when that has caught up");
    }
}
