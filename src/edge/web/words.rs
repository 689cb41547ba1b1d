//! Instants and durations in plain words, and how far a tide has ebbed. What scripts need to go on from there stands
//! beside the words.

use std::fmt::Write as _;

use crate::domain::time::Timestamp;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// An instant: for people, and exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    /// RFC 3339, UTC.
    pub iso: String,
    /// `16:40 UTC`, or with the day if it is another one.
    pub text: String,
}

/// The one clock of a request or grant.
#[derive(Debug, Clone)]
pub struct Clock {
    /// `ends`, `lapses`, `starts`.
    pub verb: &'static str,
    /// When.
    pub at: When,
    /// `29 min`.
    pub left: String,
    /// How much is left.
    pub tide: Tide,
    /// It is not long any more.
    pub soon: bool,
}

/// A bar that ebbs: so much of a thousand is left.
#[derive(Debug, Clone)]
pub struct Tide {
    /// 0 … 1000.
    pub left: u32,
    /// When it was full.
    pub from: String,
    /// When it is empty.
    pub until: String,
}

/// A number of seconds in words: `45 s`, `29 min`, `1 h 30 min`, `2 days 3 h`. Rounded down to two units.
pub fn span(seconds: u64) -> String {
    let units = [(DAY, "day"), (HOUR, "h"), (MINUTE, "min"), (1, "s")];
    let mut text = String::new();
    let Some(first) = units.iter().position(|(size, _)| seconds >= *size) else { return "0 s".to_owned() };
    let mut rest = seconds;
    for (size, unit) in units.iter().skip(first).take(if first >= 2 { 1 } else { 2 }) {
        let n = rest / size;
        rest %= size;
        if n > 0 {
            let plural = if *unit == "day" && n > 1 { "s" } else { "" };
            let space = if text.is_empty() { "" } else { " " };
            let _infallible = write!(text, "{space}{n} {unit}{plural}");
        }
    }
    text
}

/// How far an instant lies ahead or back.
pub fn distance(now: Timestamp, at: Timestamp) -> String {
    if at > now {
        format!("in {}", span(at.since(now).as_secs().max(1)))
    } else if now.since(at).as_secs() < MINUTE {
        "just now".to_owned()
    } else {
        format!("{} ago", span(now.since(at).as_secs()))
    }
}

/// An instant for people.
pub fn when(now: Timestamp, at: Timestamp) -> When {
    let iso = rounded(at).to_string();
    let today = rounded(now).to_string();
    let (day, time) = iso.split_once('T').unwrap_or((&iso, ""));
    let clock = time.get(..5).unwrap_or(time);
    let text = if today.starts_with(day) {
        format!("{clock} UTC")
    } else {
        format!("{}, {clock} UTC", day_words(day, today.get(..4).unwrap_or_default()))
    };
    When { iso, text }
}

/// An instant of a view.
pub fn when_of(now: Timestamp, text: &str) -> When {
    match text.parse() {
        Ok(at) => when(now, at),
        Err(_) => When { iso: text.to_owned(), text: text.to_owned() },
    }
}

/// An instant of a view, as far as it is one.
pub fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// The clock that runs from `from` to `until`.
pub fn clock(verb: &'static str, now: Timestamp, from: Timestamp, until: Timestamp) -> Clock {
    let left = until.since(now);
    let whole = until.since(from);
    let part = if whole.is_zero() { 0 } else { left.as_millis().min(whole.as_millis()) * 1000 / whole.as_millis() };
    Clock {
        verb,
        at: when(now, until),
        left: span(left.as_secs()),
        soon: left.as_secs() < 10 * MINUTE || part < 100,
        tide: Tide {
            left: u32::try_from(part).unwrap_or(1000),
            from: rounded(from).to_string(),
            until: rounded(until).to_string(),
        },
    }
}

/// Whole seconds are enough for people.
fn rounded(at: Timestamp) -> Timestamp {
    Timestamp::from_seconds(at.seconds())
}

fn day_words(day: &str, this_year: &str) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = day.split('-');
    let (Some(year), Some(month), Some(date)) = (parts.next(), parts.next(), parts.next()) else {
        return day.to_owned();
    };
    let name = month.parse::<usize>().ok().and_then(|m| MONTHS.get(m.wrapping_sub(1))).copied().unwrap_or(month);
    let date = date.trim_start_matches('0');
    if year == this_year { format!("{date} {name}") } else { format!("{date} {name} {year}") }
}

/// The short form of an id: enough to tell two apart.
pub fn short(id: &str) -> String {
    let (prefix, ulid) = id.split_once('_').unwrap_or(("", id));
    let start = ulid.len().saturating_sub(6);
    let kind = match prefix {
        "req" => "R",
        "grt" => "G",
        "idn" => "I",
        "ses" => "S",
        "evt" => "E",
        _ => "#",
    };
    format!("{kind}-{}", ulid.get(start..).unwrap_or(ulid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, want) in [
            (0, "0 s"),
            (45, "45 s"),
            (60, "1 min"),
            (1799, "29 min"),
            (3600, "1 h"),
            (5400, "1 h 30 min"),
            (90_061, "1 day 1 h"),
            (183_600, "2 days 3 h"),
            (172_860, "2 days"),
        ] {
            assert_eq!(span(seconds), want);
        }
    }

    #[test]
    fn an_instant_of_another_day_says_which() {
        let now = at("2026-11-23T12:00:00Z");
        assert_eq!(when(now, at("2026-11-23T16:40:03.5Z")).text, "16:40 UTC");
        assert_eq!(when(now, at("2026-11-04T06:05:00Z")).text, "4 Nov, 06:05 UTC");
        assert_eq!(when(now, at("2027-01-04T06:05:00Z")).text, "4 Jan 2027, 06:05 UTC");
        assert_eq!(when(now, at("2026-11-23T16:40:03.5Z")).iso, "2026-11-23T16:40:03Z");
    }

    #[test]
    fn a_clock_ebbs() {
        let clock = |now| clock("ends", at(now), at("2026-11-23T12:00:00Z"), at("2026-11-23T13:00:00Z"));
        assert_eq!(clock("2026-11-23T12:00:00Z").tide.left, 1000);
        assert_eq!((clock("2026-11-23T12:30:00Z").tide.left, clock("2026-11-23T12:30:00Z").soon), (500, false));
        assert_eq!((clock("2026-11-23T12:55:00Z").left.as_str(), clock("2026-11-23T12:55:00Z").soon), ("5 min", true));
        assert_eq!(clock("2026-11-23T14:00:00Z").tide.left, 0);
    }

    #[test]
    fn distances_have_a_direction() {
        let now = at("2026-11-23T12:00:00Z");
        assert_eq!(distance(now, at("2026-11-23T12:29:30Z")), "in 29 min");
        assert_eq!(distance(now, at("2026-11-23T11:59:30Z")), "just now");
        assert_eq!(distance(now, at("2026-11-23T10:00:00Z")), "2 h ago");
    }

    #[test]
    fn ids_are_shortened_to_what_differs() {
        assert_eq!(short("req_01KVF3T2M8XQ4B7N9D5R6S1W0Z"), "R-6S1W0Z");
    }
}
