//! End a grant early: its holder gives it back, an administrator takes it away.

use std::sync::Arc;

use serde_json::json;

use super::{Broker, BrokerError, Ctx, ask::required_text, record::Cause, view::GrantView};
use crate::{
    domain::{
        grant::{EndReason, Grant, GrantState},
        id::GrantId,
    },
    store::{EndScope, StoreError, Tx, Unreadable},
};

impl Broker {
    /// Give a grant back.
    pub async fn release(self: &Arc<Self>, ctx: &Ctx, id: GrantId) -> Result<GrantView, BrokerError> {
        let grant = self.visible_grant(ctx, id).await?;
        let mine = grant.holder == ctx.actor_id() || self.owns(ctx, grant.holder).await?;
        if !mine {
            return Err(BrokerError::Forbidden("only its holder can release a grant; administrators revoke"));
        }
        self.end(ctx, &grant, EndReason::Released, "").await
    }

    /// Take a grant away: administrators only.
    pub async fn revoke(self: &Arc<Self>, ctx: &Ctx, id: GrantId, reason: String) -> Result<GrantView, BrokerError> {
        let grant = self.visible_grant(ctx, id).await?;
        if !ctx.is_admin() {
            return Err(BrokerError::Forbidden("only administrators revoke; its holder can release it"));
        }
        self.not_locked(ctx).await?;
        let reason = required_text("reason", &reason)?;
        self.end(ctx, &grant, EndReason::Revoked, &reason).await
    }

    async fn end(
        self: &Arc<Self>,
        ctx: &Ctx,
        grant: &Grant,
        reason: EndReason,
        why: &str,
    ) -> Result<GrantView, BrokerError> {
        self.may_change()?;
        match grant.state {
            GrantState::Ended | GrantState::Failed => {
                return Err(BrokerError::State(format!("the grant is {} already", grant.state.as_str())));
            }
            // Asked twice: it is on its way out, which is what was wanted.
            GrantState::Revoking | GrantState::Quarantined => return self.grant(ctx, grant.id).await,
            _ => {}
        }
        let cause = Cause::from(ctx);
        let ended = loop {
            let mut tx = self.store.begin().await?;
            let written = self.begin_end(&mut tx, &cause, EndScope::Grant(grant.id), reason, why).await;
            if let Some(result) = tx.end(written).await {
                break result?;
            }
        };
        crate::failpoint::hit("end.recorded");
        self.due.notify_waiters();
        if ended.is_empty() {
            tracing::debug!(grant = %grant.id, "was ending already");
        }
        self.wait_for_end(grant.id).await;
        self.grant(ctx, grant.id).await
    }

    /// Begin to end whatever the scope names, with an event each.
    pub(super) async fn begin_end(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        scope: EndScope,
        reason: EndReason,
        why: &str,
    ) -> Result<Vec<Grant>, BrokerError> {
        let rows = tx.begin_end(scope, reason, cause.correlation, cause.now).await?;
        self.note_ending(tx, cause, rows, reason, why)
    }

    /// An event for each grant that begins to end; answers those that decode.
    pub(super) fn note_ending(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        rows: Vec<Result<Grant, Unreadable>>,
        reason: EndReason,
        why: &str,
    ) -> Result<Vec<Grant>, BrokerError> {
        let mut grants = Vec::new();
        for row in rows {
            match row {
                Ok(grant) => grants.push(grant),
                Err(row) => self.note_unreadable(tx, cause, &row)?,
            }
        }
        for grant in &grants {
            let action = match grant.state {
                GrantState::Ended => "grant.ended",
                GrantState::Revoking => "grant.revoking",
                // Still being opened: it ends as soon as the target has answered.
                _ => "grant.end_requested",
            };
            let details = json!({"reason": reason, "why": why, "by": cause.actor});
            self.note_grant(tx, cause, action, grant, details)?;
        }
        Ok(grants)
    }

    /// Most ends are verified within moments: give them that long before answering, so the answer is the final one.
    async fn wait_for_end(&self, id: GrantId) {
        let patience = std::time::Duration::from_secs(3);
        let mut committed = self.committed();
        let _ = tokio::time::timeout(patience, async {
            while let Ok(Some(grant)) = self.store.grant(id).await {
                if grant.state.is_terminal() || grant.attempts > 0 || committed.changed().await.is_err() {
                    break;
                }
            }
        })
        .await;
    }

    /// Does the actor answer for that workload or agent?
    pub(super) async fn owns(&self, ctx: &Ctx, id: crate::domain::id::IdentityId) -> Result<bool, StoreError> {
        let subject = self.store.subject(id, ctx.now).await?;
        Ok(subject.is_some_and(|s| s.identity.owner == Some(ctx.actor_id())))
    }
}
