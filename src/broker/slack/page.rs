//! What a message is to show, read from the ledger at this moment.

use super::terms::{terms_of, trust_of};
use crate::{
    broker::{
        Broker, BrokerError, Ctx,
        input::{Paging, RequestQuery, Role},
        view::{ApprovalView, GrantView, RequestView},
    },
    domain::{
        audit::Event,
        grant::GrantState,
        id::{GrantId, RequestId},
        request::RequestState,
        slack::{SlackDecision, SlackSheet, SlackUser},
        time::{Timestamp, Ttl},
    },
    store::{AuditFilter, MessageRow},
};

/// A request as Slack shows it.
#[derive(Debug, Clone)]
pub struct RequestPage {
    /// The request.
    pub request: RequestView,
    /// What its entitlements are called.
    pub titles: Vec<String>,
    /// Decisions so far.
    pub decisions: Vec<ApprovalView>,
    /// Hash of its terms.
    pub terms: String,
    /// How far a click decides.
    pub trust: SlackDecision,
    /// Who asks, for people to read.
    pub requester: String,
    /// Risk marks, in words.
    pub marks: Vec<String>,
    /// Where it was asked: `web`, `cli`, `api`, `slack`…
    pub source: String,
}

/// Somebody's own page.
#[derive(Debug, Clone)]
pub struct HomePage {
    /// Their unique name.
    pub name: String,
    /// What they hold.
    pub grants: Vec<GrantView>,
    /// What waits for them.
    pub waiting: Vec<RequestView>,
    /// What they asked for.
    pub pending: Vec<RequestView>,
    /// Now.
    pub now: Timestamp,
}

/// What a message is to show.
#[derive(Debug, Clone)]
pub enum SlackPage {
    /// A request.
    Request(Box<RequestPage>),
    /// One decision, and how many there are.
    Decision(Box<RequestPage>, ApprovalView),
    /// What became of a request.
    Outcome(Box<RequestPage>),
    /// A grant ends soon; by how much it may be prolonged.
    Ending(Box<GrantView>, Option<Ttl>),
    /// A grant ended, by whom if by a person.
    Ended(Box<GrantView>, Option<String>),
    /// An account acts for another person now.
    Relinked,
    /// An account acts for this person now.
    Linked(String),
    /// Somebody's own page.
    Home(Box<HomePage>),
    /// Nothing to show, at least until then.
    Nothing(Option<Timestamp>),
}

impl Broker {
    /// What the message of this row is to show now.
    pub async fn slack_page(&self, row: &MessageRow) -> Result<SlackPage, BrokerError> {
        let posted = row.ts.is_some();
        Ok(match row.kind {
            SlackSheet::Request | SlackSheet::Copy => match self.request_page(&row.request).await? {
                Some(page) => SlackPage::Request(Box::new(page)),
                None => SlackPage::Nothing(None),
            },
            SlackSheet::Approver => match self.request_page(&row.request).await? {
                // Quiet once decided: whoever was not asked yet is not asked any more.
                Some(page) if posted || page.request.state == RequestState::Pending => {
                    SlackPage::Request(Box::new(page))
                }
                _ => SlackPage::Nothing(None),
            },
            SlackSheet::Decision => self.decision_page(row).await?,
            SlackSheet::Outcome => match self.request_page(&row.request).await? {
                Some(page) => SlackPage::Outcome(Box::new(page)),
                None => SlackPage::Nothing(None),
            },
            SlackSheet::Ending => self.ending_page(row, posted).await?,
            SlackSheet::Ended => self.ended_page(row).await?,
            SlackSheet::Relinked => SlackPage::Relinked,
            SlackSheet::Linked => self.linked_page(row).await?,
            SlackSheet::Home => self.home_page(row).await?,
            SlackSheet::Tier => SlackPage::Nothing(None),
        })
    }

    /// Where direct messages for the person of a row go: the account that was linked last.
    pub async fn slack_account_of(&self, row: &MessageRow) -> Result<Option<SlackUser>, BrokerError> {
        let Ok(id) = row.identity.parse() else { return Ok(None) };
        Ok(self.store.slack_accounts(id).await?.into_iter().next())
    }

    /// A request as Slack shows it, for whoever may see it.
    pub async fn slack_request(&self, ctx: &Ctx, id: RequestId) -> Result<RequestPage, BrokerError> {
        self.visible_request(ctx, id).await?;
        self.request_page(&id.to_string()).await?.ok_or(BrokerError::NotFound("request"))
    }

    async fn request_page(&self, id: &str) -> Result<Option<RequestPage>, BrokerError> {
        let Ok(id) = id.parse::<RequestId>() else { return Ok(None) };
        let Some(request) = self.store.request(id).await? else { return Ok(None) };
        let approvals = self.store.approvals(id).await?;
        let mut decisions = Vec::with_capacity(approvals.len());
        for approval in &approvals {
            decisions.push(self.render_approval(approval).await);
        }
        let policy = self.policy();
        let known: Vec<_> = request.entitlements.iter().filter_map(|e| policy.catalog().get(e)).collect();
        let titles = known.iter().map(|e| e.title.clone()).collect();
        let marks = self.risk_marks(&request);
        let who = self.store.subject(request.requester, self.now()).await?;
        let requester = who.map(|s| s.identity.display_name).unwrap_or_default();
        let (terms, trust) = (terms_of(&policy, &request), trust_of(&policy, &request));
        let grants = self.store.grants_of(id).await?;
        let mut view = self.render_request(&request, grants, &approvals).await?;
        view.taken_up = self.taken_up(&request).await?;
        let first = self.store.events(&AuditFilter { request: Some(id), ..AuditFilter::default() }, 0, 1).await?;
        let first = first.items.first().and_then(|e| serde_json::from_str::<Event>(&e.leaf).ok());
        let source = first.map(|event| event.via).unwrap_or_default();
        Ok(Some(RequestPage { request: view, titles, decisions, terms, trust, requester, marks, source }))
    }

    async fn decision_page(&self, row: &MessageRow) -> Result<SlackPage, BrokerError> {
        let Ok(id) = row.request.parse::<RequestId>() else { return Ok(SlackPage::Nothing(None)) };
        let approval = row.id.rsplit(':').next().unwrap_or_default();
        let approvals = self.store.approvals(id).await?;
        let Some(found) = approvals.iter().find(|a| a.id.to_string() == approval) else {
            return Ok(SlackPage::Nothing(None));
        };
        let view = self.render_approval(found).await;
        Ok(match self.request_page(&row.request).await? {
            Some(page) => SlackPage::Decision(Box::new(page), view),
            None => SlackPage::Nothing(None),
        })
    }

    async fn linked_page(&self, row: &MessageRow) -> Result<SlackPage, BrokerError> {
        let Ok(id) = row.identity.parse() else { return Ok(SlackPage::Nothing(None)) };
        let who = self.store.subject(id, self.now()).await?;
        Ok(who.map_or(SlackPage::Nothing(None), |s| SlackPage::Linked(s.identity.name)))
    }

    async fn ending_page(&self, row: &MessageRow, posted: bool) -> Result<SlackPage, BrokerError> {
        let Ok(id) = row.grant.parse::<GrantId>() else { return Ok(SlackPage::Nothing(None)) };
        let Some(grant) = self.store.grant(id).await? else { return Ok(SlackPage::Nothing(None)) };
        if !posted {
            let of_this_end = grant.not_after.is_some_and(|end| row.id.ends_with(&format!(":{}", end.seconds())));
            if grant.state != GrantState::Active || !of_this_end {
                return Ok(SlackPage::Nothing(None));
            }
            let told = grant.not_after.map(|end| end.minus_std(super::wanted::BEFORE_END));
            if told.is_some_and(|at| at > self.now()) {
                return Ok(SlackPage::Nothing(told));
            }
        }
        let room = self.room_of(&grant);
        Ok(SlackPage::Ending(Box::new(self.render_grant(&grant).await), room))
    }

    async fn ended_page(&self, row: &MessageRow) -> Result<SlackPage, BrokerError> {
        let Ok(id) = row.grant.parse::<GrantId>() else { return Ok(SlackPage::Nothing(None)) };
        let Some(grant) = self.store.grant(id).await? else { return Ok(SlackPage::Nothing(None)) };
        let timeline = self.timeline(AuditFilter { grant: Some(id), ..AuditFilter::default() }).await?;
        let by = timeline.into_iter().rev().find(|e| e.action == "grant.revoking").and_then(|e| e.actor);
        Ok(SlackPage::Ended(Box::new(self.render_grant(&grant).await), by))
    }

    async fn home_page(&self, row: &MessageRow) -> Result<SlackPage, BrokerError> {
        let Ok(id) = row.identity.parse() else { return Ok(SlackPage::Nothing(None)) };
        let accounts = self.store.slack_accounts(id).await?;
        if !accounts.iter().any(|a| row.channel.as_ref() == Some(&a.user)) {
            return Ok(SlackPage::Nothing(None));
        }
        let subject = self.store.subject(id, self.now()).await?;
        let Ok(ctx) = self.context(subject, None, None, super::VIA) else { return Ok(SlackPage::Nothing(None)) };
        let pending = |role| RequestQuery {
            state: Some(RequestState::Pending),
            role: Some(role),
            page: Paging { after: None, limit: Some(10) },
        };
        let mut waiting = self.urgent(&ctx, Paging { after: None, limit: Some(10) }).await?.items;
        waiting.retain(|r| r.can_decide == Some(true));
        Ok(SlackPage::Home(Box::new(HomePage {
            name: ctx.actor.identity.name.clone(),
            grants: self.me(&ctx).await?.grants,
            waiting,
            pending: self.requests(&ctx, pending(Role::Requester)).await?.items,
            now: ctx.now,
        })))
    }
}
