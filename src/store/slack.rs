//! Slack: links, codes, what hangs there, and the commands that people gave.

use std::collections::BTreeMap;

use sqlx::{any::AnyRow, query};

use super::{
    Store, StoreError, Tx,
    identities::{SEPARATOR, subject, subject_columns},
    row::{Reader, readable, to_json},
    rows::Bound,
};
use crate::domain::{
    id::IdentityId,
    identity::Subject,
    slack::{SlackCommand, SlackSheet, SlackUser},
    time::Timestamp,
};

/// A code that was shown to a Slack account.
#[derive(Debug, Clone)]
pub struct LinkCode {
    /// The account.
    pub account: SlackUser,
    /// Its name, for people to compare.
    pub shown_name: String,
    /// URL of its picture; may be empty.
    pub avatar: String,
}

/// A message to be made, unless it is there.
#[derive(Debug, Clone)]
pub struct NewMessage<'a> {
    /// Follows from what it is about.
    pub id: String,
    /// What it shows.
    pub kind: SlackSheet,
    /// The request, or empty.
    pub request: String,
    /// The grant, or empty.
    pub grant: String,
    /// Whose direct message; only made if that identity has a linked account. `None` for the channel.
    pub to: Option<IdentityId>,
    /// Where it hangs already.
    pub at: Option<(&'a str, &'a str)>,
    /// When to look at it.
    pub due_at: Timestamp,
}

impl NewMessage<'_> {
    fn statement(&self) -> Bound {
        const SQL: &str = "INSERT INTO slack_messages (id, kind, request_id, grant_id, identity_id, channel, ts, wanted, \
                           rendered, due_at, attempts, epoch) SELECT $1, $2, $3, $4, $5, $6, $7, 1, 0, $8, 0, 0 \
                           WHERE $5 = '' OR EXISTS (SELECT 1 FROM slack_links WHERE identity_id = $5) \
                           ON CONFLICT (id) DO NOTHING";
        let (channel, ts) = self.at.unzip();
        query(SQL)
            .bind(self.id.clone())
            .bind(self.kind.as_str())
            .bind(self.request.clone())
            .bind(self.grant.clone())
            .bind(self.to.map_or_else(String::new, |to| to.to_string()))
            .bind(channel.map(str::to_owned))
            .bind(ts.map(str::to_owned))
            .bind(self.due_at.micros())
    }
}

/// What a change means for Slack; written with it.
#[derive(Debug, Clone)]
pub enum SlackWish {
    /// A message, unless it is there already, or is for somebody without an account.
    Message(NewMessage<'static>),
    /// The state of a request changed: what shows it is to be rendered again.
    Stale(String, Timestamp),
    /// Something of somebody changed: their page is to be rendered again.
    Home(IdentityId, Timestamp),
}

impl SlackWish {
    pub(super) fn statement(&self) -> Bound {
        const STALE: &str = "UPDATE slack_messages SET wanted = wanted + 1, due_at = coalesce(due_at, $1) \
                             WHERE request_id = $2 AND kind NOT IN ('decision', 'tier', 'ended')";
        const HOME: &str = "UPDATE slack_messages SET wanted = wanted + 1, due_at = coalesce(due_at, $1) \
                            WHERE identity_id = $2 AND kind = 'home'";
        match self {
            Self::Message(new) => new.statement(),
            Self::Stale(request, at) => query(STALE).bind(at.micros()).bind(request.clone()),
            Self::Home(of, at) => query(HOME).bind(at.micros()).bind(of.to_string()),
        }
    }
}

/// A message that is due.
#[derive(Debug, Clone)]
pub struct MessageRow {
    /// Its id.
    pub id: String,
    /// What it shows.
    pub kind: SlackSheet,
    /// The request, or empty.
    pub request: String,
    /// The grant, or empty.
    pub grant: String,
    /// Whose direct message, or empty.
    pub identity: String,
    /// Where it hangs.
    pub channel: Option<String>,
    /// Likewise.
    pub ts: Option<String>,
    /// Version of the state that is to be shown.
    pub wanted: i64,
    /// Tries since it last went well.
    pub attempts: u32,
    /// Fencing token.
    pub epoch: i64,
    /// Whoever took it before may have posted it, and died or heard no answer.
    pub unsure: bool,
}

const ROW: &str = "UPDATE slack_messages SET due_at = $1, epoch = epoch + 1, unsure = unsure + 1 \
                   WHERE id IN (SELECT id FROM slack_messages WHERE due_at <= $2 ORDER BY due_at, id LIMIT $3) \
                   AND due_at <= $2 RETURNING id, kind, request_id, grant_id, identity_id, channel, ts, wanted, attempts, \
                   epoch, unsure";

fn message(row: &AnyRow) -> Result<MessageRow, StoreError> {
    let r = Reader::new("slack_messages", row);
    Ok(MessageRow {
        id: r.text("id")?,
        kind: r.named("kind", SlackSheet::parse)?,
        request: r.text("request_id")?,
        grant: r.text("grant_id")?,
        identity: r.text("identity_id")?,
        channel: r.optional_text("channel")?,
        ts: r.optional_text("ts")?,
        wanted: r.integer("wanted")?,
        attempts: r.number("attempts")?,
        epoch: r.integer("epoch")?,
        unsure: r.integer("unsure")? > 1,
    })
}

impl Store {
    /// The identity that a Slack account acts as, with its groups.
    pub async fn subject_of_slack(&self, by: &SlackUser, now: Timestamp) -> Result<Option<Subject>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            subject_columns!(),
            " FROM slack_links l JOIN identities i ON i.id = l.identity_id \
             WHERE l.enterprise_id = $3 AND l.team_id = $4 AND l.user_id = $5"
        );
        let row = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(by.enterprise.clone())
            .bind(by.team.clone())
            .bind(by.user.clone())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(subject).transpose()
    }

    /// The Slack accounts of an identity, the latest first.
    pub async fn slack_accounts(&self, identity: IdentityId) -> Result<Vec<SlackUser>, StoreError> {
        const SQL: &str = "SELECT enterprise_id, team_id, user_id FROM slack_links WHERE identity_id = $1 \
                           ORDER BY linked_at DESC, user_id LIMIT 20";
        let rows = query(SQL).bind(identity.to_string()).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, account))
    }

    /// The same, with when each was linked.
    pub async fn slack_links(&self, identity: IdentityId) -> Result<Vec<(SlackUser, Timestamp)>, StoreError> {
        const SQL: &str = "SELECT enterprise_id, team_id, user_id, linked_at FROM slack_links WHERE identity_id = $1 \
                           ORDER BY linked_at DESC, user_id LIMIT 20";
        let rows = query(SQL).bind(identity.to_string()).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| Ok((account(row)?, Reader::new("slack_links", row).instant("linked_at")?))))
    }

    /// The account behind a code that is neither used nor too old.
    pub async fn slack_code(&self, hash: &[u8], now: Timestamp) -> Result<Option<LinkCode>, StoreError> {
        const SQL: &str = "SELECT enterprise_id, team_id, user_id, shown_name, avatar FROM slack_link_codes \
                           WHERE hash = $1 AND expires_at > $2 AND used_at IS NULL";
        let row = query(SQL).bind(hash.to_vec()).bind(now.micros()).fetch_optional(&self.inner.readers).await?;
        row.as_ref().map(code).transpose()
    }

    /// When this person was last asked to decide on something, by direct message.
    pub async fn slack_last_asked(&self, identity: IdentityId) -> Result<Option<Timestamp>, StoreError> {
        const SQL: &str =
            "SELECT max(posted_at) AS at FROM slack_messages WHERE identity_id = $1 AND kind = 'approver'";
        let row = query(SQL).bind(identity.to_string()).fetch_one(&self.inner.readers).await?;
        Reader::new("slack_messages", &row).optional_instant("at")
    }

    /// Who was asked about a request by direct message: how often, and whether one of the questions still waits to go out.
    pub async fn slack_asked_about(&self, request: &str) -> Result<BTreeMap<IdentityId, (u32, bool)>, StoreError> {
        const SQL: &str = "SELECT identity_id, count(*) AS times, \
                           max(CASE WHEN posted_at IS NULL AND due_at IS NOT NULL THEN 1 ELSE 0 END) AS waits \
                           FROM slack_messages WHERE request_id = $1 AND kind = 'approver' GROUP BY identity_id";
        let rows = query(SQL).bind(request).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("slack_messages", row);
            Ok((r.parsed("identity_id")?, (r.number("times")?, r.integer("waits")? == 1)))
        })
        .into_iter()
        .collect())
    }

    /// Is any message due? Read before leasing: a lease is a commit, and commits wake whoever waits for one.
    pub async fn slack_messages_due(&self, now: Timestamp) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT id FROM slack_messages WHERE due_at <= $1 LIMIT 1";
        Ok(query(SQL).bind(now.micros()).fetch_optional(&self.inner.readers).await?.is_some())
    }

    /// Is any command due?
    pub async fn slack_commands_due(&self, now: Timestamp) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT id FROM slack_commands WHERE due_at <= $1 LIMIT 1";
        Ok(query(SQL).bind(now.micros()).fetch_optional(&self.inner.readers).await?.is_some())
    }

    /// Where a message hangs, if there is to be one: `Some(None)` if it does not hang yet, `None` if it never will.
    pub async fn slack_place(&self, id: &str) -> Result<Option<Option<(String, String)>>, StoreError> {
        let row =
            query("SELECT channel, ts FROM slack_messages WHERE id = $1 AND (ts IS NOT NULL OR due_at IS NOT NULL)")
                .bind(id)
                .fetch_optional(&self.inner.readers)
                .await?;
        let Some(row) = row else { return Ok(None) };
        let r = Reader::new("slack_messages", &row);
        Ok(Some(r.optional_text("channel")?.zip(r.optional_text("ts")?)))
    }
}

fn account(row: &AnyRow) -> Result<SlackUser, StoreError> {
    let r = Reader::new("slack_links", row);
    Ok(SlackUser { enterprise: r.text("enterprise_id")?, team: r.text("team_id")?, user: r.text("user_id")? })
}

fn code(row: &AnyRow) -> Result<LinkCode, StoreError> {
    let r = Reader::new("slack_link_codes", row);
    Ok(LinkCode { account: account(row)?, shown_name: r.text("shown_name")?, avatar: r.text("avatar")? })
}

impl Tx {
    /// Keep a code that was shown to an account.
    pub async fn insert_slack_code(
        &mut self,
        hash: &[u8],
        code: &LinkCode,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO slack_link_codes (hash, enterprise_id, team_id, user_id, shown_name, avatar, \
                           expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        self.execute_one(
            query(SQL)
                .bind(hash.to_vec())
                .bind(code.account.enterprise.clone())
                .bind(code.account.team.clone())
                .bind(code.account.user.clone())
                .bind(code.shown_name.clone())
                .bind(code.avatar.clone())
                .bind(expires_at.micros()),
        )
        .await
    }

    /// Use a code up; `None` if it was used, is too old or never was.
    pub async fn use_slack_code(&mut self, hash: &[u8], now: Timestamp) -> Result<Option<LinkCode>, StoreError> {
        const SQL: &str = "UPDATE slack_link_codes SET used_at = $2 \
                           WHERE hash = $1 AND expires_at > $2 AND used_at IS NULL \
                           RETURNING enterprise_id, team_id, user_id, shown_name, avatar";
        let rows = self.write_returning(query(SQL).bind(hash.to_vec()).bind(now.micros())).await?;
        rows.first().map(code).transpose()
    }

    /// Let an account act as an identity. Answers whom it acted as before.
    pub async fn link_slack(
        &mut self,
        by: &SlackUser,
        identity: IdentityId,
        now: Timestamp,
    ) -> Result<Option<IdentityId>, StoreError> {
        const BEFORE: &str =
            "SELECT identity_id FROM slack_links WHERE enterprise_id = $1 AND team_id = $2 AND user_id = $3";
        const LINK: &str = "INSERT INTO slack_links (enterprise_id, team_id, user_id, identity_id, linked_at) \
                            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (enterprise_id, team_id, user_id) \
                            DO UPDATE SET identity_id = excluded.identity_id, linked_at = excluded.linked_at";
        let key = |sql| query(sql).bind(by.enterprise.clone()).bind(by.team.clone()).bind(by.user.clone());
        let before = self.read_optional(key(BEFORE)).await?;
        let before = before.map(|row| Reader::new("slack_links", &row).parsed("identity_id")).transpose()?;
        self.execute_one(key(LINK).bind(identity.to_string()).bind(now.micros())).await?;
        Ok(before)
    }

    /// No account acts as this identity any more. Answers those that did.
    pub async fn unlink_slack(&mut self, identity: IdentityId) -> Result<Vec<SlackUser>, StoreError> {
        const SQL: &str = "DELETE FROM slack_links WHERE identity_id = $1 RETURNING enterprise_id, team_id, user_id";
        let rows = self.write_returning(query(SQL).bind(identity.to_string())).await?;
        rows.iter().map(account).collect()
    }

    /// One account acts as this identity no more. Answers it, or `None` if it did not.
    pub async fn unlink_slack_account(
        &mut self,
        identity: IdentityId,
        team: &str,
        user: &str,
    ) -> Result<Option<SlackUser>, StoreError> {
        const SQL: &str = "DELETE FROM slack_links WHERE identity_id = $1 AND team_id = $2 AND user_id = $3 \
                           RETURNING enterprise_id, team_id, user_id";
        let rows = self.write_returning(query(SQL).bind(identity.to_string()).bind(team).bind(user)).await?;
        rows.first().map(account).transpose()
    }

    /// What hangs for this identity is left as it is: it hangs at an account that is another's now, or nobody's.
    pub async fn forget_slack_messages(&mut self, of: IdentityId) -> Result<(), StoreError> {
        self.execute(query("DELETE FROM slack_messages WHERE identity_id = $1").bind(of.to_string())).await?;
        Ok(())
    }

    /// Want a message, unless it is there already, or is for somebody without an account.
    pub async fn want_slack_message(&mut self, new: &NewMessage<'_>) -> Result<bool, StoreError> {
        Ok(self.execute(new.statement()).await? == 1)
    }

    /// Look at one message again at an instant; nothing if somebody is at it.
    pub async fn slack_message_due(&mut self, id: &str, at: Timestamp) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE slack_messages SET wanted = wanted + 1, due_at = coalesce(due_at, $1) WHERE id = $2";
        Ok(self.execute(query(SQL).bind(at.micros()).bind(id)).await? == 1)
    }

    /// What hangs at this place is to be rendered again; false if nothing of ours is known to hang there.
    pub async fn slack_message_hangs_at(
        &mut self,
        channel: &str,
        ts: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE slack_messages SET wanted = wanted + 1, due_at = coalesce(due_at, $1) \
                           WHERE channel = $2 AND ts = $3";
        Ok(self.execute(query(SQL).bind(now.micros()).bind(channel).bind(ts)).await? > 0)
    }

    /// Lease messages that are due. Rows that do not decode come back as errors, one each.
    pub async fn lease_slack_messages(
        &mut self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Result<MessageRow, StoreError>>, StoreError> {
        let lease = query(ROW).bind(lease_until.micros()).bind(now.micros()).bind(i64::from(limit));
        Ok(self.write_returning(lease).await?.iter().map(message).collect())
    }

    /// It hangs there now and shows the state that was wanted; due again if another one is wanted since.
    pub async fn settle_slack_message(
        &mut self,
        row: &MessageRow,
        at: Option<(&str, &str)>,
        again: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE slack_messages SET channel = $1, ts = $2, \
                           posted_at = coalesce(posted_at, CASE WHEN $2 IS NOT NULL THEN $3 END), rendered = $4, \
                           due_at = CASE WHEN wanted > $4 THEN $3 ELSE $5 END, attempts = 0, unsure = 0, last_error = NULL \
                           WHERE id = $6 AND epoch = $7";
        let (channel, ts) = at.unzip();
        self.execute_one(
            query(SQL)
                .bind(channel.map(str::to_owned))
                .bind(ts.map(str::to_owned))
                .bind(now.micros())
                .bind(row.wanted)
                .bind(again.map(Timestamp::micros))
                .bind(row.id.clone())
                .bind(row.epoch),
        )
        .await
    }

    /// It did not go out: try again then. `counted` unless it only had to wait its turn; `sure` unless it may have gone
    /// out all the same.
    pub async fn postpone_slack_message(
        &mut self,
        row: &MessageRow,
        due_at: Timestamp,
        why: &str,
        (counted, sure): (bool, bool),
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE slack_messages SET due_at = $1, last_error = $2, attempts = attempts + $3, \
                           unsure = CASE WHEN $6 = 1 THEN 0 ELSE unsure END \
                           WHERE id = $4 AND epoch = $5";
        self.execute_one(
            query(SQL)
                .bind(due_at.micros())
                .bind(why.chars().take(500).collect::<String>())
                .bind(i64::from(counted))
                .bind(row.id.clone())
                .bind(row.epoch)
                .bind(i64::from(sure)),
        )
        .await
    }

    /// Keep what somebody did; false if it is there already.
    pub async fn insert_slack_command(
        &mut self,
        command: &SlackCommand,
        lease_until: Timestamp,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO slack_commands (id, command, received_at, due_at, epoch) \
                           VALUES ($1, $2, $3, $4, 1) ON CONFLICT (id) DO NOTHING";
        let touched = self
            .execute(
                query(SQL)
                    .bind(command.key())
                    .bind(to_json(command))
                    .bind(command.received.micros())
                    .bind(lease_until.micros()),
            )
            .await?;
        Ok(touched == 1)
    }

    /// Lease commands that nobody has carried out.
    pub async fn lease_slack_commands(
        &mut self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Result<SlackCommand, StoreError>>, StoreError> {
        const SQL: &str = "UPDATE slack_commands SET due_at = $1, epoch = epoch + 1 \
                           WHERE id IN (SELECT id FROM slack_commands WHERE due_at <= $2 ORDER BY due_at LIMIT $3) \
                           AND due_at <= $2 RETURNING id, command";
        let lease = query(SQL).bind(lease_until.micros()).bind(now.micros()).bind(i64::from(limit));
        let rows = self.write_returning(lease).await?;
        Ok(rows.iter().map(|row| Reader::new("slack_commands", row).json("command")).collect())
    }

    /// A command was carried out, or refused: it is not looked at again.
    pub async fn settle_slack_command(&mut self, key: &str) -> Result<(), StoreError> {
        self.execute_one(query("UPDATE slack_commands SET due_at = NULL WHERE id = $1").bind(key)).await
    }

    /// Forget codes and commands that nobody will ask for again.
    pub async fn prune_slack(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        const CODES: &str = "DELETE FROM slack_link_codes WHERE expires_at < $1";
        const COMMANDS: &str = "DELETE FROM slack_commands WHERE received_at < $1 AND due_at IS NULL";
        let codes = self.execute(query(CODES).bind(before.micros())).await?;
        Ok(codes + self.execute(query(COMMANDS).bind(before.micros())).await?)
    }
}
