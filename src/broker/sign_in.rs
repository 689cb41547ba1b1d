//! Signing in on the command line: the client holds a code, a person says yes in the portal, and the code is exchanged
//! for a personal token once. By a redirect to loopback with PKCE (RFC 8252), or with a code that a person types
//! (RFC 8628).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use serde_json::json;

use super::{
    Broker, BrokerError, Ctx, NewToken,
    authenticate::{new_token, token_hash, well_formed},
    record::Cause,
};
use crate::{
    domain::{
        id::{CorrelationId, IdentityId, SignInId},
        secret::Secret,
        time::{Timestamp, Ttl},
    },
    store::{SignIn, SignInState, StoreError, Token, TokenKind},
};

/// Prefix of the codes that clients hold.
const CODE: &str = "tgc_";
/// A redirected code works for so long: it comes back at once.
const LOOPBACK_TTL: Ttl = Ttl::seconds_or_one(60);
/// A typed code works for so long.
const DEVICE_TTL: Ttl = Ttl::seconds_or_one(600);
/// A device asks no more often than this.
const INTERVAL: Ttl = Ttl::seconds_or_one(5);
/// Longest life of a token made so.
const TOKEN_TTL: Ttl = Ttl::seconds_or_one(8 * 3600);
/// Letters of typed codes: no vowels, so that no words come out.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";

/// A device that wants to sign in.
pub struct DeviceSignIn {
    /// What the device keeps.
    pub device_code: Secret,
    /// What a person types: `BCDF-GHJK`.
    pub user_code: String,
    /// Seconds for which it works.
    pub expires_in: u32,
    /// Seconds between two questions.
    pub interval: u32,
}

/// What a person is asked to say yes to.
pub struct SignInRequest {
    /// What the client says about itself.
    pub client: String,
    /// Where it asks from.
    pub address: String,
    /// When it began.
    pub begun: Timestamp,
    /// When it lapses.
    pub lapses: Timestamp,
}

/// Why a code brings no token; the names are those of RFC 6749 and RFC 8628.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoToken {
    /// Nobody has said yes yet.
    Pending,
    /// The device asks too often.
    SlowDown,
    /// Somebody said no.
    Denied,
    /// It took too long.
    Expired,
    /// It is unknown, used, or shown without its proof.
    Invalid,
}

impl Broker {
    /// A device wants to sign in. Nobody is trusted yet; a person has to type its code in the portal.
    pub async fn begin_device_sign_in(&self, client: &str, address: &str) -> Result<DeviceSignIn, BrokerError> {
        self.may_change()?;
        let now = self.now();
        let code = new_token(CODE, self.entropy.as_ref())?;
        let user_code = self.user_code()?;
        let sign_in =
            SignIn { user_code: Some(user_code.clone()), ..self.new_sign_in(client, address, now, DEVICE_TTL)? };
        self.keep(&sign_in, &code).await?;
        Ok(DeviceSignIn {
            device_code: code,
            user_code: format!("{}-{}", user_code.get(..4).unwrap_or_default(), user_code.get(4..).unwrap_or_default()),
            expires_in: DEVICE_TTL.seconds(),
            interval: INTERVAL.seconds(),
        })
    }

    /// What a typed code stands for, if it still waits.
    pub async fn device_sign_in(&self, _ctx: &Ctx, typed: &str) -> Result<SignInRequest, BrokerError> {
        let found = self.waiting(typed).await?;
        Ok(SignInRequest {
            client: found.client,
            address: found.address,
            begun: found.created_at,
            lapses: found.expires_at,
        })
    }

    /// A person says yes or no to a device.
    pub async fn decide_device_sign_in(&self, ctx: &Ctx, typed: &str, yes: bool) -> Result<(), BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        let found = self.waiting(typed).await?;
        let state = if yes { SignInState::Approved } else { SignInState::Denied };
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let session = ctx.session.map(|s| s.id);
                tx.decide_sign_in(found.id, state, ctx.actor_id(), (ctx.until, session), ctx.now).await?;
                let details = json!({
                    "sign_in": found.id, "client": found.client, "address": found.address, "yes": yes,
                });
                let mut event = self.event(&cause, "sign_in.decided", details)?;
                event.subject = Some(ctx.actor_id());
                self.note(&mut tx, event)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Err(BrokerError::NotFound("code")),
                Some(result) => return result,
            }
        }
    }

    /// A person says yes to a client on their own machine: the code goes back to it with a redirect, and works only
    /// with the verifier of this challenge.
    pub async fn approve_loopback_sign_in(
        &self,
        ctx: &Ctx,
        client: &str,
        address: &str,
        redirect_uri: &str,
        challenge: &str,
    ) -> Result<Secret, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        let code = new_token(CODE, self.entropy.as_ref())?;
        let sign_in = SignIn {
            challenge: Some(challenge.to_owned()),
            redirect_uri: Some(redirect_uri.to_owned()),
            identity: Some(ctx.actor_id()),
            until: ctx.until,
            session: ctx.session.map(|s| s.id),
            state: SignInState::Approved,
            ..self.new_sign_in(client, address, ctx.now, LOOPBACK_TTL)?
        };
        self.keep(&sign_in, &code).await?;
        Ok(code)
    }

    /// Exchange a redirected code, with its verifier.
    pub async fn redeem_loopback_sign_in(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Result<NewToken, NoToken>, BrokerError> {
        let Some(found) = self.held(code).await? else { return Ok(Err(NoToken::Invalid)) };
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
        let proven = found.challenge.as_deref() == Some(challenge.as_str());
        if !proven || found.redirect_uri.as_deref() != Some(redirect_uri) {
            return Ok(Err(NoToken::Invalid));
        }
        self.exchange(&found).await
    }

    /// A device asks whether somebody has said yes.
    pub async fn redeem_device_sign_in(&self, code: &str) -> Result<Result<NewToken, NoToken>, BrokerError> {
        let Some(found) = self.held(code).await?.filter(|f| f.user_code.is_some()) else {
            return Ok(Err(NoToken::Invalid));
        };
        let now = self.now();
        let too_soon = found.polled_at.is_some_and(|at| now.since(at) < INTERVAL.as_std());
        if found.state == SignInState::Pending && found.expires_at > now {
            loop {
                let mut tx = self.store.begin().await?;
                let written = tx.note_poll(found.id, now).await;
                if let Some(result) = tx.end(written).await {
                    result?;
                    break;
                }
            }
            return Ok(Err(if too_soon { NoToken::SlowDown } else { NoToken::Pending }));
        }
        self.exchange(&found).await
    }

    /// Whoever holds a personal token may end it; one that does not work is ended already.
    pub async fn end_token_shown(&self, token: &str) -> Result<(), BrokerError> {
        let ctx = match self.authenticate(token, "cli").await {
            Ok(ctx) => ctx,
            Err(BrokerError::Unauthenticated) => return Ok(()),
            Err(other) => return Err(other),
        };
        let Some(id) = self.store.token_by_hash(&token_hash(token)).await? else { return Ok(()) };
        match self.end_token(&ctx, id).await {
            Err(BrokerError::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    async fn exchange(&self, found: &SignIn) -> Result<Result<NewToken, NoToken>, BrokerError> {
        self.may_change()?;
        let now = self.now();
        match found.state {
            SignInState::Denied => return Ok(Err(NoToken::Denied)),
            SignInState::Used => return Ok(Err(NoToken::Invalid)),
            _ if found.expires_at <= now => return Ok(Err(NoToken::Expired)),
            SignInState::Pending => return Ok(Err(NoToken::Pending)),
            SignInState::Approved => {}
        }
        let Some(identity) = self.still_active(found.identity, now).await? else { return Ok(Err(NoToken::Denied)) };
        let ttl = found.until.map_or(TOKEN_TTL, |until| TOKEN_TTL.min(until.seconds_since(now)));
        let Some(ttl) = Ttl::from_seconds(ttl.seconds()) else { return Ok(Err(NoToken::Expired)) };
        let label = format!("tidegate login on {}", found.client);
        let (token, secret) = self.make_token(identity, TokenKind::Personal, &label, now, ttl)?;
        let token = Token { session: found.session, ..token };
        let correlation = CorrelationId::new(self.entropy.ulid(now)?);
        let cause = Cause { actor: Some(identity), via: "cli", correlation, now };
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                // Held first: whoever ends the session meanwhile ends this token with it.
                if let Some(session) = found.session
                    && !tx.hold_session(session).await?
                {
                    return Err(BrokerError::Store(StoreError::Conflict));
                }
                tx.use_sign_in(found.id, now).await?;
                self.record_token(&mut tx, &cause, &token).await
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Ok(Err(NoToken::Invalid)),
                Some(result) => {
                    result?;
                    let expires_at = token.expires_at.to_string();
                    return Ok(Ok(NewToken { id: token.id.to_string(), token: secret, expires_at }));
                }
            }
        }
    }

    async fn still_active(&self, id: Option<IdentityId>, now: Timestamp) -> Result<Option<IdentityId>, BrokerError> {
        let Some(id) = id else { return Ok(None) };
        let subject = self.store.subject(id, now).await?;
        let here = |s: &crate::domain::identity::Subject| {
            s.identity.active && s.identity.contract_end.is_none_or(|end| end > now)
        };
        Ok(subject.filter(here).map(|s| s.identity.id))
    }

    async fn held(&self, code: &str) -> Result<Option<SignIn>, BrokerError> {
        if !well_formed(code, CODE) {
            return Ok(None);
        }
        Ok(self.store.sign_in_by_code(&token_hash(code)).await?)
    }

    async fn waiting(&self, typed: &str) -> Result<SignIn, BrokerError> {
        let code: String = typed.chars().filter(char::is_ascii_alphabetic).take(20).collect();
        let found = self.store.sign_in_by_user_code(&code.to_ascii_uppercase()).await?;
        let waits = |s: &SignIn| s.state == SignInState::Pending && s.expires_at > self.now();
        found.filter(waits).ok_or(BrokerError::NotFound("code"))
    }

    fn new_sign_in(&self, client: &str, address: &str, now: Timestamp, ttl: Ttl) -> Result<SignIn, BrokerError> {
        let client: String = client.chars().filter(|c| !c.is_control()).take(80).collect();
        Ok(SignIn {
            id: SignInId::new(self.entropy.ulid(now)?),
            user_code: None,
            challenge: None,
            redirect_uri: None,
            client: if client.trim().is_empty() { "an unnamed machine".to_owned() } else { client },
            address: address.to_owned(),
            identity: None,
            until: None,
            session: None,
            state: SignInState::Pending,
            polled_at: None,
            created_at: now,
            expires_at: now.plus(ttl),
        })
    }

    async fn keep(&self, sign_in: &SignIn, code: &Secret) -> Result<(), BrokerError> {
        let hash = token_hash(code.expose());
        loop {
            let mut tx = self.store.begin().await?;
            let written = tx.insert_sign_in(sign_in, &hash).await;
            if let Some(result) = tx.end(written).await {
                return Ok(result?);
            }
        }
    }

    fn user_code(&self) -> Result<String, BrokerError> {
        let mut random = [0_u8; 8];
        self.entropy.fill(&mut random)?;
        let letter = |byte: &u8| LETTERS.get(usize::from(*byte) % LETTERS.len()).copied().map_or('X', char::from);
        Ok(random.iter().map(letter).collect())
    }
}
