//! Instants and durations. An instant is integer unix microseconds; a duration is whole seconds.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An instant: microseconds since 1970-01-01T00:00:00Z. Text form is RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From unix microseconds.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From unix seconds; saturates.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Unix microseconds.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole unix seconds, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Later by `ttl`; saturates at the end of time.
    #[must_use]
    pub const fn plus(self, ttl: Ttl) -> Self {
        Self(self.0.saturating_add((ttl.0 as i64).saturating_mul(1_000_000)))
    }

    /// Later by a machine duration; saturates.
    #[must_use]
    pub fn plus_std(self, d: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Earlier by a machine duration; saturates.
    #[must_use]
    pub fn minus_std(self, d: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds from `earlier` to here, rounded down, zero if `earlier` is later.
    pub fn seconds_since(self, earlier: Self) -> Ttl {
        Ttl(u32::try_from(self.since(earlier).as_secs()).unwrap_or(u32::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(t) => write!(f, "{t}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(s: &str) -> Result<Self, TimeError> {
        s.parse::<jiff::Timestamp>()
            .map(|t| Self(t.as_microsecond()))
            .map_err(|_| TimeError::Instant(s.chars().take(40).collect()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

/// How long access lasts, in whole seconds, at least one. In: `90m`, `1h30m`, `45s`, `2d`, or seconds. Out: seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(u32);

impl Ttl {
    /// From seconds; zero gives `None`, for no access lasts no time.
    pub const fn from_seconds(seconds: u32) -> Option<Self> {
        if seconds == 0 { None } else { Some(Self(seconds)) }
    }

    /// The same, for constants in code; zero becomes one second.
    pub const fn seconds_or_one(seconds: u32) -> Self {
        Self(if seconds == 0 { 1 } else { seconds })
    }

    /// Whole seconds.
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// As a machine duration.
    pub const fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0 as u64)
    }
}

impl fmt::Display for Ttl {
    /// Plain words for people: `1h30m`, `45s`, `2d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

/// A duration or an instant that cannot be used. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Not a duration at all.
    #[error("`{0}` is not a duration; write it like `90m`, `1h30m`, `2d` or as a number of seconds")]
    Duration(String),
    /// Zero or less.
    #[error("a duration must be at least one second")]
    NotPositive,
    /// More than the type holds (136 years).
    #[error("the duration is too long to be represented")]
    Overflow,
    /// Not an instant.
    #[error("`{0}` is not an instant; write it in RFC 3339, like `2026-01-31T14:00:00Z`")]
    Instant(String),
}

impl FromStr for Ttl {
    type Err = TimeError;

    fn from_str(s: &str) -> Result<Self, TimeError> {
        let bad = || TimeError::Duration(s.chars().take(40).collect());
        let text = s.trim();
        if text.is_empty() || text.len() > 40 {
            return Err(bad());
        }
        if let Some(rest) = text.strip_prefix('-') {
            return Err(if rest.starts_with(|c: char| c.is_ascii_digit()) { TimeError::NotPositive } else { bad() });
        }
        let mut total: u64 = 0;
        let mut number: Option<u64> = None;
        let mut last_unit = u64::MAX;
        for c in text.chars() {
            if let Some(digit) = c.to_digit(10) {
                let next = number.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(u64::from(digit)));
                number = Some(next.ok_or(TimeError::Overflow)?);
                continue;
            }
            let unit: u64 = match c {
                'w' => 604_800,
                'd' => 86_400,
                'h' => 3_600,
                'm' => 60,
                's' => 1,
                _ => return Err(bad()),
            };
            if unit >= last_unit {
                return Err(bad());
            }
            last_unit = unit;
            let part = number.take().ok_or_else(bad)?.checked_mul(unit).ok_or(TimeError::Overflow)?;
            total = total.checked_add(part).ok_or(TimeError::Overflow)?;
        }
        if let Some(n) = number {
            if last_unit != u64::MAX {
                return Err(bad());
            }
            total = n;
        }
        let seconds = u32::try_from(total).map_err(|_| TimeError::Overflow)?;
        Self::from_seconds(seconds).ok_or(TimeError::NotPositive)
    }
}

impl Serialize for Ttl {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl serde::de::Visitor<'_> for V {
            type Value = Ttl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"90m\" or a number of seconds")
            }

            fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Ttl, E> {
                let seconds = u32::try_from(v).map_err(|_| E::custom(TimeError::Overflow))?;
                Ttl::from_seconds(seconds).ok_or_else(|| E::custom(TimeError::NotPositive))
            }

            fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Ttl, E> {
                u64::try_from(v).map_err(|_| E::custom(TimeError::NotPositive)).and_then(|v| self.visit_u64(v))
            }

            fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Ttl, E> {
                Err(E::custom(if v <= 0.0 { TimeError::NotPositive } else { TimeError::Duration(v.to_string()) }))
            }

            fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Ttl, E> {
                v.parse().map_err(E::custom)
            }
        }
        d.deserialize_any(V)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, seconds) in [("90m", 5400), ("1h30m", 5400), ("45s", 45), ("3600", 3600), ("2d", 172_800)] {
            assert_eq!(text.parse::<Ttl>().map(Ttl::seconds), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn bad_durations_say_why() {
        for (text, want) in [
            ("0", TimeError::NotPositive),
            ("0m", TimeError::NotPositive),
            ("-5m", TimeError::NotPositive),
            ("99999999999", TimeError::Overflow),
            ("99999999999999999999999", TimeError::Overflow),
        ] {
            assert_eq!(text.parse::<Ttl>(), Err(want), "{text}");
        }
        for text in ["", "soon", "1x", "1m1h", "1h1h", "h", "1h5", "٣m"] {
            assert!(matches!(text.parse::<Ttl>(), Err(TimeError::Duration(_))), "{text}");
        }
    }

    #[test]
    fn durations_print_in_plain_words() {
        assert_eq!(Ttl::seconds_or_one(5400).to_string(), "1h30m");
        assert_eq!(Ttl::seconds_or_one(90_061).to_string(), "1d1h1m1s");
    }

    #[test]
    fn instants_are_rfc_3339_in_utc() {
        let t = Timestamp::from_micros(1_769_868_000_000_001);
        assert_eq!(t.to_string(), "2026-01-31T14:00:00.000001Z");
        assert_eq!(t.to_string().parse::<Timestamp>(), Ok(t));
        assert_eq!("2026-01-31T15:00:00+01:00".parse::<Timestamp>().map(Timestamp::seconds), Ok(1_769_868_000));
    }
}
