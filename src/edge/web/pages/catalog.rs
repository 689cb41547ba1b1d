//! `/catalog`: what can be asked for, and what would happen.

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};

use crate::{
    broker::view::EntitlementView,
    domain::decision::{Condition, Verdict},
    edge::{
        inbound::{call::carry_through, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page, see_other},
            marks::Revocation,
            pages::sign_in::safe_next,
            visit::{Fields, Posted, Visitor},
            words,
        },
    },
    policy::PolicySet,
};

/// One line of the catalog, for people.
pub struct Offer {
    /// Its name.
    pub id: String,
    /// One line.
    pub title: String,
    /// What it lets its holder do.
    pub description: String,
    /// Where.
    pub target: String,
    /// The label `system`.
    pub system: String,
    /// What would happen.
    pub verdict: Verdict,
    /// The same in words.
    pub outcome: String,
    /// `water`, `amber`, `rest`.
    pub tone: &'static str,
    /// Symbol.
    pub icon: &'static str,
    /// What must be provided or hold.
    pub conditions: Vec<Condition>,
    /// At most.
    pub longest: String,
    /// The same in seconds.
    pub max_ttl: u32,
    /// When none is asked for.
    pub default_ttl: u32,
    /// 0 … 4.
    pub sensitivity: u8,
    /// Whoever asks must have signed in within so many seconds.
    pub step_up: Option<u32>,
    /// Labels, as `name: value`.
    pub labels: Vec<String>,
    /// The reader has marked it.
    pub favourite: bool,
    /// What taking it away means.
    pub revocation: Revocation,
}

impl Offer {
    /// For people.
    pub fn of(view: &EntitlementView, policy: &PolicySet) -> Self {
        let known = policy.catalog().get(&view.id);
        let label = known.and_then(|e| e.labels.get("system").cloned());
        let labels = known.map(|e| e.labels.iter().map(|(name, value)| format!("{name}: {value}")).collect());
        // What only has to be written into the form does not stand in the way.
        let open = view.conditions.iter().filter(|c| !c.met).count();
        let (outcome, tone, icon) = match view.verdict {
            Verdict::Auto => ("Granted at once".to_owned(), "water", "bolt"),
            Verdict::Approval => (format!("Approved by {}", view.approvers.join(", ")), "rest", "people"),
            Verdict::Denied if open > 0 => ("Needs more from you".to_owned(), "rest", "pen"),
            Verdict::Denied => ("Not for you".to_owned(), "rest", "lock"),
        };
        Self {
            id: view.id.clone(),
            title: view.title.clone(),
            description: view.description.clone(),
            target: view.target.clone(),
            system: label.unwrap_or_else(|| view.target.clone()),
            verdict: view.verdict,
            outcome,
            tone,
            icon,
            conditions: view.conditions.clone(),
            longest: words::span(u64::from(view.max_ttl)),
            max_ttl: view.max_ttl,
            default_ttl: view.default_ttl,
            sensitivity: view.sensitivity,
            step_up: view.step_up,
            labels: labels.unwrap_or_default(),
            favourite: false,
            revocation: Revocation::new(view.revocation_class, view.residual_window, &view.residual_window_text),
        }
    }

    /// Can it be asked for at all?
    pub fn askable(&self) -> bool {
        self.verdict != Verdict::Denied || self.conditions.iter().any(|c| !c.met)
    }

    fn matches(&self, words: &str) -> bool {
        let labels = self.labels.join(" ");
        let text = format!("{} {} {} {} {} {labels}", self.id, self.title, self.description, self.target, self.system);
        let text = text.to_lowercase();
        words.split_whitespace().all(|word| text.contains(&word.to_lowercase()))
    }
}

#[derive(Template)]
#[template(path = "catalog.html")]
struct Page {
    frame: Frame,
    offers: Vec<Offer>,
    systems: Vec<(String, bool)>,
    labels: Vec<(String, bool)>,
    marked: bool,
    here: String,
    words: String,
    all: bool,
    total: usize,
}

/// `GET /catalog`.
pub async fn handler(
    State(edge): State<Edge>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let (words, system, label) = (given.text("q"), given.text("system"), given.text("label"));
    let (all, marked) = (given.get("all").is_some(), given.get("marked").is_some());
    let policy = edge.broker.policy();
    let favourites = edge.broker.favourites(&visitor.ctx).await?;
    let offer = |e| {
        let offer = Offer::of(e, &policy);
        Offer { favourite: favourites.contains(&offer.id), ..offer }
    };
    let mut offers: Vec<Offer> = edge.broker.entitlements(&visitor.ctx).await?.items.iter().map(offer).collect();
    // What is marked stands first; the rest stays in its order.
    offers.sort_by_key(|o| !o.favourite);
    let labels: BTreeSet<String> = offers.iter().flat_map(|o| o.labels.iter().cloned()).collect();
    let systems: BTreeSet<String> = offers.iter().map(|o| o.system.clone()).collect();
    let total = offers.len();
    let fits = |o: &Offer| {
        (all || o.askable())
            && (!marked || o.favourite)
            && (label.is_empty() || o.labels.contains(&label))
            && (system.is_empty() || o.system == system)
            && (words.is_empty() || o.matches(&words))
    };
    let page_of = Page {
        frame: visitor.frame("Catalog", "/catalog").await?,
        offers: offers.into_iter().filter(fits).collect(),
        labels: labels.into_iter().map(|l| (l.clone(), l == label)).collect(),
        marked,
        here: visitor.here.clone(),
        systems: systems.into_iter().map(|s| (s.clone(), s == system)).collect(),
        words,
        all,
        total,
    };
    page(&page_of)
}

/// `POST /catalog/mark`: mark an entry, or take the mark away, and back to where the reader was.
pub async fn mark(State(edge): State<Edge>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let (entitlement, on) = (fields.text("entitlement"), fields.get("on") == Some("1"));
    carry_through(async move { edge.broker.mark_favourite(&visitor.ctx, &entitlement, on).await }).await?;
    let back = fields.text("back");
    see_other(if back == "/catalog" || back.starts_with("/catalog?") { safe_next(&back) } else { "/catalog" })
}
