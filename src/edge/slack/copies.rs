//! What hangs in Slack is kept current: rows that are due are rendered from the ledger and sent, again and again until
//! Slack took them. A failure here never undoes a decision.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    Slack,
    sheets::{self, Sheet},
};
use crate::{
    broker::{BrokerError, slack::MessageRow, slack::page::SlackPage},
    domain::slack::SlackSheet,
    ports::chat::ChatError,
};

/// So few that all of them are through well before the lease ends, however slow Slack is.
const BATCH: u32 = 8;
/// Pages of what hangs somewhere that are looked through for a message of ours, and how long each is.
const PAGES: (usize, u32) = (5, 200);
/// What our messages carry, to be found by.
const EVENT: &str = "tidegate_message";
/// Messages on their way at once.
const WIDTH: usize = 4;
/// Look for due rows this often, besides being woken by commits.
const TICK: Duration = Duration::from_millis(500);

/// Where a message went.
enum Sent {
    At(String, String),
    Nowhere,
}

impl Slack {
    /// Send and repair, until the broker closes.
    pub(super) async fn keep_copies(self: Arc<Self>) {
        let mut committed = self.broker.committed();
        loop {
            let taken = if self.broker.is_observing() { Ok(0) } else { self.copy_due().await };
            match taken {
                Ok(taken) if taken > 0 && !self.broker.closing().is_cancelled() => {}
                Ok(_) => {
                    tokio::select! {
                        () = self.broker.closing().cancelled() => return,
                        _ = committed.changed() => {}
                        () = tokio::time::sleep(TICK) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "messages for Slack could not be read; trying again");
                    if !self.pause(Duration::from_secs(1)).await {
                        return;
                    }
                }
            }
        }
    }

    /// Send what is due; how many rows that were.
    async fn copy_due(&self) -> Result<usize, BrokerError> {
        let rows = self.broker.lease_slack_messages(BATCH).await?;
        let taken = rows.len();
        let mut running = stream::iter(rows.into_iter().map(|row| self.copy(row))).buffer_unordered(WIDTH);
        // One that could not be noted keeps no other one from being noted.
        let mut noted = Ok(taken);
        while let Some(result) = running.next().await {
            if let Err(error) = result {
                noted = Err(error);
            }
        }
        noted
    }

    async fn copy(&self, row: MessageRow) -> Result<(), BrokerError> {
        if row.kind == SlackSheet::Tier {
            return self.broker.slack_next_tier(&row).await;
        }
        let page = match self.broker.slack_page(&row).await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(message = row.id, error = %error, "a message for Slack could not be rendered");
                return self.broker.postpone_slack_message(&row, None, &error.to_string(), true).await;
            }
        };
        let again = if let SlackPage::Nothing(again) = &page { *again } else { None };
        match self.send(&row, page).await {
            Ok(Sent::At(channel, ts)) => self.broker.settle_slack_message(&row, Some((&channel, &ts)), None).await,
            Ok(Sent::Nowhere) => {
                let at = row.channel.as_deref().zip(row.ts.as_deref());
                self.broker.settle_slack_message(&row, at, again).await
            }
            Err(ChatError::Later(wait)) => {
                self.broker.postpone_slack_message(&row, Some(wait), "the rate is used up", true).await
            }
            Err(ChatError::Refused(code)) if for_ever(&code) => {
                tracing::warn!(message = row.id, code, "Slack does not take a message; it is left as it is");
                let at = row.channel.as_deref().zip(row.ts.as_deref());
                self.broker.settle_slack_message(&row, at, None).await
            }
            Err(error) => {
                tracing::debug!(message = row.id, error = %error, "a message for Slack waits");
                // No answer is no "no": it may hang there.
                let sure = !matches!(error, ChatError::Unreachable(_));
                self.broker.postpone_slack_message(&row, None, &error.to_string(), sure).await
            }
        }
    }

    async fn send(&self, row: &MessageRow, page: SlackPage) -> Result<Sent, ChatError> {
        let portal = &self.settings.portal;
        let sheet = match page {
            SlackPage::Nothing(_) => return Ok(Sent::Nowhere),
            SlackPage::Home(page) => {
                let user = row.channel.clone().unwrap_or_default();
                let view = sheets::home(&page, portal);
                self.chat.call("views.publish", &json!({"user_id": user, "view": view})).await?;
                return Ok(Sent::At(user, String::new()));
            }
            SlackPage::Request(page) => sheets::request(&page, portal),
            SlackPage::Decision(page, decision) => sheets::decision(&page, &decision),
            SlackPage::Outcome(page) => sheets::outcome(&page, portal),
            SlackPage::Ending(grant, room) => sheets::ending(&grant, room),
            SlackPage::Ended(grant, by) => sheets::ended(&grant, by.as_deref()),
            SlackPage::Relinked => sheets::relinked(),
            SlackPage::Linked(who) => sheets::linked(&who, portal),
        };
        if let Some((channel, ts)) = row.channel.as_deref().zip(row.ts.as_deref()).filter(|(_, ts)| !ts.is_empty()) {
            match self.update(channel, ts, &sheet).await {
                Ok(()) => return Ok(Sent::At(channel.to_owned(), ts.to_owned())),
                // It is gone: it hangs once more, where it belongs. A copy that somebody made is not ours to hang again.
                Err(ChatError::Refused(code)) if code == "message_not_found" && row.kind != SlackSheet::Copy => {}
                Err(error) => return Err(error),
            }
        }
        self.post(row, &sheet).await
    }

    async fn update(&self, channel: &str, ts: &str, sheet: &Sheet) -> Result<(), ChatError> {
        let mut arguments = sheet.arguments();
        set(&mut arguments, &[("channel", channel), ("ts", ts)]);
        self.chat.call("chat.update", &arguments).await.map(drop)
    }

    async fn post(&self, row: &MessageRow, sheet: &Sheet) -> Result<Sent, ChatError> {
        let mut arguments = sheet.arguments();
        let unknown = |e: BrokerError| ChatError::Unreachable(e.to_string());
        let channel = match row.kind {
            SlackSheet::Request => self.settings.channel.clone(),
            SlackSheet::Decision => {
                // Below the request's message, once that hangs.
                let Some(place) = self.broker.slack_place(&row.request).await.map_err(unknown)? else {
                    return Ok(Sent::Nowhere);
                };
                let Some((channel, ts)) = place else { return Err(ChatError::Later(Duration::from_secs(2))) };
                set(&mut arguments, &[("thread_ts", &ts)]);
                channel
            }
            // To this account, whichever was linked last.
            SlackSheet::Linked => row.channel.clone().unwrap_or_default(),
            _ => match self.broker.slack_account_of(row).await.map_err(unknown)? {
                // A user's id opens the direct message; where it is, the answer says.
                Some(account) => account.user,
                None => return Ok(Sent::Nowhere),
            },
        };
        if row.unsure && row.ts.as_deref().unwrap_or_default().is_empty() {
            let thread = arguments.get("thread_ts").and_then(Value::as_str).map(str::to_owned);
            if let Some((channel, ts)) = self.find(&row.id, &channel, thread.as_deref()).await? {
                self.update(&channel, &ts, sheet).await?;
                return Ok(Sent::At(channel, ts));
            }
        }
        set(&mut arguments, &[("channel", &channel)]);
        if let Some(fields) = arguments.as_object_mut() {
            let mark = json!({"event_type": EVENT, "event_payload": {"row": row.id}});
            fields.insert("metadata".to_owned(), mark);
        }
        let answer = self.chat.call("chat.postMessage", &arguments).await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        match (text("channel"), text("ts")) {
            (Some(channel), Some(ts)) => Ok(Sent::At(channel, ts)),
            _ => Err(ChatError::Unreachable("it did not say where the message hangs".to_owned())),
        }
    }
}

impl Slack {
    /// Where a message hangs that may have gone out before. Without the right to read what hangs there, it cannot be
    /// known: rather twice than never.
    async fn find(&self, row: &str, to: &str, thread: Option<&str>) -> Result<Option<(String, String)>, ChatError> {
        let text = |v: &Value, path: &str| v.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let known = |error: ChatError| match error {
            ChatError::Refused(code) => {
                tracing::warn!(code, "Slack does not say whether a message hangs; it may hang twice");
                Ok(None)
            }
            other => Err(other),
        };
        let mut channel = to.to_owned();
        if to.starts_with(['U', 'W']) {
            match self.chat.call("conversations.open", &json!({"users": to})).await {
                Ok(answer) => channel = text(&answer, "/channel/id"),
                Err(error) => return known(error),
            }
        }
        let method = if thread.is_some() { "conversations.replies" } else { "conversations.history" };
        let mut cursor = String::new();
        for _ in 0..PAGES.0 {
            let mut arguments = json!({"limit": PAGES.1, "include_all_metadata": true});
            set(&mut arguments, &[("channel", &channel), ("cursor", &cursor), ("ts", thread.unwrap_or_default())]);
            let answer = match self.chat.call(method, &arguments).await {
                Ok(answer) => answer,
                Err(error) => return known(error),
            };
            let ours =
                |m: &&Value| text(m, "/metadata/event_type") == EVENT && text(m, "/metadata/event_payload/row") == row;
            let found = answer.get("messages").and_then(Value::as_array).into_iter().flatten().find(ours);
            if let Some(found) = found {
                return Ok(Some((channel, text(found, "/ts"))));
            }
            cursor = text(&answer, "/response_metadata/next_cursor");
            if cursor.is_empty() {
                break;
            }
        }
        Ok(None)
    }
}

fn set(arguments: &mut Value, pairs: &[(&str, &str)]) {
    if let Some(fields) = arguments.as_object_mut() {
        for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
            fields.insert((*name).to_owned(), (*value).into());
        }
    }
}

/// Errors that trying again does not mend.
fn for_ever(code: &str) -> bool {
    matches!(
        code,
        "message_not_found"
            | "cant_update_message"
            | "edit_window_closed"
            | "channel_not_found_for_user"
            | "cannot_dm_bot"
            | "user_not_found"
            | "user_disabled"
            | "msg_too_long"
            | "invalid_blocks"
            | "view_too_large"
    )
}
