//! What a refusal says in Slack: one line, in the words of the broker.

use super::blocks::{clip, date, escape};
use crate::{
    broker::{BrokerError, slack::page::RequestPage},
    domain::request::RequestState,
};

/// Why it did not go through. `page`: the request as it is now, if there is one that the actor may see.
pub(super) fn refusal(error: &BrokerError, page: Option<&RequestPage>) -> String {
    match error {
        BrokerError::State(_) if page.is_some_and(|p| p.request.state != RequestState::Pending) => {
            page.map(decided).unwrap_or_default()
        }
        BrokerError::NotFound("request") => "You are not an approver for this request.".to_owned(),
        BrokerError::Denied { reasons, .. } => {
            let why: Vec<String> = reasons.iter().map(|r| escape(&clip(&r.text, 200))).collect();
            let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
            format!("Policy does not allow this{why}.")
        }
        BrokerError::Forbidden(text) if text.starts_with("four eyes: you cannot") => {
            "You asked for this, so somebody else must decide.".to_owned()
        }
        BrokerError::Store(_) | BrokerError::Closing | BrokerError::Observing | BrokerError::Entropy(_) => {
            "The broker is unavailable; nothing was decided. Try again in a moment.".to_owned()
        }
        other => sentence(&escape(&clip(&other.to_string(), 400))),
    }
}

/// It was decided before.
pub(super) fn decided(page: &RequestPage) -> String {
    let r = &page.request;
    let who = page.decisions.last().map(|d| format!(" by {}", escape(&d.approver.name))).unwrap_or_default();
    let at = r.decided_at.as_deref().map(|at| format!(" at {}", date(at))).unwrap_or_default();
    match r.state {
        RequestState::Lapsed => format!("The request lapsed{at}. Whoever needs it can ask again."),
        state => format!("Already {}{who}{at}.", state.as_str()),
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}
