//! Block Kit, the few blocks that are used here, within the sizes that Slack allows.
//!
//! What people wrote goes into `plain_text`, or is escaped; nothing that they write mentions anybody, links anywhere or
//! breaks a layout. Sizes: header 150, section 3000, field 2000, button 75, value 2000, context and fields 10 each.

use serde_json::{Value, json};

use crate::domain::time::Timestamp;

/// At most so many characters, with an ellipsis in place of what is cut.
pub(super) fn clip(text: &str, most: usize) -> String {
    clip_with(text, most, "…")
}

fn clip_with(text: &str, most: usize, mark: &str) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(mark.chars().count())).collect();
    format!("{}{mark}", kept.trim_end())
}

/// For `mrkdwn`: Slack's three control characters escaped, and its marks of emphasis defused by a joiner of no width.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '*' | '_' | '~' | '`' | '@' | '#' | ':' => {
                out.push(c);
                out.push('\u{2060}');
            }
            '\n' => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn plain(text: &str, most: usize) -> Value {
    let text = clip(text, most);
    json!({"type": "plain_text", "text": if text.is_empty() { "–".to_owned() } else { text }, "emoji": false})
}

/// Text of ours with escaped parts in it. `verbatim`: Slack turns nothing in it into a link.
fn marked(text: &str, most: usize) -> Value {
    json!({"type": "mrkdwn", "text": clip(text, most), "verbatim": true})
}

pub(super) fn header(text: &str) -> Value {
    json!({"type": "header", "text": plain(text, 150)})
}

/// A paragraph in the words of somebody.
pub(super) fn said(text: &str) -> Value {
    let text = clip_with(text, 2_900, "… open in portal");
    json!({"type": "section", "text": plain(&text, 3_000)})
}

/// A paragraph of ours.
pub(super) fn section(text: &str) -> Value {
    json!({"type": "section", "text": marked(text, 3_000)})
}

/// Pairs of a name and a value; values are escaped and clipped by whoever makes them.
pub(super) fn fields(pairs: &[(&str, String)]) -> Value {
    let fields: Vec<Value> =
        pairs.iter().take(10).map(|(name, value)| marked(&format!("*{name}*\n{value}"), 2_000)).collect();
    json!({"type": "section", "fields": fields})
}

/// Small print.
pub(super) fn context(parts: &[String]) -> Value {
    let elements: Vec<Value> = parts.iter().take(10).map(|p| marked(p, 2_000)).collect();
    json!({"type": "context", "elements": elements})
}

pub(super) fn divider() -> Value {
    json!({"type": "divider"})
}

/// A row of at most 25 buttons.
pub(super) fn actions(id: &str, buttons: Vec<Value>) -> Value {
    json!({"type": "actions", "block_id": clip(id, 255), "elements": buttons.into_iter().take(25).collect::<Vec<_>>()})
}

/// A button that tells us.
pub(super) fn button(action: &str, text: &str, value: &str, spoken: &str) -> Value {
    json!({
        "type": "button", "action_id": action, "text": plain(text, 75), "value": clip(value, 2_000),
        "accessibility_label": clip(spoken, 75),
    })
}

/// The same, in a colour that says what it does: `primary` or `danger`.
pub(super) fn styled(style: &str, mut button: Value) -> Value {
    if let Some(fields) = button.as_object_mut() {
        fields.insert("style".to_owned(), style.into());
    }
    button
}

/// The same, asked once more before it tells us.
pub(super) fn asked(question: &str, yes: &str, mut button: Value) -> Value {
    let confirm = json!({
        "title": plain("Are you sure?", 100), "text": plain(question, 300), "confirm": plain(yes, 30),
        "deny": plain("Cancel", 30),
    });
    if let Some(fields) = button.as_object_mut() {
        fields.insert("confirm".to_owned(), confirm);
    }
    button
}

/// A button that opens a page. A GET there changes nothing.
pub(super) fn link(text: &str, url: &str, spoken: &str) -> Value {
    json!({
        "type": "button", "action_id": "open", "text": plain(text, 75), "url": clip(url, 3_000),
        "accessibility_label": clip(spoken, 75),
    })
}

/// An instant, shown by each reader's Slack in their own zone.
pub(super) fn date(at: &str) -> String {
    let seconds = at.parse::<Timestamp>().map_or(0, Timestamp::seconds);
    format!("<!date^{seconds}^{{date_short_pretty}} {{time}}|{at}>")
}

/// A form.
pub(super) fn modal(callback: &str, title: &str, submit: Option<&str>, metadata: &str, blocks: Vec<Value>) -> Value {
    let mut view = json!({
        "type": "modal", "callback_id": callback, "title": plain(title, 24), "close": plain("Close", 24),
        "private_metadata": clip(metadata, 3_000), "blocks": blocks.into_iter().take(100).collect::<Vec<_>>(),
    });
    if let (Some(text), Some(fields)) = (submit, view.as_object_mut()) {
        fields.insert("submit".to_owned(), plain(text, 24));
    }
    view
}

/// A question in a form.
pub(super) fn input(id: &str, label: &str, optional: bool, element: &Value) -> Value {
    json!({"type": "input", "block_id": id, "label": plain(label, 2_000), "optional": optional, "element": element})
}

/// One choice of a list.
pub(super) fn option(text: &str, value: &str) -> Value {
    json!({"text": plain(text, 75), "value": clip(value, 150)})
}

/// The same with a line below it.
pub(super) fn described(mut option: Value, text: &str) -> Value {
    if let Some(fields) = option.as_object_mut() {
        fields.insert("description".to_owned(), plain(text, 75));
    }
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_people_write_acts() {
        let text = escape("<!channel> <https://evil|click> *bold* @here & <@U1>");
        assert!(!text.contains('<') && !text.contains('>'), "{text}");
        assert!(text.starts_with("&lt;!channel&gt;"), "{text}");
        assert!(!text.contains("*b") && !text.contains("@h"), "{text}");
    }

    #[test]
    fn what_is_too_long_is_cut_with_a_mark() {
        assert_eq!(clip("abcdef", 4), "abc…");
        assert_eq!(clip("äöü", 3), "äöü");
        let long = said(&"é".repeat(4_000));
        let text = long["text"]["text"].as_str().unwrap();
        assert!(text.chars().count() <= 3_000 && text.ends_with("… open in portal"));
        assert!(header(&"x".repeat(500))["text"]["text"].as_str().unwrap().chars().count() == 150);
    }

    #[test]
    fn dates_are_the_readers_own() {
        assert_eq!(date("2026-11-23T12:00:00Z"), "<!date^1795435200^{date_short_pretty} {time}|2026-11-23T12:00:00Z>");
    }
}
