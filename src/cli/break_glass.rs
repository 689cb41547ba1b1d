//! `tidegate break-glass`: a request that says that it is an emergency, which nobody sends by accident.

use clap::Args;

use super::{
    access,
    exit::{Done, Exit, Failure},
    global::Cx,
    request::{self, Wish},
    text::{self, Tone, clean},
};
use crate::{
    domain::time::Ttl,
    ports::entropy::{Entropy as _, SystemEntropy},
};

/// Ask for access in an emergency: everybody concerned is told at once, and it is looked at afterwards
#[derive(Debug, Args)]
pub struct BreakGlassArgs {
    /// The target or entitlement
    #[arg(value_name = "TARGET|ENTITLEMENT")]
    pub name: String,
    /// What has happened, and what you are going to do
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// How long, from activation: 30m, 1h30m, seconds
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<Ttl>,
    /// Ticket reference
    #[arg(long, value_name = "TICKET")]
    pub ticket: Option<String>,
    /// Go ahead without typing the number that is shown
    #[arg(short, long)]
    pub yes: bool,
}

/// Run it.
pub async fn run(args: BreakGlassArgs, cx: &Cx) -> Done {
    let BreakGlassArgs { name, reason, duration, ticket, yes } = args;
    if reason.trim().is_empty() {
        return Err(Failure::usage("--reason is empty: say what has happened"));
    }
    let entitlement = access::entitlement(&name, cx).await?;
    let wish = Wish { duration, reason: Some(reason), ticket };
    let body = request::emergency(wish.body(std::slice::from_ref(&entitlement)));
    cx.ui.say(&text::toned(Tone::Bad, &format!("EMERGENCY ACCESS to {}", clean(&entitlement))));
    cx.ui.say("Everybody concerned is told that you asked, when, and why. It is looked at afterwards.");
    request::plan(&body, None, cx).await?;
    cx.ui.retype(number()?, yes, "-y").await?;
    let (raw, asked) = request::send(&body, cx).await?;
    cx.ui.show(&raw, || request::summary(&cx.ui, &asked))?;
    request::hint(cx, &asked);
    Ok(Exit::Ok)
}

/// Two digits.
fn number() -> Result<u8, Failure> {
    let mut random = [0_u8; 1];
    SystemEntropy::new().fill(&mut random).map_err(|e| Failure::local(e.to_string()))?;
    Ok(10 + random[0] % 90)
}
