//! Tokens: the conformance suite against our own verifier, and what is peculiar to them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use tidegate::{
    connectors::{
        conformance::{self, Harness, Trouble},
        fakes::{FakeLedger, Mood},
    },
    domain::{capability::RevocationClass, grant::Intent, id::GrantId, secret::Minted, time::Timestamp},
    ports::{
        clock::ManualClock,
        connector::{Connector, Presence, Wish},
        revocations::Revocations,
    },
};

use crate::connectors::{TARGET, World, intent, start, wish};

fn parameters() -> Value {
    json!({"audience": "https://api", "scopes": ["deploy:write", "deploy:read"]})
}

struct Tokens {
    world: World,
    clock: Arc<ManualClock>,
    algorithm: &'static str,
}

impl Tokens {
    fn new(algorithm: &'static str) -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        Self { world: World::new(Arc::clone(&clock) as _), clock, algorithm }
    }
}

#[async_trait]
impl Harness for Tokens {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        Ok(self.world.connector("token", &json!({})))
    }

    fn ledger(&self) -> &FakeLedger {
        &self.world.ledger
    }

    fn target(&self) -> &str {
        TARGET
    }

    fn wish(&self, grant: GrantId) -> Wish {
        let mut parameters = parameters();
        parameters["algorithm"] = json!(self.algorithm);
        wish(grant, parameters)
    }

    fn grant(&self) -> GrantId {
        self.world.grant()
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    async fn pass_until(&self, at: Timestamp) {
        self.clock.set(at);
    }

    /// What a verifier sees that checks the token and then introspects it.
    async fn works(&self, intent: &Intent, minted: Option<&Minted>) -> Result<bool, String> {
        let token = minted.unwrap().secrets[0].1.expose();
        let now = self.now();
        let Ok(claims) = self.world.parts().signer.verify(token, "https://api", now) else { return Ok(false) };
        let number = claims["jti"].as_str().unwrap().rsplit_once('.').unwrap().1.parse().unwrap();
        self.world.ledger.is_live(intent.recipe.grant, number, now).await.map_err(|e| e.to_string())
    }

    fn lists(&self) -> bool {
        false
    }

    async fn trouble(&self, trouble: Trouble) -> Result<bool, String> {
        self.world.ledger.set_mood(match trouble {
            Trouble::Down => Mood::Failing,
            Trouble::Hangs => Mood::Hanging,
            // It is no server that could lie or lose an answer.
            Trouble::Lies | Trouble::LosesAnswers | Trouble::Slow => return Ok(false),
        });
        Ok(true)
    }

    async fn heal(&self) -> Result<(), String> {
        self.world.ledger.set_mood(Mood::Well);
        Ok(())
    }
}

#[tokio::test]
async fn token_conforms() {
    for algorithm in ["EdDSA", "ES256"] {
        conformance::run(&Tokens::new(algorithm)).await.unwrap();
    }
}

#[tokio::test]
async fn token_carries_what_rfc_9068_wants() {
    let world = World::still();
    let connector = world.connector("token", &json!({"max_token_life": "10m"}));
    let intent =
        intent(connector.as_ref(), wish(world.grant(), parameters()), start().plus_std(Duration::from_hours(1))).await;
    world.ledger.issue(TARGET, &intent, start());
    let claim = world.ledger.issue(TARGET, &intent, start());
    let minted = connector.mint(&intent, &claim).await.unwrap();
    let claims = world.parts().signer.verify(minted.secrets[0].1.expose(), "https://api", start()).unwrap();
    let at = start().seconds();
    let wanted = json!({
        "iss": "https://t.example",
        "sub": intent.holder,
        "aud": "https://api",
        "scope": "deploy:write deploy:read",
        "client_id": "ana",
        "iat": at,
        "exp": at + 600,
        "jti": format!("{}.2", intent.recipe.object),
        "grant": intent.recipe.grant,
    });
    assert_eq!(Value::Object(claims), wanted);
    assert_eq!(minted.expires_at, Timestamp::from_seconds(at + 600));
}

#[tokio::test]
async fn token_evidence_says_what_a_verifier_is_told_and_when_copies_end() {
    let world = World::still();
    let connector = world.connector("token", &json!({}));
    let end = start().plus_std(Duration::from_mins(5));
    let intent = intent(connector.as_ref(), wish(world.grant(), parameters()), end).await;
    let claim = world.ledger.issue(TARGET, &intent, start());
    connector.mint(&intent, &claim).await.unwrap();
    let Presence::Present(seen) = connector.verify(&intent.recipe).await else { panic!("not present") };
    assert_eq!(seen["introspection"], "active");
    world.ledger.end(intent.recipe.grant);
    let Presence::Absent(seen) = connector.verify(&intent.recipe).await else { panic!("not absent") };
    assert_eq!(
        seen,
        json!({
            "introspection": "inactive",
            "verifiers": "offline",
            "revoked_claims": [1],
            "offline_copies_expire_at": end,
        })
    );
}

#[test]
fn token_parameters_are_checked_and_the_field_is_named() {
    let token = World::still().connector("token", &json!({"max_token_life": "10m"}));
    let good = json!({"audience": "a", "scopes": ["deploy:write"], "algorithm": "ES256", "max_token_life": 60});
    assert_eq!(token.validate(&good), Ok(()));
    for (bad, field) in [
        (json!({}), "audience"),
        (json!({"audience": ""}), "audience"),
        (json!({"audience": "a", "scopes": ["two words"]}), "scopes"),
        (json!({"audience": "a", "scopes": [""]}), "scopes"),
        (json!({"audience": "a", "algorithm": "none"}), "EdDSA"),
        (json!({"audience": "a", "algorithm": "HS256"}), "ES256"),
        (json!({"audience": "a", "max_token_life": "11m"}), "max_token_life"),
        (json!({"audience": "a", "colour": 1}), "colour"),
    ] {
        let text = token.validate(&bad).unwrap_err().to_string();
        assert!(text.contains(field), "{bad}: {text}");
    }
}

#[test]
fn token_promises_what_its_verifiers_can_keep() {
    let world = World::still();
    for (settings, class, window) in [
        (json!({}), RevocationClass::ExpiryOnly, 960),
        (json!({"verifiers": "introspect"}), RevocationClass::Immediate, 0),
        (json!({"verifiers": "introspect", "introspection_cache_seconds": 30}), RevocationClass::Propagating, 30),
    ] {
        let said = world.connector("token", &settings).describe();
        assert_eq!((said.revocation_class, said.residual_window_seconds), (class, window));
    }
}
