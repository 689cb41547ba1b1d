//! Reviews: who and what nobody uses, nobody answers for, or holds for good what could be had for a while. Each line
//! says why it is there and which one step would settle it. For administrators and auditors.

mod act;
mod advice;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Broker, BrokerError, Ctx, view::IdentityRef};
use crate::{
    domain::identity::{IdentityKind, Subject},
    store::TokenKind,
};

/// Lines that one review shows.
const ROWS: u32 = 500;
const DAY: u64 = 86_400;
/// A secret that was never used is a finding after this many days.
const NEVER_USED_DAYS: u64 = 14;

/// What to review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Review {
    /// Accounts and secrets that nobody uses.
    Dormant,
    /// Workloads and agents that nobody answers for.
    Orphans,
    /// Standing membership in groups that can be had for a while.
    Standing,
    /// For each target: accounts by SCIM, access just in time, or both.
    Advice,
    /// People of whom a source spoke, and who are known already.
    Collisions,
    /// People whom a stopped source would have taken away.
    Held,
}

/// One step that settles a line, as a call of the API and as a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// In a few words.
    pub text: String,
    /// HTTP method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Body, if it has one.
    #[schema(value_type = Option<Object>)]
    pub body: Option<Value>,
    /// The same on the command line.
    pub command: String,
}

/// One line of a review.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ReviewLine {
    /// What it is about: `account`, `secret`, `workload`, `membership`, `target`, `collision`, `departure`.
    pub about: String,
    /// Whom it concerns.
    pub identity: Option<IdentityRef>,
    /// Which secret, group, target or source.
    pub thing: Option<String>,
    /// Why it is here, in words for people.
    pub why: String,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<String>,
    /// What would settle it.
    pub steps: Vec<Step>,
}

impl Step {
    fn new(text: &str, (method, path): (&str, String), body: Option<Value>, command: String) -> Self {
        Self { text: text.to_owned(), method: method.to_owned(), path, body, command }
    }
}

impl Broker {
    /// One review. `days` is after how many days without use something counts as dormant.
    pub async fn review(&self, ctx: &Ctx, which: Review, days: u64) -> Result<Vec<ReviewLine>, BrokerError> {
        if !ctx.sees_everything() {
            return Err(BrokerError::Forbidden("reviews are for administrators and auditors"));
        }
        match which {
            Review::Dormant => self.dormant(ctx, days.clamp(1, 3650)).await,
            Review::Orphans => self.orphans(ctx).await,
            Review::Standing => self.standing(ctx).await,
            Review::Advice => Ok(self.advice()),
            Review::Collisions => self.collisions().await,
            Review::Held => self.held_back().await,
        }
    }

    async fn dormant(&self, ctx: &Ctx, days: u64) -> Result<Vec<ReviewLine>, BrokerError> {
        let ago = |days: u64| ctx.now.minus_std(std::time::Duration::from_secs(days.saturating_mul(DAY)));
        let mut lines = Vec::new();
        for (subject, seen) in self.store.unseen_since(ago(days), ROWS, ctx.now).await? {
            let i = &subject.identity;
            let why = match seen {
                Some(_) => format!("not seen for more than {days} days"),
                None => format!("never seen in more than {days} days"),
            };
            lines.push(ReviewLine {
                about: "account".to_owned(),
                identity: Some(self.reference(i.id).await),
                thing: None,
                why,
                since: seen.map(|at| at.to_string()),
                steps: vec![deactivation(&subject)],
            });
        }
        let never = ago(NEVER_USED_DAYS.min(days));
        for token in self.store.unused_tokens(ago(days), never, ROWS, ctx.now).await? {
            let what = if token.kind == TokenKind::Personal.as_str() { "personal token" } else { "client secret" };
            let why = match token.last_used_at {
                Some(_) => format!("{what} `{}` was not used for more than {days} days", token.label),
                None => format!("{what} `{}` was never used", token.label),
            };
            lines.push(ReviewLine {
                about: "secret".to_owned(),
                identity: Some(self.reference(token.identity).await),
                thing: Some(token.id.to_string()),
                why,
                since: Some(token.last_used_at.unwrap_or(token.created_at).to_string()),
                steps: vec![Step::new(
                    "end it",
                    ("DELETE", format!("/v1/tokens/{}", token.id)),
                    None,
                    format!("tidegate review end-token {}", token.id),
                )],
            });
        }
        Ok(lines)
    }

    async fn orphans(&self, ctx: &Ctx) -> Result<Vec<ReviewLine>, BrokerError> {
        let mut lines = Vec::new();
        for subject in self.store.orphans(ROWS, ctx.now).await? {
            let i = &subject.identity;
            let asked = match i.backup_owner {
                Some(id) => format!("{} is asked to answer for it", self.name_of(id).await),
                None => "nobody is asked to answer for it: an administrator must".to_owned(),
            };
            let until = i.answer_by.map_or_else(String::new, |by| format!("; the clock ends it at {by}"));
            lines.push(ReviewLine {
                about: if i.kind == IdentityKind::Person { "guest" } else { "workload" }.to_owned(),
                identity: Some(self.reference(i.id).await),
                thing: i.attributes.get(crate::domain::identity::TEAM).cloned(),
                why: format!("its owner left or its team is gone; {asked}{until}"),
                since: i.orphaned_at.map(|at| at.to_string()),
                steps: if i.kind == IdentityKind::Person {
                    vec![sponsorship(&subject), deactivation(&subject)]
                } else {
                    vec![hand_over(&subject), deactivation(&subject)]
                },
            });
        }
        Ok(lines)
    }

    async fn standing(&self, ctx: &Ctx) -> Result<Vec<ReviewLine>, BrokerError> {
        let policy = self.policy();
        let mut lines = Vec::new();
        for entitlement in policy.catalog().entitlements.values() {
            let directory = self.target_of(&entitlement.target).is_some_and(|t| t.config.kind == "directory");
            let Some(name) = entitlement.parameters.get("group").and_then(Value::as_str).filter(|_| directory) else {
                continue;
            };
            let Some(group) = self.store.group(name).await? else { continue };
            for member in self.store.standing_members(name, ROWS, ctx.now).await? {
                let i = &member.identity;
                let steps = if group.source.is_none() {
                    vec![Step::new(
                        "remove the standing membership",
                        ("DELETE", format!("/v1/groups/{}/members/{}", group.id, i.id)),
                        None,
                        format!("tidegate review remove {} {}", group.name, i.name),
                    )]
                } else {
                    Vec::new()
                };
                let elsewhere =
                    if group.source.is_some() { "; its source keeps the group, so it is removed there" } else { "" };
                lines.push(ReviewLine {
                    about: "membership".to_owned(),
                    identity: Some(self.reference(i.id).await),
                    thing: Some(group.name.clone()),
                    why: format!(
                        "in {} for good, and {} gives it for {} at a time{elsewhere}",
                        group.name, entitlement.id, entitlement.default_ttl
                    ),
                    since: None,
                    steps,
                });
            }
        }
        Ok(lines)
    }

    async fn collisions(&self) -> Result<Vec<ReviewLine>, BrokerError> {
        let sources = self.store.sources().await?;
        let mut lines = Vec::new();
        for (collision, at) in self.store.collisions().await? {
            let source = sources.iter().find(|(s, _)| s.id == collision.source);
            let source = source.map_or_else(|| collision.source.to_string(), |(s, _)| s.name.clone());
            let identity = self.reference(collision.identity).await;
            let step = Step::new(
                "they are one and the same: the source takes them over",
                ("POST", "/v1/reviews/collisions".to_owned()),
                Some(json!({"source": source, "identity": identity.id})),
                format!("tidegate review adopt {source} {}", identity.name),
            );
            lines.push(ReviewLine {
                about: "collision".to_owned(),
                why: format!("{source} speaks of `{}`, who has the same {}", collision.name, collision.matched),
                identity: Some(identity),
                thing: Some(source),
                since: Some(at.to_string()),
                steps: vec![step],
            });
        }
        Ok(lines)
    }

    async fn held_back(&self) -> Result<Vec<ReviewLine>, BrokerError> {
        let sources = self.store.sources().await?;
        let mut lines = Vec::new();
        for held in self.store.held_departures(None).await? {
            let source = sources.iter().find(|(s, _)| s.id == held.source);
            let source = source.map_or_else(|| held.source.to_string(), |(s, _)| s.name.clone());
            let step = Step::new(
                "it is right: they all leave",
                ("POST", format!("/v1/sources/{source}/accept")),
                None,
                format!("tidegate review accept {source}"),
            );
            lines.push(ReviewLine {
                about: "departure".to_owned(),
                identity: Some(self.reference(held.identity).await),
                why: format!("{source} would take away too many at once; this is one of them"),
                thing: Some(source),
                since: Some(held.at.to_string()),
                steps: vec![step],
            });
        }
        Ok(lines)
    }
}

fn sponsorship(subject: &Subject) -> Step {
    let i = &subject.identity;
    Step::new(
        "somebody else answers for the guest",
        ("POST", format!("/v1/identities/{}/sponsor", i.id)),
        Some(json!({"sponsor": "PERSON"})),
        format!("tidegate review sponsor {} PERSON", i.name),
    )
}

fn hand_over(subject: &Subject) -> Step {
    let i = &subject.identity;
    Step::new(
        "hand it over; its secrets end",
        ("PATCH", format!("/v1/workloads/{}", i.id)),
        Some(json!({"owner": "PERSON"})),
        format!("tidegate workload update {} --owner PERSON", i.name),
    )
}

fn deactivation(subject: &Subject) -> Step {
    let i = &subject.identity;
    if i.kind == IdentityKind::Person {
        return Step::new(
            "deactivate the account",
            ("POST", format!("/v1/identities/{}/deactivate", i.id)),
            Some(json!({"reason": "dormant"})),
            format!("tidegate review deactivate {} --reason dormant", i.name),
        );
    }
    Step::new(
        "decommission it",
        ("PATCH", format!("/v1/workloads/{}", i.id)),
        Some(json!({"active": false})),
        format!("tidegate workload update {} --deactivate", i.name),
    )
}
