//! 24 hours as lanes, from the hour that has begun: where each grant begins and ends on a line of 1,440 minutes.

use crate::domain::time::Timestamp;

/// Minutes on the line.
pub const MINUTES: u32 = 24 * 60;
/// Between two marks.
const EVERY: u32 = 4 * 60;

/// Where a grant is on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// Where it begins.
    pub x: u32,
    /// How long it is; never so short that it cannot be seen.
    pub width: u32,
    /// It goes on beyond the line.
    pub beyond: bool,
}

/// A mark on the line.
pub struct Tick {
    /// Where.
    pub x: u32,
    /// Exactly, for scripts.
    pub iso: String,
    /// `16:00`.
    pub text: String,
}

/// Where the line begins: the hour that has begun.
fn begin(now: Timestamp) -> Timestamp {
    Timestamp::from_seconds(now.seconds().div_euclid(3600) * 3600)
}

/// Where now is on the line.
pub fn minute(now: Timestamp) -> u32 {
    u32::try_from(now.since(begin(now)).as_secs() / 60).unwrap_or(0)
}

/// The lane of what begins and ends then; nothing if it does not touch the line.
pub fn lane(now: Timestamp, from: Option<Timestamp>, until: Option<Timestamp>) -> Option<Lane> {
    let first = begin(now);
    let minute = |at: Timestamp| u32::try_from(at.since(first).as_secs() / 60).unwrap_or(u32::MAX);
    let start = from.map_or_else(|| minute(now), minute);
    let end = until.map_or(start, minute);
    if start >= MINUTES {
        return None;
    }
    let width = end.min(MINUTES).saturating_sub(start).max(8).min(MINUTES - start);
    Some(Lane { x: start, width, beyond: end > MINUTES })
}

/// The marks.
pub fn ticks(now: Timestamp) -> Vec<Tick> {
    (0..MINUTES / EVERY)
        .map(|n| {
            let at = begin(now).plus_std(std::time::Duration::from_secs(u64::from(n * EVERY) * 60));
            let when = super::words::when(at, at);
            Tick { x: n * EVERY, iso: when.iso, text: when.text.trim_end_matches(" UTC").to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_stay_on_the_line() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let at = |minutes: u64| Some(now.plus_std(std::time::Duration::from_secs(minutes * 60)));
        assert_eq!(lane(now, at(0), at(60)), Some(Lane { x: 0, width: 60, beyond: false }));
        assert_eq!(lane(now, at(120), at(3000)), Some(Lane { x: 120, width: 1320, beyond: true }));
        assert_eq!(lane(now, at(0), at(1)), Some(Lane { x: 0, width: 8, beyond: false }));
        assert_eq!(lane(now, at(1500), at(1600)), None);
        assert_eq!(lane(now, at(1439), at(1440)), Some(Lane { x: 1439, width: 1, beyond: false }));
        assert_eq!(ticks(now).len(), 6);
    }
}
