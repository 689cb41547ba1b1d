//! Slack's rates (<https://api.slack.com/apis/rate-limits>): a bucket for each method and, where messages are posted, a
//! second between two of them in one channel. What Slack says with `Retry-After` holds for the method.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    domain::time::Timestamp,
    ports::{chat::ChatError, clock::Clock},
};

/// Between two messages in one channel.
const BETWEEN: Duration = Duration::from_secs(1);
/// Channels remembered; beyond it those whose turn has passed are forgotten.
const CHANNELS: usize = 1_000;

/// Calls a minute that Slack allows: tiers 2, 3 and 4, and less than all of it.
const fn a_minute(method: &str) -> u32 {
    match method.as_bytes() {
        b"chat.postMessage" => 240,
        b"chat.update" | b"users.lookupByEmail" | b"conversations.info" => 50,
        b"views.publish" | b"views.open" | b"views.update" | b"users.info" | b"chat.postEphemeral" => 100,
        _ => 20,
    }
}

#[derive(Debug, Default)]
struct State {
    /// By method: the instant at which its bucket would be full (GCRA), and until when Slack said to wait.
    methods: BTreeMap<&'static str, (Timestamp, Timestamp)>,
    /// By channel: when the next message may go.
    channels: BTreeMap<String, Timestamp>,
}

pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl Pace {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Take one call, or say how long to wait for it.
    pub(super) fn take(&self, method: &'static str, channel: &str) -> Result<(), ChatError> {
        let now = self.clock.now();
        let Ok(mut state) = self.state.lock() else { return Ok(()) };
        let interval = Duration::from_secs(60) / a_minute(method);
        // A quarter of a minute's calls may come at once.
        let burst = Duration::from_secs(15);
        let (full, held) = state.methods.get(method).copied().unwrap_or_default();
        if held > now {
            return Err(ChatError::Later(held.since(now)));
        }
        let full = full.max(now);
        let early = full.since(now);
        if early > burst {
            return Err(ChatError::Later(early.saturating_sub(burst)));
        }
        if method == "chat.postMessage" && !channel.is_empty() {
            if let Some(next) = state.channels.get(channel).filter(|next| **next > now) {
                return Err(ChatError::Later(next.since(now)));
            }
            if state.channels.len() >= CHANNELS {
                state.channels.retain(|_, next| *next > now);
            }
            state.channels.insert(channel.to_owned(), now.plus_std(BETWEEN));
        }
        state.methods.insert(method, (full.plus_std(interval), held));
        Ok(())
    }

    /// Slack said to wait.
    pub(super) fn hold(&self, method: &'static str, wait: Duration) {
        let until = self.clock.now().plus_std(wait);
        if let Ok(mut state) = self.state.lock() {
            state.methods.entry(method).or_default().1 = until;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::clock::ManualClock;

    fn pace() -> (Arc<ManualClock>, Pace) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_769_868_000)));
        (Arc::clone(&clock), Pace::new(clock as _))
    }

    #[test]
    fn one_message_a_second_in_a_channel() {
        let (clock, pace) = pace();
        assert!(pace.take("chat.postMessage", "C1").is_ok());
        assert_eq!(pace.take("chat.postMessage", "C1"), Err(ChatError::Later(BETWEEN)));
        assert!(pace.take("chat.postMessage", "C2").is_ok());
        clock.advance(BETWEEN);
        assert!(pace.take("chat.postMessage", "C1").is_ok());
    }

    #[test]
    fn a_method_is_bounded_by_its_tier() {
        let (clock, pace) = pace();
        let taken = |pace: &Pace| (0..1000).take_while(|_| pace.take("chat.update", "C1").is_ok()).count();
        let at_once = taken(&pace);
        assert!((12..=14).contains(&at_once), "{at_once}");
        clock.advance(Duration::from_secs(60));
        assert_eq!(taken(&pace), at_once);
        for _ in 0..50 {
            clock.advance(Duration::from_millis(1200));
            assert!(pace.take("chat.update", "C1").is_ok());
        }
    }

    #[test]
    fn what_slack_says_holds_for_the_method() {
        let (clock, pace) = pace();
        pace.hold("chat.update", Duration::from_secs(30));
        assert_eq!(pace.take("chat.update", "C1"), Err(ChatError::Later(Duration::from_secs(30))));
        assert!(pace.take("views.open", "").is_ok());
        clock.advance(Duration::from_secs(30));
        assert!(pace.take("chat.update", "C1").is_ok());
    }
}
