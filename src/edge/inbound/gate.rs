//! Rate limits: one bucket for each identity that calls, one for each source, one for each address that calls without a
//! valid token.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota,
    clock::{Clock as _, DefaultClock},
};

use super::{
    problem::{Kind, Problem},
    state::{Limits, Rate},
};
use crate::domain::id::{IdentityId, SourceId};

/// Buckets that are full again are dropped after this many calls.
const TIDY_EVERY: u32 = 4096;

/// The rate limits.
pub struct Gate {
    identities: Option<Buckets<IdentityId>>,
    sources: Option<Buckets<SourceId>>,
    addresses: Option<Buckets<IpAddr>>,
}

impl Gate {
    /// With all buckets full.
    pub fn new(limits: &Limits) -> Self {
        Self {
            identities: limits.per_identity.map(Buckets::new),
            sources: limits.per_source.map(Buckets::new),
            addresses: limits.per_address.map(Buckets::new),
        }
    }

    /// One more call of an identity.
    pub fn identity(&self, id: IdentityId) -> Result<(), Problem> {
        self.identities.as_ref().map_or(Ok(()), |b| b.take(&id))
    }

    /// One more call of a source.
    pub fn source(&self, id: SourceId) -> Result<(), Problem> {
        self.sources.as_ref().map_or(Ok(()), |b| b.take(&id))
    }

    /// One more call without a valid token.
    pub fn address(&self, address: IpAddr) -> Result<(), Problem> {
        self.addresses.as_ref().map_or(Ok(()), |b| b.take(&network(address)))
    }
}

/// Whoever has an IPv6 address has a /64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

struct Buckets<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
    calls: AtomicU32,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            limiter: DefaultKeyedRateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            calls: AtomicU32::new(0),
        }
    }

    fn take(&self, key: &K) -> Result<(), Problem> {
        if self.calls.fetch_add(1, Ordering::Relaxed) % TIDY_EVERY == TIDY_EVERY - 1 {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(key).map_err(|not_until| {
            let wait = whole_seconds(not_until.wait_time_from(self.clock.now()));
            Problem::new(Kind::RateLimited, format!("too many calls; come again in {wait} s")).retry_after(wait)
        })
    }
}

/// Rounded up, at least one.
fn whole_seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(rate: Option<Rate>) -> Gate {
        Gate::new(&Limits { per_address: rate, ..Limits::default() })
    }

    #[test]
    fn a_bucket_runs_dry_for_one_address_and_not_for_another() {
        let gate = gate(Some(Rate::new(1, 2)));
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert!(gate.address(a).is_ok() && gate.address(a).is_ok());
        assert_eq!(gate.address(a).unwrap_err().kind(), Kind::RateLimited);
        assert!(gate.address(b).is_ok());
    }

    #[test]
    fn neighbours_in_a_64_share_a_bucket() {
        let gate = gate(Some(Rate::new(1, 1)));
        assert!(gate.address("2001:db8::1".parse().unwrap()).is_ok());
        assert!(gate.address("2001:db8::2".parse().unwrap()).is_err());
        assert!(gate.address("2001:db8:0:1::1".parse().unwrap()).is_ok());
    }

    #[test]
    fn no_rate_is_no_bound() {
        let gate = gate(None);
        assert!((0..1000).all(|_| gate.address(IpAddr::from([127, 0, 0, 1])).is_ok()));
    }

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!(whole_seconds(Duration::from_millis(1001)), 2);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }
}
