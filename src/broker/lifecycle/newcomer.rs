//! Accounts that are made at a first login, and what happens when a source speaks of somebody who is known already:
//! taken over by rule, or left to people. Nothing is merged silently.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::{Broker, BrokerError, Ctx, lock::only_admins, record::Cause};
use crate::{
    domain::{
        decision::Reason,
        id::{CorrelationId, IdentityId, SourceId},
        identity::{Identity, IdentityKind, Origin, Subject, is_reserved},
        jit::{AdoptBy, FirstLogin, JitRule},
        time::Timestamp,
    },
    store::{Collision, StoreError, Tx},
};

/// What a source's new person comes to.
#[derive(Debug, Clone)]
pub(crate) enum Adoptee {
    /// Nobody like that is known: make them, with [`Broker::record_joiner`].
    Nobody,
    /// They are known, and become the source's: [`Broker::record_change`] from this to the same with the source's facts.
    /// By which rule is the second part.
    Known(Box<Identity>, &'static str),
    /// They may be somebody who is known, and no rule says so: answer with a conflict, take the change back, and call
    /// [`Broker::record_collision`].
    Collides(Collision),
}

impl Broker {
    /// Somebody whom an identity provider vouches for signs in for the first time: an account, if a rule has one for
    /// them. Who has one already is answered with it.
    pub async fn first_login(&self, login: &FirstLogin, via: &'static str) -> Result<Subject, BrokerError> {
        self.may_change()?;
        let now = self.now();
        if let Some(known) = self.store.identity_of_login(&login.issuer, &login.subject, now).await? {
            return if known.identity.active { Ok(known) } else { Err(BrokerError::Unauthenticated) };
        }
        let Some(rule) = self.settings.jit.iter().find(|rule| rule.fits(login)) else {
            return Err(no_account(
                "nobody has an account made at a first login here unless a rule says so: ask an administrator to \
                 have you provisioned",
            ));
        };
        let mut new = self.newcomer(login, rule)?;
        if let Some(name) = &rule.sponsor {
            let sponsor = self.store.subject_by_name(name, now).await?.map(|s| s.identity);
            let sponsor = sponsor.filter(|i| i.active && i.kind == IdentityKind::Person);
            let missing = "whoever would answer for you is not here any more: ask an administrator";
            new.owner = Some(sponsor.ok_or_else(|| no_account(missing))?.id);
        }
        let cause = Cause { via, ..Cause::worker(CorrelationId::new(self.entropy.ulid(now)?), now) };
        let mut committed = self.committed();
        let mut groups = Vec::new();
        for name in &rule.groups {
            // Rules give the least; who administers is never decided by a claim.
            if is_reserved(name) {
                continue;
            }
            groups.extend(self.store.group(name).await?);
        }
        let made = loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let known = tx.namesakes(&new.name, new.email.as_deref(), None, now).await?;
                if !known.is_empty() {
                    return Err(no_account(
                        "somebody of that name or e-mail is known already, and not by this sign-in: ask an \
                         administrator to link them",
                    ));
                }
                let details = json!({
                    "issuer": login.issuer, "answer_by": new.answer_by, "ends": new.contract_end, "sponsor": new.owner,
                });
                self.record_joiner(&mut tx, &cause, &new, details).await?;
                tx.insert_login(&login.issuer, &login.subject, new.id, login.verified_email(), now).await?;
                for group in &groups {
                    self.record_member(&mut tx, &cause, group, new.id, true).await?;
                }
                Ok(())
            }
            .await;
            if let Some(result) = tx.end(written).await {
                break result;
            }
        };
        // The same person, twice at once: the other one may have made it, or be about to commit it.
        let patience = self.in_time(async {
            loop {
                let known = self.store.identity_of_login(&login.issuer, &login.subject, now).await?;
                if known.is_some() || made.is_ok() || committed.changed().await.is_err() {
                    return Ok::<_, BrokerError>(known);
                }
            }
        });
        match patience.await {
            Some(Ok(Some(known))) => Ok(known),
            Some(Err(error)) => Err(error),
            _ => Err(made.err().unwrap_or(BrokerError::Unauthenticated)),
        }
    }

    /// What comes of it within a second: the time that a change of somebody else's takes at most to be seen.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(std::time::Duration::from_secs(1), work).await.ok()
    }

    fn newcomer(&self, login: &FirstLogin, rule: &JitRule) -> Result<Identity, BrokerError> {
        let now = self.now();
        let short = |text: &str| !text.trim().is_empty() && text.len() <= 320 && !text.chars().any(char::is_control);
        let host = login.issuer.split("://").last().unwrap_or_default().split('/').next().unwrap_or_default();
        let given = login.verified_email().or(login.name.as_deref()).map(str::to_owned);
        let name = given.filter(|n| short(n)).unwrap_or_else(|| format!("{}@{host}", login.subject));
        if !short(&name) || !short(&login.subject) {
            return Err(BrokerError::invalid("name", "the identity provider gave no usable name"));
        }
        let display_name = login.display_name.clone().filter(|n| short(n)).unwrap_or_else(|| name.clone());
        let attributes = [("employment", rule.employment.clone()), ("issuer", login.issuer.clone())];
        Ok(Identity {
            display_name,
            email: login.verified_email().map(str::to_owned),
            contract_end: rule.ends_after.map(|ttl| now.plus(ttl)),
            answer_by: (!rule.never_adopted).then(|| now.plus(rule.grace)),
            origin: Origin::Jit,
            attributes: attributes.map(|(k, v)| (k.to_owned(), v)).into_iter().collect::<BTreeMap<_, _>>(),
            ..Identity::new(IdentityId::new(self.entropy.ulid(now)?), IdentityKind::Person, name)
        })
    }

    /// A source makes somebody: are they known already? Call this before making them, in the same change. `new` has the
    /// source's facts; whoever is adopted keeps their id.
    pub(crate) async fn adoptee(
        &self,
        tx: &mut Tx,
        source: SourceId,
        new: &Identity,
        now: Timestamp,
    ) -> Result<Adoptee, BrokerError> {
        let known = tx.namesakes(&new.name, new.email.as_deref(), new.external_id.as_deref(), now).await?;
        self.adoptee_among(tx, source, new, known).await
    }

    /// The same among those who have its name, its e-mail or its id at an identity provider.
    pub(crate) async fn adoptee_among(
        &self,
        tx: &mut Tx,
        source: SourceId,
        new: &Identity,
        known: Vec<Subject>,
    ) -> Result<Adoptee, BrokerError> {
        let mut collides = None;
        for Subject { identity: before, .. } in known {
            if before.source == Some(source) {
                if tx.take_resolution(source, before.id).await? {
                    return Ok(Adoptee::Known(Box::new(before), "an administrator's decision"));
                }
                // Its own: whether two of its people may share a name or an e-mail is for uniqueness to say.
                continue;
            }
            if let Some(by) = self.may_adopt(tx, source, &before, new).await? {
                return Ok(Adoptee::Known(Box::new(before), by));
            }
            if let Some(matched) = matched(&before, new) {
                collides = collides.or(Some((before.id, matched)));
            }
        }
        let Some((identity, matched)) = collides else { return Ok(Adoptee::Nobody) };
        Ok(Adoptee::Collides(collision(source, identity, new, matched)))
    }

    /// A source changes somebody who came by a first login and is nobody's: are they its own by rule, with what it says
    /// of them?
    pub(crate) async fn adoptee_known(
        &self,
        tx: &mut Tx,
        source: SourceId,
        before: &Identity,
        said: &Identity,
    ) -> Result<Adoptee, BrokerError> {
        Ok(match self.may_adopt(tx, source, before, said).await? {
            Some(by) => Adoptee::Known(Box::new(before.clone()), by),
            None => Adoptee::Collides(collision(source, before.id, said, matched(before, said).unwrap_or("id"))),
        })
    }

    /// By which rule, if any. Whoever administers or audits only goes to a source that may fill those groups.
    async fn may_adopt(
        &self,
        tx: &mut Tx,
        source: SourceId,
        before: &Identity,
        new: &Identity,
    ) -> Result<Option<&'static str>, BrokerError> {
        if before.origin != Origin::Jit || before.source.is_some() {
            return Ok(None);
        }
        let reserved = tx.standing_groups(before.id).await?.iter().any(|g| is_reserved(&g.name));
        if reserved && !tx.source_rights(source).await?.administers {
            return Ok(None);
        }
        let Some((issuer, subject, verified)) = tx.login_of(before.id).await? else { return Ok(None) };
        let Some(rule) = self.settings.jit.iter().find(|r| r.issuer == issuer && !r.never_adopted) else {
            return Ok(None);
        };
        if rule.adopt_by.contains(&AdoptBy::ExternalId) && new.external_id.as_deref() == Some(subject.as_str()) {
            return Ok(Some("external_id"));
        }
        let same = verified.is_some() && verified == new.email.as_ref().map(|e| e.to_lowercase());
        Ok((same && rule.adopt_by.contains(&AdoptBy::VerifiedEmail)).then_some("verified_email"))
    }

    /// Keep a collision until somebody decides, after its change was taken back.
    pub(crate) async fn record_collision(&self, cause: &Cause, collision: &Collision) -> Result<(), BrokerError> {
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                if tx.insert_collision(collision, cause.now).await? {
                    let details = json!({
                        "source": collision.source, "matched": collision.matched,
                        "next": "tidegate review collisions",
                    });
                    let mut event = self.event(cause, "source.collision", details)?;
                    event.subject = Some(collision.identity);
                    self.note(&mut tx, event)?;
                }
                Ok::<_, BrokerError>(())
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    /// They are one and the same: the identity is the source's from now on, which takes it over when it speaks of it
    /// again. For administrators.
    pub async fn resolve_collision(&self, ctx: &Ctx, source: &str, identity: IdentityId) -> Result<(), BrokerError> {
        self.may_change()?;
        only_admins(ctx)?;
        self.not_locked(ctx).await?;
        let source = self.find_source(source).await?;
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let found = tx.identity(identity, ctx.now).await?.ok_or(BrokerError::NotFound("identity"))?;
                tx.resolve_collision(source.id, identity, ctx.now).await?;
                let before = found.identity;
                let after = Identity { source: Some(source.id), external_id: None, ..before.clone() };
                let details = json!({"why": "an administrator says that they are one and the same"});
                self.record_change(&mut tx, &cause, &before, &after, details).await?;
                Ok(())
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Err(BrokerError::NotFound("collision")),
                Some(result) => return result,
            }
        }
    }
}

fn collision(source: SourceId, identity: IdentityId, new: &Identity, matched: &str) -> Collision {
    Collision {
        source,
        identity,
        name: new.name.clone(),
        external_id: new.external_id.clone(),
        matched: matched.to_owned(),
    }
}

fn matched(known: &Identity, new: &Identity) -> Option<&'static str> {
    if known.name.to_lowercase() == new.name.to_lowercase() {
        return Some("name");
    }
    let key = |i: &Identity| i.email.as_ref().map(|e| e.to_lowercase());
    (key(known).is_some() && key(known) == key(new)).then_some("email")
}

fn no_account(text: &str) -> BrokerError {
    let reason = Reason {
        action: "FirstLogin".to_owned(),
        policy: "jit".to_owned(),
        effect: "forbid".to_owned(),
        text: text.to_owned(),
    };
    BrokerError::Denied { reasons: vec![reason], conditions: Vec::new() }
}
