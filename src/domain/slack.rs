//! Slack as the core knows it: accounts, how far an entitlement trusts a click there, and what people do there.

use serde::{Deserialize, Serialize};

use super::{
    id::{GrantId, RequestId},
    time::{Timestamp, Ttl},
};

/// An account, by the only key that identifies it: user ids alone are unique within one workspace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlackUser {
    /// Enterprise Grid organisation; empty outside of one.
    pub enterprise: String,
    /// Workspace.
    pub team: String,
    /// The account in it.
    pub user: String,
}

/// How far a click in Slack decides. The strictest of a request's entitlements counts; denying is always one click.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlackDecision {
    /// Requests are not shown in Slack at all.
    None,
    /// The message leads to the portal, where people approve.
    #[default]
    Link,
    /// A form shows the terms again and asks for a comment.
    Confirm,
    /// One click approves.
    Click,
}

/// What somebody did in Slack that changes something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum SlackDeed {
    /// Approve or deny.
    Decide {
        /// The request.
        request: RequestId,
        /// Hash of the terms that were shown.
        terms: String,
        /// Yes or no.
        approve: bool,
        /// In the approver's words.
        comment: String,
        /// Shorter duration.
        duration: Option<Ttl>,
        /// In the form that shows the terms once more.
        #[serde(default)]
        confirmed: bool,
    },
    /// Ask for access.
    Ask {
        /// Names of entitlements.
        entitlements: Vec<String>,
        /// How long.
        duration: Option<Ttl>,
        /// Why.
        reason: String,
        /// Ticket reference.
        ticket: Option<String>,
    },
    /// Prolong a grant.
    Extend {
        /// The grant.
        grant: GrantId,
        /// The end that was shown: a second click moves nothing.
        #[serde(default)]
        from: Option<Timestamp>,
    },
    /// Give a grant back.
    Release {
        /// The grant.
        grant: GrantId,
    },
}

/// A deed, with who did it and where: durable before it is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlackCommand {
    /// Who.
    pub by: SlackUser,
    /// What.
    pub deed: SlackDeed,
    /// Channel of the message that was clicked; empty for a form.
    pub channel: String,
    /// Timestamp of that message.
    pub message: String,
    /// Slack's own instant of the deed, or the id of the form.
    pub at: String,
    /// When we got it.
    pub received: Timestamp,
}

impl SlackCommand {
    /// What it is about, who, and Slack's instant: a repeated delivery has the same key.
    pub fn key(&self) -> String {
        let about = match &self.deed {
            SlackDeed::Decide { request, .. } => request.to_string(),
            SlackDeed::Ask { .. } => "ask".to_owned(),
            SlackDeed::Extend { grant, .. } => format!("extend {grant}"),
            SlackDeed::Release { grant } => format!("release {grant}"),
        };
        format!("{about} {}/{}/{} {}", self.by.enterprise, self.by.team, self.by.user, self.at)
    }
}

/// What a message is about. Its place in the ledger follows from it, so a repeat finds the same row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlackSheet {
    /// A request, in the channel: the truth.
    Request,
    /// The same, as a direct message to somebody who may decide.
    Approver,
    /// The same, a copy that was found hanging somewhere.
    Copy,
    /// One person's decision, below the request.
    Decision,
    /// What became of a request, to its requester.
    Outcome,
    /// A grant ends soon, to its holder.
    Ending,
    /// A grant ended, to its holder.
    Ended,
    /// An account was linked to somebody else, to that account.
    Relinked,
    /// An account acts for somebody now, to each of their accounts.
    Linked,
    /// Somebody's own page.
    Home,
    /// No message: when to ask more people.
    Tier,
}

impl SlackSheet {
    const ALL: [Self; 11] = [
        Self::Request,
        Self::Approver,
        Self::Copy,
        Self::Decision,
        Self::Outcome,
        Self::Ending,
        Self::Ended,
        Self::Relinked,
        Self::Linked,
        Self::Home,
        Self::Tier,
    ];

    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Approver => "approver",
            Self::Copy => "copy",
            Self::Decision => "decision",
            Self::Outcome => "outcome",
            Self::Ending => "ending",
            Self::Ended => "ended",
            Self::Relinked => "relinked",
            Self::Linked => "linked",
            Self::Home => "home",
            Self::Tier => "tier",
        }
    }

    /// From the stored name.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == s)
    }
}
