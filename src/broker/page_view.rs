//! What people are shown beside requests and grants: who asks and who looks, what would change, the log, versions of the
//! policy, figures.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::view::{GrantView, IdentityRef, RequestView};

/// Who looks at a request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TakenUpView {
    /// Who.
    pub by: IdentityRef,
    /// Since when.
    pub at: String,
}

/// What an approver likes to know of whoever asks: their requests of the last 30 days, counted up to 50, and what stands out.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RequesterContext {
    /// They are on call now.
    pub on_call: bool,
    /// Requests.
    pub asked: u32,
    /// Of these: approved.
    pub approved: u32,
    /// Of these: denied.
    pub denied: u32,
    /// Of these: nobody decided in time.
    pub lapsed: u32,
    /// What makes this request stand out, in words.
    pub marks: Vec<String>,
}

/// What a request would change for its subject.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PermissionsView {
    /// What they hold on the same targets now.
    pub holds: Vec<HeldView>,
    /// What they would hold then.
    pub gains: Vec<GainView>,
}

/// Something that somebody holds.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct HeldView {
    /// What.
    pub entitlement: String,
    /// Where.
    pub target: String,
    /// What it is there: roles, scopes, principals, group.
    #[schema(value_type = Object)]
    pub parameters: serde_json::Value,
    /// Its end; `null` before it is open.
    pub not_after: Option<String>,
}

/// Something that somebody would hold.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GainView {
    /// What.
    pub entitlement: String,
    /// Where.
    pub target: String,
    /// What it is there: roles, scopes, principals, group.
    #[schema(value_type = Object)]
    pub parameters: serde_json::Value,
    /// They hold the same already.
    pub held: bool,
    /// They are in its group for good.
    pub standing: bool,
}

/// A policy version that was in force.
#[derive(Debug, Clone)]
pub struct PolicyVersionView {
    /// Its name.
    pub version: String,
    /// When it was in force first, or again.
    pub loaded_at: String,
    /// It is in force now.
    pub in_force: bool,
}

/// A file that differs between two policy versions.
#[derive(Debug, Clone)]
pub struct ChangedFile {
    /// Its name.
    pub name: String,
    /// What changed, with a few lines around it.
    pub lines: Vec<ChangedLine>,
}

/// A line of a comparison.
#[derive(Debug, Clone)]
pub struct ChangedLine {
    /// `+`, `-`, or a space.
    pub mark: char,
    /// The line.
    pub text: String,
}

/// What is told of an identity beside what the directory says.
#[derive(Debug, Clone)]
pub struct SheetView {
    /// The source that owns it.
    pub source: Option<String>,
    /// The source's own name for it.
    pub external_id: Option<String>,
    /// Groups that it is in for good.
    pub standing: Vec<String>,
    /// Groups that it is in by a grant: name, grant, end.
    pub temporary: Vec<(String, String, Option<String>)>,
    /// What it asked for, or was asked for it, the newest first.
    pub asked: Vec<RequestView>,
    /// What ended because it left.
    pub lost: Vec<GrantView>,
}

/// What the latest requests came to.
#[derive(Debug, Clone, Default)]
pub struct InsightsView {
    /// Requests that were looked at: the latest, up to a bound.
    pub looked_at: u64,
    /// When the oldest of them was made.
    pub since: Option<String>,
    /// By state.
    pub states: Vec<(String, u64)>,
    /// By day, oldest first: made, and of these granted without people.
    pub days: Vec<(String, u64, u64)>,
    /// By entitlement, the most frequent first: made, denied, and the median of seconds until it was decided by people.
    pub entitlements: Vec<(String, u64, u64, Option<u64>)>,
    /// Emergencies.
    pub emergencies: u64,
}

/// Part of the log, for people to read.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// The events.
    pub entries: Vec<LogEntry>,
    /// Events in the whole log.
    pub size: u64,
    /// Go on before this one.
    pub older: Option<u64>,
    /// Every event of the page hashes to what is in the log.
    pub intact: bool,
    /// Actions of the events before the page's end, and how many there are: of a bounded number.
    pub facets: Vec<(String, u64)>,
}

/// What checking the log came to.
#[derive(Debug, Clone)]
pub struct LogCheck {
    /// Nothing is wrong.
    pub holds: bool,
    /// Events that the newest signed head covers.
    pub size: u64,
    /// Events that were hashed again.
    pub hashed: u64,
    /// What is wrong.
    pub problem: Option<String>,
}

/// An event, for people to read.
#[derive(Debug, Clone, Default)]
pub struct LogEntry {
    /// Leaf index.
    pub seq: u64,
    /// Id of the event.
    pub id: String,
    /// RFC 6962 leaf hash, hex.
    pub hash: String,
    /// When.
    pub at: String,
    /// `request.created`, `grant.active`…
    pub action: String,
    /// Who did it; nobody if it was the broker itself.
    pub actor: Option<String>,
    /// Whom it concerns, if it is somebody else.
    pub subject: Option<String>,
    /// Which surface.
    pub via: String,
    /// Which request.
    pub request: Option<String>,
    /// Which grant.
    pub grant: Option<String>,
    /// Which target.
    pub target: Option<String>,
    /// Facts.
    pub details: serde_json::Value,
}
