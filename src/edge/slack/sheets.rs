//! Messages: a page of the broker as blocks, with a text for screen readers and notifications.

use serde_json::{Value, json};

use super::blocks::{
    actions, asked, button, clip, context, date, divider, escape, fields, header, link, said, section, styled,
};
use crate::{
    broker::{
        slack::page::{HomePage, RequestPage},
        view::{ApprovalView, GrantView, RequestView},
    },
    domain::{
        capability::RevocationClass,
        grant::{EndReason, GrantState},
        request::RequestState,
        slack::SlackDecision,
        time::{Timestamp, Ttl},
    },
};

/// A message: what is read aloud, and what is seen.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sheet {
    pub(super) text: String,
    pub(super) blocks: Vec<Value>,
}

impl Sheet {
    /// As arguments of the method that sends it. Nothing in the text is parsed, nothing is unfurled.
    pub(super) fn arguments(&self) -> Value {
        json!({
            "text": self.text, "blocks": self.blocks, "parse": "none", "link_names": false,
            "unfurl_links": false, "unfurl_media": false,
        })
    }
}

pub(super) fn span(seconds: u32) -> String {
    Ttl::seconds_or_one(seconds).to_string()
}

fn name(text: &str) -> String {
    escape(&clip(text, 100))
}

fn what(page: &RequestPage) -> String {
    if page.titles.is_empty() { page.request.entitlements.join(", ") } else { page.titles.join(", ") }
}

/// What a button that decides carries: the request, and the terms that were shown.
fn value(page: &RequestPage) -> String {
    format!("{}.{}", page.request.id, page.terms)
}

/// A status in words, with a mark in front of it.
fn status(page: &RequestPage) -> String {
    let r = &page.request;
    let by = |approve: bool| {
        let names: Vec<String> =
            page.decisions.iter().filter(|d| d.approve == approve).map(|d| name(&d.approver.name)).collect();
        if names.is_empty() { String::new() } else { format!(" by {}", names.join(", ")) }
    };
    let at = r.decided_at.as_deref().map(date).unwrap_or_default();
    match r.state {
        RequestState::Pending => format!("⏳ *Waiting*: {} of {} approvals", r.approvals.have, r.approvals.needed),
        RequestState::Approved => format!("✅ *Approved*{}, {at}{}", by(true), standing(r)),
        RequestState::Denied => format!("⛔ *Denied*{}, {at}", by(false)),
        RequestState::Cancelled => format!("↩️ *Taken back*, {at}"),
        RequestState::Lapsed => format!("⌛ *Lapsed*: nobody decided in time, {at}"),
    }
}

/// Where somebody asked, in words.
fn source(via: &str) -> &str {
    match via {
        "web" => "the portal",
        "cli" => "the command line",
        "slack" => "Slack",
        "mcp" => "an agent's tools",
        _ => "the API",
    }
}

/// How its grants stand, once there are some.
fn standing(r: &RequestView) -> String {
    let of = |state: GrantState| r.grants.iter().filter(|g| g.state == state).count();
    let (active, over) = (of(GrantState::Active), of(GrantState::Ended));
    if active > 0 {
        let end = r.grants.iter().filter_map(|g| g.not_after.as_deref()).min().map(date).unwrap_or_default();
        return format!(" · open, ends {end}");
    }
    if over > 0 && over == r.grants.len() {
        return " · ended and verified".to_owned();
    }
    if of(GrantState::Quarantined) > 0 {
        return " · *the target did not confirm the end; administrators are alerted*".to_owned();
    }
    if of(GrantState::Failed) > 0 {
        return " · the target refused it".to_owned();
    }
    String::new()
}

/// A request: the same in the channel and to those who may decide.
pub(super) fn request(page: &RequestPage, portal: &str) -> Sheet {
    let r = &page.request;
    let title = format!("Access request: {}", what(page));
    let who = if page.requester.is_empty() { r.requester.name.clone() } else { page.requester.clone() };
    let mut blocks = vec![header(&title)];
    blocks.extend(terms(r, &who));
    blocks.push(section(&status(page)));
    if r.state == RequestState::Pending {
        blocks.push(actions(&r.id, decide_buttons(page, portal)));
    } else {
        blocks.push(actions(&r.id, vec![link("Details", &details(portal, r), "Open the request in the portal")]));
    }
    let mut small = vec![format!("`{}`", r.id)];
    if !page.source.is_empty() {
        small.push(format!("asked over {}", source(&page.source)));
    }
    small.push(format!("policy {}", escape(&clip(&r.policy_version, 20))));
    if let Some(taken) = &r.taken_up {
        small.push(format!("👀 {} looks at it since {}", name(&taken.by.name), date(&taken.at)));
    }
    small.extend(page.marks.iter().map(|m| format!("⚠️ {}", escape(m))));
    blocks.push(context(&small));
    let text = format!(
        "{title}. {who} asks for {}, because: {}. {}",
        span(r.duration),
        clip(&r.reason, 300),
        match r.state {
            RequestState::Pending => format!("Waiting: {} of {} approvals.", r.approvals.have, r.approvals.needed),
            state => format!("It is {}.", state.as_str()),
        }
    );
    Sheet { text: fallback(&text), blocks }
}

/// What is asked for, exactly: the same wherever somebody asks, is asked, or confirms.
pub(super) fn terms(r: &RequestView, who: &str) -> Vec<Value> {
    let mut pairs = vec![
        ("Requester", format!("{} ({})", name(who), name(&r.requester.name))),
        ("For", span(r.duration)),
        ("Approvals", format!("{} of {}", r.approvals.have, r.approvals.needed)),
        ("From", name(&r.approvals.from.join(", "))),
    ];
    if r.subject.id != r.requester.id {
        pairs.push(("On behalf of", name(&r.subject.name)));
    }
    if let Some(start) = &r.start_at {
        pairs.push(("Starts", date(start)));
    }
    if let Some(ticket) = &r.ticket {
        pairs.push(("Ticket", name(ticket)));
    }
    if let Some(lapses) = &r.lapses_at {
        pairs.push(("Request lapses", date(lapses)));
    }
    let mut blocks = vec![fields(&pairs), said(&format!("Why: {}", r.reason))];
    let ends = r.revocation.iter().take(5);
    let ends: Vec<String> = ends
        .map(|v| {
            let ends = taken_away(v.revocation_class, &v.residual_window_text);
            escape(&clip(&format!("{}: {ends}", v.entitlement), 300))
        })
        .collect();
    if !ends.is_empty() {
        blocks.push(context(&ends));
    }
    blocks
}

/// How it is taken away, and what may still work for how long after that.
pub(super) fn taken_away(class: RevocationClass, window: &str) -> String {
    let class = serde_json::to_value(class).ok();
    let class = class.as_ref().and_then(Value::as_str).unwrap_or_default().replace('_', " ");
    if window.is_empty() {
        format!("taking it away is {class}")
    } else {
        format!("taking it away is {class}: {window}")
    }
}

fn details(portal: &str, r: &RequestView) -> String {
    format!("{portal}/requests/{}", r.id)
}

fn decide_buttons(page: &RequestPage, portal: &str) -> Vec<Value> {
    let r = &page.request;
    let spoken = clip(&r.requester.name, 30);
    let approve = format!("Approve for {}", span(r.duration));
    let mut buttons = match page.trust {
        SlackDecision::Click => {
            vec![styled(
                "primary",
                button("approve", &approve, &value(page), &format!("Approve the request of {spoken}")),
            )]
        }
        SlackDecision::Confirm => {
            let label = format!("Review the request of {spoken}");
            vec![styled("primary", button("review", "Review and approve", &value(page), &label))]
        }
        SlackDecision::Link | SlackDecision::None => {
            vec![styled("primary", link("Review in portal", &details(portal, r), "Review the request in the portal"))]
        }
    };
    buttons.push(styled("danger", button("deny", "Deny", &value(page), &format!("Deny the request of {spoken}"))));
    if page.trust >= SlackDecision::Confirm {
        buttons.push(link("Details", &details(portal, r), "Open the request in the portal"));
    }
    buttons
}

/// The text beside the blocks is parsed as `mrkdwn`: escaped, and short.
fn fallback(text: &str) -> String {
    escape(&clip(text, 900))
}

/// One decision, below the request.
pub(super) fn decision(page: &RequestPage, d: &ApprovalView) -> Sheet {
    let r = &page.request;
    let counted = format!("{} of {}", r.approvals.have, r.approvals.needed);
    let (mark, verb) = if d.approve { ("✅", "approved") } else { ("⛔", "denied") };
    let shorter = d.duration.map(|s| format!(" for {}", span(s))).unwrap_or_default();
    let line = format!("{mark} {} {verb}{shorter} ({counted}, by {})", name(&d.approver.name), name(&d.via));
    let mut blocks = vec![section(&line)];
    if !d.comment.is_empty() {
        blocks.push(said(&d.comment));
    }
    Sheet { text: fallback(&format!("{mark} {} {verb}{shorter}: {}", d.approver.name, d.comment)), blocks }
}

/// What became of a request, to its requester.
pub(super) fn outcome(page: &RequestPage, portal: &str) -> Sheet {
    let r = &page.request;
    let what = what(page);
    let comment = page.decisions.iter().rev().find(|d| !d.comment.is_empty());
    let mut blocks = vec![section(&format!("*{}*\n{}", escape(&clip(&what, 200)), status(page)))];
    if let Some(d) = comment {
        blocks.push(said(&format!("{}: {}", d.approver.name, d.comment)));
    }
    let mut buttons = Vec::new();
    match r.state {
        RequestState::Approved => {
            for grant in r.grants.iter().filter(|g| g.state == GrantState::Active).take(5) {
                blocks.push(section(&how_to_use(grant)));
                // A row of its own: an action has one place in a row, and Slack refuses a message with two.
                blocks.push(actions(&grant.id, vec![end_button(grant)]));
            }
        }
        RequestState::Denied | RequestState::Lapsed | RequestState::Cancelled => {
            // A form here asks for one thing; all of a bundle is asked for again in the portal.
            if r.entitlements.len() > 1 {
                let to = format!("{portal}/request?again={}", r.id);
                let again = link("Ask again", &to, "Ask for the same again in the portal");
                blocks.push(actions(&format!("again {}", r.id), vec![again]));
            } else {
                buttons.push(button("again", "Ask again", &r.id, "Ask for the same again"));
            }
        }
        RequestState::Pending => {}
    }
    buttons.push(link("Details", &details(portal, r), "Open the request in the portal"));
    blocks.push(actions(&r.id, buttons));
    Sheet { text: fallback(&format!("Your request for {what} is {}.", r.state.as_str())), blocks }
}

fn how_to_use(grant: &GrantView) -> String {
    let end = grant.not_after.as_deref().map(date).unwrap_or_default();
    let entitlement = escape(&clip(&grant.entitlement, 120));
    if grant.claimable {
        format!("{entitlement} · ends {end}\n```tidegate creds {}```", grant.id)
    } else {
        format!("{entitlement} · ends {end} · nothing to fetch: it works now")
    }
}

fn end_button(grant: &GrantView) -> Value {
    let spoken = format!("End {} now", clip(&grant.entitlement, 50));
    asked("The access is taken away at once, and verified.", "End it", button("release", "End now", &grant.id, &spoken))
}

/// A grant ends soon.
pub(super) fn ending(grant: &GrantView, room: Option<Ttl>) -> Sheet {
    let end = grant.not_after.as_deref().map(date).unwrap_or_default();
    let entitlement = escape(&clip(&grant.entitlement, 120));
    let active = grant.state == GrantState::Active;
    let line = if active {
        format!("⏰ *{entitlement}* ends {end}")
    } else {
        format!("*{entitlement}* is {}", grant.state.as_str())
    };
    let mut blocks = vec![section(&line)];
    if active {
        let mut buttons = Vec::new();
        if let Some(by) = room {
            let text = format!("Extend by {by}");
            let end =
                grant.not_after.as_deref().and_then(|t| t.parse::<Timestamp>().ok()).map_or(0, Timestamp::seconds);
            let shown = format!("{}.{end}", grant.id);
            buttons.push(button("extend", &text, &shown, &format!("Extend {}", clip(&grant.entitlement, 50))));
        }
        buttons.push(button("let_end", "Let it end", &grant.id, "Do nothing; it ends by itself"));
        blocks.push(actions(&grant.id, buttons));
    }
    Sheet { text: fallback(&format!("{} ends soon.", grant.entitlement)), blocks }
}

/// A grant ended.
pub(super) fn ended(grant: &GrantView, by: Option<&str>) -> Sheet {
    let entitlement = escape(&clip(&grant.entitlement, 120));
    let by = by.map(|n| format!(" by {}", name(n))).unwrap_or_default();
    let why = match grant.end_reason {
        Some(EndReason::Expired) => "its time was up".to_owned(),
        Some(EndReason::Released) => "you gave it back".to_owned(),
        Some(EndReason::Revoked) => format!("revoked{by}"),
        Some(EndReason::Locked) => format!("a lock fell on it{by}"),
        Some(EndReason::Offboarded) => "its holder left".to_owned(),
        Some(EndReason::Superseded) => "another grant took its place".to_owned(),
        Some(EndReason::Refused) | None => "the target refused it".to_owned(),
    };
    let at = grant.verified.as_ref().map(|v| format!(" · verified absent {}", date(&v.at))).unwrap_or_default();
    let line = format!("⏹️ *{entitlement}* ended: {why}{at}");
    let again = button("again", "Ask again", &grant.request, "Ask for the same again");
    Sheet {
        text: fallback(&format!("{} ended.", grant.entitlement)),
        blocks: vec![section(&line), actions(&grant.id, vec![again])],
    }
}

/// An account acts for another person now.
pub(super) fn relinked() -> Sheet {
    let text = "A Slack account that acted for you in Tidegate, or acts for you now, was linked to another person. If that \
                was not you, tell your administrator.";
    Sheet { text: text.to_owned(), blocks: vec![section(text)] }
}

/// An account acts for somebody now: told at each of their accounts.
pub(super) fn linked(who: &str, portal: &str) -> Sheet {
    let text = format!(
        "A Slack account was linked: it acts for {} in Tidegate from now on. If that was not you, take the link back at \
         once and tell your administrator.",
        name(who)
    );
    let yours = format!("{portal}/people/me");
    let blocks =
        vec![section(&text), actions("linked", vec![link("Your links", &yours, "Open your links in the portal")])];
    Sheet { text: fallback(&format!("A Slack account was linked: it acts for {who} now.")), blocks }
}

/// Somebody's own page.
pub(super) fn home(page: &HomePage, portal: &str) -> Value {
    let mut blocks = vec![
        header("Tidegate"),
        section(&format!("You act as *{}*.", name(&page.name))),
        actions(
            "home",
            vec![
                styled("primary", button("request", "Request access", "home", "Request access")),
                link("Open portal", portal, "Open the portal"),
            ],
        ),
        divider(),
        section("*What you hold*"),
    ];
    if page.grants.is_empty() {
        blocks.push(context(&["Nothing right now.".to_owned()]));
    }
    for grant in page.grants.iter().take(15) {
        let end = grant.not_after.as_deref().map(date).unwrap_or_default();
        let line = format!("*{}* · {} · ends {end}", escape(&clip(&grant.entitlement, 120)), grant.state.as_str());
        blocks.push(section(&line));
        if grant.state == GrantState::Active {
            blocks.push(actions(&grant.id, vec![end_button(grant)]));
        }
    }
    blocks.extend([divider(), section("*Waiting for you*")]);
    rows(&mut blocks, &page.waiting, portal, "Nothing: all clear.");
    blocks.extend([divider(), section("*What you asked for*")]);
    rows(&mut blocks, &page.pending, portal, "Nothing is pending.");
    blocks.push(context(&[format!("Current {}", date(&page.now.to_string()))]));
    json!({"type": "home", "blocks": blocks.into_iter().take(100).collect::<Vec<_>>()})
}

fn rows(blocks: &mut Vec<Value>, requests: &[RequestView], portal: &str, empty: &str) {
    if requests.is_empty() {
        blocks.push(context(&[empty.to_owned()]));
    }
    for r in requests.iter().take(10) {
        let line = format!(
            "*{}* for {} by {} · {} of {} approvals",
            escape(&clip(&r.entitlements.join(", "), 150)),
            span(r.duration),
            name(&r.requester.name),
            r.approvals.have,
            r.approvals.needed
        );
        let mut block = section(&line);
        if let Some(fields) = block.as_object_mut() {
            fields.insert("accessory".to_owned(), link("Open", &details(portal, r), "Open the request in the portal"));
        }
        blocks.push(block);
    }
}

#[cfg(test)]
mod tests;
