//! `/insights`: figures over the latest requests, each as a picture and as a table.

use askama::Template;
use axum::{extract::State, response::Response};

use crate::{
    broker::view::InsightsView,
    edge::{
        inbound::{problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page},
            marks::title_of,
            visit::Visitor,
            words::{self, When},
        },
    },
};

/// Height of the picture of days.
const HEIGHT: u64 = 120;
/// Width of a day in it.
const WIDTH: usize = 20;

/// A day in the picture.
struct Day {
    date: String,
    made: u64,
    auto: u64,
    x: usize,
    y: u64,
    height: u64,
    auto_y: u64,
    auto_height: u64,
}

/// What an entitlement came to.
struct Row {
    title: String,
    id: String,
    made: u64,
    denied: u64,
    wait: Option<String>,
    /// Of a hundred, of the most frequent one.
    share: u64,
}

#[derive(Template)]
#[template(path = "insights.html")]
struct Page {
    frame: Frame,
    view: InsightsView,
    since: Option<When>,
    days: Vec<Day>,
    width: usize,
    height: u64,
    rows: Vec<Row>,
}

/// `GET /insights`.
pub async fn handler(State(edge): State<Edge>, visitor: Visitor) -> Result<Response, Problem> {
    let broker = &edge.broker;
    let view = broker.insights(&visitor.ctx).await?;
    let (now, policy) = (broker.now(), broker.policy());
    let most = view.days.iter().map(|(_, made, _)| *made).max().unwrap_or(0).max(1);
    let tall = |n: u64| n.saturating_mul(HEIGHT) / most;
    let days = view.days.iter().enumerate().map(|(n, (day, made, auto))| Day {
        date: day.clone(),
        made: *made,
        auto: *auto,
        x: n * WIDTH + 2,
        y: HEIGHT.saturating_sub(tall(*made)),
        height: tall(*made),
        auto_y: HEIGHT.saturating_sub(tall(*auto)),
        auto_height: tall(*auto),
    });
    let first = view.entitlements.first().map_or(1, |(_, made, ..)| *made).max(1);
    let rows = view.entitlements.iter().map(|(id, made, denied, wait)| Row {
        title: title_of(&policy, id),
        id: id.clone(),
        made: *made,
        denied: *denied,
        wait: wait.map(|seconds| words::span(seconds.max(1))),
        share: made.saturating_mul(100) / first,
    });
    let page_of = Page {
        frame: visitor.frame("Insights", "/insights").await?,
        since: view.since.as_deref().map(|at| words::when_of(now, at)),
        days: days.collect(),
        width: view.days.len().max(1) * WIDTH,
        height: HEIGHT,
        rows: rows.collect(),
        view,
    };
    page(&page_of)
}
