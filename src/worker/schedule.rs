//! Cron schedules: five fields as in crontab(5), in UTC.
//!
//! The `cron` crate wants a seconds field and counts Sunday as 1, so `1-5` would mean Sunday to Thursday. Numbers of
//! week days are rewritten to names before they reach it; the rest is passed on as it is.

use std::str::FromStr;

use crate::domain::time::Timestamp;

/// When a periodic task runs.
#[derive(Debug, Clone)]
pub struct Schedule {
    text: String,
    parsed: cron::Schedule,
}

/// A schedule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a schedule: write five fields as in crontab, like `0 * * * *` or `30 2 * * 1-5` (UTC)")]
pub struct BadSchedule(String);

const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// One week day, by number (0 and 7 are Sunday) or name.
fn day(text: &str) -> Option<usize> {
    match text.parse::<usize>() {
        Ok(n) if n <= 7 => Some(n % 7),
        Ok(_) => None,
        Err(_) => DAYS.iter().position(|d| d.eq_ignore_ascii_case(text)),
    }
}

/// The week-day field as a list of names.
fn week_days(field: &str) -> Option<String> {
    if field == "*" || field == "?" {
        return Some("*".to_owned());
    }
    let mut names: Vec<&str> = Vec::new();
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().ok().filter(|s| (1..=6).contains(s))?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (0, 6),
            Some((from, to)) => {
                let from = day(from)?;
                let to = if to == "7" { 7 } else { day(to)? };
                // `5-1` runs over the end of the week.
                (from, if to < from { to + 7 } else { to })
            }
            None => (day(range)?, day(range)?),
        };
        names.extend((from..=to).step_by(step).filter_map(|d| DAYS.get(d % 7)));
    }
    names.sort_by_key(|n| DAYS.iter().position(|d| d == n));
    names.dedup();
    Some(names.join(","))
}

impl FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        let bad = || BadSchedule(text.chars().take(80).collect());
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day_of_month, month, day_of_week] = fields.as_slice() else { return Err(bad()) };
        let days = week_days(day_of_week).ok_or_else(bad)?;
        let normal = format!("0 {minute} {hour} {day_of_month} {month} {days}");
        let parsed = normal.parse().map_err(|_| bad())?;
        Ok(Self { text: text.to_owned(), parsed })
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Schedule {
    /// At seven minutes past every hour: not when everybody else's jobs run.
    pub fn hourly() -> Self {
        Self::fixed("7 * * * *")
    }

    /// Every night.
    pub fn daily() -> Self {
        Self::fixed("23 3 * * *")
    }

    #[allow(clippy::expect_used, reason = "the two literals above are tested")]
    fn fixed(text: &str) -> Self {
        text.parse().expect("a literal schedule")
    }

    /// The first instant after `now` at which it is due.
    pub fn after(&self, now: Timestamp) -> Option<Timestamp> {
        let now = chrono::DateTime::from_timestamp_micros(now.micros())?;
        self.parsed.after(&now).next().map(|t| Timestamp::from_micros(t.timestamp_micros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let schedule: Schedule = schedule.parse().unwrap();
        schedule.after(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn monday_is_one_and_sunday_is_zero_or_seven() {
        // 2026-11-22 is a Sunday.
        assert_eq!(next("0 9 * * 1-5", "2026-11-21T12:00:00Z"), "2026-11-23T09:00:00Z");
        assert_eq!(next("0 9 * * 0", "2026-11-21T12:00:00Z"), "2026-11-22T09:00:00Z");
        assert_eq!(next("0 9 * * 7", "2026-11-21T12:00:00Z"), "2026-11-22T09:00:00Z");
        assert_eq!(next("0 9 * * 5-7", "2026-11-23T12:00:00Z"), "2026-11-27T09:00:00Z");
        assert_eq!(next("0 9 * * mon,wed", "2026-11-23T12:00:00Z"), "2026-11-25T09:00:00Z");
        assert_eq!(next("0 9 * * 6-1", "2026-11-24T12:00:00Z"), "2026-11-28T09:00:00Z");
    }

    #[test]
    fn minutes_and_the_fixed_ones() {
        assert_eq!(next("*/15 * * * *", "2026-11-21T12:01:00Z"), "2026-11-21T12:15:00Z");
        assert!(Schedule::hourly().after(Timestamp::from_seconds(0)).is_some());
        assert!(Schedule::daily().after(Timestamp::from_seconds(0)).is_some());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "* * * *", "* * * * * *", "61 * * * *", "* * * * 8", "* * * * x", "* * * * 1/0"] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }
}
