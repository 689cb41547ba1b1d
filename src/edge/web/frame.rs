//! What every page has around it, and how a template becomes an answer.

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::{
    assets::{Assets, assets},
    visit::Visitor,
    words::{self, When},
};
use crate::{domain::time::Timestamp, edge::inbound::problem::Problem};

/// Who has signed in, for the frame.
pub struct Person {
    /// Unique name.
    pub name: String,
    /// Two letters.
    pub initials: String,
    /// May administer.
    pub admin: bool,
    /// May see everything.
    pub sees_everything: bool,
}

/// One place in the navigation.
pub struct Place {
    /// Path.
    pub path: &'static str,
    /// Words.
    pub label: &'static str,
    /// Symbol.
    pub icon: &'static str,
    /// The page is here.
    pub here: bool,
    /// Waiting there.
    pub count: u32,
    /// On a phone it is in the bar, not behind "More".
    pub first: bool,
}

/// What every page has around it.
pub struct Frame {
    /// Of the page.
    pub title: String,
    /// Who has signed in; nobody on the page for signing in.
    pub person: Option<Person>,
    /// Navigation.
    pub places: Vec<Place>,
    /// What every form must send along.
    pub csrf: String,
    /// Files.
    pub assets: &'static Assets,
    /// The broker's clock.
    pub now: When,
    /// `light` or `dark`, if chosen.
    pub theme: Option<&'static str>,
    /// What the last form did.
    pub said: Option<&'static str>,
    /// Requests that wait for this person.
    pub inbox: u32,
}

/// Path, words, symbol, for whom, and whether it is in the bar of a phone.
const PLACES: [(&str, &str, &str, bool, bool); 13] = [
    ("/", "My access", "gate", false, true),
    ("/catalog", "Catalog", "search", false, true),
    ("/approvals", "Approvals", "inbox", false, true),
    ("/grants", "Grants", "tide", false, true),
    ("/people", "People", "people", false, false),
    ("/agents", "Agents", "agent", false, false),
    ("/audit", "Audit", "log", false, false),
    ("/policies", "Policies", "scales", false, false),
    ("/directory", "Directory", "sync", true, false),
    ("/insights", "Insights", "chart", true, false),
    ("/integrations", "Integrations", "plug", true, false),
    ("/system", "System", "pulse", true, false),
    ("/break-glass", "Break glass", "alert", false, false),
];

/// What a form did, said on the page that follows it. The address carries the key, never the words.
const SAYINGS: [(&str, &str); 27] = [
    ("asked", "Your request is on its way."),
    ("approved", "Your approval is recorded."),
    ("denied", "The request is denied. The requester can ask again."),
    ("denied-all", "The marked requests are denied. Their requesters can ask again."),
    (
        "denied-some",
        "Some of the marked requests are denied; the others had been decided meanwhile, or are not yours to decide.",
    ),
    (
        "denied-none",
        "None of the marked requests was denied: they had been decided meanwhile, or are not yours to decide.",
    ),
    ("cancelled", "The request is taken back."),
    ("released", "The access is being taken away. It is over when the target has confirmed it."),
    ("revoked", "The access is being taken away. It is over when the target has confirmed it."),
    ("extended", "The access lasts longer now."),
    ("attested", "Your attestation is recorded."),
    ("session-ended", "The session is ended."),
    ("locked", "The lock is in force: nothing new is granted, and what was open is being taken away."),
    ("lifted", "The lock is lifted."),
    ("proved", "You have signed in again. Nothing is decided yet: look at the terms, and decide now."),
    ("proved-ask", "You have signed in again. Nothing is sent yet: look at it once more, and send it now."),
    ("taken-up", "Others see that you look at it."),
    ("commented", "Your comment is in the timeline."),
    ("told-again", "It is told again."),
    ("begun", "It has begun. What it found stands here when it is done."),
    ("checked", "The target was checked: see what was found."),
    ("settled", "It is settled."),
    ("emergency", "The emergency is recorded, and everybody concerned is told. It is reviewed afterwards."),
    ("slack-linked", "The Slack account acts as you from now on."),
    ("slack-unlinked", "The Slack account acts for nobody any more."),
    ("sign-in-reset", "The next account at the identity provider that comes with this name is theirs."),
    ("token-ended", "The token no longer works."),
];

impl Frame {
    /// For a person.
    pub fn of(visitor: &Visitor, title: &str, place: &'static str, inbox: u32, now: Timestamp) -> Self {
        let identity = &visitor.ctx.actor.identity;
        let person = Person {
            name: identity.name.clone(),
            initials: initials(&identity.name),
            admin: visitor.ctx.is_admin(),
            sees_everything: visitor.ctx.sees_everything(),
        };
        let places = PLACES
            .iter()
            .filter(|(.., privileged, _)| !privileged || person.sees_everything)
            .map(|&(path, label, icon, _, first)| Place {
                path,
                label,
                icon,
                here: path == place,
                count: if path == "/approvals" { inbox } else { 0 },
                first,
            })
            .collect();
        let key = visitor.here.split_once("said=").map(|(_, rest)| rest.split('&').next().unwrap_or(rest));
        Self {
            person: Some(person),
            places,
            csrf: visitor.csrf.clone(),
            theme: visitor.theme,
            // What a form did is said to whoever comes from that form. "Sign in again" comes back from elsewhere.
            said: key.filter(|key| visitor.from_here || key.starts_with("proved")).and_then(saying),
            inbox,
            ..Self::outside(title, now)
        }
    }

    /// May whoever looks at it administer?
    pub fn admin(&self) -> bool {
        self.person.as_ref().is_some_and(|p| p.admin)
    }

    /// For nobody in particular.
    pub fn outside(title: &str, now: Timestamp) -> Self {
        Self {
            title: title.to_owned(),
            person: None,
            places: Vec::new(),
            csrf: String::new(),
            assets: assets(),
            now: words::when(now, now),
            theme: None,
            said: None,
            inbox: 0,
        }
    }
}

fn saying(key: &str) -> Option<&'static str> {
    SAYINGS.iter().find(|(k, _)| *k == key).map(|(_, words)| *words)
}

fn initials(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).take(2).flat_map(char::to_uppercase).collect()
}

/// A template as an answer.
pub fn page(template: &impl Template) -> Result<Response, Problem> {
    page_with(StatusCode::OK, template)
}

/// The same with another status.
pub fn page_with(status: StatusCode, template: &impl Template) -> Result<Response, Problem> {
    let html = template.render().map_err(|e| Problem::internal(format!("a page could not be rendered: {e}")))?;
    Ok((status, [(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], html).into_response())
}

/// Go on at another page of ours with GET.
pub fn see_other(path: &str) -> Result<Response, Problem> {
    let location = HeaderValue::try_from(path).map_err(|_| Problem::internal("a path that is no header"))?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response())
}
