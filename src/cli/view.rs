//! Requests, grants and the rest as rows and sheets for people. Reads the views of the broker; decides nothing.

use super::{
    output::{Ui, sheet, state},
    text::{Tone, clean, count, span, toned},
};
use crate::{
    broker::view::{
        ApprovalsView, EntitlementView, GrantView, IdentityView, LockView, PlanView, RequestView, RevocationView,
        TargetView, TimelineEntry,
    },
    domain::{
        decision::{Condition, Reason, Verdict},
        request::RequestState,
        time::Ttl,
    },
};

/// A verdict in one word.
pub const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Auto => "auto",
        Verdict::Approval => "approval",
        Verdict::Denied => "denied",
    }
}

fn duration(seconds: u32) -> String {
    Ttl::from_seconds(seconds).map_or_else(|| "no time".to_owned(), |ttl| ttl.to_string())
}

fn names(list: &[String], joint: &str) -> String {
    list.iter().map(|n| clean(n)).collect::<Vec<_>>().join(joint)
}

/// What is needed: `1 approval from db-approvers (0 so far)`.
pub fn needs(approvals: &ApprovalsView) -> String {
    if approvals.needed == 0 {
        return "no approval".to_owned();
    }
    let from =
        if approvals.from.is_empty() { String::new() } else { format!(" from {}", names(&approvals.from, " or ")) };
    format!("{}{from} ({} so far)", count(approvals.needed, "approval"), approvals.have)
}

/// One line for each condition, with a mark.
pub fn conditions(conditions: &[Condition]) -> Vec<String> {
    conditions.iter().map(|c| format!("{} {}", if c.met { "✓" } else { "✗" }, clean(&c.text))).collect()
}

/// One line for each policy that had a say.
pub fn reasons(reasons: &[Reason]) -> Vec<String> {
    let line = |r: &Reason| {
        let text = if r.text.is_empty() { String::new() } else { format!(": {}", clean(&r.text)) };
        format!("{} {} {}{text}", clean(&r.action), clean(&r.effect), clean(&r.policy))
    };
    reasons.iter().map(line).collect()
}

/// What taking it back will mean.
pub fn revocation(r: &RevocationView) -> String {
    let text = clean(&r.residual_window_text);
    let window = if text.is_empty() { format!("residual window {}", span(u64::from(r.residual_window))) } else { text };
    format!("{}: {}; {window}", clean(&r.entitlement), r.revocation_class.as_str())
}

/// The plan of a dry run.
pub fn plan(who: Option<&str>, plan: &PlanView) -> String {
    let entitlements: Vec<String> = plan.entitlements.iter().map(|e| e.id.clone()).collect();
    let who = who.map_or_else(String::new, |w| format!("{} -> ", clean(w)));
    let outcome = match plan.verdict {
        Verdict::Auto => "granted at once".to_owned(),
        Verdict::Approval => format!("needs {}", needs(&plan.approvals)),
        Verdict::Denied => "denied".to_owned(),
    };
    let mut lines = vec![
        format!("Plan     {who}{} for {}", names(&entitlements, ", "), duration(plan.duration)),
        format!("         {outcome}   (policy {})", clean(&plan.policy_version)),
    ];
    for e in &plan.entitlements {
        lines.extend(conditions(&e.conditions).into_iter().map(|c| format!("         {c}")));
        if plan.verdict == Verdict::Denied {
            lines.extend(reasons(&e.reasons).into_iter().map(|r| format!("         {r}")));
        }
        lines.push(format!("Ending   {}", revocation(&e.revocation)));
    }
    lines.join("\n")
}

fn grant_line(ui: &Ui, g: &GrantView) -> String {
    let when = match (&g.not_after, g.state.is_terminal()) {
        (Some(end), false) => format!("  ends {}", ui.until(end)),
        _ => String::new(),
    };
    format!("{}  {}  {}{when}", clean(&g.id), clean(&g.entitlement), state(g.state.as_str()))
}

/// A request in full: what approvers and requesters have to know.
pub fn request(ui: &Ui, r: &RequestView) -> String {
    let subject = if r.subject.id == r.requester.id {
        clean(&r.requester.name)
    } else {
        format!("{}, asked by {}", clean(&r.subject.name), clean(&r.requester.name))
    };
    let pending = r.state == RequestState::Pending;
    let mut rows = vec![
        ("request", Some(clean(&r.id))),
        ("state", Some(state(r.state.as_str()))),
        ("for", Some(subject)),
        ("access", Some(format!("{} for {}", names(&r.entitlements, ", "), duration(r.duration)))),
        ("starts", r.start_at.as_deref().map(|t| ui.until(t))),
        ("reason", Some(clean(&r.reason))),
        ("ticket", r.ticket.as_deref().map(clean)),
        ("emergency", r.emergency.then(|| "yes, says the requester".to_owned())),
        ("needs", pending.then(|| needs(&r.approvals))),
        ("lapses", r.lapses_at.as_deref().filter(|_| pending).map(|t| ui.until(t))),
        ("asked", Some(ui.until(&r.created_at))),
        ("decided", r.decided_at.as_deref().map(|t| ui.until(t))),
    ];
    rows.extend(r.revocation.iter().map(|line| ("ending", Some(revocation(line)))));
    for d in r.decisions.iter().flatten() {
        let shorter = d.duration.map_or_else(String::new, |s| format!("for {}, ", duration(s)));
        let comment = if d.comment.is_empty() { String::new() } else { format!(": {}", clean(&d.comment)) };
        let who = format!("by {} ({}), {shorter}{}{comment}", clean(&d.approver.name), clean(&d.via), ui.until(&d.at));
        rows.push((if d.approve { "approved" } else { "denied" }, Some(who)));
    }
    rows.extend(r.grants.iter().map(|g| ("grant", Some(grant_line(ui, g)))));
    sheet(&rows)
}

/// A grant in full, with requested, applied and verified.
pub fn grant(ui: &Ui, g: &GrantView) -> String {
    let facts = |at: &str, facts: &serde_json::Value| {
        let facts = if facts.is_null() { String::new() } else { format!("  {}", clean(&facts.to_string())) };
        format!("✓ {}{facts}", ui.at(at))
    };
    let trouble = g.last_error.as_deref().filter(|_| !g.state.is_terminal() || g.verified.is_none());
    sheet(&[
        ("grant", Some(clean(&g.id))),
        ("state", Some(state(g.state.as_str()))),
        ("ended", g.end_reason.map(|r| r.as_str().to_owned())),
        ("holder", Some(clean(&g.holder.name))),
        ("access", Some(format!("{} on {}", clean(&g.entitlement), clean(&g.target)))),
        ("request", Some(clean(&g.request))),
        ("ends", g.not_after.as_deref().map(|t| ui.until(t))),
        ("requested", Some(format!("✓ {}  for {}", ui.at(&g.requested.at), duration(g.requested.duration)))),
        ("starts", g.requested.start_at.as_deref().map(|t| ui.until(t))),
        ("applied", Some(g.applied.as_ref().map_or_else(|| "not yet".to_owned(), |a| facts(&a.at, &a.report)))),
        ("verified", {
            let evidence = g.verified.as_ref().map(|v| facts(&v.at, &v.evidence));
            Some(evidence.unwrap_or_else(|| "not yet absent".to_owned()))
        }),
        ("claims", Some(g.claims.to_string())),
        ("attempts", (g.attempts > 0).then(|| g.attempts.to_string())),
        ("trouble", trouble.map(clean)),
        ("ending", {
            let class = g.revocation_class.as_str();
            Some(format!("{class}; residual window {}", span(u64::from(g.residual_window))))
        }),
    ])
}

/// What happened, a line each.
pub fn timeline(ui: &Ui, entries: &[TimelineEntry]) -> String {
    let line = |e: &TimelineEntry| {
        let who = e.actor.as_deref().map_or_else(|| "tidegate".to_owned(), clean);
        let details = if e.details.is_null() || e.details.as_object().is_some_and(serde_json::Map::is_empty) {
            String::new()
        } else {
            format!("  {}", clean(&e.details.to_string()))
        };
        format!("{}  {}  {who}{details}", ui.at(&e.at), clean(&e.action))
    };
    entries.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// An identity in full.
pub fn identity(i: &IdentityView, ui: &Ui) -> String {
    sheet(&[
        ("id", Some(clean(&i.id))),
        ("name", Some(clean(&i.name))),
        ("kind", Some(i.kind.as_str().to_owned())),
        ("called", Some(clean(&i.display_name)).filter(|n| !n.is_empty())),
        ("e-mail", i.email.as_deref().map(clean)),
        ("active", (!i.active).then(|| "no".to_owned())),
        ("owner", i.owner.as_ref().map(|o| clean(&o.name))),
        ("until", i.contract_end.as_deref().map(|t| ui.until(t))),
        ("groups", Some(names(&i.groups, ", ")).filter(|g| !g.is_empty())),
    ])
}

/// A target in full.
pub fn target(t: &TargetView) -> String {
    let yes = |b: bool| Some(if b { "yes" } else { "no" }.to_owned());
    let facts = sheet(&[
        ("target", Some(clean(&t.id))),
        ("kind", Some(clean(&t.kind))),
        ("about", Some(clean(&t.summary))),
        ("health", Some(state(&t.health))),
        ("revocation", Some(t.revocation_class.as_str().to_owned())),
        ("ends by itself", yes(t.native_expiry)),
        ("read back", yes(t.read_back)),
        ("cuts sessions", yes(t.cuts_sessions)),
        ("residual window", Some(span(u64::from(t.residual_window)))),
        ("in words", Some(clean(&t.residual_window_text))),
        (
            "a new claim",
            Some(if t.replaces_copies { "ends the earlier copy" } else { "leaves earlier copies" }.to_owned()),
        ),
        ("after a crash", Some(clean(&t.after_crash))),
        ("entitlements", Some(names(&t.entitlements, ", "))),
        ("rights", Some(clean(&t.rights.needs))),
    ]);
    let statements: Vec<String> = t.rights.statements.lines().map(clean).collect();
    if statements.is_empty() { facts } else { format!("{facts}\n\n{}", statements.join("\n")) }
}

/// Columns and rows of a list of requests.
pub fn requests(ui: &Ui, list: &[RequestView]) -> String {
    if list.is_empty() {
        return "no requests".to_owned();
    }
    let row = |r: &RequestView| {
        let clock = match (&r.lapses_at, &r.decided_at) {
            (Some(t), _) if r.state == RequestState::Pending => format!("lapses {}", ui.until(t)),
            (_, Some(t)) => format!("decided {}", ui.until(t)),
            _ => format!("asked {}", ui.until(&r.created_at)),
        };
        vec![
            r.id.clone(),
            r.subject.name.clone(),
            r.entitlements.join(", "),
            duration(r.duration),
            r.state.as_str().to_owned(),
            format!("{}/{}", r.approvals.have, r.approvals.needed),
            clock,
            r.reason.clone(),
        ]
    };
    ui.table(&["id", "for", "access", "time", "state", "votes", "clock", "reason"], list.iter().map(row).collect())
}

/// Columns and rows of a list of grants.
pub fn grants(ui: &Ui, list: &[GrantView]) -> String {
    if list.is_empty() {
        return "no grants".to_owned();
    }
    let row = |g: &GrantView| {
        let end = g.not_after.as_deref().map_or_else(|| "-".to_owned(), |t| ui.until(t));
        let proof = match (&g.applied, &g.verified) {
            (_, Some(_)) => "verified absent",
            (Some(_), None) => "applied",
            (None, None) => "requested",
        };
        let state = g
            .end_reason
            .map_or_else(|| g.state.as_str().to_owned(), |why| format!("{} ({})", g.state.as_str(), why.as_str()));
        vec![g.id.clone(), g.holder.name.clone(), g.entitlement.clone(), g.target.clone(), state, end, proof.to_owned()]
    };
    ui.table(&["id", "holder", "access", "target", "state", "end", "proof"], list.iter().map(row).collect())
}

/// Columns and rows of what can be asked for.
pub fn entitlements(ui: &Ui, list: &[EntitlementView]) -> String {
    if list.is_empty() {
        return "no entitlements".to_owned();
    }
    let row = |e: &EntitlementView| {
        let unmet = e.conditions.iter().filter(|c| !c.met).map(|c| c.text.as_str()).collect::<Vec<_>>().join("; ");
        let how = match e.verdict {
            Verdict::Auto => "at once".to_owned(),
            Verdict::Approval => format!("asks {}", e.approvers.join(" or ")),
            Verdict::Denied => "no".to_owned(),
        };
        vec![
            e.id.clone(),
            e.target.clone(),
            how,
            format!("{} to {}", duration(e.default_ttl), duration(e.max_ttl)),
            e.revocation_class.as_str().to_owned(),
            e.title.clone(),
            unmet,
        ]
    };
    let head = ["id", "target", "granted", "time", "revocation", "what", "still needed"];
    ui.table(&head, list.iter().map(row).collect())
}

/// Columns and rows of a list of targets.
pub fn targets(ui: &Ui, list: &[TargetView]) -> String {
    if list.is_empty() {
        return "no targets".to_owned();
    }
    let row = |t: &TargetView| {
        vec![
            t.id.clone(),
            t.kind.clone(),
            t.health.clone(),
            t.revocation_class.as_str().to_owned(),
            span(u64::from(t.residual_window)),
            t.entitlements.len().to_string(),
        ]
    };
    let head = ["id", "kind", "health", "revocation", "residual", "entitlements"];
    ui.table(&head, list.iter().map(row).collect())
}

/// Columns and rows of a list of kill switches.
pub fn locks(ui: &Ui, list: &[LockView]) -> String {
    if list.is_empty() {
        return "no locks".to_owned();
    }
    let row = |l: &LockView| {
        let on = format!("{} {}", l.kind.as_str(), l.value);
        vec![l.id.clone(), on, l.by.name.clone(), ui.until(&l.created_at), l.reason.clone()]
    };
    ui.table(&["id", "on", "by", "since", "reason"], list.iter().map(row).collect())
}

/// Columns and rows of a list of identities.
pub fn identities(ui: &Ui, list: &[IdentityView]) -> String {
    if list.is_empty() {
        return "no identities".to_owned();
    }
    let row = |i: &IdentityView| {
        vec![
            i.name.clone(),
            i.kind.as_str().to_owned(),
            if i.active { "yes" } else { "no" }.to_owned(),
            i.owner.as_ref().map_or_else(|| "-".to_owned(), |o| o.name.clone()),
            i.groups.join(", "),
            i.id.clone(),
        ]
    };
    ui.table(&["name", "kind", "active", "owner", "groups", "id"], list.iter().map(row).collect())
}

/// What was looked at, a line each, with what to do about it.
pub fn findings(list: &[crate::ports::connector::Finding]) -> String {
    let line = |f: &crate::ports::connector::Finding| {
        let mark = if f.ok { toned(Tone::Good, "✓") } else { toned(Tone::Bad, "✗") };
        let fix =
            f.fix.as_deref().filter(|_| !f.ok).map_or_else(String::new, |fix| format!("\n    fix: {}", clean(fix)));
        format!("{mark} {}: {}{fix}", clean(&f.name), clean(&f.detail))
    };
    list.iter().map(line).collect::<Vec<_>>().join("\n")
}
