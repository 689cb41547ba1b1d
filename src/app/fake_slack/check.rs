//! Sizes and shapes that Slack checks before it takes blocks.

use std::collections::BTreeSet;

use serde_json::Value;

/// Largest view, in bytes.
const VIEW: usize = 250_000;

fn chars(value: Option<&Value>) -> usize {
    value.and_then(Value::as_str).map_or(0, |t| t.chars().count())
}

fn text_of<'a>(holder: &'a Value, name: &str) -> Option<&'a Value> {
    holder.get(name).and_then(|t| t.get("text"))
}

fn within(value: Option<&Value>, most: usize) -> Result<(), &'static str> {
    if (1..=most).contains(&chars(value)) { Ok(()) } else { Err("invalid_blocks") }
}

fn element(e: &Value) -> Result<(), &'static str> {
    if chars(e.get("action_id")) > 255 || chars(e.get("accessibility_label")) > 75 || chars(e.get("url")) > 3_000 {
        return Err("invalid_blocks");
    }
    if e.get("type").and_then(Value::as_str) == Some("button") {
        within(text_of(e, "text"), 75)?;
        if chars(e.get("value")) > 2_000 {
            return Err("invalid_blocks");
        }
    }
    let options = e.get("options").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if options.len() > 100 {
        return Err("invalid_blocks");
    }
    options.iter().try_for_each(|o| {
        within(text_of(o, "text"), 75)?;
        within(o.get("value"), 150)
    })
}

fn block(b: &Value) -> Result<(), &'static str> {
    let list = |name: &str| b.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if chars(b.get("block_id")) > 255 {
        return Err("invalid_blocks");
    }
    match b.get("type").and_then(Value::as_str) {
        Some("header") => within(text_of(b, "text"), 150),
        Some("section") => {
            let fields = list("fields");
            if fields.is_empty() || b.get("text").is_some() {
                within(text_of(b, "text"), 3_000)?;
            }
            if fields.len() > 10 {
                return Err("invalid_blocks");
            }
            fields.iter().try_for_each(|f| within(f.get("text"), 2_000))?;
            b.get("accessory").map_or(Ok(()), element)
        }
        Some("context") => match list("elements") {
            all if all.is_empty() || all.len() > 10 => Err("invalid_blocks"),
            all => all.iter().try_for_each(|e| within(e.get("text"), 3_000)),
        },
        Some("actions") => match list("elements") {
            all if all.is_empty() || all.len() > 25 => Err("invalid_blocks"),
            all => {
                all.iter().try_for_each(element)?;
                unique(all.iter(), "action_id")
            }
        },
        Some("input") => {
            within(text_of(b, "label"), 2_000)?;
            b.get("element").map_or(Err("invalid_blocks"), element)
        }
        Some("divider") => Ok(()),
        _ => Err("invalid_blocks"),
    }
}

/// An id names one block of a message or view, or one element of a block.
fn unique<'a>(all: impl Iterator<Item = &'a Value>, name: &str) -> Result<(), &'static str> {
    let mut seen = BTreeSet::new();
    let mut ids = all.filter_map(|e| e.get(name).and_then(Value::as_str));
    if ids.all(|id| seen.insert(id)) { Ok(()) } else { Err("invalid_blocks") }
}

/// The blocks of a message.
pub(super) fn message(blocks: &Value) -> Result<(), &'static str> {
    match blocks.as_array() {
        None => Ok(()),
        Some(all) if all.len() > 50 => Err("invalid_blocks"),
        Some(all) => {
            all.iter().try_for_each(block)?;
            unique(all.iter(), "block_id")
        }
    }
}

/// A form or a page.
pub(super) fn view(view: &Value) -> Result<(), &'static str> {
    if view.to_string().len() > VIEW {
        return Err("view_too_large");
    }
    let modal = view.get("type").and_then(Value::as_str) == Some("modal");
    if modal {
        within(text_of(view, "title"), 24)?;
        let short = |name| view.get(name).is_none() || within(text_of(view, name), 24).is_ok();
        if !short("submit") || !short("close") || chars(view.get("private_metadata")) > 3_000 {
            return Err("invalid_arguments");
        }
    }
    match view.get("blocks").and_then(Value::as_array) {
        None => Err("invalid_arguments"),
        Some(all) if all.len() > 100 => Err("invalid_blocks"),
        Some(all) => {
            let inputs = all.iter().any(|b| b.get("type").and_then(Value::as_str) == Some("input"));
            if modal && inputs && view.get("submit").is_none() {
                return Err("invalid_arguments");
            }
            all.iter().try_for_each(block)?;
            unique(all.iter(), "block_id")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_slack_would_refuse_is_refused() {
        let text = |n: usize| json!({"type": "plain_text", "text": "x".repeat(n)});
        assert!(message(&json!([{"type": "header", "text": text(150)}])).is_ok());
        assert!(message(&json!([{"type": "header", "text": text(151)}])).is_err());
        assert!(message(&json!([{"type": "section", "text": text(3001)}])).is_err());
        assert!(message(&json!([{"type": "section", "text": text(0)}])).is_err());
        assert!(message(&json!([{"type": "context", "elements": []}])).is_err());
        assert!(message(&json!([{"type": "marquee"}])).is_err());
        let button = |n: usize| json!([{"type": "actions", "elements": [{"type": "button", "text": text(n)}]}]);
        assert!(message(&button(75)).is_ok() && message(&button(76)).is_err());
        let row = |id: &str, actions: &[&str]| {
            let elements: Vec<_> =
                actions.iter().map(|a| json!({"type": "button", "action_id": a, "text": text(1)})).collect();
            json!({"type": "actions", "block_id": id, "elements": elements})
        };
        assert!(message(&json!([row("a", &["end", "open"]), row("b", &["end"])])).is_ok());
        assert!(message(&json!([row("a", &["end", "end"])])).is_err());
        assert!(message(&json!([row("a", &["end"]), row("a", &["end"])])).is_err());
        let modal = |n: usize| json!({"type": "modal", "title": text(n), "blocks": []});
        assert!(view(&modal(24)).is_ok() && view(&modal(25)).is_err());
    }
}
