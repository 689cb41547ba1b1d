//! Why somebody has, or has not, an account in an application.

use super::{
    super::{Broker, BrokerError, Ctx},
    runs::only_onlookers,
    view::ExplainView,
    wanted::wanted,
};
use crate::domain::provision::MadeBy;

impl Broker {
    /// Why somebody has, or has not, an account in an application: for administrators and auditors.
    pub async fn explain_account(&self, ctx: &Ctx, application: &str, who: &str) -> Result<ExplainView, BrokerError> {
        only_onlookers(ctx)?;
        let app = self.downstream(application)?;
        let subject = self.find_subject(who, ctx.now).await?.ok_or(BrokerError::NotFound("identity"))?;
        let id = subject.identity.id;
        let facts = self.store.facts(id, ctx.now).await?.ok_or(BrokerError::NotFound("identity"))?;
        let row = self.store.account(&app.config.id, &id.to_string()).await?;
        let identity = &facts.subject.identity;
        let belongs = app.config.scope.holds(&facts.subject, &facts.standing);
        let (by, rule) = app.config.provision.decide(&facts.subject, &facts.standing);
        let should_be = wanted(&app.config, &facts, row.as_ref(), false, ctx.now).verb();
        let mut reasons = vec![if belongs {
            "belongs into this application: everything in its `scope` holds".to_owned()
        } else {
            "does not belong into this application: something in its `scope` does not hold".to_owned()
        }];
        if !identity.active {
            reasons.push("is deactivated, so an account is closed and read back".to_owned());
        }
        reasons.push(format!("made by {}: {rule}", name(by)));
        if belongs && identity.active {
            match (should_be, facts.seen) {
                ("present", _) => reasons.push("an account is to be there and as the mapping says".to_owned()),
                (_, false) => reasons.push("has not signed in yet, so no account is made".to_owned()),
                (_, true) => reasons.push("no account is made; one that is found is kept as it should be".to_owned()),
            }
        }
        Ok(ExplainView {
            application: app.config.id.to_string(),
            kind: app.config.kind.clone(),
            identity: id.to_string(),
            name: identity.name.clone(),
            belongs,
            made_by: by,
            rule,
            signed_in: facts.seen,
            should_be: should_be.to_owned(),
            state: row.as_ref().map(|r| r.state),
            error: row.and_then(|r| r.last_error),
            reasons,
        })
    }
}

const fn name(by: MadeBy) -> &'static str {
    match by {
        MadeBy::Sync => "the sync",
        MadeBy::Login => "the first sign-in",
        MadeBy::Nobody => "nobody",
    }
}
