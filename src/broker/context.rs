//! Who acts, through which surface, when: the first parameter of every verb.

use super::BrokerError;
use crate::domain::{
    id::{CorrelationId, IdentityId, SessionId},
    identity::{ADMIN_GROUP, AUDITOR_GROUP, Subject},
    time::{Timestamp, Ttl},
};

/// The context of one call.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Who acts: authenticated, active, with the groups of this moment.
    pub actor: Subject,
    /// Which surface: `api`, `cli`, `web`, `slack`.
    pub via: &'static str,
    /// Every effect of the call carries it.
    pub correlation: CorrelationId,
    /// When the call came in.
    pub now: Timestamp,
    /// When what the actor signed in with stops working; nothing made from it may last longer.
    pub until: Option<Timestamp>,
    /// The session in the portal; none for tokens and for what comes in by Slack.
    pub session: Option<InSession>,
}

/// A call within a session of the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InSession {
    /// Which one.
    pub id: SessionId,
    /// When its owner last showed the identity provider who they are.
    pub proved_at: Timestamp,
}

impl Ctx {
    /// The actor's id.
    pub const fn actor_id(&self) -> IdentityId {
        self.actor.identity.id
    }

    /// May administer: revoke, lock, attest, see everything.
    pub fn is_admin(&self) -> bool {
        self.actor.is_in(ADMIN_GROUP)
    }

    /// Has the actor shown who they are within this time, in the session that this call is made in? A token shows nothing.
    pub fn proved_within(&self, within: Ttl) -> Result<(), BrokerError> {
        let ago = self.session.map(|s| self.now.since(s.proved_at));
        if ago.is_none_or(|ago| ago > within.as_std()) { Err(BrokerError::ProveAgain(within)) } else { Ok(()) }
    }

    /// May see everything.
    pub fn sees_everything(&self) -> bool {
        self.is_admin() || self.actor.is_in(AUDITOR_GROUP)
    }
}
