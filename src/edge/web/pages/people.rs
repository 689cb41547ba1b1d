//! `/people` and `/people/{id}`: who somebody is, what they hold, where they are signed in.

use askama::Template;
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};

use crate::{
    broker::{
        input::{GrantQuery, Paging},
        slack::SlackAccountView,
        view::{GrantView, IdentityView, LockView, SessionView, SheetView, TokenView},
    },
    domain::{
        id::{SessionId, TokenId},
        identity::IdentityKind,
        time::Timestamp,
    },
    edge::{
        inbound::{call::carry_through, path::PathId, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page, see_other},
            marks::{GrantCard, RequestCard},
            visit::{Fields, Posted, Visitor},
            words::{self, When},
        },
    },
};

/// Rows of a page.
const ROWS: u32 = 50;

#[derive(Template)]
#[template(path = "people.html")]
struct Page {
    frame: Frame,
    people: Vec<IdentityView>,
    next: Option<String>,
    words: String,
    missed: bool,
    sees_all: bool,
}

/// `GET /people`.
pub async fn list(State(edge): State<Edge>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let words = given.text("q");
    if !words.is_empty()
        && let Ok(found) = edge.broker.identity(&visitor.ctx, &words).await
    {
        return see_other(&format!("/people/{}", found.id));
    }
    let page_no = Paging { after: given.get("after").map(str::to_owned), limit: Some(ROWS) };
    let found = edge.broker.identities(&visitor.ctx, page_no).await?;
    let page_of = Page {
        frame: visitor.frame("People", "/people").await?,
        people: found.items,
        next: found.next,
        missed: !words.is_empty(),
        words,
        sees_all: visitor.ctx.sees_everything(),
    };
    page(&page_of)
}

/// A session, for people.
pub struct SessionRow {
    /// Its id.
    pub id: String,
    /// The browser, in a few words.
    pub browser: String,
    /// From where.
    pub address: String,
    /// How they signed in.
    pub method: &'static str,
    /// When it began.
    pub begun: When,
    /// When it was used last.
    pub seen: String,
    /// It is the one that looks at this page.
    pub this: bool,
}

fn session_row(view: &SessionView, this: &str, now: Timestamp) -> SessionRow {
    SessionRow {
        id: view.id.clone(),
        browser: browser(&view.user_agent),
        address: view.address.clone(),
        method: match view.method.as_str() {
            "oidc" => "identity provider",
            "dev" => "tidegate dev",
            _ => "unknown",
        },
        begun: words::when_of(now, &view.created_at),
        seen: words::instant(&view.seen_at).map_or_else(String::new, |at| words::distance(now, at)),
        this: view.id == this,
    }
}

/// Which browser on which system, as far as it says.
fn browser(agent: &str) -> String {
    let pick = |names: &[(&str, &'static str)]| names.iter().find(|(key, _)| agent.contains(key)).map(|(_, n)| *n);
    let name = pick(&[
        ("Edg/", "Edge"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Chromium/", "Chromium"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ]);
    let system = pick(&[
        ("iPhone", "iPhone"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (name, system) {
        (Some(name), Some(system)) => format!("{name} on {system}"),
        (Some(name), None) => name.to_owned(),
        _ => agent.chars().take(40).collect(),
    }
}

#[derive(Template)]
#[template(path = "person.html")]
struct One {
    frame: Frame,
    who: IdentityView,
    is_person: bool,
    me: bool,
    sheet: SheetView,
    /// Groups by a grant: name, grant, end.
    temporary: Vec<(String, String, Option<When>)>,
    asked: Vec<RequestCard>,
    lost: Vec<GrantCard>,
    live: Vec<GrantCard>,
    over: Vec<GrantCard>,
    sessions: Option<Vec<SessionRow>>,
    tokens: Vec<(TokenView, When, When, Option<When>)>,
    lock: Option<LockView>,
    owned: Vec<IdentityView>,
    slack: Option<Vec<(SlackAccountView, When)>>,
    contract_end: Option<When>,
}

/// `GET /people/{id}`.
pub async fn one(State(edge): State<Edge>, visitor: Visitor, Path(key): Path<String>) -> Result<Response, Problem> {
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let who = broker.identity(ctx, &key).await?;
    let me = who.id == ctx.actor_id().to_string();
    let (now, policy) = (broker.now(), broker.policy());
    let id = who.id.parse().ok();
    let query = |live, limit| GrantQuery {
        holder: id,
        live,
        over: !live,
        page: Paging { after: None, limit: Some(limit) },
        state: None,
    };
    let live = broker.grants(ctx, query(true, 100)).await?.items;
    let recent = broker.grants(ctx, query(false, 30)).await?.items;
    let card = |g: &GrantView| GrantCard::of(g, &policy, ctx, now);
    let sessions = if who.kind == IdentityKind::Person && (me || ctx.sees_everything()) {
        let this = visitor.session.to_string();
        Some(broker.sessions(ctx, &who.id).await?.iter().map(|s| session_row(s, &this, now)).collect())
    } else {
        None
    };
    let slack = if sessions.is_some() {
        let links = broker.slack_links(ctx, &who.id).await?;
        let since = |l: SlackAccountView| {
            let at = words::when_of(now, &l.linked_at);
            (l, at)
        };
        Some(links.into_iter().map(since).collect())
    } else {
        None
    };
    let tokens = broker.tokens(ctx, &who.id).await?.into_iter().map(|t| {
        let (made, until) = (words::when_of(now, &t.created_at), words::when_of(now, &t.expires_at));
        let used = t.last_used_at.as_deref().map(|at| words::when_of(now, at));
        (t, made, until, used)
    });
    let lock = if ctx.sees_everything() {
        broker.locks(ctx).await?.items.into_iter().find(|l| l.value == who.id)
    } else {
        None
    };
    let owned = if me { broker.workloads(ctx, Paging::default()).await?.items } else { Vec::new() };
    let sheet = broker.sheet(ctx, &who.id).await?;
    let temporary = sheet
        .temporary
        .iter()
        .map(|(group, grant, until)| (group.clone(), grant.clone(), until.as_deref().map(|t| words::when_of(now, t))));
    let temporary = temporary.collect();
    let page_of = One {
        temporary,
        asked: sheet.asked.iter().map(|r| RequestCard::of(r, &policy, now)).collect(),
        lost: sheet.lost.iter().map(card).collect(),
        sheet,
        frame: visitor
            .frame(&who.display_name, if who.kind == IdentityKind::Person { "/people" } else { "/agents" })
            .await?,
        is_person: who.kind == IdentityKind::Person,
        me,
        live: live.iter().map(card).collect(),
        over: recent.iter().map(card).collect(),
        sessions,
        slack,
        tokens: tokens.collect(),
        lock,
        owned: owned.into_iter().filter(|w| w.owner.as_ref().is_some_and(|o| o.id == who.id)).collect(),
        contract_end: who.contract_end.as_deref().map(|t| words::when_of(now, t)),
        who,
    };
    page(&page_of)
}

/// `POST /people/{id}/sign-out`: all sessions end.
pub async fn sign_out(State(edge): State<Edge>, Path(key): Path<String>, posted: Posted) -> Result<Response, Problem> {
    let ctx = posted.visitor.ctx;
    let who = edge.broker.identity(&ctx, &key).await?;
    carry_through(async move { edge.broker.end_sessions_of(&ctx, &key).await }).await?;
    see_other(&format!("/people/{}?said=session-ended", who.id))
}

/// `POST /people/{id}/sign-in/reset`: which account at the identity provider it is, is forgotten.
pub async fn reset_sign_in(
    State(edge): State<Edge>,
    Path(key): Path<String>,
    posted: Posted,
) -> Result<Response, Problem> {
    let ctx = posted.visitor.ctx;
    let who = edge.broker.identity(&ctx, &key).await?;
    carry_through(async move { edge.broker.reset_sign_in(&ctx, &key).await }).await?;
    see_other(&format!("/people/{}?said=sign-in-reset", who.id))
}

/// `POST /sessions/{id}/end`.
pub async fn end_session(
    State(edge): State<Edge>,
    PathId(id): PathId<SessionId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    carry_through(async move { edge.broker.end_session(&visitor.ctx, id).await }).await?;
    see_other(&format!("/people/{}?said=session-ended", whose(&fields)))
}

/// `POST /tokens/{id}/end`.
pub async fn end_token(
    State(edge): State<Edge>,
    PathId(id): PathId<TokenId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    carry_through(async move { edge.broker.end_token(&visitor.ctx, id).await }).await?;
    see_other(&format!("/people/{}?said=token-ended", whose(&fields)))
}

/// Whose page the form was on; one's own if it is not said.
fn whose(fields: &Fields) -> String {
    let id = fields.parsed::<crate::domain::id::IdentityId>("who").ok().flatten();
    id.map_or_else(|| "me".to_owned(), |id| id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_told_apart() {
        let chrome =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36";
        assert_eq!(browser(chrome), "Chrome on Linux");
        assert_eq!(browser("curl/8.0"), "curl");
        assert_eq!(browser(&"x".repeat(100)).len(), 40);
    }
}
