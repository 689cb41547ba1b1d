//! Scoped access tokens (JWT, RFC 9068) that we sign ourselves.
//!
//! Nothing exists at the target: a verifier checks the signature and the expiry, and asks us by introspection if the
//! end must be felt sooner. What it is told follows from the ledger, so revoking changes nothing here. A token is
//! never stored; only the number of its claim is, before it is signed.

mod config;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use self::config::{Parameters, Settings, Verifiers};
use super::{
    BuildError, Parts,
    call::{limit, within},
    copies::{self, Copies},
};
use crate::{
    domain::{
        capability::{Description, RevocationClass},
        catalog::TargetConfig,
        grant::{Claim, Intent, Recipe, object_name},
        secret::Minted,
        time::{Timestamp, Ttl},
    },
    ports::{
        clock::Clock,
        connector::{BadParameters, Connector, Fault, Finding, Found, Presence, Wish},
        revocations::Revocations,
        signer::Signer,
    },
};

/// The kind's name in configuration.
pub const KIND: &str = "token";

/// Verifiers of JSON Web Tokens commonly accept this much clock skew.
const SKEW_SECONDS: u32 = 60;

/// Signs tokens for one target.
pub struct Token {
    target: String,
    settings: Settings,
    limit: Duration,
    clock: Arc<dyn Clock>,
    signer: Arc<dyn Signer>,
    ledger: Arc<dyn Revocations>,
}

/// From configuration.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    let settings: Settings = super::settings(config)?;
    Ok(Arc::new(Token {
        target: config.id.to_string(),
        settings,
        limit: limit(config),
        clock: Arc::clone(&parts.clock),
        signer: Arc::clone(&parts.signer),
        ledger: Arc::clone(&parts.revocations),
    }))
}

impl Token {
    /// What every verifier is told is one thing, what a copy may still do is another; both go into the evidence.
    fn told(&self, copies: &Copies) -> Value {
        let mut told = json!({
            "introspection": if matches!(copies, Copies::Live(_)) { "active" } else { "inactive" },
            "verifiers": self.settings.verifiers,
        });
        if let Some(told) = told.as_object_mut() {
            match copies {
                Copies::None => {
                    told.insert("minted".into(), json!(0));
                }
                Copies::Expired(last) => {
                    told.insert("last_copy_expired_at".into(), json!(last));
                }
                Copies::Live(last) => {
                    told.insert("last_copy_expires_at".into(), json!(last));
                }
                Copies::Revoked(revoked, last) => {
                    let numbers: Vec<u32> = revoked.iter().map(|issued| issued.number).collect();
                    told.insert("revoked_claims".into(), json!(numbers));
                    told.insert("offline_copies_expire_at".into(), json!(last));
                }
            }
        }
        told
    }

    fn expiry(&self, life: Option<Ttl>, intent: &Intent, claim: &Claim) -> Timestamp {
        let life = life.map_or(self.settings.max_token_life, |l| l.min(self.settings.max_token_life));
        Timestamp::from_seconds(intent.not_after.min(claim.at.plus(life)).seconds())
    }
}

#[async_trait]
impl Connector for Token {
    fn describe(&self) -> Description {
        let life = self.settings.max_token_life;
        let cache = self.settings.introspection_cache_seconds;
        let (class, residual, words) = match self.settings.verifiers {
            Verifiers::Offline => (
                RevocationClass::ExpiryOnly,
                life.seconds().saturating_add(SKEW_SECONDS),
                format!(
                    "Verifiers check tokens offline: a copy works until its own expiry, at most {life}, and up to \
                     {SKEW_SECONDS} s of clock skew. Verifiers that introspect refuse it at once."
                ),
            ),
            Verifiers::Introspect if cache == 0 => (
                RevocationClass::Immediate,
                0,
                "Verifiers introspect every token: a revoked one is refused at its next use.".into(),
            ),
            Verifiers::Introspect => (
                RevocationClass::Propagating,
                cache,
                format!("Verifiers introspect tokens and remember the answer for {cache} s."),
            ),
        };
        Description {
            kind: KIND.into(),
            summary: "Access tokens for an API, scoped to an audience".into(),
            revocation_class: class,
            native_expiry: true,
            read_back: true,
            cuts_sessions: false,
            mints_secrets: true,
            residual_window_seconds: residual,
            residual_window: words,
            enforcement_seconds: SKEW_SECONDS,
        }
    }

    fn validate(&self, parameters: &Value) -> Result<(), BadParameters> {
        Parameters::parse(parameters, &self.settings).map(|_| ())
    }

    async fn check(&self) -> Vec<Finding> {
        let keys = self.signer.jwks();
        let n = keys.get("keys").and_then(Value::as_array).map_or(0, Vec::len);
        let ledger = within(self.limit, "the ledger", self.ledger.revoked(&self.target, self.clock.now())).await;
        vec![
            Finding {
                name: "signing keys".into(),
                ok: n > 0,
                detail: format!("{n} keys are published"),
                fix: (n == 0).then(|| "check that the key directory is readable by the server".into()),
            },
            Finding {
                name: "ledger".into(),
                ok: ledger.is_ok(),
                detail: ledger
                    .map_or_else(|e| e.to_string(), |r| format!("{} revoked tokens have not expired yet", r.len())),
                fix: None,
            },
        ]
    }

    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault> {
        Parameters::parse(&wish.parameters, &self.settings).map_err(|e| Fault::Refused(e.to_string()))?;
        Ok(Recipe { grant: wish.grant, object: object_name(wish.grant), data: json!({}) })
    }

    async fn activate(&self, intent: &Intent) -> Result<Value, Fault> {
        let wanted =
            Parameters::parse(&intent.parameters, &self.settings).map_err(|e| Fault::Refused(e.to_string()))?;
        Ok(json!({ "audience": wanted.audience, "scope": wanted.scope(), "not_after": intent.not_after }))
    }

    async fn mint(&self, intent: &Intent, claim: &Claim) -> Result<Minted, Fault> {
        let wanted =
            Parameters::parse(&intent.parameters, &self.settings).map_err(|e| Fault::Refused(e.to_string()))?;
        let expires_at = self.expiry(wanted.max_token_life, intent, claim);
        if expires_at <= claim.at {
            return Err(Fault::Refused("less than a second is left of the grant".into()));
        }
        let jti = format!("{}.{}", intent.recipe.object, claim.number);
        let claims = json!({
            "iss": self.signer.issuer(),
            "sub": intent.holder,
            "aud": wanted.audience,
            "scope": wanted.scope(),
            "client_id": intent.holder_name,
            "iat": claim.at.seconds(),
            "exp": expires_at.seconds(),
            "jti": jti,
            "grant": intent.recipe.grant,
        });
        let Value::Object(claims) = claims else {
            return Err(Fault::Refused("the claims are not an object".into()));
        };
        let token = self.signer.sign(wanted.algorithm, &claims).map_err(|e| Fault::Unavailable(e.to_string()))?;
        let mut public = Map::new();
        public.insert("token_type".into(), json!("Bearer"));
        public.insert("audience".into(), json!(wanted.audience));
        public.insert("scope".into(), json!(wanted.scope()));
        public.insert("jti".into(), json!(jti));
        public.insert("issuer".into(), json!(self.signer.issuer()));
        Ok(Minted { public, secrets: vec![("token".into(), token)], expires_at })
    }

    async fn revoke(&self, recipe: &Recipe) -> Result<(), Fault> {
        // Nothing to do: introspection and the revocation list answer from the ledger. That it can be asked is all
        // that revoking needs.
        within(self.limit, "the ledger", self.ledger.last_expiry(recipe.grant)).await.map(|_| ())
    }

    async fn verify(&self, recipe: &Recipe) -> Presence {
        let ledger = self.ledger.as_ref();
        let asked = copies::of_grant(ledger, &self.target, recipe.grant, self.clock.now());
        match within(self.limit, "the ledger", asked).await {
            Ok(copies @ Copies::Live(_)) => Presence::Present(self.told(&copies)),
            Ok(copies) => Presence::Absent(self.told(&copies)),
            Err(e) => Presence::Unknown(e.to_string()),
        }
    }

    fn leaves_objects(&self) -> bool {
        false
    }

    async fn sweep(&self) -> Result<Vec<Found>, Fault> {
        Ok(Vec::new())
    }
}
