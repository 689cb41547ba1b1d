//! Somebody is gone: all that they hold, asked for and signed in with ends with the commit that says so, and what they
//! answered for is orphaned.

use serde_json::{Value, json};

use super::super::{Broker, BrokerError, record::Cause};
use crate::{
    domain::{
        grant::{EndReason, Grant},
        id::{IdentityId, RequestId},
        identity::{Identity, IdentityKind},
        request::{Request, RequestState},
    },
    store::{EndScope, StoreError, Tx},
};

impl Broker {
    /// What ends with somebody, in the commit in which they go.
    pub(super) async fn record_leaver(&self, tx: &mut Tx, cause: &Cause, gone: &Identity) -> Result<(), BrokerError> {
        let (grants, cancelled, tokens) = self.end_all_of(tx, cause, gone.id).await?;
        let orphans = if gone.kind == IdentityKind::Person {
            tx.recheck_teams_of(gone.id, cause.recheck()).await?;
            self.orphan_owned(tx, cause, gone.id).await?
        } else {
            Vec::new()
        };
        let details = json!({
            "grants": grants.iter().map(|g| g.id).collect::<Vec<_>>(),
            "requests": cancelled, "tokens": tokens, "orphaned": orphans,
        });
        let mut event = self.event(cause, "identity.offboarded", details)?;
        event.subject = Some(gone.id);
        self.note(tx, event)
    }

    /// End everything of an identity that is not active; nothing is done twice.
    pub(super) async fn end_all_of(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        id: IdentityId,
    ) -> Result<(Vec<Grant>, Vec<RequestId>, u64), BrokerError> {
        // Everything that it signs in with.
        let tokens = tx.end_credentials_of(id, cause.now).await?;
        tx.revoke_sessions_of(id, cause.now).await?;
        self.unlink_slack_of(tx, cause, id).await?;
        // Requests before grants: whoever approves one at this moment is waited for, and its grants are seen.
        let mut cancelled = Vec::new();
        for request in tx.open_requests_of(id).await? {
            let who = if request.subject == id { "whoever was to hold it" } else { "who asked" };
            let why = format!("{who} is deactivated");
            if self.cancel_request(tx, cause, &request, &why, json!([])).await? {
                cancelled.push(request.id);
            }
        }
        let why = "its holder is deactivated";
        let grants = self.begin_end(tx, cause, EndScope::Person(id), EndReason::Offboarded, why).await?;
        Ok((grants, cancelled, tokens))
    }

    /// A pending request is taken back because of what became of its parties; false if somebody decided first.
    pub(super) async fn cancel_request(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        request: &Request,
        why: &str,
        reasons: Value,
    ) -> Result<bool, BrokerError> {
        match tx.cancel_pending(request.id, cause.now).await {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => return Err(StoreError::into(error)),
        }
        let details = json!({"why": why, "reasons": reasons});
        self.note_request(tx, cause, "request.cancelled", request, details)?;
        metrics::counter!("tidegate_requests_total", "outcome" => RequestState::Cancelled.as_str()).increment(1);
        Ok(true)
    }

    /// Nobody answers any more for what somebody answered for: the backup owner is asked, and the clock runs.
    async fn orphan_owned(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        owner: IdentityId,
    ) -> Result<Vec<IdentityId>, BrokerError> {
        let answer_by = cause.now.plus_std(self.settings.orphan_grace);
        let mut ids = Vec::new();
        for orphan in tx.orphan_owned(owner, answer_by, cause.recheck()).await? {
            let guest = orphan.kind == IdentityKind::Person;
            let details = json!({
                "name": (!guest).then_some(&orphan.name), "kind": orphan.kind, "why": "its owner is deactivated",
                "owner": owner, "ask": orphan.backup_owner, "answer_by": answer_by,
            });
            let action = if guest { "identity.orphaned" } else { "workload.orphaned" };
            let mut event = self.event(cause, action, details)?;
            event.subject = Some(orphan.id);
            self.note(tx, event)?;
            ids.push(orphan.id);
        }
        Ok(ids)
    }
}
