//! `tidegate approve`, `deny` and `cancel`: print the exact terms, ask, decide.

use clap::Args;
use serde_json::{Map, Value, json};

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    text::clean,
    view,
};
use crate::{
    broker::view::RequestView,
    domain::{request::RequestState, time::Ttl},
};

/// Say yes to a request
#[derive(Debug, Args)]
pub struct ApproveArgs {
    /// The request
    pub request: String,
    /// What to tell the requester and the record
    #[arg(long, visible_alias = "comment", value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Only for this long, shorter than asked
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<Ttl>,
    /// Decide without being asked
    #[arg(short, long)]
    pub yes: bool,
}

/// Say no to a request
#[derive(Debug, Args)]
pub struct DenyArgs {
    /// The request
    pub request: String,
    /// What to tell the requester and the record
    #[arg(long, visible_alias = "comment", value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Decide without being asked
    #[arg(short, long)]
    pub yes: bool,
}

/// Take a request back
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// The request
    pub request: String,
    /// Why, for the record
    #[arg(long, visible_alias = "comment", value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
    /// Cancel without being asked
    #[arg(short, long)]
    pub yes: bool,
}

/// Approve.
pub async fn approve(args: ApproveArgs, cx: &Cx) -> Done {
    let question = match args.duration {
        Some(ttl) => format!("Approve for {ttl}?"),
        None => "Approve?".to_owned(),
    };
    decide(cx, &args.request, "approve", &question, args.reason, args.duration, args.yes).await
}

/// Deny.
pub async fn deny(args: DenyArgs, cx: &Cx) -> Done {
    decide(cx, &args.request, "deny", "Deny?", args.reason, None, args.yes).await
}

/// Cancel.
pub async fn cancel(args: CancelArgs, cx: &Cx) -> Done {
    decide(cx, &args.request, "cancel", "Cancel?", args.reason, None, args.yes).await
}

async fn decide(
    cx: &Cx,
    id: &str,
    verb: &str,
    question: &str,
    comment: String,
    duration: Option<Ttl>,
    yes: bool,
) -> Done {
    let (_, before) = cx.client()?.get_as::<RequestView>(&["v1", "requests", id]).await?;
    cx.ui.note(&view::request(&cx.ui, &before));
    if before.state != RequestState::Pending {
        let by: Vec<String> = before.decisions.iter().flatten().map(|d| clean(&d.approver.name)).collect();
        let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
        return Err(Failure::new(Exit::Conflict, format!("it is {}{by} already", before.state.as_str()))
            .kept("Nothing was changed."));
    }
    if let Some(ttl) = duration.filter(|ttl| ttl.seconds() > before.duration) {
        return Err(Failure::usage(format!("--for {ttl} is longer than was asked; an approver can only shorten")));
    }
    cx.ui.confirm(question, yes, "-y").await?;
    let mut body = Map::new();
    body.insert("comment".to_owned(), comment.into());
    if let Some(ttl) = duration {
        body.insert("duration".to_owned(), json!(ttl));
    }
    if verb != "cancel" && !before.terms.is_empty() {
        body.insert("terms".to_owned(), before.terms.into());
    }
    let answer = cx.client()?.post(&["v1", "requests", id, verb], &Value::Object(body)).await?;
    let (raw, request) = typed::<RequestView>(answer)?;
    if verb == "approve" {
        cx.ui.note(&format!("Recorded: {} of {} approvals.", request.approvals.have, request.approvals.needed));
    }
    cx.ui.show(&raw, || super::request::summary(&cx.ui, &request))?;
    Ok(Exit::Ok)
}
