//! Whom a Slack account acts as: linked once, by a signed-in person who holds a code that only the account was shown.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    broker::{Broker, BrokerError, Ctx, authenticate::token_hash, record::Cause},
    domain::{
        id::{CorrelationId, IdentityId},
        secret::Secret,
        slack::{SlackSheet, SlackUser},
        time::Ttl,
    },
    store::{LinkCode, NewMessage, Tx},
};

/// How long a code works.
pub const LINK_CODE_LIFE: Ttl = Ttl::seconds_or_one(600);

/// The account behind a code: its owner compares it with what Slack shows.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SlackLinkView {
    /// Workspace.
    pub team: String,
    /// The account in it.
    pub user: String,
    /// Its name, as Slack shows it.
    pub shown_name: String,
    /// URL of its picture; may be empty.
    pub avatar: String,
    /// It acts as the caller now.
    pub linked: bool,
}

/// An account that acts as somebody.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SlackAccountView {
    /// Workspace and account, as it is named in paths: `T….U…`.
    pub id: String,
    /// Workspace.
    pub team: String,
    /// The account in it.
    pub user: String,
    /// Since when.
    pub linked_at: String,
}

impl SlackLinkView {
    fn of(code: LinkCode, linked: bool) -> Self {
        let LinkCode { account, shown_name, avatar } = code;
        Self { team: account.team, user: account.user, shown_name, avatar, linked }
    }
}

/// Upper case letters and digits that are not taken for others, in groups: people may have to type it.
fn spelled(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    let letter = |b: &u8| ALPHABET.get(usize::from(b % 32)).copied().unwrap_or(b'A') as char;
    let groups: Vec<String> = bytes.chunks(5).map(|c| c.iter().map(letter).collect()).collect();
    groups.join("-")
}

fn hash(code: &str) -> Vec<u8> {
    token_hash(&code.trim().to_ascii_uppercase())
}

fn no_such_code() -> BrokerError {
    BrokerError::invalid("code", "it is unknown, used or older than 10 minutes; click in Slack again for a fresh one")
}

impl Broker {
    /// A code for an account that is not linked: 100 random bits, for ten minutes, once.
    pub async fn offer_slack_link(
        &self,
        account: &SlackUser,
        shown_name: &str,
        avatar: &str,
    ) -> Result<Secret, BrokerError> {
        self.may_change()?;
        let now = self.now();
        let mut random = [0_u8; 20];
        self.entropy.fill(&mut random)?;
        let code = Secret::new(spelled(&random));
        let offer = LinkCode {
            account: account.clone(),
            shown_name: shown_name.chars().take(200).collect(),
            avatar: avatar.chars().take(1000).collect(),
        };
        loop {
            let mut tx = self.store.begin().await?;
            let kept = tx.insert_slack_code(&hash(code.expose()), &offer, now.plus(LINK_CODE_LIFE)).await;
            if let Some(result) = tx.end(kept).await {
                result?;
                return Ok(code);
            }
        }
    }

    /// Which account a code is for: shown to its holder before anything is linked. Uses nothing up.
    pub async fn slack_link_offer(&self, ctx: &Ctx, code: &str) -> Result<SlackLinkView, BrokerError> {
        may_link(ctx)?;
        let found = self.store.slack_code(&hash(code), ctx.now).await?.ok_or_else(no_such_code)?;
        Ok(SlackLinkView::of(found, false))
    }

    /// From now on the account acts as the caller.
    pub async fn link_slack(&self, ctx: &Ctx, code: &str) -> Result<SlackLinkView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        may_link(ctx)?;
        let others = self.store.slack_accounts(ctx.actor_id()).await?;
        loop {
            let mut tx = self.store.begin().await?;
            let linked = self.record_link(&mut tx, ctx, code, &others).await;
            if let Some(result) = tx.end(linked).await {
                return Ok(SlackLinkView::of(result?, true));
            }
        }
    }

    async fn record_link(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        code: &str,
        others: &[SlackUser],
    ) -> Result<LinkCode, BrokerError> {
        let offer = tx.use_slack_code(&hash(code), ctx.now).await?.ok_or_else(no_such_code)?;
        let me = ctx.actor_id();
        let before = tx.link_slack(&offer.account, me, ctx.now).await?.filter(|before| *before != me);
        let details = json!({"account": offer.account, "shown_name": offer.shown_name, "before": before});
        let mut event = self.event(&Cause::from(ctx), "identity.slack_linked", details)?;
        event.subject = Some(me);
        self.note(tx, event)?;
        // Whoever it acts for is told at every account of theirs, for this may not be their doing.
        let stamp = CorrelationId::new(self.entropy.ulid(ctx.now)?);
        let mut theirs = others.to_vec();
        theirs.push(offer.account.clone());
        for account in theirs {
            tx.want_slack_message(&NewMessage {
                id: format!("linked:{stamp}:{}.{}", account.team, account.user),
                kind: SlackSheet::Linked,
                request: String::new(),
                grant: String::new(),
                to: Some(me),
                at: Some((&account.user, "")),
                due_at: ctx.now,
            })
            .await?;
        }
        if let Some(before) = before {
            let details = json!({"account": offer.account, "why": "linked to another identity", "now": me});
            let mut event = self.event(&Cause::from(ctx), "identity.slack_unlinked", details)?;
            event.subject = Some(before);
            self.note(tx, event)?;
            tx.forget_slack_messages(before).await?;
            // Whoever had it hears of it: at this account, and at any other that is theirs.
            for to in [me, before] {
                let id = format!("relinked:{stamp}:{to}");
                tx.want_slack_message(&NewMessage {
                    id,
                    kind: SlackSheet::Relinked,
                    request: String::new(),
                    grant: String::new(),
                    to: Some(to),
                    at: None,
                    due_at: ctx.now,
                })
                .await?;
            }
        }
        Ok(offer)
    }

    /// The Slack accounts that act as somebody: one's own, for administrators and auditors anybody's.
    pub async fn slack_links(&self, ctx: &Ctx, key: &str) -> Result<Vec<SlackAccountView>, BrokerError> {
        let id = self.own_or_watched(ctx, key).await?;
        let found = self.store.slack_links(id).await?;
        Ok(found
            .into_iter()
            .map(|(account, at)| SlackAccountView {
                id: format!("{}.{}", account.team, account.user),
                team: account.team,
                user: account.user,
                linked_at: at.to_string(),
            })
            .collect())
    }

    /// An account acts as somebody no more: one's own, for administrators anybody's. `account` is `T….U…`.
    pub async fn unlink_slack(&self, ctx: &Ctx, key: &str, account: &str) -> Result<(), BrokerError> {
        self.may_change()?;
        let id = self.visible_identity(ctx, key).await?.identity.id;
        if id != ctx.actor_id() {
            if !ctx.is_admin() {
                return Err(BrokerError::Forbidden("only administrators take back links of others"));
            }
            self.not_locked(ctx).await?;
        }
        let (team, user) = account.split_once('.').ok_or(BrokerError::NotFound("Slack account"))?;
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let gone = tx.unlink_slack_account(id, team, user).await?;
                let gone = gone.ok_or(BrokerError::NotFound("Slack account"))?;
                // What hangs there is left as it is; what is due goes to the accounts that are left.
                tx.forget_slack_messages(id).await?;
                let details = json!({"account": gone, "why": "asked"});
                let mut event = self.event(&Cause::from(ctx), "identity.slack_unlinked", details)?;
                event.subject = Some(id);
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    /// Somebody left: none of their accounts acts for anybody.
    pub(in crate::broker) async fn unlink_slack_of(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        id: IdentityId,
    ) -> Result<(), BrokerError> {
        let accounts = tx.unlink_slack(id).await?;
        if !accounts.is_empty() {
            tx.forget_slack_messages(id).await?;
        }
        for account in accounts {
            let details = json!({"account": account, "why": "deactivated"});
            let mut event = self.event(cause, "identity.slack_unlinked", details)?;
            event.subject = Some(id);
            self.note(tx, event)?;
        }
        Ok(())
    }
}

/// A link is made by a person who signed in somewhere else than in Slack.
fn may_link(ctx: &Ctx) -> Result<(), BrokerError> {
    if ctx.actor.identity.kind.is_non_human() {
        return Err(BrokerError::Forbidden("only people link a Slack account"));
    }
    if ctx.session.is_none() {
        return Err(BrokerError::Forbidden("sign in to the portal to link a Slack account: a token is not enough"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_can_be_typed() {
        assert_eq!(spelled(&[0, 31, 32, 255, 7, 8]), "A9A9H-J");
        assert_eq!(hash(" a9a9h-j "), hash("A9A9H-J"));
    }
}
