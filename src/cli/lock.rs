//! `tidegate lock` and `unlock`: the kill switch on an identity, a target or an entitlement.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    text::clean,
    view,
};
use crate::{broker::view::LockView, domain::id::LockId};

/// Stop new grants at once and end the live ones
#[derive(Debug, Args)]
pub struct LockArgs {
    /// On what kind of thing
    #[arg(value_enum)]
    pub kind: Kind,
    /// Which one, by name or id
    pub name: String,
    /// Why, for everybody who is stopped by it
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Lock without being asked
    #[arg(short, long)]
    pub yes: bool,
}

/// Lift a kill switch
#[derive(Debug, Args)]
pub struct UnlockArgs {
    /// Id of the lock, or the kind of thing that it is on
    #[arg(value_name = "LOCK|KIND")]
    pub lock: String,
    /// With a kind: which one
    pub name: Option<String>,
    /// Unlock without being asked
    #[arg(short, long)]
    pub yes: bool,
}

/// What a kill switch can fall on.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Kind {
    /// A person, workload or agent
    Identity,
    /// A target
    Target,
    /// An entitlement
    Entitlement,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Target => "target",
            Self::Entitlement => "entitlement",
        }
    }
}

/// Lock.
pub async fn lock(args: LockArgs, cx: &Cx) -> Done {
    let on = format!("{} {}", args.kind.name(), clean(&args.name));
    cx.ui.note(&format!("This stops new grants on {on} and ends the live ones."));
    cx.ui.confirm(&format!("Lock {on} now?"), args.yes, "-y").await?;
    let body = json!({"kind": args.kind.name(), "value": args.name, "reason": args.reason});
    let (raw, lock) = typed::<LockView>(cx.client()?.post(&["v1", "locks"], &body).await?)?;
    cx.ui.show(&raw, || view::locks(&cx.ui, std::slice::from_ref(&lock)))?;
    if let Some(ending) = lock.ending {
        cx.ui.note(&format!("{ending} live grants are ending because of it."));
    }
    cx.ui.note(&format!("lift it: tidegate unlock {}", clean(&lock.id)));
    Ok(Exit::Ok)
}

/// Unlock.
pub async fn unlock(args: UnlockArgs, cx: &Cx) -> Done {
    let client = cx.client()?;
    let mut locks = Vec::new();
    for row in client.whole(&["v1", "locks"]).await? {
        locks.push(typed::<LockView>(row)?.1);
    }
    let by_id = args.lock.parse::<LockId>().is_ok();
    if !by_id && args.name.is_none() {
        return Err(Failure::usage("give the id of the lock, or what it is on: `tidegate unlock target orders-db`"));
    }
    let name = args.name.as_deref().unwrap_or_default();
    // Identities are locked by id and known by name.
    let key = if !by_id && args.lock == "identity" {
        let path = ["v1", "identities", name];
        client.get_as::<crate::broker::view::IdentityView>(&path).await.map_or_else(|_| name.to_owned(), |(_, i)| i.id)
    } else {
        name.to_owned()
    };
    let fits = |l: &&LockView| {
        if by_id { l.id == args.lock } else { l.kind.as_str() == args.lock && (l.value == key || l.value == name) }
    };
    let lock = locks
        .iter()
        .find(fits)
        .ok_or_else(|| Failure::new(Exit::NotFound, "there is no such lock in force").next("tidegate ls locks"))?;
    cx.ui.note(&view::locks(&cx.ui, std::slice::from_ref(lock)));
    cx.ui.confirm("Lift it?", args.yes, "-y").await?;
    let raw = client.delete(&["v1", "locks", &lock.id]).await?;
    let raw = if raw.is_null() { json!({"id": lock.id, "lifted": true}) } else { raw };
    cx.ui.show(&raw, || format!("lifted {}", clean(&lock.id)))?;
    Ok(Exit::Ok)
}
