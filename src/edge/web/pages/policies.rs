//! `/policies`: the rules in force, and what they would say.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use cedar_policy::Effect;

use crate::{
    broker::{
        BrokerError,
        input::Simulate,
        view::{ChangedFile, PolicyVersionView, SimulationView},
    },
    domain::{
        decision::Verdict,
        time::{Timestamp, Ttl},
    },
    edge::{
        inbound::{problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page_with},
            visit::{Fields, Visitor},
            words::{self, When},
        },
    },
    policy::{PolicySet, Rule, TestReport},
};

struct Row {
    id: String,
    permit: bool,
    actions: String,
    text: String,
    asks_for: Vec<String>,
    place: String,
}

impl Row {
    fn of(rule: &Rule) -> Self {
        let obligations = &rule.obligations;
        let mut asks_for = Vec::new();
        if let Some(n) = obligations.approvals {
            asks_for.push(format!("{n} approval{}", if n == 1 { "" } else { "s" }));
        }
        if let Some(ttl) = obligations.max_ttl {
            asks_for.push(format!("at most {}", words::span(u64::from(ttl.seconds()))));
        }
        asks_for.extend(obligations.require.iter().map(|r| format!("a {r:?}").to_lowercase()));
        Self {
            id: rule.id.clone(),
            permit: rule.effect == Effect::Permit,
            actions: rule.actions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            text: rule.text(),
            asks_for,
            place: format!("{}:{}", rule.file, rule.line),
        }
    }
}

struct Simulation {
    view: SimulationView,
    words: String,
    tone: &'static str,
    icon: &'static str,
    longest: String,
}

impl Simulation {
    fn of(view: SimulationView) -> Self {
        let (words, tone, icon) = match view.verdict {
            Verdict::Auto => ("Granted at once".to_owned(), "water", "bolt"),
            Verdict::Approval => (
                format!(
                    "Needs {} approval{} from {}",
                    view.approvals,
                    if view.approvals == 1 { "" } else { "s" },
                    view.approvers.join(" or ")
                ),
                "amber",
                "people",
            ),
            Verdict::Denied => ("Refused".to_owned(), "coral", "cross"),
        };
        let longest = words::span(u64::from(view.max_ttl));
        Self { view, words, tone, icon, longest }
    }
}

#[derive(Template)]
#[template(path = "policies.html")]
struct Page {
    frame: Frame,
    version: String,
    versions: Vec<(PolicyVersionView, When)>,
    /// From which version to which, and what changed; or why that cannot be said.
    diff: Option<(String, String, Result<Vec<ChangedFile>, String>)>,
    tests: Option<TestReport>,
    trace: Option<String>,
    at: String,
    rules: Vec<Row>,
    entitlements: Vec<(String, String, bool)>,
    identity: String,
    duration: String,
    ticket: String,
    emergency: bool,
    no_reason: bool,
    result: Option<Simulation>,
    trouble: Option<String>,
    sees_all: bool,
}

fn entitlements(policy: &PolicySet, chosen: &str) -> Vec<(String, String, bool)> {
    let all = policy.catalog().entitlements.values();
    all.map(|e| (e.id.to_string(), e.title.clone(), &*e.id == chosen)).collect()
}

/// What is asked of the simulator.
fn simulation(given: &Fields, chosen: &str) -> Result<Simulate, Problem> {
    let at = match given.text("at") {
        empty if empty.is_empty() => None,
        text if text.len() == 16 => Some(format!("{text}:00Z").parse().map_err(|e| Problem::input("at", e))?),
        text => Some(text.parse::<Timestamp>().map_err(|e| Problem::input("at", e))?),
    };
    Ok(Simulate {
        identity: given.get("identity").map(str::to_owned),
        entitlement: chosen.to_owned(),
        duration: given.parsed::<Ttl>("duration")?,
        at,
        reason: given.get("no_reason").map(|_| String::new()),
        ticket: given.get("ticket").map(str::to_owned),
        emergency: given.get("emergency").is_some(),
    })
}

/// `GET /policies`, with a simulation if there is one in the query: it records nothing.
pub async fn handler(
    State(edge): State<Edge>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let chosen = given.text("entitlement");
    let no_reason = given.get("no_reason").is_some();
    let broker = &edge.broker;
    let sees_all = visitor.ctx.sees_everything();
    let wanted = if chosen.is_empty() { Ok(None) } else { simulation(&given, &chosen).map(Some) };
    let mut trace = None;
    let simulated = match wanted {
        Ok(None) => Ok(None),
        Ok(Some(simulate)) => {
            if sees_all {
                trace = broker.explain(&visitor.ctx, simulate.clone()).await.ok();
            }
            broker.simulate(&visitor.ctx, simulate).await.map(Some).map_err(Problem::from)
        }
        Err(problem) => Err(problem),
    };
    let versions = if sees_all { broker.policy_versions(&visitor.ctx).await? } else { Vec::new() };
    let diff = match (given.get("from"), given.get("to")) {
        (Some(from), Some(to)) if sees_all => {
            let changed = match broker.policy_diff(&visitor.ctx, from, to).await {
                Ok(changed) => Ok(changed),
                Err(BrokerError::NotFound(_)) => Err("The texts of one of these versions were not kept.".to_owned()),
                Err(other) => return Err(other.into()),
            };
            Some((from.to_owned(), to.to_owned(), changed))
        }
        _ => None,
    };
    let tests =
        if sees_all && given.get("tests").is_some() { Some(broker.test_policy(&visitor.ctx).await?) } else { None };
    let now = broker.now();
    let policy = edge.broker.policy();
    let (status, result, trouble) = match simulated {
        Ok(view) => (http::StatusCode::OK, view.map(Simulation::of), None),
        Err(problem) if problem.cause().is_some() => return Err(problem),
        Err(problem) => (problem.kind().status(), None, Some(problem.detail().to_owned())),
    };
    let page_of = Page {
        frame: visitor.frame("Policies", "/policies").await?,
        versions: versions
            .into_iter()
            .map(|v| {
                let at = words::when_of(now, &v.loaded_at);
                (v, at)
            })
            .collect(),
        diff,
        tests,
        trace,
        at: given.text("at"),
        version: policy.version().to_owned(),
        rules: policy.rules().iter().map(Row::of).collect(),
        entitlements: entitlements(&policy, &chosen),
        identity: given.text("identity"),
        duration: given.text("duration"),
        ticket: given.text("ticket"),
        emergency: given.get("emergency").is_some(),
        no_reason,
        result,
        trouble,
        sees_all,
    };
    page_with(status, &page_of)
}
