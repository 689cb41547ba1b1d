//! `tidegate whoami` and `tidegate status`: who I am, what I hold, what waits.

use std::fmt::Write as _;

use super::{
    client::typed,
    exit::{Done, Exit},
    global::Cx,
    text::clean,
    view,
};
use crate::broker::view::{MeView, RequestView};

/// Who am I to the server?
pub async fn whoami(cx: &Cx) -> Done {
    let (raw, me) = cx.client()?.get_as::<MeView>(&["v1", "me"]).await?;
    cx.ui.show(&raw, || {
        let mut text = view::identity(&me.identity, &cx.ui);
        if !me.roles.is_empty() {
            let _ = write!(text, "\nroles {}", me.roles.iter().map(|r| clean(r)).collect::<Vec<_>>().join(", "));
        }
        text
    })?;
    Ok(Exit::Ok)
}

/// What I hold, what I asked for, and what waits for me.
pub async fn status(cx: &Cx) -> Done {
    let client = cx.client()?;
    let (raw, me) = client.get_as::<MeView>(&["v1", "me"]).await?;
    let waiting = async |role: &str| {
        let query = [("role", role.to_owned()), ("state", "pending".to_owned())];
        client.list(&["v1", "requests"], &query, 50).await
    };
    let (mine, theirs) = (waiting("requester").await?, waiting("approver").await?);
    let value = serde_json::json!({"me": raw, "pending": mine, "approvals": theirs});
    let read = |rows: Vec<serde_json::Value>| -> Result<Vec<RequestView>, _> {
        rows.into_iter().map(|row| typed(row).map(|(_, r)| r)).collect()
    };
    let (mine, theirs) = (read(mine)?, read(theirs)?);
    cx.ui.show(&value, || {
        let mut text = format!("{} at {}\n", clean(&me.identity.name), clean(client.server()));
        let _ = write!(text, "\nI hold\n{}\n", view::grants(&cx.ui, &me.grants));
        let _ = write!(text, "\nI asked for\n{}\n", view::requests(&cx.ui, &mine));
        let theirs = if theirs.is_empty() { "nothing".to_owned() } else { view::requests(&cx.ui, &theirs) };
        text + &format!("\nWaits for me\n{theirs}")
    })?;
    Ok(Exit::Ok)
}
