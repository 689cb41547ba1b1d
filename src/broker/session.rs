//! Sessions of people in the portal: begun once somebody has shown who they are, looked up at every call, ended by the
//! person, by an administrator, by the clock, or with the identity.

use std::sync::Arc;

use ring::hmac;
use serde_json::json;

use super::{
    Broker, BrokerError, Ctx,
    authenticate::{new_token, token_hash, well_formed},
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
        };
        let before = match replaces.filter(|text| well_formed(text, SESSION)) {
            Some(text) => self.store.subject_of_session(&token_hash(text), now).await?.map(|(s, _)| s),
            None => None,
        };
        let cause = Cause { actor: Some(identity.id), via: VIA, correlation: arrival.correlation, now };
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                if let Some(before) = &before
                    && let Some(whose) = tx.end_session(before.id, None, now).await?
                {
                    let mut event =
                        self.event(&cause, "session.ended", json!({"session": before.id, "why": "replaced"}))?;
                    event.subject = Some(whose);
                    self.note(&mut tx, event)?;
                }
                tx.insert_session(&session, &hash).await?;
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
        if !well_formed(secret, SESSION) {
            return Err(BrokerError::Unauthenticated);
        }
        let now = self.now();
        let found = self.store.subject_of_session(&token_hash(secret), now).await?;
        let (session, subject) = found.ok_or(BrokerError::Unauthenticated)?;
        let ctx = self.context(Some(subject), None, Some(session.expires_at), VIA)?;
        if now.since(session.seen_at) > TO_THE_MINUTE.as_std() && self.may_change().is_ok() {
            let broker = Arc::clone(self);
            self.track(async move { broker.touch(session.id, now).await });
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let csrf = hex::encode(hmac::sign(&key, b"tidegate: forms of this session").as_ref());
        Ok(Visit { ctx, session: session.id, csrf })
    }

    /// A use that is lost is noted with the next one.
    async fn touch(&self, id: SessionId, now: Timestamp) {
        let Ok(mut tx) = self.store.begin_background().await else { return };
        let written = tx.touch_session(id, now, now.plus(self.settings.session_idle)).await;
        if let Some(Err(error)) = tx.end(written).await {
            tracing::warn!(error = %error, "the use of a session could not be noted");
        }
    }

    /// End one of one's own sessions; administrators end anybody's.
    pub async fn end_session(&self, ctx: &Ctx, id: SessionId) -> Result<(), BrokerError> {
        self.may_change()?;
        let whose = (!ctx.is_admin()).then_some(ctx.actor_id());
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let ended = tx.end_session(id, whose, ctx.now).await?;
                let owner = ended.ok_or(BrokerError::NotFound("session"))?;
                let mut event = self.event(&cause, "session.ended", json!({"session": id, "why": "asked"}))?;
                event.subject = Some(owner);
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    /// End all sessions of an identity: one's own, or for administrators anybody's. How many there were.
    pub async fn end_sessions_of(&self, ctx: &Ctx, key: &str) -> Result<u64, BrokerError> {
        self.may_change()?;
        let id = self.visible_identity(ctx, key).await?.identity.id;
        if id != ctx.actor_id() && !ctx.is_admin() {
            return Err(BrokerError::Forbidden("only administrators end sessions of others"));
        }
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let ended = tx.revoke_sessions_of(id, ctx.now).await?;
                if ended > 0 {
                    let mut event = self.event(&cause, "session.ended", json!({"sessions": ended, "why": "asked"}))?;
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

    async fn own_or_watched(&self, ctx: &Ctx, key: &str) -> Result<IdentityId, BrokerError> {
        let id = self.visible_identity(ctx, key).await?.identity.id;
        if id == ctx.actor_id() || ctx.sees_everything() { Ok(id) } else { Err(BrokerError::NotFound("identity")) }
    }

    /// The person of the directory for whom a provider vouches: by the name it tells, else by a verified e-mail. Groups
    /// are the directory's to say, never the token's. Whoever is not in the directory is refused.
    pub async fn person_of(&self, vouched: &Vouched) -> Result<Subject, BrokerError> {
        let now = self.now();
        if let Some(known) = self.store.identity_of_login(&vouched.issuer, &vouched.subject, now).await? {
            return Ok(known);
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
        found.filter(|s| s.identity.kind == IdentityKind::Person).ok_or_else(|| {
            BrokerError::State(
                "You have shown who you are, but the directory of this place does not know you. Ask whoever runs it to \
                 add you; nothing was changed."
                    .to_owned(),
            )
        })
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
    }
}

/// Browsers may say anything about themselves.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
