//! What the sync answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{
    account::{AccountState, Difference},
    provision::MadeBy,
    roster::Refused,
};

/// Items of a report beyond these are counted and not listed.
pub const MOST_ITEMS: usize = 1000;

/// An application that accounts are kept aligned in, or a source that is read.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SyncView {
    /// Its name.
    pub id: String,
    /// `application` or `source`.
    pub role: String,
    /// `scim`, `manual`, `feed`, `scim_pull`.
    pub kind: String,
    /// When everything is compared or read, as in crontab(5).
    pub schedule: Option<String>,
    /// `ok`, or why it is left alone.
    pub health: String,
    /// How many accounts stand how.
    pub accounts: BTreeMap<String, u64>,
    /// Tasks that wait for somebody.
    pub open_tasks: u64,
    /// The latest comparison or reading.
    pub last_run: Option<RunView>,
}

/// One comparison or reading.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// Its id.
    pub id: String,
    /// Of which application or source.
    pub name: String,
    /// `plan`, `apply`, `verify`, `drift`.
    pub verb: String,
    /// `running`, `done`, `stopped` (it asks first), `failed`.
    pub state: String,
    /// When it began.
    pub started_at: String,
    /// When it was done.
    pub finished_at: Option<String>,
    /// Of an application: what was found.
    pub report: Option<Report>,
    /// Of a source: what was found.
    pub reading: Option<ReadingReport>,
    /// How the accounts stand that `apply` marked.
    pub accounts: BTreeMap<String, u64>,
    /// Why it came to nothing.
    pub error: Option<String>,
    /// Every effect carries it.
    pub correlation_id: String,
}

/// What is to be done about an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: it is as it should be.
    None,
    /// Make it.
    Create,
    /// Set right what differs.
    Update,
    /// Take over one that is there.
    Adopt,
    /// Let nobody sign in with it.
    Deactivate,
    /// Delete it: it has been inactive for long enough.
    Delete,
    /// Nothing: it is nobody's, and nobody has said that such are to be deactivated.
    Orphan,
}

/// One account of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Item {
    /// Whose, if anybody's.
    pub identity: Option<String>,
    /// Name here, or at sign-in there.
    pub name: String,
    /// The application's name for it.
    pub remote_id: Option<String>,
    /// What is to be done.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// What differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// Accounts read, each once.
    pub read: u64,
    /// As they should be.
    pub aligned: u64,
    /// Active there, known here, and not in the scope: left alone.
    pub outside: u64,
    /// By what is to be done.
    pub actions: BTreeMap<String, u64>,
    /// Accounts that `apply` has marked: they are worked on one by one.
    pub marked: u64,
    /// Accounts that `verify` has read back as they should be, and were not known to be.
    pub verified: u64,
    /// What is to be done, account by account.
    pub items: Vec<Item>,
    /// There are more than are listed.
    pub more: bool,
}

impl Report {
    pub(super) fn add(&mut self, item: Item) {
        let name = serde_json::to_value(item.action).ok();
        let name = name.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
        *self.actions.entry(name.to_owned()).or_default() += 1;
        if self.items.len() < MOST_ITEMS {
            self.items.push(item);
        } else {
            self.more = true;
        }
    }
}

/// What reading a source came to. Lists of names are cut off after a thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadingReport {
    /// Lines that tell of a person.
    pub read: u64,
    /// As they are here.
    pub unchanged: u64,
    /// Who joins.
    pub joined: u64,
    /// Who changes.
    pub changed: u64,
    /// Who leaves: said to be inactive, or no longer there.
    pub left: u64,
    /// Names of those who leave.
    pub leavers: Vec<String>,
    /// Lines that cannot be used.
    pub refused: Vec<Refused>,
    /// The same person, or the same name, from somewhere else: nothing was changed.
    pub conflicts: Vec<String>,
    /// Not everything could be read, so nobody was taken for gone because of not being there.
    pub incomplete: bool,
    /// It stopped, and changed nothing: why, and how to go on.
    pub stopped: Option<String>,
    /// It was carried out.
    pub applied: bool,
}

/// One account as the ledger knows it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// In which application.
    pub application: String,
    /// Whose.
    pub identity: Option<String>,
    /// The name of whoever it is.
    pub name: Option<String>,
    /// The application's name for it.
    pub remote_id: Option<String>,
    /// How it stands.
    pub state: AccountState,
    /// When it was last read back as it should be.
    pub verified_at: Option<String>,
    /// Tries in vain.
    pub attempts: u32,
    /// When it is looked at again.
    pub due_at: Option<String>,
    /// Why it is not done.
    pub error: Option<String>,
    /// The call that it follows from.
    pub correlation_id: String,
}

/// Why somebody has, or has not, an account.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ExplainView {
    /// In which application.
    pub application: String,
    /// `scim`, `mdm`, `manual`.
    pub kind: String,
    /// Whose.
    pub identity: String,
    /// The name of whoever it is.
    pub name: String,
    /// Everything in the application's scope holds.
    pub belongs: bool,
    /// Who makes the account: `sync`, `login`, `nobody`.
    pub made_by: MadeBy,
    /// Which rule says so.
    pub rule: String,
    /// They have signed in once.
    pub signed_in: bool,
    /// `present`, `inactive`, `deleted`, `nothing`.
    pub should_be: String,
    /// How the account stands, if there is one.
    pub state: Option<AccountState>,
    /// Why it is not done.
    pub error: Option<String>,
    /// The same in words.
    pub reasons: Vec<String>,
}

/// Something that somebody is to do by hand.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TaskView {
    /// Its id.
    pub id: String,
    /// In which application.
    pub application: String,
    /// Whose account.
    pub identity: String,
    /// The name of whoever it is.
    pub name: String,
    /// `create`, `update`, `deactivate`, `delete`.
    pub what: String,
    /// What the account should be then.
    pub details: serde_json::Value,
    /// Who does it.
    pub owner: String,
    /// Until when.
    pub deadline: String,
    /// Is it too late already?
    pub overdue: bool,
    /// Since when it is there.
    pub created_at: String,
    /// When it was done, or no longer needed.
    pub closed_at: Option<String>,
    /// Who said that it is done.
    pub closed_by: Option<String>,
    /// What they showed for it.
    pub evidence: Option<String>,
    /// The call that it follows from.
    pub correlation_id: String,
}
