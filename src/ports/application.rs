//! The application port: how accounts in one downstream application are read and changed.
//!
//! An application stores nothing here. Every call may be repeated; what is gone already is done.

use std::fmt;

use async_trait::async_trait;

use super::connector::{Fault, Finding};
use crate::domain::{
    account::{Account, Desired, Difference},
    time::Timestamp,
};

/// By what an account is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key<'a> {
    /// The provisioner's name for it.
    ExternalId(&'a str),
    /// Name at sign-in.
    UserName(&'a str),
}

/// What came of making an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It is there now; the application's name for it, if it said so.
    Made(Option<String>),
    /// One with that name is there already: look for it.
    Taken,
}

/// What came of changing an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The application says that it is done.
    Done,
    /// There is no such account, and that was asked for.
    Gone,
}

/// What else hangs on an account and is taken back with it: its holder's devices, where it has such.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TakenBack {
    /// What was ordered just now.
    pub ordered: Vec<String>,
    /// What is not confirmed to be taken back.
    pub open: Vec<String>,
    /// What shows that the rest is.
    pub evidence: Vec<serde_json::Value>,
}

/// One page of the accounts of an application.
#[derive(Debug, Clone, Default)]
pub struct AccountPage {
    /// In the application's order.
    pub accounts: Vec<Account>,
    /// Pass as `after` to go on; `None` at the end.
    pub next: Option<String>,
}

/// A group of the application, with whoever is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteGroup {
    /// The application's name for it.
    pub remote_id: String,
    /// Names of the accounts in it.
    pub members: std::collections::BTreeSet<String>,
}

/// Speaks to one application.
#[async_trait]
pub trait Application: Send + Sync {
    /// Can it be reached, and what can it do?
    async fn check(&self) -> Vec<Finding>;

    /// Until when it has asked to be left alone, if it has.
    fn busy_until(&self) -> Option<Timestamp>;

    /// The account of that key.
    async fn find(&self, key: Key<'_>) -> Result<Option<Account>, Fault>;

    /// The account of that name; `None` is certain.
    async fn read(&self, remote_id: &str) -> Result<Option<Account>, Fault>;

    /// Make an account.
    async fn create(&self, desired: &Desired) -> Result<Created, Fault>;

    /// Set right what differs.
    async fn update(&self, is: &Account, desired: &Desired, what: &[Difference]) -> Result<Changed, Fault>;

    /// Let nobody sign in with it.
    async fn deactivate(&self, is: &Account) -> Result<Changed, Fault>;

    /// Take back what else hangs on the account of somebody who is gone, if `order`; how that stands.
    async fn take_back(&self, _is: &Account, _order: bool) -> Result<TakenBack, Fault> {
        Ok(TakenBack::default())
    }

    /// Take it away for good.
    async fn delete(&self, remote_id: &str) -> Result<Changed, Fault>;

    /// All accounts, page by page.
    async fn page(&self, after: Option<&str>) -> Result<AccountPage, Fault>;

    /// The group of that name, with its members.
    async fn group(&self, name: &str) -> Result<Option<RemoteGroup>, Fault>;

    /// Put an account into a group; again is done.
    async fn join(&self, group: &str, remote_id: &str) -> Result<(), Fault>;

    /// Take an account out of a group; not there is done.
    async fn leave(&self, group: &str, remote_id: &str) -> Result<(), Fault>;
}

impl fmt::Debug for dyn Application {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Application")
    }
}
