//! For helpers that other programs call: a credential without a question, within a time, or one line that says why not.

use super::{
    access::{self, Found},
    client::typed,
    credential::Credential,
    exit::{Exit, Failure},
    global::Cx,
    request::{self, Wish},
    text::clean,
};
use crate::{
    broker::view::{GrantView, RequestView},
    domain::grant::GrantState,
};

/// The live grant under a name. Asks for one if `wish` has a reason and there is none; waits for nobody.
pub async fn grant(name: &str, wish: Option<&Wish>, cx: &Cx) -> Result<GrantView, Failure> {
    let waiting = |request: &str, cx: &Cx| {
        let server = cx.global.server.trim_end_matches('/');
        let at = format!("{}/requests/{}", clean(server), clean(request));
        Failure::new(Exit::Pending, format!("the access is asked for and not there yet: {at}"))
    };
    match access::find(name, cx).await? {
        Found::Live(grant) => return Ok(*grant),
        Found::Waiting(request) => return Err(waiting(&request, cx)),
        Found::Nothing => {}
    }
    let Some(wish) = wish.filter(|w| w.reason.is_some()) else { return Err(access::nothing(name)) };
    let body = wish.body(&[access::entitlement(name, cx).await?]);
    let (_, asked): (_, RequestView) = request::send(&body, cx).await?;
    match asked.grants.into_iter().find(|g| g.state == GrantState::Active) {
        Some(grant) => Ok(grant),
        None => Err(waiting(&asked.id, cx)),
    }
}

/// Whom a grant's token is for, as the target reported it when the grant was opened.
pub fn audience(grant: &GrantView) -> Option<&str> {
    grant.applied.as_ref()?.report.get("audience")?.as_str()
}

/// Claim its credential.
pub async fn claim(grant: &GrantView, cx: &Cx) -> Result<Credential, Failure> {
    if !grant.claimable {
        let text = "there is no credential to claim: none is needed, or all claims that are allowed were made";
        return Err(Failure::new(Exit::Conflict, text));
    }
    Ok(typed::<Credential>(access::claim(&grant.id, cx).await?)?.1)
}

/// Give up after the time that a call may take, whatever it waits for.
pub async fn within<T>(cx: &Cx, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let limit = cx.global.call_timeout();
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::new(Exit::Unreachable, format!("nothing was had within {} s", limit.as_secs()))),
    }
}

/// A helper's output is a secret: it goes to the program that called it.
pub fn not_for_eyes(cx: &Cx, reveal: bool) -> Result<(), Failure> {
    if cx.ui.tty.stdout && !reveal {
        return Err(Failure::usage("a secret is not shown to a terminal, and none was claimed")
            .next("let the program call it that it is for, or give --reveal"));
    }
    Ok(())
}
