//! Per target: calls in flight, time-out, circuit breaker, and a share that only revocation may use.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use tokio::sync::Semaphore;

use crate::{
    domain::{catalog::TargetConfig, time::Timestamp},
    ports::{clock::Clock, connector::Fault},
};

/// Why a target is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Opening or minting: waits behind revocations, never the other way round.
    Issue,
    /// Taking away or asking whether it is gone.
    Revoke,
}

/// Failures in a row that open the breaker.
const TRIP: u32 = 5;
/// How long it stays open at first, doubling up to a minute.
const OPEN_FIRST: Duration = Duration::from_secs(1);
const OPEN_LAST: Duration = Duration::from_secs(60);
/// Calls that may wait for opening before new ones are turned away.
const QUEUE: usize = 1024;

/// Guards one target.
pub(crate) struct Bulkhead {
    clock: Arc<dyn Clock>,
    timeout: Duration,
    width: u32,
    all: Semaphore,
    /// Smaller than `all`: the rest is for revocation.
    issue: Semaphore,
    waiting: Semaphore,
    /// Failures of opening and minting hold back only these.
    issuing: Breaker,
    /// Failures of taking away hold back everything.
    revoking: Breaker,
}

/// Opens after failures in a row.
struct Breaker {
    failures: AtomicU32,
    open_until: AtomicI64,
}

impl Breaker {
    const fn closed() -> Self {
        Self { failures: AtomicU32::new(0), open_until: AtomicI64::new(i64::MIN) }
    }

    fn held_back(&self, now: Timestamp) -> Option<String> {
        let open_until = self.open_until.load(Ordering::Acquire);
        (open_until > now.micros()).then(|| {
            let until = Timestamp::from_micros(open_until);
            format!("{} calls in a row failed; held back until {until}", self.failures.load(Ordering::Acquire))
        })
    }

    fn succeeded(&self) {
        self.failures.store(0, Ordering::Release);
    }

    fn failed(&self, now: Timestamp) {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        if failures >= TRIP {
            let open = OPEN_FIRST.saturating_mul(1 << (failures - TRIP).min(6)).min(OPEN_LAST);
            self.open_until.store(now.plus_std(open).micros(), Ordering::Release);
        }
    }
}

impl Bulkhead {
    pub(crate) fn new(config: &TargetConfig, clock: Arc<dyn Clock>) -> Self {
        let all = config.concurrency.max(2) as usize;
        Self {
            clock,
            timeout: Duration::from_secs(u64::from(config.timeout_seconds.max(1))),
            width: config.concurrency.max(2),
            all: Semaphore::new(all),
            issue: Semaphore::new((all * 3 / 4).max(1)),
            waiting: Semaphore::new(QUEUE),
            issuing: Breaker::closed(),
            revoking: Breaker::closed(),
        }
    }

    /// The time-out of one call.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Calls in flight at once.
    pub(crate) const fn width(&self) -> u32 {
        self.width
    }

    /// `None`, or why new access is held back.
    pub(crate) fn held_back(&self) -> Option<String> {
        let now = self.clock.now();
        self.revoking.held_back(now).or_else(|| self.issuing.held_back(now))
    }

    /// Taking away waits for nothing but its own failures.
    pub(crate) fn held_back_for(&self, purpose: Purpose) -> Option<String> {
        match purpose {
            Purpose::Issue => self.held_back(),
            Purpose::Revoke => self.revoking.held_back(self.clock.now()),
        }
    }

    /// Make one call under the target's limits. A panic or a time-out is a fault of this call and of nothing else.
    pub(crate) async fn call<T>(
        &self,
        purpose: Purpose,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.call_before(None, purpose, call).await
    }

    /// The same, under a lease: a call that could last beyond its end is not begun, for somebody else may have verified
    /// meanwhile that nothing is there.
    pub(crate) async fn call_before<T>(
        &self,
        lease_end: Option<Timestamp>,
        purpose: Purpose,
        call: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let closed = |_| Fault::Unavailable("the broker is shutting down".to_owned());
        let _issue = if purpose == Purpose::Issue {
            if let Some(why) = self.held_back() {
                return Err(Fault::Unavailable(why));
            }
            let busy = |_| Fault::Unavailable("too many calls are waiting for this target".to_owned());
            let _place = self.waiting.try_acquire().map_err(busy)?;
            // Nobody waits for longer than a call may last: whoever asked would have gone.
            let turn = tokio::time::timeout(self.timeout, self.issue.acquire()).await;
            Some(
                turn.map_err(|_| Fault::Unavailable("too many calls are made to this target".to_owned()))?
                    .map_err(closed)?,
            )
        } else {
            None
        };
        let _all = self.all.acquire().await.map_err(closed)?;
        // Asked again: it may have tripped while this call waited.
        if let Some(why) = self.held_back_for(purpose) {
            return Err(Fault::Unavailable(why));
        }
        if lease_end.is_some_and(|end| self.clock.now().plus_std(self.timeout) > end) {
            return Err(Fault::Unavailable("its turn came too late: the lease could end before the call".to_owned()));
        }
        let result = match tokio::time::timeout(self.timeout, AssertUnwindSafe(call).catch_unwind()).await {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => Err(Fault::Unavailable("the connector panicked; see the log".to_owned())),
            Err(_elapsed) => Err(Fault::Unavailable(format!("no answer within {} s", self.timeout.as_secs()))),
        };
        let breaker = if purpose == Purpose::Issue { &self.issuing } else { &self.revoking };
        match &result {
            Err(Fault::Unavailable(_)) => breaker.failed(self.clock.now()),
            _ => breaker.succeeded(),
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::clock::ManualClock;

    fn bulkhead(concurrency: u32) -> (Arc<ManualClock>, Bulkhead) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1000)));
        let config = TargetConfig {
            id: "t".into(),
            kind: "fake".into(),
            concurrency,
            timeout_seconds: 1,
            settings: serde_json::Map::new(),
        };
        (Arc::clone(&clock), Bulkhead::new(&config, clock))
    }

    #[tokio::test]
    async fn revocation_has_a_share_that_issuing_cannot_take() {
        let (_, b) = bulkhead(4);
        let stuck = || b.call(Purpose::Issue, std::future::pending::<Result<(), Fault>>());
        let all = futures::future::join_all((0..8).map(|_| stuck()));
        let revoke = b.call(Purpose::Revoke, async { Ok(7) });
        tokio::select! {
            _ = all => panic!("issuing cannot finish first"),
            done = revoke => assert_eq!(done, Ok(7)),
        }
    }

    #[tokio::test]
    async fn a_call_that_could_outlast_its_lease_is_not_begun() {
        let (clock, b) = bulkhead(4);
        let lease = Some(clock.now().plus_std(Duration::from_secs(3)));
        assert_eq!(b.call_before(lease, Purpose::Issue, async { Ok(1) }).await, Ok(1));
        clock.advance(Duration::from_millis(2_001));
        let late = b.call_before::<()>(lease, Purpose::Issue, async { panic!("begun") }).await;
        assert!(matches!(late, Err(Fault::Unavailable(why)) if why.contains("too late")));
        assert!(b.held_back().is_none(), "the target has done nothing wrong");
    }

    #[tokio::test]
    async fn waiting_for_a_turn_has_an_end() {
        let (_, b) = bulkhead(2);
        let _taken = b.issue.acquire().await.unwrap();
        let waiting = b.call::<()>(Purpose::Issue, async { panic!("begun") });
        let late = tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("an end");
        assert!(matches!(late, Err(Fault::Unavailable(why)) if why.contains("too many")));
    }

    #[tokio::test]
    async fn a_panic_and_a_hang_are_faults_of_one_call() {
        let (_, b) = bulkhead(4);
        let fault = b.call::<()>(Purpose::Revoke, async { panic!("boom") }).await;
        assert!(matches!(fault, Err(Fault::Unavailable(_))));
        let fault = b.call::<()>(Purpose::Revoke, std::future::pending()).await;
        assert!(matches!(fault, Err(Fault::Unavailable(why)) if why.contains("no answer")));
        assert_eq!(b.call(Purpose::Issue, async { Ok(1) }).await, Ok(1));
    }

    #[tokio::test]
    async fn the_breaker_opens_after_failures_and_closes_after_a_success() {
        let (clock, b) = bulkhead(4);
        for _ in 0..TRIP {
            let _ = b.call::<()>(Purpose::Revoke, async { Err(Fault::Unavailable("down".into())) }).await;
        }
        assert!(b.held_back().is_some());
        assert!(b.call(Purpose::Issue, async { Ok(()) }).await.is_err());
        clock.advance(Duration::from_secs(2));
        assert_eq!(b.call(Purpose::Issue, async { Ok(()) }).await, Ok(()));
        assert!(b.held_back().is_none());
    }

    #[tokio::test]
    async fn failing_to_open_does_not_hold_back_taking_away() {
        let (_, b) = bulkhead(4);
        for _ in 0..TRIP {
            let _ = b.call::<()>(Purpose::Issue, async { Err(Fault::Unavailable("down".into())) }).await;
        }
        assert!(b.call(Purpose::Issue, async { Ok(()) }).await.is_err());
        assert_eq!(b.call(Purpose::Revoke, async { Ok(()) }).await, Ok(()));
        assert!(b.call(Purpose::Issue, async { Ok(()) }).await.is_err(), "nor does a revocation let opening through");
    }
}
