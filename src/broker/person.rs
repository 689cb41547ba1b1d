//! What is told of an identity beside what the directory says of it: where it comes from, what it is in for good and for a
//! while, what it asked for, and what it lost when it left.

use super::{Broker, BrokerError, Ctx, view::SheetView};
use crate::{
    domain::grant::EndReason,
    store::{GrantFilter, RequestFilter},
};

/// Requests that are listed.
const ASKED: u32 = 20;
/// Ended grants that are looked through for what was lost.
const ENDED: u32 = 100;

impl Broker {
    /// One identity, by id, unique name, or `me`: for whoever may see it.
    pub async fn sheet(&self, ctx: &Ctx, key: &str) -> Result<SheetView, BrokerError> {
        let subject = self.visible_identity(ctx, key).await?;
        let i = &subject.identity;
        let source = match i.source {
            Some(id) => self.store.sources().await?.into_iter().find(|(s, _)| s.id == id).map(|(s, _)| s.name),
            None => None,
        };
        let (mut standing, mut temporary) = (Vec::new(), Vec::new());
        for (group, grant, until) in self.store.memberships_of(i.id, ctx.now).await? {
            match grant {
                Some(grant) => temporary.push((group, grant.to_string(), until.map(|t| t.to_string()))),
                None => standing.push(group),
            }
        }
        let filter = RequestFilter { party: Some(i.id), ..RequestFilter::default() };
        let mut asked = Vec::new();
        for request in &self.store.requests(&filter, None, ASKED).await?.items {
            asked.push(self.render_request(request, Vec::new(), &[]).await?);
        }
        let mut lost = Vec::new();
        if !i.active {
            let over = GrantFilter { holder: Some(i.id), over: true, ..GrantFilter::default() };
            let ended = self.store.grants(&over, None, ENDED).await?.items;
            for grant in ended.iter().filter(|g| g.end_reason == Some(EndReason::Offboarded)) {
                lost.push(self.render_grant(grant).await);
            }
        }
        Ok(SheetView { source, external_id: i.external_id.clone(), standing, temporary, asked, lost })
    }
}
