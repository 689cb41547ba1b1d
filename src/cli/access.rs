//! From what somebody names (a grant, an entitlement, a target) to the live grant that is meant. Asks for nothing itself.

use serde_json::{Value, json};

use super::{
    client::typed,
    exit::{Exit, Failure},
    global::Cx,
    text::{clean, shell_word},
};
use crate::{
    broker::view::{EntitlementView, GrantView, MeView, RequestView},
    domain::{decision::Verdict, grant::GrantState, id::GrantId},
};

/// What there is under a name.
pub enum Found {
    /// A live grant of mine.
    Live(Box<GrantView>),
    /// A request of mine that is not decided yet, or whose access is not there yet.
    Waiting(String),
    /// Nothing.
    Nothing,
}

/// Look for a live grant of mine.
pub async fn find(name: &str, cx: &Cx) -> Result<Found, Failure> {
    let client = cx.client()?;
    if name.parse::<GrantId>().is_ok() {
        let (_, grant) = client.get_as::<GrantView>(&["v1", "grants", name]).await?;
        return match grant.state {
            GrantState::Active => Ok(Found::Live(Box::new(grant))),
            GrantState::Scheduled | GrantState::Activating => Ok(Found::Waiting(grant.request)),
            state => Err(Failure::new(Exit::Conflict, format!("that grant is {}", state.as_str()))
                .next(format!("ask anew: tidegate request {}", shell_word(&clean(&grant.entitlement))))),
        };
    }
    let (_, me) = client.get_as::<MeView>(&["v1", "me"]).await?;
    let fits = |g: &&GrantView| g.entitlement == name || g.target == name;
    let mut live: Vec<&GrantView> = me.grants.iter().filter(fits).filter(|g| g.state == GrantState::Active).collect();
    // Of several on the same entitlement, the one that lasts longest.
    live.sort_by(|a, b| b.not_after.cmp(&a.not_after));
    if let Some(first) = live.first() {
        let mut others: Vec<&str> = live.iter().map(|g| g.entitlement.as_str()).collect();
        others.sort_unstable();
        others.dedup();
        if others.len() > 1 {
            return Err(Failure::usage(format!("you hold several things on `{}`", clean(name))).next(format!(
                "name one of them: {}",
                others.iter().map(|o| clean(o)).collect::<Vec<_>>().join(", ")
            )));
        }
        return Ok(Found::Live(Box::new((*first).clone())));
    }
    if let Some(coming) = me.grants.iter().filter(fits).find(|g| is_coming(g.state)) {
        return Ok(Found::Waiting(coming.request.clone()));
    }
    let query = [("role", "requester".to_owned()), ("state", "pending".to_owned())];
    let wanted = entitlements_of(name, cx).await?;
    for row in client.list(&["v1", "requests"], &query, 200).await? {
        let (_, request) = typed::<RequestView>(row)?;
        if request.subject.id == me.identity.id && request.entitlements.iter().any(|e| wanted.contains(e)) {
            return Ok(Found::Waiting(request.id));
        }
    }
    Ok(Found::Nothing)
}

const fn is_coming(state: GrantState) -> bool {
    matches!(state, GrantState::Scheduled | GrantState::Activating)
}

/// The entitlements that a name stands for: itself, or those on the target of that name.
async fn entitlements_of(name: &str, cx: &Cx) -> Result<Vec<String>, Failure> {
    let mut found = vec![name.to_owned()];
    for row in cx.client()?.whole(&["v1", "entitlements"]).await? {
        let (_, e) = typed::<EntitlementView>(row)?;
        if e.target == name {
            found.push(e.id);
        }
    }
    Ok(found)
}

/// The one entitlement to ask for under a name.
pub async fn entitlement(name: &str, cx: &Cx) -> Result<String, Failure> {
    let mut on_target = Vec::new();
    for row in cx.client()?.whole(&["v1", "entitlements"]).await? {
        let (_, e) = typed::<EntitlementView>(row)?;
        if e.id == name {
            return Ok(e.id);
        }
        if e.target == name && e.verdict != Verdict::Denied {
            on_target.push(e.id);
        }
    }
    match on_target.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            Err(Failure::new(Exit::NotFound, format!("there is nothing called `{}` that you can ask for", clean(name)))
                .next("tidegate search"))
        }
        many => Err(Failure::usage(format!("there are several things to ask for on `{}`", clean(name)))
            .next(format!("name one of them: {}", many.iter().map(|m| clean(m)).collect::<Vec<_>>().join(", ")))),
    }
}

/// Claim the credential of a grant: minted now, handed over once.
pub async fn claim(grant: &str, cx: &Cx) -> Result<Value, Failure> {
    cx.client()?.post(&["v1", "grants", grant, "credential"], &json!({})).await
}

/// The failure of somebody whose request is still waiting.
pub fn pending(request: &str) -> Failure {
    Failure::new(Exit::Pending, format!("the access is asked for and not there yet ({})", clean(request)))
        .next(format!("tidegate wait {}", clean(request)))
}

/// The failure of somebody who holds nothing under that name.
pub fn nothing(name: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("you hold no live grant on `{}`", clean(name)))
        .next(format!("tidegate request {} --for 30m --reason '...' --wait", shell_word(&clean(name))))
}
