//! A connector around a real one that lies, hangs, fails, forgets and panics when it is told to. For tests.

use std::{
    collections::BTreeMap,
    future,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{
    domain::{
        capability::Description,
        grant::{Claim, Intent, Recipe, object_name},
        secret::Minted,
    },
    ports::connector::{BadParameters, Connector, Fault, Finding, Found, Presence, Publication, Wish},
};

/// A method of a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `check`
    Check,
    /// `prepare`
    Prepare,
    /// `activate`
    Activate,
    /// `mint`
    Mint,
    /// `revoke`
    Revoke,
    /// `verify`
    Verify,
    /// `sweep`
    Sweep,
}

/// How a method behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// As the real connector does.
    Honest,
    /// Says that all is well and does nothing. `verify` says absent, `sweep` lists nothing, `mint` cannot lie and fails.
    Lies,
    /// Does nothing and never answers.
    Hangs,
    /// Fails this many times with a transient fault and does nothing, then is honest.
    Fails(u32),
    /// Refuses every time and does nothing.
    Refuses,
    /// Does what the real connector does, then reports a transient fault.
    EffectThenTimeout,
    /// Does what the real connector does, then never answers.
    EffectThenHangs,
    /// Panics before doing anything.
    Panics,
}

/// The switch of a [`Faulty`] connector, and its counters.
#[derive(Debug, Default)]
pub struct Faults(Mutex<BTreeMap<Call, (Option<Behaviour>, u64)>>);

impl Faults {
    /// From now on `call` behaves like this.
    pub fn set(&self, call: Call, behaviour: Behaviour) {
        self.rows().entry(call).or_default().0 = Some(behaviour);
    }

    /// Every call is honest again. The counters stay.
    pub fn heal(&self) {
        for (behaviour, _) in self.rows().values_mut() {
            *behaviour = None;
        }
    }

    /// How often `call` was made.
    pub fn calls(&self, call: Call) -> u64 {
        self.rows().get(&call).map_or(0, |(_, n)| *n)
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, BTreeMap<Call, (Option<Behaviour>, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Count the call and say how it is to behave.
    fn next(&self, call: Call) -> Behaviour {
        let mut rows = self.rows();
        let row = rows.entry(call).or_default();
        row.1 += 1;
        match row.0 {
            Some(Behaviour::Fails(0)) | None => Behaviour::Honest,
            Some(Behaviour::Fails(n)) => {
                row.0 = Some(Behaviour::Fails(n - 1));
                Behaviour::Fails(n)
            }
            Some(other) => other,
        }
    }
}

/// A real connector behind a switch.
pub struct Faulty {
    inner: Arc<dyn Connector>,
    faults: Arc<Faults>,
}

impl Faulty {
    /// Around a real connector, honest until told otherwise through the handle.
    pub fn around(inner: Arc<dyn Connector>) -> (Arc<dyn Connector>, Arc<Faults>) {
        let faults = Arc::new(Faults::default());
        (Arc::new(Self { inner, faults: Arc::clone(&faults) }), faults)
    }

    #[allow(clippy::panic, reason = "a panicking connector is one of the things that the broker must survive")]
    async fn play<T>(
        &self,
        call: Call,
        real: impl Future<Output = Result<T, Fault>> + Send,
        lie: impl FnOnce() -> Result<T, Fault> + Send,
    ) -> Result<T, Fault> {
        let fault = |text: &str| Fault::Unavailable(format!("{call:?}: {text}, as the test wants"));
        match self.faults.next(call) {
            Behaviour::Honest => real.await,
            Behaviour::Lies => lie(),
            Behaviour::Hangs => future::pending().await,
            Behaviour::Fails(_) => Err(fault("failed")),
            Behaviour::Refuses => Err(Fault::Refused(format!("{call:?}: refused, as the test wants"))),
            Behaviour::EffectThenTimeout => {
                let _ = real.await;
                Err(fault("timed out after the effect"))
            }
            Behaviour::EffectThenHangs => {
                let _ = real.await;
                future::pending().await
            }
            Behaviour::Panics => panic!("{call:?}: the connector panics, as the test wants"),
        }
    }
}

#[async_trait]
impl Connector for Faulty {
    fn describe(&self) -> Description {
        self.inner.describe()
    }

    fn validate(&self, parameters: &Value) -> Result<(), BadParameters> {
        self.inner.validate(parameters)
    }

    async fn check(&self) -> Vec<Finding> {
        let real = async { Ok(self.inner.check().await) };
        self.play(Call::Check, real, || Ok(Vec::new()))
            .await
            .unwrap_or_else(|e| vec![Finding { name: "reachable".into(), ok: false, detail: e.to_string(), fix: None }])
    }

    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault> {
        let lie = || Ok(Recipe { grant: wish.grant, object: object_name(wish.grant), data: Value::Null });
        self.play(Call::Prepare, self.inner.prepare(wish), lie).await
    }

    async fn activate(&self, intent: &Intent) -> Result<Value, Fault> {
        self.play(Call::Activate, self.inner.activate(intent), || Ok(json!({}))).await
    }

    async fn mint(&self, intent: &Intent, claim: &Claim) -> Result<Minted, Fault> {
        let lie = || Err(Fault::Unavailable("Mint: no secret can be made up".into()));
        self.play(Call::Mint, self.inner.mint(intent, claim), lie).await
    }

    async fn revoke(&self, recipe: &Recipe) -> Result<(), Fault> {
        self.play(Call::Revoke, self.inner.revoke(recipe), || Ok(())).await
    }

    async fn verify(&self, recipe: &Recipe) -> Presence {
        let real = async { Ok(self.inner.verify(recipe).await) };
        self.play(Call::Verify, real, || Ok(Presence::Absent(json!({"made_up": true}))))
            .await
            .unwrap_or_else(|e| Presence::Unknown(e.to_string()))
    }

    async fn sweep(&self) -> Result<Vec<Found>, Fault> {
        self.play(Call::Sweep, self.inner.sweep(), || Ok(Vec::new())).await
    }

    fn leaves_objects(&self) -> bool {
        self.inner.leaves_objects()
    }

    fn places(&self) -> Vec<Vec<String>> {
        self.inner.places()
    }

    async fn publication(&self, name: &str) -> Option<Publication> {
        self.inner.publication(name).await
    }
}
