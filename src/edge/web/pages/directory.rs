//! `/directory`: where people come from, how the accounts that follow from them stand, and what differs. Reads and acts by
//! the verbs of the lifecycle and of the sync.

use askama::Template;
use axum::{
    extract::{Path, State},
    response::Response,
};

use crate::{
    broker::{
        input::Paging,
        review::{Review, ReviewLine},
        sync_view::{Action, Item, SyncView, TaskView},
        view::SourceView,
    },
    edge::{
        inbound::{call::carry_through, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page, see_other},
            visit::{Posted, Visitor},
            words::{self, When},
        },
    },
};

/// Tasks that are shown, and differences of each application.
const ROWS: u32 = 50;

/// Something that is read or kept aligned.
struct Row {
    view: SyncView,
    ran: Option<When>,
    /// What differed when it was compared last.
    drift: Vec<Differs>,
    /// There are more than are shown.
    more: bool,
}

/// An account that is not as it should be.
struct Differs {
    name: String,
    to_do: &'static str,
    why: String,
    attributes: Vec<String>,
}

impl Differs {
    fn of(item: Item) -> Self {
        let text = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
        Self {
            name: item.name,
            to_do: match item.action {
                Action::None => "nothing",
                Action::Create => "make it",
                Action::Update => "set it right",
                Action::Adopt => "take it over",
                Action::Deactivate => "deactivate it",
                Action::Delete => "delete it",
                Action::Orphan => "nobody's: look at it",
            },
            why: item.reason,
            attributes: item
                .differences
                .into_iter()
                .map(|d| format!("{}: {} → {}", d.attribute, text(d.is), text(d.should)))
                .collect(),
        }
    }
}

/// People whom a stopped source would have taken away.
struct Stopped {
    source: String,
    people: Vec<String>,
}

#[derive(Template)]
#[template(path = "directory.html")]
struct Page {
    frame: Frame,
    sources: Vec<(SourceView, Option<When>)>,
    rows: Vec<Row>,
    stopped: Vec<Stopped>,
    collisions: Vec<ReviewLine>,
    tasks: Vec<(TaskView, When)>,
    admin: bool,
}

/// `GET /directory`.
pub async fn handler(State(edge): State<Edge>, visitor: Visitor) -> Result<Response, Problem> {
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let now = broker.now();
    let sources = broker.sources(ctx).await?.items.into_iter().map(|s| {
        let seen = s.last_seen_at.as_deref().map(|at| words::when_of(now, at));
        (s, seen)
    });
    let row = |view: SyncView| {
        let run = view.last_run.as_ref();
        let differs = run.and_then(|r| r.report.as_ref()).map(|r| (r.items.clone(), r.more)).unwrap_or_default();
        let more = differs.1 || differs.0.len() > ROWS as usize;
        let drift = differs.0.into_iter().take(ROWS as usize).map(Differs::of).collect();
        Row { ran: run.map(|r| words::when_of(now, &r.started_at)), drift, more, view }
    };
    let mut stopped: Vec<Stopped> = Vec::new();
    for line in broker.review(ctx, Review::Held, 30).await? {
        let source = line.thing.unwrap_or_default();
        let who = line.identity.map(|i| i.name).unwrap_or_default();
        match stopped.iter_mut().find(|s| s.source == source) {
            Some(known) => known.people.push(who),
            None => stopped.push(Stopped { source, people: vec![who] }),
        }
    }
    let tasks = broker.tasks(ctx, false, Paging { after: None, limit: Some(ROWS) }).await?.items.into_iter().map(|t| {
        let deadline = words::when_of(now, &t.deadline);
        (t, deadline)
    });
    let page_of = Page {
        frame: visitor.frame("Directory", "/directory").await?,
        sources: sources.collect(),
        rows: broker.syncs(ctx).await?.into_iter().map(row).collect(),
        stopped,
        collisions: broker.review(ctx, Review::Collisions, 30).await?,
        tasks: tasks.collect(),
        admin: ctx.is_admin(),
    };
    page(&page_of)
}

/// `POST /directory/sources/{name}/accept`: the people whom a stopped source would take away are taken away.
pub async fn accept(State(edge): State<Edge>, Path(name): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let ctx = posted.visitor.ctx;
    carry_through(async move { edge.broker.accept_departures(&ctx, &name).await }).await?;
    see_other("/directory?said=settled")
}

/// `POST /directory/sync/{name}`: compare now, or set right what differs.
pub async fn run(State(edge): State<Edge>, Path(name): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let verb = match fields.get("verb") {
        Some("apply") => "apply",
        Some("drift") => "drift",
        _ => "plan",
    };
    carry_through(async move { edge.broker.start_sync(&visitor.ctx, &name, verb, false).await }).await?;
    see_other("/directory?said=begun")
}

/// `POST /directory/tasks/{id}/done`: what is to be done by hand is done, and what shows it.
pub async fn done(State(edge): State<Edge>, Path(id): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let id = id.parse().map_err(|_| Problem::not_found("task"))?;
    let evidence = fields.text("evidence");
    carry_through(async move { edge.broker.finish_task(&visitor.ctx, id, &evidence).await }).await?;
    see_other("/directory?said=settled")
}
