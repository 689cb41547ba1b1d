//! What is particular to Slack: who an account acts as, what people did there, what is to hang there.
//!
//! Names no adapter and builds no message: the edge renders what [`page`] answers. The verbs that decide are those of
//! every other surface; an account only leads to the person who calls them.

/// A small change in the background; one that came too late changes nothing.
macro_rules! in_background {
    ($broker:expr, |$tx:ident| $write:expr) => {
        loop {
            let mut $tx = $broker.store.begin_background().await?;
            let written: Result<_, $crate::store::StoreError> = async { $write }.await;
            match $tx.end(written).await {
                None => {}
                Some(Ok(_) | Err($crate::store::StoreError::Conflict)) => break Ok(()),
                Some(Err(error)) => break Err($crate::broker::BrokerError::from(error)),
            }
        }
    };
}

mod link;
pub mod page;
pub(super) mod terms;
mod tiers;
mod wanted;

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

pub use crate::store::MessageRow;
pub use link::{LINK_CODE_LIFE, SlackAccountView, SlackLinkView};

use super::{Broker, BrokerError, Ctx, record::Cause};
use crate::{
    domain::{
        id::{CorrelationId, GrantId},
        slack::{SlackCommand, SlackUser},
        time::{Timestamp, Ttl},
    },
    store::StoreError,
};

/// The name of this surface in the audit log.
pub const VIA: &str = "slack";

/// Whoever took a row up and died: another takes it after this.
const LEASE: Duration = Duration::from_secs(60);
/// First and last wait after a failure, doubling in between, for ever.
const BACKOFF: (u64, u64) = (2, 300);

/// Whom to ask when, in Slack.
#[derive(Debug, Clone)]
pub struct SlackSettings {
    /// Members of this group who may decide are asked at once by direct message.
    pub on_call_group: Option<String>,
    /// If nobody decided by then, everybody who may decide is asked.
    pub escalate_after: Duration,
    /// The same person is asked again after this long at the earliest, by whatever request.
    pub remind_every: Duration,
    /// Unique names of people who are never asked by direct message.
    pub quiet: BTreeSet<String>,
}

impl Default for SlackSettings {
    fn default() -> Self {
        Self {
            on_call_group: None,
            escalate_after: Duration::from_secs(15 * 60),
            remind_every: Duration::from_secs(30 * 60),
            quiet: BTreeSet::new(),
        }
    }
}

impl Broker {
    /// Whoever acts through a Slack account: linked, and active in the directory now.
    pub async fn authenticate_slack(&self, by: &SlackUser) -> Result<Ctx, BrokerError> {
        let subject = self.store.subject_of_slack(by, self.now()).await?;
        self.context(subject, None, None, VIA)
    }

    /// Somebody whom Slack let through and we do not: nothing is said to them.
    pub async fn note_slack_outsider(&self, by: &SlackUser, why: &'static str) -> Result<(), BrokerError> {
        if self.is_observing() {
            return Ok(());
        }
        let now = self.now();
        let cause = Cause { via: VIA, ..Cause::worker(CorrelationId::new(self.entropy.ulid(now)?), now) };
        let event = self.event(&cause, "slack.outsider", json!({"account": by, "why": why}))?;
        self.note_alone(event).await
    }

    /// Keep what somebody did before it is carried out; false if it was delivered before.
    pub async fn record_slack_command(&self, command: &SlackCommand) -> Result<bool, BrokerError> {
        self.may_change()?;
        let lease = command.received.plus_std(LEASE);
        loop {
            let mut tx = self.store.begin().await?;
            let written = tx.insert_slack_command(command, lease).await;
            if let Some(result) = tx.end(written).await {
                return Ok(result?);
            }
        }
    }

    /// The person behind a command is known: the log says which account, message and instant stand behind what
    /// follows under the same correlation.
    pub async fn note_slack_command(&self, ctx: &Ctx, command: &SlackCommand) -> Result<(), BrokerError> {
        let (what, request, grant) = match &command.deed {
            crate::domain::slack::SlackDeed::Decide { request, approve, .. } => {
                (if *approve { "approve" } else { "deny" }, Some(*request), None)
            }
            crate::domain::slack::SlackDeed::Ask { .. } => ("ask", None, None),
            crate::domain::slack::SlackDeed::Extend { grant, .. } => ("extend", None, Some(*grant)),
            crate::domain::slack::SlackDeed::Release { grant } => ("release", None, Some(*grant)),
        };
        let details = json!({
            "account": command.by, "what": what, "action_ts": command.at, "channel": command.channel,
            "message_ts": command.message,
        });
        let mut event = self.event(&Cause::from(ctx), "slack.command", details)?;
        event.request = request;
        event.grant = grant;
        self.note_alone(event).await
    }

    /// Commands that were kept and that nobody has carried out.
    pub async fn lease_slack_commands(&self, limit: u32) -> Result<Vec<SlackCommand>, BrokerError> {
        let now = self.now();
        if !self.store.slack_commands_due(now).await? {
            return Ok(Vec::new());
        }
        let rows = loop {
            let mut tx = self.store.begin_background().await?;
            let rows = tx.lease_slack_commands(now, now.plus_std(LEASE), limit).await;
            if let Some(result) = tx.end(rows).await {
                break result?;
            }
        };
        Ok(readable(rows, "a Slack command does not decode"))
    }

    /// A command was carried out, or refused.
    pub async fn settle_slack_command(&self, command: &SlackCommand) -> Result<(), BrokerError> {
        let key = command.key();
        in_background!(self, |tx| tx.settle_slack_command(&key).await)
    }

    /// Messages that are due.
    pub async fn lease_slack_messages(&self, limit: u32) -> Result<Vec<MessageRow>, BrokerError> {
        let now = self.now();
        if !self.store.slack_messages_due(now).await? {
            return Ok(Vec::new());
        }
        let rows = loop {
            let mut tx = self.store.begin_background().await?;
            let rows = tx.lease_slack_messages(now, now.plus_std(LEASE), limit).await;
            if let Some(result) = tx.end(rows).await {
                break result?;
            }
        };
        Ok(readable(rows, "a Slack message does not decode"))
    }

    /// A message hangs at `at` and shows what was wanted when it was leased.
    pub async fn settle_slack_message(
        &self,
        row: &MessageRow,
        at: Option<(&str, &str)>,
        again: Option<Timestamp>,
    ) -> Result<(), BrokerError> {
        let now = self.now();
        in_background!(self, |tx| tx.settle_slack_message(row, at, again, now).await)
    }

    /// A message did not go out. `wait` if Slack, or our own rate, said for how long; else it backs off. Without `sure`
    /// it may have gone out all the same: whoever takes it next looks for it first.
    pub async fn postpone_slack_message(
        &self,
        row: &MessageRow,
        wait: Option<Duration>,
        why: &str,
        sure: bool,
    ) -> Result<(), BrokerError> {
        let (first, last) = BACKOFF;
        let pause = || Duration::from_secs(first.saturating_mul(1 << row.attempts.min(16)).min(last));
        let due = self.now().plus_std(wait.unwrap_or_else(pause));
        in_background!(self, |tx| tx.postpone_slack_message(row, due, why, (wait.is_none(), sure)).await)
    }

    /// Where the message of a request hangs in the channel, if there is to be one: `Some(None)` if it does not yet.
    pub async fn slack_place(&self, request: &str) -> Result<Option<Option<(String, String)>>, BrokerError> {
        Ok(self.store.slack_place(&format!("request:{request}")).await?)
    }

    /// By how much the holder would prolong a grant: its default duration, within its bound. `None` if there is no
    /// room.
    pub async fn extension_of(&self, ctx: &Ctx, id: GrantId) -> Result<Option<Ttl>, BrokerError> {
        let grant = self.visible_grant(ctx, id).await?;
        Ok(self.room_of(&grant))
    }

    fn room_of(&self, grant: &crate::domain::grant::Grant) -> Option<Ttl> {
        let policy = self.policy();
        let entitlement = policy.catalog().get(&grant.entitlement)?;
        let began = grant.activated_at.unwrap_or(grant.created_at);
        let lasts = grant.not_after?.seconds_since(began).seconds();
        Ttl::from_seconds(entitlement.max_ttl.seconds().saturating_sub(lasts).min(entitlement.default_ttl.seconds()))
    }
}

fn readable<T>(rows: Vec<Result<T, StoreError>>, what: &'static str) -> Vec<T> {
    let mut good = Vec::with_capacity(rows.len());
    for row in rows {
        match row {
            Ok(row) => good.push(row),
            Err(error) => {
                metrics::counter!("tidegate_corrupt_rows_total").increment(1);
                tracing::error!(error = %error, "{what}");
            }
        }
    }
    good
}
