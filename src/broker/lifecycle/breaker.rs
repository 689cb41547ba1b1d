//! The mass-change breaker: of a source that takes away more people than it should within a window that slides, whoever
//! exceeds the limit waits until an administrator says that it is right. Who is within the limit leaves at once, also while
//! others wait. Sources that are read have a brake of their own, which looks at the whole run (`sync/intake.rs`).

use serde_json::json;

use super::super::{Broker, BrokerError, Ctx, lock::only_admins, record::Cause, view::IdentityRef};
use crate::{
    domain::identity::{Identity, Source},
    store::{HeldDeparture, StoreError, Tx},
};

/// What an administrator has accepted.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct AcceptedView {
    /// Name of the source.
    pub source: String,
    /// Who was held back, and is deactivated now.
    pub people: Vec<IdentityRef>,
    /// What the source takes away until then is not held.
    pub accepted_until: String,
}

impl Broker {
    /// One who leaves because a source says so: counted, and refused if they are too many.
    pub(super) async fn count_departure(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        gone: &Identity,
        deleted: bool,
    ) -> Result<(), BrokerError> {
        let Some(source) = gone.source.filter(|_| cause.is_push()) else { return Ok(()) };
        let limit = self.settings.departures;
        let so_far = tx.departures(source, gone.id, cause.now.minus_std(limit.window)).await?;
        if so_far.accepted_until.is_some_and(|until| until > cause.now) {
            return Ok(tx.forget_held(source, gone.id).await?);
        }
        let with_this_one = so_far.gone.saturating_add(1);
        // Who is held back stays so, however often the source says it: a mass change is not to go through bit by bit.
        let mut waits = so_far.held;
        if !waits && with_this_one >= limit.least {
            let enough = limit.people_for(with_this_one);
            let people = tx.people_of_source(source, enough).await?.saturating_add(so_far.gone);
            waits = limit.too_many(with_this_one, people);
        }
        if !waits {
            return Ok(tx.count_departed(source, gone.id, cause.now).await?);
        }
        // This change is taken back with everything in it, so the list is kept with a change of its own.
        self.hold(HeldDeparture { source, identity: gone.id, at: cause.now, cause: cause.correlation, deleted });
        Err(BrokerError::Held { name: tx.source_name(source).await? })
    }

    fn hold(&self, departure: HeldDeparture) {
        if let Ok(mut waiting) = self.held.lock() {
            waiting.push(departure);
        }
        self.wake();
    }

    /// Keep who was held back, and raise the alarm. If the process dies before, the source says it again.
    pub async fn record_held(&self) -> Result<(), BrokerError> {
        let waiting = self.held.lock().map(|mut w| std::mem::take(&mut *w)).unwrap_or_default();
        for chunk in waiting.chunks(100) {
            loop {
                let mut tx = self.store.begin_background().await?;
                let written = self.record_held_chunk(&mut tx, chunk).await;
                if let Some(result) = tx.end(written).await {
                    result?;
                    break;
                }
            }
        }
        Ok(())
    }

    async fn record_held_chunk(&self, tx: &mut Tx, chunk: &[HeldDeparture]) -> Result<(), BrokerError> {
        for held in chunk {
            if !tx.hold_departure(held).await? {
                continue;
            }
            let name = tx.source_name(held.source).await?;
            metrics::counter!("tidegate_sources_held_total", "source" => name.clone()).increment(1);
            tracing::error!(source = name, "too many people would leave at once: held until an administrator accepts");
            let people: Vec<_> = chunk.iter().filter(|h| h.source == held.source).map(|h| h.identity).collect();
            let details = json!({
                "source": held.source, "name": name, "people": people,
                "next": format!("tidegate review held; tidegate review accept {name}"),
            });
            let event = self.event(&Cause::worker(held.cause, held.at), "source.held", details)?;
            self.note(tx, event)?;
        }
        Ok(())
    }

    /// It is right that they leave: for administrators. Who was held back is deactivated now, each because of the call
    /// that said so; what the source takes away for a while is not held.
    pub async fn accept_departures(&self, ctx: &Ctx, source: &str) -> Result<AcceptedView, BrokerError> {
        self.may_change()?;
        only_admins(ctx)?;
        self.not_locked(ctx).await?;
        let source = self.find_source(source).await?;
        self.record_held().await?;
        let held = self.store.held_departures(Some(source.id)).await?;
        let until = ctx.now.plus_std(self.settings.departures.window);
        let people: Vec<_> = held.iter().map(|h| h.identity).collect();
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.accept_departures(source.id, until).await?;
                let details = json!({"source": source.id, "name": source.name, "people": people, "until": until});
                let event = self.event(&Cause::from(ctx), "source.accepted", details)?;
                self.note(&mut tx, event)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => {
                    return Err(BrokerError::State(format!("{} has not been stopped", source.name)));
                }
                Some(result) => {
                    result?;
                    break;
                }
            }
        }
        self.wake();
        let mut names = Vec::with_capacity(people.len());
        for id in people {
            names.push(self.reference(id).await);
        }
        Ok(AcceptedView { source: source.name, people: names, accepted_until: until.to_string() })
    }

    /// Carry out what was held back and has been accepted; how many there were.
    pub async fn carry_out_accepted(&self, limit: u32) -> Result<usize, BrokerError> {
        let accepted = self.store.accepted_departures(limit).await?;
        for held in &accepted {
            let now = self.now();
            let cause = Cause::worker(held.cause, now);
            loop {
                let mut tx = self.store.begin_background().await?;
                let written = async {
                    let found = tx.identity(held.identity, now).await?;
                    if let Some(before) = found.map(|s| s.identity).filter(|i| i.active) {
                        let details = json!({"why": "its source said so, and an administrator accepted it"});
                        if held.deleted {
                            self.record_deletion(&mut tx, &cause, &before, details).await?;
                        } else {
                            let after = Identity { active: false, ..before.clone() };
                            self.record_change(&mut tx, &cause, &before, &after, details).await?;
                        }
                    }
                    tx.forget_held(held.source, held.identity).await?;
                    Ok::<_, BrokerError>(())
                }
                .await;
                match tx.end(written).await {
                    None | Some(Err(BrokerError::Store(StoreError::Conflict))) => {}
                    Some(result) => {
                        result?;
                        break;
                    }
                }
            }
        }
        Ok(accepted.len())
    }

    /// A source by its name or id.
    pub(in crate::broker) async fn find_source(&self, key: &str) -> Result<Source, BrokerError> {
        let sources = self.store.sources().await?.into_iter().map(|(source, _)| source);
        let fits = |s: &Source| s.name.eq_ignore_ascii_case(key) || s.id.to_string() == key;
        sources.into_iter().find(fits).ok_or(BrokerError::NotFound("source"))
    }
}
