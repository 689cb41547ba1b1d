//! Sessions of people in the portal: begun once somebody has shown who they are, looked up at every call, ended by the
//! person, by an administrator, by the clock, or with the identity.

use std::sync::Arc;

use ring::hmac;
use serde_json::json;

use super::{
    Broker, BrokerError, Ctx, InSession,
    authenticate::{new_token, token_hash, well_formed},
    lock::only_admins,
    record::Cause,
    view::{SessionView, TokenView},
};
use crate::{
    domain::{
        id::{CorrelationId, IdentityId, SessionId},
        identity::{IdentityKind, Subject},
        jit::FirstLogin,
        secret::Secret,
        time::{Timestamp, Ttl},
    },
    ports::identity_provider::Vouched,
    store::{Session, Token},
};

/// Prefix of the secret in the cookie; secret scanners look for it.
const SESSION: &str = "tgw_";
/// Uses within this time of the last one noted are not noted.
const TO_THE_MINUTE: Ttl = Ttl::seconds_or_one(60);
/// Sessions and tokens of one identity that are listed.
const LISTED: u32 = 100;
/// Name of this surface in the audit log.
const VIA: &str = "web";

/// Where a session begins.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// How the person signed in: `oidc`, `dev`.
    pub method: &'static str,
    /// What the browser says about itself.
    pub user_agent: String,
    /// From where.
    pub address: String,
    /// The call.
    pub correlation: CorrelationId,
    /// When the person showed the identity provider who they are, if it said so: it may have been long before.
    pub proved_at: Option<Timestamp>,
}

/// A session on its way to its browser. The secret is handed over this once.
pub struct NewSession {
    /// For the cookie.
    pub secret: Secret,
    /// When it ends, whatever happens.
    pub expires_at: Timestamp,
    /// Whose it is, for a greeting.
    pub name: String,
}

/// A call within a session.
pub struct Visit {
    /// Who acts.
    pub ctx: Ctx,
    /// In which session.
    pub session: SessionId,
    /// What every form of the session must send along.
    pub csrf: String,
}

impl Broker {
    /// Begin a session for a person whom an identity provider, or `tidegate dev`, vouches for. The session that the
    /// browser had before ends: nobody goes on in one that was planted.
    pub async fn begin_session(
        &self,
        who: &Subject,
        arrival: &Arrival,
        replaces: Option<&str>,
    ) -> Result<NewSession, BrokerError> {
        self.may_change()?;
        let now = self.now();
        let identity = &who.identity;
        let gone = identity.contract_end.is_some_and(|end| end <= now);
        if !identity.active || gone || identity.kind != IdentityKind::Person {
            return Err(BrokerError::Unauthenticated);
        }
        let secret = new_token(SESSION, self.entropy.as_ref())?;
        let hash = token_hash(secret.expose());
        let session = Session {
            id: SessionId::new(self.entropy.ulid(now)?),
            identity: identity.id,
            method: arrival.method.to_owned(),
            user_agent: shortened(&arrival.user_agent),
            address: arrival.address.clone(),
            correlation: arrival.correlation,
            created_at: now,
            seen_at: now,
            idle_at: now.plus(self.settings.session_idle),
            expires_at: now.plus(self.settings.session_ttl),
            proved_at: arrival.proved_at.unwrap_or(now).min(now),
        };
        let before = match replaces.filter(|text| well_formed(text, SESSION)) {
            Some(text) => self.store.subject_of_session(&token_hash(text), now).await?.map(|(s, _)| s),
            None => None,
        };
        let cause = Cause { actor: Some(identity.id), via: VIA, correlation: arrival.correlation, now };
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.insert_session(&session, &hash).await?;
                if let Some(before) = &before
                    && let Some(whose) = tx.end_session(before.id, None, now).await?
                {
                    // The same person goes on: what they made goes on with them.
                    if whose == identity.id {
                        tx.hand_over_session(before.id, session.id).await?;
                    }
                    let tokens = tx.revoke_tokens_of_ended_sessions(whose, now).await?;
                    let details = json!({"session": before.id, "why": "replaced", "tokens": tokens});
                    let mut event = self.event(&cause, "session.ended", details)?;
                    event.subject = Some(whose);
                    self.note(&mut tx, event)?;
                }
                let details = json!({
                    "session": session.id, "method": session.method, "address": session.address,
                    "user_agent": session.user_agent, "expires_at": session.expires_at,
                });
                let mut event = self.event(&cause, "session.begun", details)?;
                event.subject = Some(identity.id);
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        metrics::counter!("tidegate_sessions_begun_total", "method" => arrival.method).increment(1);
        Ok(NewSession { secret, expires_at: session.expires_at, name: identity.display_name.clone() })
    }

    /// The person behind the secret of a cookie: the session lives, and the identity is active.
    pub async fn authenticate_session(self: &Arc<Self>, secret: &str) -> Result<Visit, BrokerError> {
        let (visit, session) = self.session_behind(secret).await?;
        let now = visit.ctx.now;
        if now.since(session.seen_at) > TO_THE_MINUTE.as_std() && self.may_change().is_ok() {
            let broker = Arc::clone(self);
            self.track(async move { broker.touch(session.id, now).await });
        }
        Ok(visit)
    }

    /// The same for what a page does by itself: it is no use of the session, and does not keep it alive.
    pub async fn watch_session(&self, secret: &str) -> Result<Visit, BrokerError> {
        Ok(self.session_behind(secret).await?.0)
    }

    async fn session_behind(&self, secret: &str) -> Result<(Visit, Session), BrokerError> {
        if !well_formed(secret, SESSION) {
            return Err(BrokerError::Unauthenticated);
        }
        let now = self.now();
        let found = self.store.subject_of_session(&token_hash(secret), now).await?;
        let (session, subject) = found.ok_or(BrokerError::Unauthenticated)?;
        let within = InSession { id: session.id, proved_at: session.proved_at };
        let ctx = Ctx { session: Some(within), ..self.context(Some(subject), None, Some(session.expires_at), VIA)? };
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let csrf = hex::encode(hmac::sign(&key, b"tidegate: forms of this session").as_ref());
        Ok((Visit { ctx, session: session.id, csrf }, session))
    }

    /// A use that is lost is noted with the next one.
    async fn touch(&self, id: SessionId, now: Timestamp) {
        let Ok(mut tx) = self.store.begin_background().await else { return };
        let written = tx.touch_session(id, now, now.plus(self.settings.session_idle)).await;
        if let Some(Err(error)) = tx.end(written).await {
            tracing::warn!(error = %error, "the use of a session could not be noted");
        }
    }

    /// End one of one's own sessions, with the tokens that were made in it; administrators end anybody's.
    pub async fn end_session(&self, ctx: &Ctx, id: SessionId) -> Result<(), BrokerError> {
        self.may_change()?;
        // Whoever is locked ends their own and nobody else's.
        let anybodys = ctx.is_admin() && self.not_locked(ctx).await.is_ok();
        let whose = (!anybodys).then_some(ctx.actor_id());
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let ended = tx.end_session(id, whose, ctx.now).await?;
                let owner = ended.ok_or(BrokerError::NotFound("session"))?;
                let tokens = tx.revoke_tokens_of_ended_sessions(owner, ctx.now).await?;
                let details = json!({"session": id, "why": "asked", "tokens": tokens});
                let mut event = self.event(&cause, "session.ended", details)?;
                event.subject = Some(owner);
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    /// End all sessions of an identity, with the tokens that were made in them: one's own, or for administrators anybody's. How many there were.
    pub async fn end_sessions_of(&self, ctx: &Ctx, key: &str) -> Result<u64, BrokerError> {
        self.may_change()?;
        let id = self.visible_identity(ctx, key).await?.identity.id;
        if id != ctx.actor_id() && !ctx.is_admin() {
            return Err(BrokerError::Forbidden("only administrators end sessions of others"));
        }
        if id != ctx.actor_id() {
            self.not_locked(ctx).await?;
        }
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let ended = tx.revoke_sessions_of(id, ctx.now).await?;
                let tokens = tx.revoke_tokens_of_ended_sessions(id, ctx.now).await?;
                if ended > 0 || tokens > 0 {
                    let details = json!({"sessions": ended, "why": "asked", "tokens": tokens});
                    let mut event = self.event(&cause, "session.ended", details)?;
                    event.subject = Some(id);
                    self.note(&mut tx, event)?;
                }
                Ok(ended)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    /// Live sessions of an identity: one's own, for administrators and auditors anybody's.
    pub async fn sessions(&self, ctx: &Ctx, key: &str) -> Result<Vec<SessionView>, BrokerError> {
        let id = self.own_or_watched(ctx, key).await?;
        let found = self.store.sessions_of(id, ctx.now, LISTED).await?;
        Ok(found.iter().map(session_view).collect())
    }

    /// Stored tokens of an identity that work: one's own, of one's workloads, for administrators and auditors anybody's.
    pub async fn tokens(&self, ctx: &Ctx, key: &str) -> Result<Vec<TokenView>, BrokerError> {
        let id = self.visible_identity(ctx, key).await?.identity.id;
        let found = self.store.tokens_of(id, ctx.now, LISTED).await?;
        Ok(found.iter().map(token_view).collect())
    }

    pub(super) async fn own_or_watched(&self, ctx: &Ctx, key: &str) -> Result<IdentityId, BrokerError> {
        let id = self.visible_identity(ctx, key).await?.identity.id;
        if id == ctx.actor_id() || ctx.sees_everything() { Ok(id) } else { Err(BrokerError::NotFound("identity")) }
    }

    /// The person of the directory for whom a provider vouches: by the name it tells, else by a verified e-mail. Groups
    /// are the directory's to say, never the token's. Whoever is not in the directory is refused.
    pub async fn person_of(&self, vouched: &Vouched) -> Result<Subject, BrokerError> {
        let now = self.now();
        let known = self.store.identity_of_login(&vouched.issuer, &vouched.subject, now).await?;
        if let Some(active) = known.as_ref().filter(|s| s.identity.active) {
            return Ok(active.clone());
        }
        let found = match (&vouched.name, &vouched.email) {
            (Some(name), _) => self.store.subject_by_name(name, now).await?,
            (None, Some(email)) => self.store.subject_by_email(email, now).await?,
            (None, None) if self.settings.jit.is_empty() => {
                return Err(BrokerError::State(
                    "The identity provider tells neither a name that the directory knows nor a verified e-mail. Ask \
                     whoever set it up."
                        .to_owned(),
                ));
            }
            (None, None) => None,
        };
        // Whoever left and came back is somebody else in the directory; without a new entry they are who they were.
        if let (Some(gone), false) = (known, found.as_ref().is_some_and(|s| s.identity.active)) {
            return Ok(gone);
        }
        if found.is_none() && !self.settings.jit.is_empty() {
            let login = FirstLogin {
                issuer: vouched.issuer.clone(),
                subject: vouched.subject.clone(),
                email: vouched.email.clone(),
                // An e-mail that the provider has not verified is not in there.
                email_verified: vouched.email.is_some(),
                name: vouched.name.clone(),
                display_name: vouched.display_name.clone(),
                claims: vouched.claims.clone(),
            };
            return self.first_login(&login, VIA).await;
        }
        let found = found.filter(|s| s.identity.kind == IdentityKind::Person).ok_or_else(|| {
            BrokerError::State(
                "You have shown who you are, but the directory of this place does not know you. Ask whoever runs it to \
                 add you; nothing was changed."
                    .to_owned(),
            )
        })?;
        if found.identity.active {
            self.remember_login(vouched, found.identity.id).await?;
        }
        Ok(found)
    }

    /// Names and e-mail addresses move from one person to another; the provider's own id does not. The first one that
    /// comes with a name is the person's from then on, until an administrator resets it.
    async fn remember_login(&self, vouched: &Vouched, id: IdentityId) -> Result<(), BrokerError> {
        self.may_change()?;
        let now = self.now();
        let cause =
            Cause { actor: Some(id), via: VIA, ..Cause::worker(CorrelationId::new(self.entropy.ulid(now)?), now) };
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let email = vouched.email.as_deref();
                if !tx.remember_login(&vouched.issuer, &vouched.subject, id, email, now).await? {
                    return Err(BrokerError::State(
                        "Another account at the identity provider is known as this person here. If yours was made \
                         anew, ask an administrator to reset the sign-in; nothing was changed."
                            .to_owned(),
                    ));
                }
                let details = json!({"issuer": vouched.issuer, "subject": vouched.subject});
                let mut event = self.event(&cause, "identity.sign_in_known", details)?;
                event.subject = Some(id);
                self.note(&mut tx, event)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => {
                    // The same person, in two windows at once.
                    let known = self.store.identity_of_login(&vouched.issuer, &vouched.subject, now).await?;
                    return if known.is_some_and(|s| s.identity.id == id) { Ok(()) } else { Err(error) };
                }
            }
        }
    }

    /// Forget which account at the identity provider somebody is: the next one that comes with their name is theirs.
    /// For administrators.
    pub async fn reset_sign_in(&self, ctx: &Ctx, key: &str) -> Result<u64, BrokerError> {
        self.may_change()?;
        only_admins(ctx)?;
        self.not_locked(ctx).await?;
        let id = self.visible_identity(ctx, key).await?.identity.id;
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let forgotten = tx.forget_logins(id).await?;
                let mut event = self.event(&cause, "identity.sign_in_reset", json!({"accounts": forgotten}))?;
                event.subject = Some(id);
                self.note(&mut tx, event)?;
                Ok(forgotten)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    /// The seeded person of that name: for `tidegate dev` alone, whose edge offers no other names.
    pub async fn person_of_dev(&self, name: &str) -> Result<Subject, BrokerError> {
        let found = self.store.subject_by_name(name, self.now()).await?;
        found.filter(|s| s.identity.kind == IdentityKind::Person).ok_or(BrokerError::Unauthenticated)
    }
}

fn session_view(s: &Session) -> SessionView {
    SessionView {
        id: s.id.to_string(),
        method: s.method.clone(),
        user_agent: s.user_agent.clone(),
        address: s.address.clone(),
        created_at: s.created_at.to_string(),
        seen_at: s.seen_at.to_string(),
        expires_at: s.expires_at.to_string(),
    }
}

fn token_view(t: &Token) -> TokenView {
    TokenView {
        id: t.id.to_string(),
        kind: t.kind.as_str().to_owned(),
        label: t.label.clone(),
        created_at: t.created_at.to_string(),
        expires_at: t.expires_at.to_string(),
        last_used_at: t.last_used_at.map(|at| at.to_string()),
    }
}

/// Browsers may say anything about themselves.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
