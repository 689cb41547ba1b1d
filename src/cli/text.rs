//! Words and times for people, and the neutralising of what a server sends before a terminal sees it.
//! Never decides where text goes.

use jiff::tz::TimeZone;

use crate::domain::time::Timestamp;

/// Colours that carry a meaning. Never the only carrier of it: a word always stands beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Verified, done, allowed.
    Good,
    /// Ends or lapses soon, waiting.
    Warn,
    /// Failed, quarantined, denied.
    Bad,
    /// Of less interest.
    Dim,
    /// A heading.
    Strong,
}

impl Tone {
    const fn start(self) -> &'static str {
        match self {
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
            Self::Strong => "\x1b[1m",
        }
    }

    /// What a state's name is shown in.
    pub fn of_state(state: &str) -> Option<Self> {
        match state {
            "approved" | "active" | "auto" | "ok" => Some(Self::Good),
            "pending" | "approval" | "scheduled" | "activating" | "revoking" => Some(Self::Warn),
            "denied" | "failed" | "quarantined" | "lapsed" => Some(Self::Bad),
            "ended" | "cancelled" => Some(Self::Dim),
            _ => None,
        }
    }
}

const RESET: &str = "\x1b[0m";

/// The only escape sequences that ever reach a terminal.
pub const SEQUENCES: [&str; 6] = ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"];

/// `text` in a tone. The text itself must have been cleaned.
pub fn toned(tone: Tone, text: &str) -> String {
    format!("{}{text}{RESET}", tone.start())
}

fn neutral(c: char) -> char {
    match c {
        '\n' | '\t' | '\r' | '\u{2028}' | '\u{2029}' => ' ',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => '\u{fffd}',
        other => other,
    }
}

/// One line that cannot move the cursor, change the terminal or turn the direction of reading.
pub fn clean(text: &str) -> String {
    text.chars().map(neutral).collect()
}

/// The last gate before a terminal or pipe: lets line feeds and our own colours through and neutralises the rest.
pub fn gate(text: &str, color: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '\x1b'
            && let Some(sequence) = SEQUENCES.iter().find(|s| rest.starts_with(**s))
        {
            if color {
                out.push_str(sequence);
            }
            rest = rest.get(sequence.len()..).unwrap_or_default();
            continue;
        }
        out.push(if c == '\n' { c } else { neutral(c) });
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    out
}

/// JSON as text in which no character can act on a terminal: what `clean` would replace is escaped, so nothing is lost.
pub fn json_text(value: &serde_json::Value, pretty: bool) -> String {
    use std::fmt::Write as _;
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    let text = text.unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || neutral(c) == c {
            out.push(c);
        } else {
            // Outside strings JSON has none of these, and all of them lie in the basic plane.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
    }
    out
}

/// A span for people: seconds below ten minutes, whole minutes below a day.
pub fn span(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let two = |a: u64, x: &str, b: u64, y: &str| if b == 0 { format!("{a}{x}") } else { format!("{a}{x}{b}{y}") };
    match seconds {
        0..60 => format!("{s}s"),
        60..600 => two(m, "m", s, "s"),
        600..3600 => format!("{m}m"),
        3600..86_400 => two(h, "h", m, "m"),
        _ => two(d, "d", h, "h"),
    }
}

/// An instant in local time: the hour if it is today, else with the date.
pub fn local(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let zoned = |t: Timestamp| jiff::Timestamp::from_microsecond(t.micros()).map(|t| t.to_zoned(zone.clone()));
    match (zoned(at), zoned(now)) {
        (Ok(at), Ok(now)) if at.date() == now.date() => at.strftime("%H:%M:%S").to_string(),
        (Ok(at), _) => at.strftime("%Y-%m-%d %H:%M").to_string(),
        (Err(_), _) => clean(&at.to_string()),
    }
}

/// An instant in local time with the distance from now: `16:40:00 (in 29m)`, `16:40:00 (3m ago)`.
pub fn distance(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let place = local(at, now, zone);
    if at > now {
        // Rounded up: what has 0.4 s left has not ended yet.
        let left = u64::try_from((at.micros() - now.micros() + 999_999) / 1_000_000).unwrap_or(0);
        format!("{place} (in {})", span(left))
    } else {
        format!("{place} ({} ago)", span(at.max(now).since(at).as_secs()))
    }
}

/// `1 approval`, `2 approvals`.
pub fn count(n: u32, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A single word for the shell: quoted if it needs to be.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_server_cannot_drive_the_terminal() {
        let evil = "a\x1b]0;owned\x07b\x1b[2Jc\u{9b}31md\r\ne\u{202e}f\u{200b}\x7f";
        let safe = clean(evil);
        assert_eq!(safe, "a␛]0;owned␇b␛[2Jc\u{fffd}31md  e\u{fffd}f\u{fffd}␡");
        assert_eq!(gate(&format!("{}\nx", toned(Tone::Bad, &safe)), true), format!("\x1b[31m{safe}\x1b[0m\nx"));
        assert_eq!(gate(&format!("{}\nx", toned(Tone::Bad, &safe)), false), format!("{safe}\nx"));
        assert!(!gate(evil, true).contains('\x1b'));
        let json = json_text(&serde_json::json!({"x": evil}), false);
        assert!(json.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["x"], evil);
    }

    #[test]
    fn spans_and_instants_read_well() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (61, "1m1s"), (1799, "29m"), (5400, "1h30m"), (90_000, "1d1h")]
        {
            assert_eq!(span(seconds), text);
        }
        let now: Timestamp = "2026-01-31T14:00:00Z".parse().unwrap();
        let soon: Timestamp = "2026-01-31T14:29:59.5Z".parse().unwrap();
        let past: Timestamp = "2026-01-30T14:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(distance(soon, now, &zone), "15:29:59 (in 30m)");
        assert_eq!(distance(past, now, &zone), "2026-01-30 15:00 (1d ago)");
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(shell_word("orders-db/read"), "orders-db/read");
        assert_eq!(shell_word("it's; rm -rf"), r"'it'\''s; rm -rf'");
        assert_eq!(shell_word(""), "''");
    }
}
