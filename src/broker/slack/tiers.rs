//! Whom to ask by direct message, and when: those on call at once, everybody who may decide if nobody did, and then
//! again, a bounded number of times. The channel's message is there in any case.

use crate::{
    broker::{Broker, BrokerError},
    domain::{
        identity::Subject,
        request::{Request, RequestState},
        slack::SlackSheet,
    },
    store::{MessageRow, NewMessage},
};

/// The last time that people are asked about one request.
const LAST_TIER: u32 = 4;
/// People asked at once.
const MOST: usize = 20;
/// In a group of so few, its members are meant by name.
const FEW: usize = 2;

impl Broker {
    /// Ask the next ones, and say when to ask again.
    pub async fn slack_next_tier(&self, row: &MessageRow) -> Result<(), BrokerError> {
        let Some(settings) = self.settings.slack.clone() else {
            return self.settle_slack_message(row, None, None).await;
        };
        let now = self.now();
        let request = match row.request.parse() {
            Ok(id) => self.store.request(id).await?,
            Err(_) => None,
        };
        // Quiet once decided.
        let Some(request) = request.filter(|r| r.state == RequestState::Pending && r.lapses_at > now) else {
            return self.settle_slack_message(row, None, None).await;
        };
        let able = self.able_to_decide(&request).await?;
        let on_call = |s: &Subject| settings.on_call_group.as_ref().is_some_and(|g| s.is_in(&g.to_lowercase()));
        let few = able.len() <= FEW;
        let asked: Vec<&Subject> = able
            .iter()
            .filter(|s| row.attempts > 0 || few || on_call(s))
            .filter(|s| !settings.quiet.contains(&s.identity.name))
            .collect();
        // Those who were asked least come first: the next tier goes on where the last one stopped.
        let waiting = self.store.slack_asked_about(&row.request).await?;
        let mut asked: Vec<(u32, &Subject)> = asked
            .into_iter()
            // One of whom a question still waits to go out is not asked another one.
            .filter_map(|s| match waiting.get(&s.identity.id) {
                Some((_, true)) => None,
                Some((times, false)) => Some((*times, s)),
                None => Some((0, s)),
            })
            .collect();
        asked.sort_by_key(|(times, s)| (*times, s.identity.id));
        for (_, person) in asked.into_iter().take(MOST) {
            let id = person.identity.id;
            let recently = self.store.slack_last_asked(id).await?.filter(|at| now.since(*at) < settings.remind_every);
            // Somebody who was asked about this one within the time is not asked again; a new one is news.
            if row.attempts > 0 && recently.is_some() {
                continue;
            }
            let message = NewMessage {
                id: format!("approver:{}:{id}:{}", request.id, row.attempts),
                kind: SlackSheet::Approver,
                request: row.request.clone(),
                grant: String::new(),
                to: Some(id),
                at: None,
                due_at: now,
            };
            in_background!(self, |tx| tx.want_slack_message(&message).await)?;
        }
        if row.attempts >= LAST_TIER {
            return self.settle_slack_message(row, None, None).await;
        }
        let wait = if row.attempts == 0 { settings.escalate_after } else { settings.remind_every };
        let next = now.plus_std(wait);
        in_background!(self, |tx| tx.postpone_slack_message(row, next, "", (true, true)).await)
    }

    /// Everybody who may decide on it now.
    async fn able_to_decide(&self, request: &Request) -> Result<Vec<Subject>, BrokerError> {
        let now = self.now();
        let requester = self.store.subject(request.requester, now).await?;
        let subject = self.store.subject(request.subject, now).await?;
        let (Some(requester), Some(subject)) = (requester, subject) else { return Ok(Vec::new()) };
        let groups = request.needs.iter().flat_map(|n| n.groups.iter().cloned()).collect();
        let policy = self.policy();
        let mut able = Vec::new();
        for person in self.store.members_of(&groups, 500, now).await? {
            let ctx = self.context(Some(person), None, None, super::VIA);
            if let Ok(ctx) = ctx
                && Self::may_decide(&ctx, &policy, request, &requester, &subject).is_ok()
            {
                able.push(ctx.actor);
            }
        }
        Ok(able)
    }
}
