//! Where a request or grant stands, for people: one sentence, one clock, three marks. Colour follows meaning and never
//! stands alone.

use serde_json::Value;

use super::words::{self, Clock, When};
use crate::{
    broker::{
        Ctx,
        view::{ApprovalsView, GrantView, RequestView, RequesterContext, RevocationView, TakenUpView},
    },
    domain::{
        capability::RevocationClass,
        grant::{EndReason, GrantState},
        request::RequestState,
        time::Timestamp,
    },
    policy::PolicySet,
};

/// A state with its colour and symbol.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// One or two words.
    pub label: &'static str,
    /// `rest`, `water`, `amber`, `coral`, `green`.
    pub tone: &'static str,
    /// Symbol.
    pub icon: &'static str,
}

const fn status(label: &'static str, tone: &'static str, icon: &'static str) -> Status {
    Status { label, tone, icon }
}

/// One of requested, applied, verified.
#[derive(Debug, Clone)]
pub struct Mark {
    /// Which.
    pub label: &'static str,
    /// `done`, `waiting`, `failed`.
    pub state: &'static str,
    /// Symbol.
    pub icon: &'static str,
    /// What is to be said about it.
    pub note: &'static str,
    /// When it was.
    pub at: Option<When>,
}

impl Mark {
    /// All of it in one line.
    pub fn words(&self) -> String {
        let at = self.at.as_ref().map_or_else(String::new, |at| format!(" {}", at.text));
        format!("{}: {}{at}", self.label, self.note)
    }
}

/// What taking it away will mean.
#[derive(Debug, Clone)]
pub struct Revocation {
    /// In words.
    pub class: &'static str,
    /// The residual window in words.
    pub window: String,
    /// Symbol.
    pub icon: &'static str,
}

impl Revocation {
    /// From a view.
    pub fn of(view: &RevocationView) -> Self {
        Self::new(view.revocation_class, view.residual_window, &view.residual_window_text)
    }

    /// From its parts.
    pub fn new(class: RevocationClass, window: u32, text: &str) -> Self {
        let (class, icon) = match class {
            RevocationClass::Immediate => ("Ends at once when taken away", "bolt"),
            RevocationClass::Propagating => ("Ends when every verifier has heard of it", "waves"),
            RevocationClass::ExpiryOnly => ("Cannot be taken back: ends by its own expiry", "hourglass"),
        };
        let window = match (window, text.trim_end_matches('.')) {
            (0, "") => "no copy works afterwards".to_owned(),
            (0, text) => text.to_owned(),
            (n, "") => format!("a copy may work for {} afterwards", words::span(u64::from(n))),
            (n, text) => format!("{text} ({} at most)", words::span(u64::from(n))),
        };
        Self { class, window, icon }
    }
}

/// Title of an entitlement, or its id if it is not in the catalog any more.
pub fn title_of(policy: &PolicySet, id: &str) -> String {
    policy.catalog().get(id).map_or_else(|| id.to_owned(), |e| e.title.clone())
}

/// A grant for people.
pub struct GrantCard {
    /// Its id.
    pub id: String,
    /// The short form.
    pub short: String,
    /// What is held.
    pub entitlement: String,
    /// The same in words.
    pub title: String,
    /// Where.
    pub target: String,
    /// Who holds it.
    pub holder: String,
    /// Its request.
    pub request: String,
    /// Where it stands.
    pub status: Status,
    /// The same as a sentence.
    pub sentence: String,
    /// The one clock, while it runs.
    pub clock: Option<Clock>,
    /// Requested, applied, verified.
    pub marks: [Mark; 3],
    /// What the target reported when it was opened.
    pub report: Option<String>,
    /// What the target answered when it was asked whether the access is gone.
    pub evidence: Option<String>,
    /// What went wrong last.
    pub trouble: Option<String>,
    /// What taking it away means.
    pub revocation: Revocation,
    /// Credentials minted.
    pub claims: u32,
    /// Can this person claim a credential?
    pub can_claim: bool,
    /// Can this person give it back or prolong it?
    pub can_release: bool,
    /// Can this person take it away?
    pub can_revoke: bool,
    /// Can this person attest it away?
    pub can_attest: bool,
    /// How to use it on the command line.
    pub command: String,
    /// When it begins and ends, for the timeline.
    pub bar: (Option<Timestamp>, Option<Timestamp>),
}

impl GrantCard {
    /// For whoever looks at it.
    pub fn of(view: &GrantView, policy: &PolicySet, ctx: &Ctx, now: Timestamp) -> Self {
        let mine = view.holder.id == ctx.actor_id().to_string();
        let active = view.state == GrantState::Active;
        let begun = view.applied.as_ref().and_then(|a| words::instant(&a.at));
        let ends = view.not_after.as_deref().and_then(words::instant);
        let starts = view.requested.start_at.as_deref().and_then(words::instant);
        let clock = match view.state {
            GrantState::Active => begun.zip(ends).map(|(from, until)| words::clock("ends", now, from, until)),
            GrantState::Scheduled => {
                let asked = words::instant(&view.requested.at).unwrap_or(now);
                starts.map(|at| words::clock("starts", now, asked, at))
            }
            _ => None,
        };
        Self {
            short: words::short(&view.id),
            title: title_of(policy, &view.entitlement),
            entitlement: view.entitlement.clone(),
            target: view.target.clone(),
            holder: view.holder.name.clone(),
            request: view.request.clone(),
            status: grant_status(view.state),
            sentence: sentence(view, now),
            clock,
            marks: marks(view, now),
            report: view.applied.as_ref().map(|a| pretty(&a.report)),
            evidence: view.evidence.as_ref().map(pretty),
            trouble: view.last_error.clone().filter(|_| view.state != GrantState::Ended),
            revocation: Revocation::new(view.revocation_class, view.residual_window, ""),
            claims: view.claims,
            can_claim: mine && view.claimable,
            can_release: mine && active,
            can_revoke: ctx.is_admin() && !mine && matches!(view.state, GrantState::Scheduled | GrantState::Active),
            can_attest: ctx.is_admin() && view.state == GrantState::Quarantined,
            command: format!("tidegate exec {} -- YOUR-COMMAND", view.entitlement),
            bar: (begun.or(starts), ends),
            id: view.id.clone(),
        }
    }
}

fn grant_status(state: GrantState) -> Status {
    match state {
        GrantState::Scheduled => status("Scheduled", "rest", "clock"),
        GrantState::Activating => status("Opening", "water", "waves"),
        GrantState::Active => status("Open", "water", "gate"),
        GrantState::Revoking => status("Closing", "amber", "waves"),
        GrantState::Quarantined => status("Not closed yet", "coral", "alert"),
        GrantState::Ended => status("Closed", "green", "check"),
        GrantState::Failed => status("Not opened", "coral", "cross"),
    }
}

fn sentence(view: &GrantView, now: Timestamp) -> String {
    let why = match view.end_reason {
        Some(EndReason::Expired) => "its time was up",
        Some(EndReason::Released) => "its holder gave it back",
        Some(EndReason::Revoked) => "an administrator took it away",
        Some(EndReason::Locked) => "a lock fell on it",
        Some(EndReason::Offboarded) => "its holder left",
        Some(EndReason::Superseded) => "another grant took its place",
        Some(EndReason::Refused) => "the target refused it",
        None => "it is over",
    };
    let at = |text: Option<&String>| text.map_or_else(String::new, |t| words::when_of(now, t).text);
    match view.state {
        GrantState::Scheduled => format!("Starts at {}", at(view.requested.start_at.as_ref())),
        GrantState::Activating => format!("{} is being told", view.target),
        GrantState::Active => format!("Open until {}", at(view.not_after.as_ref())),
        GrantState::Revoking => format!("Being taken away from {}, because {why}", view.target),
        GrantState::Quarantined => format!(
            "{} has not let go of it after {} tries; it is tried again until it is gone",
            view.target, view.attempts
        ),
        GrantState::Ended => match &view.verified {
            Some(verified) => {
                format!("Closed and verified at {}, because {why}", words::when_of(now, &verified.at).text)
            }
            None => format!("Closed before it was opened, because {why}"),
        },
        GrantState::Failed => "It was never open: the target refused it, and was asked to be sure".to_owned(),
    }
}

fn marks(view: &GrantView, now: Timestamp) -> [Mark; 3] {
    let mark = |label, state: &'static str, note, at: Option<&String>| {
        let icon = match state {
            "done" => "check",
            "failed" => "cross",
            _ => "ring",
        };
        Mark { label, state, icon, note, at: at.map(|text| words::when_of(now, text)) }
    };
    let applied = match (&view.applied, view.state) {
        (Some(facts), _) => mark("Applied", "done", "opened at the target,", Some(&facts.at)),
        (None, GrantState::Failed) => mark("Applied", "failed", "the target refused it", None),
        (None, _) => mark("Applied", "waiting", "not yet", None),
    };
    let verified = match (&view.verified, view.state) {
        (Some(facts), _) => mark("Verified closed", "done", "the target said so,", Some(&facts.at)),
        (None, GrantState::Quarantined) => mark("Verified closed", "failed", "not so far", None),
        (None, _) => mark("Verified closed", "waiting", "when it ends", None),
    };
    [mark("Requested", "done", "and decided,", Some(&view.requested.at)), applied, verified]
}

/// A request for people.
pub struct RequestCard {
    /// Its id.
    pub id: String,
    /// The short form.
    pub short: String,
    /// Hash of what is decided on.
    pub terms: String,
    /// Who asks.
    pub requester: String,
    /// Who will hold it, if it is somebody else.
    pub subject: Option<String>,
    /// Names and titles of what is asked for.
    pub items: Vec<(String, String)>,
    /// How long.
    pub duration: String,
    /// The same in seconds.
    pub seconds: u32,
    /// Why.
    pub reason: String,
    /// Ticket.
    pub ticket: Option<String>,
    /// An emergency.
    pub emergency: bool,
    /// When it is to start.
    pub start: Option<When>,
    /// Where it stands.
    pub status: Status,
    /// The one clock, while it waits.
    pub clock: Option<Clock>,
    /// How many approvals there are.
    pub approvals: ApprovalsView,
    /// When it was asked.
    pub asked: When,
    /// How long ago.
    pub ago: String,
    /// What taking it away means.
    pub revocation: Vec<Revocation>,
    /// Does it wait?
    pub pending: bool,
}

impl RequestCard {
    /// For anybody who may see it.
    pub fn of(view: &RequestView, policy: &PolicySet, now: Timestamp) -> Self {
        let asked = words::instant(&view.created_at).unwrap_or(now);
        let lapses = view.lapses_at.as_deref().and_then(words::instant);
        Self {
            short: words::short(&view.id),
            terms: view.terms.clone(),
            requester: view.requester.name.clone(),
            subject: (view.subject.id != view.requester.id).then(|| view.subject.name.clone()),
            items: view.entitlements.iter().map(|id| (id.clone(), title_of(policy, id))).collect(),
            duration: words::span(u64::from(view.duration)),
            seconds: view.duration,
            reason: view.reason.clone(),
            ticket: view.ticket.clone(),
            emergency: view.emergency,
            start: view.start_at.as_deref().map(|t| words::when_of(now, t)),
            status: request_status(view.state),
            clock: lapses.map(|until| words::clock("lapses", now, asked, until)),
            approvals: view.approvals.clone(),
            asked: words::when(now, asked),
            ago: words::distance(now, asked),
            revocation: view.revocation.iter().map(Revocation::of).collect(),
            pending: view.state == RequestState::Pending,
            id: view.id.clone(),
        }
    }

    /// All titles in one line.
    pub fn titles(&self) -> String {
        self.items.iter().map(|(_, title)| title.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// What is worth knowing of whoever asks.
pub struct About {
    /// Their requests of the last 30 days, in a sentence.
    pub words: String,
    /// They are on call.
    pub on_call: bool,
    /// What stands out.
    pub marks: Vec<String>,
}

impl About {
    /// For people.
    pub fn of(view: &RequesterContext) -> Self {
        let mut parts = Vec::new();
        for (n, what) in [(view.approved, "approved"), (view.denied, "denied"), (view.lapsed, "lapsed")] {
            if n > 0 {
                parts.push(format!("{n} {what}"));
            }
        }
        let of_these = if parts.is_empty() { String::new() } else { format!(", of these {}", parts.join(", ")) };
        let words = match view.asked {
            0 | 1 => "Has asked for nothing else in the last 30 days".to_owned(),
            n => format!("{n} requests in the last 30 days{of_these}"),
        };
        Self { words, on_call: view.on_call, marks: view.marks.clone() }
    }
}

/// Who looks at a request.
pub struct Taken {
    /// Who.
    pub who: String,
    /// Since when.
    pub ago: String,
    /// Whoever reads this.
    pub me: bool,
}

impl Taken {
    /// For whoever reads it.
    pub fn of(view: &TakenUpView, ctx: &Ctx, now: Timestamp) -> Self {
        let ago = words::instant(&view.at).map_or_else(String::new, |at| match words::distance(now, at).as_str() {
            "just now" => "since just now".to_owned(),
            other => format!("since {}", other.trim_end_matches(" ago")),
        });
        Self { who: view.by.name.clone(), ago, me: view.by.id == ctx.actor_id().to_string() }
    }
}

/// What an entitlement is at its target, a line for each parameter.
pub fn parameter_lines(parameters: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            list.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    parameters.as_object().into_iter().flatten().map(|(name, value)| format!("{name}: {}", text(value))).collect()
}

fn request_status(state: RequestState) -> Status {
    match state {
        RequestState::Pending => status("Waiting", "water", "clock"),
        RequestState::Approved => status("Approved", "rest", "check"),
        RequestState::Denied => status("Denied", "coral", "cross"),
        RequestState::Cancelled => status("Taken back", "rest", "cross"),
        RequestState::Lapsed => status("Lapsed", "rest", "hourglass"),
    }
}

/// Facts as people can read them.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// What happened, in words, and its symbol.
pub fn happening(action: &str) -> (&'static str, &'static str) {
    match action {
        "request.created" => ("asked for access", "ask"),
        "request.taken_up" => ("looks at it", "eye"),
        "request.commented" => ("said something", "ask"),
        "approval.recorded" => ("recorded a decision", "scales"),
        "request.approved" => ("approved the request", "check"),
        "request.denied" => ("denied the request", "cross"),
        "request.cancelled" => ("took the request back", "cross"),
        "request.lapsed" => ("let the request lapse: nobody decided in time", "hourglass"),
        "grant.scheduled" => ("scheduled a grant", "clock"),
        "grant.activating" => ("recorded the intent to open a grant", "ask"),
        "grant.active" => ("opened the access at the target", "gate"),
        "grant.claimed" => ("claimed a credential", "key"),
        "grant.extended" => ("extended a grant", "clock"),
        "grant.revoking" => ("began to take the access away", "waves"),
        "grant.ended" => ("verified that the access is gone", "check"),
        "grant.failed" => ("verified that nothing was opened", "cross"),
        "grant.quarantined" => ("could not take the access away so far", "alert"),
        "grant.attested" => ("attested that the access is gone", "pen"),
        "grant.drift" => ("found that the target and the ledger disagree", "alert"),
        "orphan.found" => ("found access without a grant", "alert"),
        "orphan.revoked" => ("took away access without a grant", "check"),
        "lock.created" => ("let a lock fall", "lock"),
        "lock.lifted" => ("lifted a lock", "lock"),
        "session.begun" => ("signed in", "person"),
        "session.ended" => ("ended a session", "person"),
        "token.created" => ("made a token", "key"),
        "token.issued" => ("got an access token", "key"),
        "token.revoked" => ("ended a token", "key"),
        "identity.created" => ("brought an identity into the directory", "person"),
        "identity.updated" => ("changed an identity", "person"),
        "identity.deactivated" => ("deactivated an identity", "person"),
        "identity.unused" => ("found that nobody uses an account", "person"),
        "identity.orphaned" => ("found that nobody answers for a guest", "person"),
        "identity.erased" => ("forgot what was known of a person", "person"),
        "devices.ordered" => ("ordered that devices be taken back", "alert"),
        "workload.registered" => ("registered a workload", "agent"),
        "policy.loaded" => ("loaded a policy", "scales"),
        "policy.rejected" => ("rejected a policy", "scales"),
        _ => ("", "log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_revocation_means_is_said_in_words() {
        let words = |class, window, text| {
            let revocation = Revocation::new(class, window, text);
            format!("{}; {}", revocation.class, revocation.window)
        };
        assert_eq!(words(RevocationClass::Immediate, 0, ""), "Ends at once when taken away; no copy works afterwards");
        assert_eq!(
            words(RevocationClass::ExpiryOnly, 900, ""),
            "Cannot be taken back: ends by its own expiry; a copy may work for 15 min afterwards"
        );
    }
}
