//! What every handler sees: the broker, the limits, and the edge's own counters. Nothing of it outlives the process.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use metrics_exporter_prometheus::PrometheusHandle;
use ulid::Ulid;

use super::{gate::Gate, metrics::Routes, portal::Portal};
use crate::{
    broker::Broker,
    domain::{
        id::{CorrelationId, IdentityId, SourceId},
        time::Timestamp,
    },
    ports::entropy::Entropy,
};

/// What the edge is made of.
pub struct EdgeParts {
    /// The verbs.
    pub broker: Arc<Broker>,
    /// Renders `/metrics`; without it the path answers 404.
    pub prometheus: Option<PrometheusHandle>,
    /// How much is let in.
    pub limits: Limits,
    /// Makes request ids unlike those of other processes.
    pub entropy: Arc<dyn Entropy>,
    /// Where the portal is reached and who vouches for people; without it there is no portal.
    pub portal: Portal,
}

/// A bucket of calls: it holds `burst` and fills by `per_second`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls a second, in the long run.
    pub per_second: NonZeroU32,
    /// Calls at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// From plain numbers; zero becomes one.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        const fn at_least_one(n: u32) -> NonZeroU32 {
            match NonZeroU32::new(n) {
                Some(n) => n,
                None => NonZeroU32::MIN,
            }
        }
        Self { per_second: at_least_one(per_second), burst: at_least_one(burst) }
    }
}

/// How much is let in; the defaults suit production.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest body, in bytes.
    pub body_bytes: usize,
    /// How long a body may take to come in.
    pub body_time: Duration,
    /// How long an answer may take before the client is told 504. A change that has begun is carried through.
    pub answer_time: Duration,
    /// Calls at once, over all callers; more are told 503. `/healthz`, `/readyz` and `/metrics` are not counted.
    pub in_flight: usize,
    /// Event streams at once, over all callers.
    pub streams: usize,
    /// Event streams at once of one caller.
    pub streams_each: usize,
    /// Calls of one identity; `None` for no bound.
    pub per_identity: Option<Rate>,
    /// SCIM calls of one source; `None` for no bound.
    pub per_source: Option<Rate>,
    /// Calls without a valid token from one address (one /64 of IPv6); `None` for no bound.
    pub per_address: Option<Rate>,
    /// The last entry of `X-Forwarded-For` is the client's address. Only behind a proxy that sets it.
    pub behind_proxy: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            body_time: Duration::from_secs(10),
            answer_time: Duration::from_secs(30),
            in_flight: 1024,
            streams: 2048,
            streams_each: 32,
            per_identity: Some(Rate::new(500, 1000)),
            // An import at full speed is not cut.
            per_source: Some(Rate::new(5_000, 10_000)),
            per_address: Some(Rate::new(20, 100)),
            behind_proxy: false,
        }
    }
}

/// What every handler sees.
pub struct Shared {
    /// The verbs.
    pub broker: Arc<Broker>,
    /// How much is let in.
    pub limits: Limits,
    pub(in crate::edge) prometheus: Option<PrometheusHandle>,
    /// Rate limits.
    pub gate: Gate,
    pub(in crate::edge) routes: Routes,
    pub(in crate::edge) openapi: Bytes,
    /// Where the portal is reached and who vouches for people.
    pub portal: Portal,
    /// Randomness for what the edge itself makes up: states of sign-ins.
    pub(in crate::edge) entropy: Arc<dyn Entropy>,
    pub(in crate::edge) in_flight: AtomicUsize,
    pub(in crate::edge) streams: AtomicUsize,
    /// By caller.
    pub(in crate::edge) streams_of: Mutex<BTreeMap<IdentityId, usize>>,
    ids: RequestIds,
}

/// The state of the router.
pub type Edge = Arc<Shared>;

impl Shared {
    pub(in crate::edge) fn new(parts: EdgeParts, routes: Routes, openapi: Bytes) -> Edge {
        Arc::new(Self {
            gate: Gate::new(&parts.limits),
            broker: parts.broker,
            limits: parts.limits,
            prometheus: parts.prometheus,
            routes,
            openapi,
            portal: parts.portal,
            in_flight: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            streams_of: Mutex::default(),
            ids: RequestIds::new(&*parts.entropy),
            entropy: parts.entropy,
        })
    }

    pub(in crate::edge) fn next_id(&self) -> CorrelationId {
        self.ids.next(self.broker.now())
    }
}

/// Ids of calls: the millisecond, a random start drawn once, and a counter. No randomness is drawn for a call, for
/// these ids are names and not secrets.
struct RequestIds {
    start: u128,
    count: AtomicU64,
}

impl RequestIds {
    fn new(entropy: &dyn Entropy) -> Self {
        let mut random = [0_u8; 16];
        // Without randomness the ids are still unique within this process.
        let _ = entropy.fill(&mut random[..10]);
        Self { start: u128::from_le_bytes(random), count: AtomicU64::new(0) }
    }

    fn next(&self, now: Timestamp) -> CorrelationId {
        let count = u128::from(self.count.fetch_add(1, Ordering::Relaxed));
        let millis = u64::try_from(now.micros().div_euclid(1000)).unwrap_or(0);
        CorrelationId::new(Ulid::from_parts(millis, self.start.wrapping_add(count)))
    }
}

/// One call, known to everything that handles it.
#[derive(Debug)]
pub struct Call {
    /// Its id: in the `X-Request-Id` header, in problems and in the log; that of the call that asked stays with the
    /// request and its grants for good.
    pub id: CorrelationId,
    /// Where it came from.
    pub address: IpAddr,
    /// Who calls, once that is known.
    pub actor: OnceLock<IdentityId>,
    /// Which source calls, once that is known.
    pub source: OnceLock<SourceId>,
}

/// A place in a bounded number of places; given back when dropped.
pub(in crate::edge) struct Place {
    edge: Edge,
    counter: fn(&Shared) -> &AtomicUsize,
}

impl Place {
    /// Take a place, if fewer than `bound` are taken.
    pub(in crate::edge) fn take(edge: &Edge, counter: fn(&Shared) -> &AtomicUsize, bound: usize) -> Option<Self> {
        let place = Self { edge: Arc::clone(edge), counter };
        (counter(edge).fetch_add(1, Ordering::AcqRel) < bound).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        (self.counter)(&self.edge).fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::entropy::EntropyError;

    struct Sevens;
    impl Entropy for Sevens {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
            bytes.fill(7);
            Ok(())
        }
    }

    #[test]
    fn request_ids_are_distinct_and_carry_the_time() {
        let ids = RequestIds::new(&Sevens);
        let now = Timestamp::from_seconds(1_769_868_000);
        let (a, b) = (ids.next(now), ids.next(now));
        assert_ne!(a, b);
        assert_eq!(a.ulid().timestamp_ms(), 1_769_868_000_000);
    }
}
