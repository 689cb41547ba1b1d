//! `tidegate review`: what has gone stale, and the one step that settles it.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    text::clean,
};
use crate::{
    broker::{AcceptedView, review::ReviewLine, view::IdentityView},
    domain::id::IdentityId,
};

/// Review what nobody uses, answers for or needs for good; administrators and auditors
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ReviewArgs {
    /// Which review; all of them, if not given
    #[arg(value_enum)]
    which: Option<Which>,
    /// For `dormant`: after how many days without use
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    days: u64,
    #[command(subcommand)]
    step: Option<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Accounts and secrets that nobody uses
    Dormant,
    /// Workloads and agents that nobody answers for
    Orphans,
    /// Standing membership in groups that can be had for a while
    Standing,
    /// For each target: accounts by SCIM, access just in time, or both
    Advice,
    /// People of whom a source spoke, and who are known already
    Collisions,
    /// People whom a stopped source would have taken away
    Held,
}

impl Which {
    const ALL: [Self; 6] = [Self::Dormant, Self::Orphans, Self::Standing, Self::Advice, Self::Collisions, Self::Held];

    const fn name(self) -> &'static str {
        match self {
            Self::Dormant => "dormant",
            Self::Orphans => "orphans",
            Self::Standing => "standing",
            Self::Advice => "advice",
            Self::Collisions => "collisions",
            Self::Held => "held",
        }
    }
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Deactivate an account that is kept here, with everything that it holds
    Deactivate {
        /// Whose, by name or id
        identity: String,
        /// Why, for the log
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Do it without being asked
        #[arg(short, long)]
        yes: bool,
    },
    /// Say who answers for a guest from now on
    Sponsor {
        /// The guest, by name or id
        identity: String,
        /// Who answers for them
        person: String,
    },
    /// End a token or secret
    EndToken {
        /// Its id
        token: String,
    },
    /// End a standing membership in a group that is kept here
    Remove {
        /// The group, by name or id
        group: String,
        /// The member, by name or id
        identity: String,
    },
    /// Accept that so many people of a source leave
    Accept {
        /// The source
        source: String,
        /// Do it without being asked
        #[arg(short, long)]
        yes: bool,
    },
    /// Say that somebody of whom a source spoke is who is known here
    Adopt {
        /// The source
        source: String,
        /// Who, by name or id
        identity: String,
    },
}

/// Run it.
pub async fn run(args: ReviewArgs, cx: &Cx) -> Done {
    match args.step {
        None => show(args.which, args.days, cx).await,
        Some(Step::Deactivate { identity, reason, yes }) => {
            let id = id_of(&identity, cx).await?;
            cx.ui.confirm(&format!("Deactivate {} and end everything it holds?", clean(&identity)), yes, "-y").await?;
            let raw = cx.client()?.post(&["v1", "identities", &id, "deactivate"], &json!({"reason": reason})).await?;
            cx.ui.show(&raw, || format!("deactivated {}", clean(&identity)))?;
            Ok(Exit::Ok)
        }
        Some(Step::Sponsor { identity, person }) => {
            let id = id_of(&identity, cx).await?;
            let body = json!({"sponsor": person});
            let raw = cx.client()?.post(&["v1", "identities", &id, "sponsor"], &body).await?;
            cx.ui.show(&raw, || format!("{} answers for {}", clean(&person), clean(&identity)))?;
            Ok(Exit::Ok)
        }
        Some(Step::EndToken { token }) => {
            cx.client()?.delete(&["v1", "tokens", &token]).await?;
            done(&format!("ended {}", clean(&token)), &json!({"token": token, "ended": true}), cx)
        }
        Some(Step::Remove { group, identity }) => {
            cx.client()?.delete(&["v1", "groups", &group, "members", &identity]).await?;
            let raw = json!({"group": group, "identity": identity, "removed": true});
            done(&format!("{} is no longer in {} for good", clean(&identity), clean(&group)), &raw, cx)
        }
        Some(Step::Accept { source, yes }) => accept(&source, yes, cx).await,
        Some(Step::Adopt { source, identity }) => {
            let id = id_of(&identity, cx).await?;
            let body = json!({"source": source, "identity": id});
            cx.client()?.post(&["v1", "reviews", "collisions", "resolve"], &body).await?;
            done(&format!("{} is {}'s from now on", clean(&identity), clean(&source)), &body, cx)
        }
    }
}

fn done(text: &str, raw: &Value, cx: &Cx) -> Done {
    cx.ui.show(raw, || text.to_owned())?;
    Ok(Exit::Ok)
}

/// Accept that so many people of a source leave; also `tidegate sync accept`.
pub async fn accept(source: &str, yes: bool, cx: &Cx) -> Done {
    let client = cx.client()?;
    let held = client.get(&["v1", "reviews", "held"], &[]).await?;
    let of_source = |line: &&ReviewLine| line.thing.as_deref().is_some_and(|s| s.eq_ignore_ascii_case(source));
    let lines = lines(&held)?.1;
    for line in lines.iter().filter(of_source) {
        cx.ui.note(&format!("leaves: {}", line.identity.as_ref().map_or_else(String::new, |i| clean(&i.name))));
    }
    cx.ui.confirm(&format!("Deactivate all of them and let {} go on?", clean(source)), yes, "-y").await?;
    let (raw, accepted) = typed::<AcceptedView>(client.post(&["v1", "sources", source, "accept"], &json!({})).await?)?;
    cx.ui.show(&raw, || {
        let until = cx.ui.until(&accepted.accepted_until);
        format!("{} leave; {} is not stopped until {until}", accepted.people.len(), clean(&accepted.source))
    })?;
    Ok(Exit::Ok)
}

fn lines(answer: &Value) -> Result<(Vec<Value>, Vec<ReviewLine>), Failure> {
    let raw = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
    let lines = raw.iter().map(|row| typed::<ReviewLine>(row.clone()).map(|(_, line)| line));
    let lines = lines.collect::<Result<Vec<_>, _>>()?;
    Ok((raw, lines))
}

async fn show(which: Option<Which>, days: u64, cx: &Cx) -> Done {
    let client = cx.client()?;
    let wanted = which.map_or_else(|| Which::ALL.to_vec(), |one| vec![one]);
    let (mut all, mut texts) = (Vec::new(), Vec::new());
    for review in wanted {
        let query = if review == Which::Dormant { vec![("days", days.to_string())] } else { Vec::new() };
        let (raw, lines) = lines(&client.get(&["v1", "reviews", review.name()], &query).await?)?;
        texts.extend(lines.iter().map(|line| text_of(review, line)));
        all.extend(raw);
    }
    cx.ui.show_all(&all, || texts.join("\n"))?;
    if all.is_empty() {
        cx.ui.note("There is nothing to review.");
    }
    Ok(Exit::Ok)
}

fn text_of(review: Which, line: &ReviewLine) -> String {
    let who = line.identity.as_ref().map(|i| i.name.as_str()).or(line.thing.as_deref()).unwrap_or_default();
    let mut text = format!("{:<10}  {}: {}", review.name(), clean(who), clean(&line.why));
    for step in &line.steps {
        text.push_str("\n              ");
        text.push_str(&clean(&step.command));
    }
    text
}

async fn id_of(identity: &str, cx: &Cx) -> Result<String, Failure> {
    if identity.parse::<IdentityId>().is_ok() {
        return Ok(identity.to_owned());
    }
    Ok(cx.client()?.get_as::<IdentityView>(&["v1", "identities", identity]).await?.1.id)
}
