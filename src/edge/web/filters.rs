//! Small pieces of pages that templates put together: symbols, instants, clocks.

#![allow(
    clippy::unnecessary_wraps,
    clippy::inline_always,
    clippy::unused_self,
    reason = "the shape of a filter, and what is made of it, are askama's"
)]

use std::fmt::{Display, Write as _};

use askama::{Result, Values, filters::Safe};

use super::{
    assets::assets,
    marks::Status,
    words::{Clock, Tide, When},
};

/// A symbol of ours, for the eye only: words stand beside it.
#[askama::filter_fn]
pub fn icon(name: impl Display, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(symbol(&name)))
}

fn symbol(name: &dyn Display) -> String {
    format!("<svg class=\"icon\" aria-hidden=\"true\"><use href=\"{}#{name}\"/></svg>", assets().icons)
}

/// An instant: in UTC, and in the reader's time zone once scripts run.
#[askama::filter_fn]
pub fn at(when: &When, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(instant(when)))
}

fn instant(when: &When) -> String {
    format!(r#"<time datetime="{0}" title="{0}">{1}</time>"#, escaped(&when.iso), escaped(&when.text))
}

/// The tide line: a bar that ebbs. The words beside it say the same.
fn bar(tide: &Tide) -> String {
    format!(
        r#"<svg class="tide" viewBox="0 0 1000 6" preserveAspectRatio="none" aria-hidden="true" data-from="{}" data-until="{}"><rect class="tide-bed" width="1000" height="6" rx="3"/><rect class="tide-water" width="{}" height="6" rx="3"/></svg>"#,
        tide.from, tide.until, tide.left
    )
}

/// The one clock: the line, and beside it when and how soon.
#[askama::filter_fn]
pub fn clock(clock: &Clock, _: &dyn Values) -> Result<Safe<String>> {
    let mut html = String::new();
    let soon = if clock.soon { " soon" } else { "" };
    let _infallible = write!(
        html,
        r#"<p class="clock{soon}">{}<span>{} {}, in <b data-left="{}">{}</b></span></p>"#,
        symbol(&"clock"),
        clock.verb,
        instant(&clock.at),
        clock.tide.until,
        escaped(&clock.left)
    );
    let line = bar(&clock.tide);
    Ok(Safe(format!(r#"<div class="ebb{soon}">{line}{html}</div>"#)))
}

/// A state: symbol, word, colour.
#[askama::filter_fn]
pub fn status(status: &Status, _: &dyn Values) -> Result<Safe<String>> {
    Ok(Safe(format!(r#"<span class="status {}">{}{}</span>"#, status.tone, symbol(&status.icon), status.label)))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let when = When { iso: "\"><script>".to_owned(), text: "<b>&'".to_owned() };
        assert!(!instant(&when).contains("<script>") && instant(&when).contains("&lt;b&gt;&amp;&#39;"));
    }
}
