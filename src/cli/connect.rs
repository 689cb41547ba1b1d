//! `tidegate psql` and `tidegate ssh`: the client of a target, with a credential that goes away with it.
//!
//! Both are `tidegate exec` with the command filled in: the secret is in a private file, never in arguments.

use clap::Args;

use super::{
    client::typed,
    exec::{self, ExecArgs, Login},
    exit::{Done, Failure},
    global::Cx,
    request::Wish,
    text::clean,
};
use crate::broker::view::{MeView, TargetView};

/// Open psql on a PostgreSQL target
#[derive(Debug, Args)]
pub struct PsqlArgs {
    /// The target, entitlement or grant
    #[arg(value_name = "TARGET")]
    pub target: String,
    /// What to ask for if there is no live grant
    #[command(flatten)]
    pub with: With,
    /// Arguments of psql
    #[arg(last = true, value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
}

/// Log in to a host with a short-lived certificate
#[derive(Debug, Args)]
pub struct SshArgs {
    /// The host, or a target that says which host it is; the certificate's first principal logs in unless USER@ says
    /// another
    #[arg(value_name = "[USER@]HOST")]
    pub host: String,
    /// The target, entitlement or grant; the one SSH target without it
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// What to ask for if there is no live grant
    #[command(flatten)]
    pub with: With,
    /// Options of ssh and the command to run there
    #[arg(last = true, value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
}

/// How to get access, and what becomes of it.
#[derive(Debug, Args)]
pub struct With {
    /// What to ask for.
    #[command(flatten)]
    wish: Wish,
    /// Do not ask for access; fail if there is no live grant
    #[arg(long)]
    no_request: bool,
    /// Ask for access without being asked
    #[arg(short, long)]
    yes: bool,
    /// Give the grant back afterwards
    #[arg(long)]
    end: bool,
}

impl With {
    fn exec(self, name: String, command: Vec<String>, login: Option<Login>) -> ExecArgs {
        let Self { wish, no_request, yes, end } = self;
        ExecArgs { name, command, wish, no_request, yes, end, login }
    }
}

/// Run psql.
pub async fn psql(args: PsqlArgs, cx: &Cx) -> Done {
    let command = std::iter::once("psql".to_owned()).chain(args.arguments).collect();
    exec::run(args.with.exec(args.target, command, None), cx).await
}

/// Run ssh.
pub async fn ssh(args: SshArgs, cx: &Cx) -> Done {
    let (user, host) = match args.host.split_once('@') {
        Some((user, host)) => (Some(user.to_owned()), host.to_owned()),
        None => (None, args.host),
    };
    let odd = |word: &str| word.is_empty() || word.starts_with('-');
    if odd(&host) || user.as_deref().is_some_and(odd) {
        return Err(Failure::usage("that is not the name of a host"));
    }
    let (name, is_target) = match args.target {
        Some(target) => (target, false),
        None => target_of(&host, cx).await?,
    };
    let login = Login { user, host: (!is_target).then_some(host) };
    let command = std::iter::once("ssh".to_owned()).chain(args.arguments).collect();
    exec::run(args.with.exec(name, command, Some(login)), cx).await
}

/// The SSH target that is meant, and whether its own name stands for the host.
async fn target_of(host: &str, cx: &Cx) -> Result<(String, bool), Failure> {
    let mut targets = Vec::new();
    for row in cx.client()?.whole(&["v1", "targets"]).await? {
        targets.push(typed::<TargetView>(row)?.1);
    }
    targets.retain(|t| t.kind == "ssh");
    if let Some(named) = targets.iter().find(|t| t.id == host || t.entitlements.iter().any(|e| e == host)) {
        return Ok((if named.id == host { named.id.clone() } else { host.to_owned() }, true));
    }
    let (_, me) = typed::<MeView>(cx.client()?.get(&["v1", "me"], &[]).await?)?;
    let held: Vec<&TargetView> = targets.iter().filter(|t| me.grants.iter().any(|g| g.target == t.id)).collect();
    match (held.as_slice(), targets.as_slice()) {
        ([one], _) => Ok((one.id.clone(), false)),
        (_, [one]) => Ok((one.id.clone(), false)),
        (_, []) => Err(Failure::usage("the server has no SSH target").next("tidegate targets ls")),
        (_, many) => {
            let names: Vec<String> = many.iter().map(|t| clean(&t.id)).collect();
            let what = format!("which SSH target is `{}` a host of?", clean(host));
            Err(Failure::usage(what).next(format!("name it with --target: {}", names.join(", "))))
        }
    }
}
