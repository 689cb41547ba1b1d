//! Figures over the latest requests. A bounded number of them, so that no figure costs more as the history grows.

use std::collections::BTreeMap;

use super::{Broker, BrokerError, Ctx, view::InsightsView, view::RequestView};
use crate::domain::request::RequestState;

/// Requests that are looked at.
const LATEST: u32 = 2_000;
/// Days that are shown.
const DAYS: usize = 30;
/// Entitlements that are shown.
const SHOWN: usize = 20;
/// Emergencies that are listed.
const EMERGENCIES: u32 = 20;

/// What one entitlement came to.
#[derive(Default)]
struct Figures {
    made: u64,
    denied: u64,
    waits: Vec<u64>,
}

impl Broker {
    /// What the latest requests came to: for administrators and auditors.
    pub async fn insights(&self, ctx: &Ctx) -> Result<InsightsView, BrokerError> {
        if !ctx.sees_everything() {
            return Err(BrokerError::Forbidden("figures are for administrators and auditors"));
        }
        let found = self.store.latest_asked(LATEST).await?;
        let mut states: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut days: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut by_entitlement: BTreeMap<&str, Figures> = BTreeMap::new();
        for asked in &found {
            *states.entry(asked.state.as_str()).or_default() += 1;
            let at = asked.created_at.to_string();
            let day = days.entry(at.get(..10).unwrap_or(&at).to_owned()).or_default();
            day.0 += 1;
            day.1 += u64::from(!asked.by_people);
            let wait = asked.decided_at.filter(|_| asked.by_people).map(|at| at.since(asked.created_at).as_secs());
            for id in &asked.entitlements {
                let figures = by_entitlement.entry(id).or_default();
                figures.made += 1;
                figures.denied += u64::from(asked.state == RequestState::Denied);
                figures.waits.extend(wait);
            }
        }
        let mut entitlements: Vec<_> = by_entitlement
            .into_iter()
            .map(|(id, mut f)| {
                f.waits.sort_unstable();
                (id.to_owned(), f.made, f.denied, f.waits.get(f.waits.len() / 2).copied())
            })
            .collect();
        entitlements.sort_by_key(|(_, made, ..)| std::cmp::Reverse(*made));
        entitlements.truncate(SHOWN);
        let skipped = days.len().saturating_sub(DAYS);
        Ok(InsightsView {
            looked_at: found.len() as u64,
            since: found.last().map(|a| a.created_at.to_string()),
            states: states.into_iter().map(|(state, n)| (state.to_owned(), n)).collect(),
            days: days.into_iter().skip(skipped).map(|(day, (made, auto))| (day, made, auto)).collect(),
            entitlements,
            emergencies: found.iter().filter(|a| a.emergency).count() as u64,
        })
    }

    /// The latest emergencies, the newest first, to be looked at again: for administrators and auditors.
    pub async fn emergencies(&self, ctx: &Ctx) -> Result<Vec<RequestView>, BrokerError> {
        if !ctx.sees_everything() {
            return Ok(Vec::new());
        }
        let mut views = Vec::new();
        for id in self.store.emergencies(EMERGENCIES).await? {
            let Some(request) = self.store.request(id).await? else { continue };
            let grants = self.store.grants_of(id).await?;
            let approvals = self.store.approvals(id).await?;
            views.push(self.render_request(&request, grants, &approvals).await?);
        }
        Ok(views)
    }

    /// Requests that somebody made in the last day, counted up to a hundred: how busy a workload or agent is.
    pub async fn asked_today(&self, ctx: &Ctx, key: &str) -> Result<u32, BrokerError> {
        let id = self.visible_identity(ctx, key).await?.identity.id;
        let day = ctx.now.minus_std(std::time::Duration::from_secs(86_400));
        Ok(u32::try_from(self.store.asked_lately(id, day, 100).await?.len()).unwrap_or(u32::MAX))
    }
}
