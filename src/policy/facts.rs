//! Facts as Cedar wants them: identities, entitlements and targets as entities, the ask as context. Everything is
//! clamped here, for Cedar skips a `forbid` whose evaluation errors. Shapes are those of `schema.cedarschema`.

use std::str::FromStr;

use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression as Expr};

use super::{
    action::Action,
    declared::{Declared, expression},
};
use crate::domain::{
    capability::Description,
    catalog::Entitlement,
    decision::Inputs,
    identity::Subject,
    time::{Timestamp, Ttl},
};

/// The last second of the year 9999: any later instant is as good as this one, and sums cannot overflow.
const LAST_SECOND: i64 = 253_402_300_799;
const DAY: i64 = 86_400;
const MAX_TTL: Ttl = Ttl::seconds_or_one(366 * 86_400);
const MAX_TICKET: usize = 100;
const MAX_TEXT: usize = 1_000;
const MAX_TAGS: usize = 200;

/// Why a fact could not be put to Cedar. Any of these denies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the facts could not be put to policy: {0}")]
pub struct FactError(String);

impl FactError {
    pub(super) fn of(e: &impl std::fmt::Display) -> Self {
        Self(e.to_string())
    }
}

/// Names of the schema, parsed once.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    identity: EntityTypeName,
    group: EntityTypeName,
    target: EntityTypeName,
    entitlement: EntityTypeName,
    actions: [EntityUid; 4],
    declared: Declared,
}

impl Vocabulary {
    /// The schema's names, with the attributes of identities beyond our own.
    pub fn new(declared: Declared) -> Result<Self, FactError> {
        let name = |s: &str| EntityTypeName::from_str(&format!("Tidegate::{s}")).map_err(|e| FactError::of(&e));
        let action_type = name("Action")?;
        let action = |a: Action| EntityUid::from_type_name_and_id(action_type.clone(), EntityId::new(a.as_str()));
        Ok(Self {
            identity: name("Identity")?,
            group: name("Group")?,
            target: name("Target")?,
            entitlement: name("Entitlement")?,
            actions: Action::ALL.map(action),
            declared,
        })
    }

    /// The action's name.
    pub fn action(&self, action: Action) -> EntityUid {
        let [request, auto, approve, mint] = &self.actions;
        match action {
            Action::Request => request,
            Action::AutoApprove => auto,
            Action::Approve => approve,
            Action::Mint => mint,
        }
        .clone()
    }

    /// The subject's name.
    pub fn subject(&self, subject: &Subject) -> EntityUid {
        uid(&self.identity, &subject.identity.id.to_string())
    }

    /// The entitlement's name.
    pub fn entitlement(&self, id: &str) -> EntityUid {
        uid(&self.entitlement, id)
    }

    /// The target's name.
    pub fn target(&self, id: &str) -> EntityUid {
        uid(&self.target, id)
    }

    fn group(&self, name: &str) -> EntityUid {
        uid(&self.group, &name.to_lowercase())
    }

    /// An identity in its groups, with its attributes as tags.
    pub fn subject_entity(&self, subject: &Subject) -> Result<Entity, FactError> {
        let identity = &subject.identity;
        let mut attributes = vec![
            ("id".to_owned(), text(&identity.id.to_string())),
            ("name".to_owned(), text(&identity.name)),
            ("kind".to_owned(), text(identity.kind.as_str())),
            ("non_human".to_owned(), Expr::new_bool(identity.kind.is_non_human())),
            ("active".to_owned(), Expr::new_bool(identity.active)),
            ("orphaned".to_owned(), Expr::new_bool(identity.orphaned_at.is_some())),
        ];
        if let Some(owner) = identity.owner {
            attributes.push(("owner".to_owned(), text(&owner.to_string())));
        }
        if let Some(end) = identity.contract_end {
            attributes.push(("contract_end".to_owned(), Expr::new_long(seconds(end))));
        }
        for (name, kind) in &self.declared {
            if let Some(value) = identity.attributes.get(name) {
                attributes.push((name.clone(), expression(name, *kind, value)?));
            }
        }
        let groups = subject.groups.iter().map(|g| self.group(g));
        let tags = identity.attributes.iter().take(MAX_TAGS).map(|(k, v)| (k.clone(), text(v)));
        Entity::new_with_tags(self.subject(subject), attributes, groups, tags).map_err(|e| FactError::of(&e))
    }

    /// An entitlement on its target, with its labels as tags.
    pub fn entitlement_entity(&self, entitlement: &Entitlement) -> Result<Entity, FactError> {
        let target = self.target(&entitlement.target);
        let approvers = entitlement.approvers.iter().map(|g| Expr::new_entity_uid(self.group(g)));
        let long = |ttl: Ttl| Expr::new_long(i64::from(ttl.seconds()));
        let attributes = [
            ("id".to_owned(), text(&entitlement.id)),
            ("target".to_owned(), Expr::new_entity_uid(target.clone())),
            ("sensitivity".to_owned(), Expr::new_long(i64::from(entitlement.sensitivity))),
            ("default_ttl".to_owned(), long(entitlement.default_ttl)),
            ("max_ttl".to_owned(), long(entitlement.max_ttl)),
            ("approvers".to_owned(), Expr::new_set(approvers)),
        ];
        let tags = entitlement.labels.iter().take(MAX_TAGS).map(|(k, v)| (k.clone(), text(v)));
        Entity::new_with_tags(self.entitlement(&entitlement.id), attributes, [target], tags)
            .map_err(|e| FactError::of(&e))
    }

    /// A target as its connector describes it.
    pub fn target_entity(&self, id: &str, description: &Description) -> Result<Entity, FactError> {
        let attributes = [
            ("id".to_owned(), text(id)),
            ("kind".to_owned(), text(&description.kind)),
            ("native_expiry".to_owned(), Expr::new_bool(description.native_expiry)),
            ("revocation_class".to_owned(), text(description.revocation_class.as_str())),
        ];
        Entity::new_with_tags(self.target(id), attributes, [], []).map_err(|e| FactError::of(&e))
    }

    /// The ask, clamped; with `subject` for `Approve`.
    pub fn context(&self, inputs: &Inputs, subject: Option<&Subject>) -> Result<Context, FactError> {
        let now = seconds(inputs.now);
        let start = seconds(inputs.start_at).max(now);
        let ticket = ticket(inputs);
        let mut pairs = vec![
            ("ttl".to_owned(), Expr::new_long(i64::from(inputs.ttl.min(MAX_TTL).seconds()))),
            ("now".to_owned(), Expr::new_long(now)),
            ("start_at".to_owned(), Expr::new_long(start)),
            ("hour".to_owned(), Expr::new_long(start.rem_euclid(DAY) / 3_600)),
            // 1970-01-01 was a Thursday, the fourth day.
            ("weekday".to_owned(), Expr::new_long((start.div_euclid(DAY) + 3).rem_euclid(7) + 1)),
            ("has_reason".to_owned(), Expr::new_bool(inputs.has_reason)),
            ("has_ticket".to_owned(), Expr::new_bool(ticket.is_some())),
            ("emergency".to_owned(), Expr::new_bool(inputs.emergency)),
            ("on_behalf".to_owned(), Expr::new_bool(inputs.on_behalf)),
            ("live_grants".to_owned(), Expr::new_long(i64::from(inputs.live_grants))),
        ];
        if let Some(ticket) = ticket {
            pairs.push(("ticket".to_owned(), Expr::new_string(ticket)));
        }
        if let Some(subject) = subject {
            pairs.push(("subject".to_owned(), Expr::new_entity_uid(self.subject(subject))));
        }
        Context::from_pairs(pairs).map_err(|e| FactError::of(&e))
    }
}

/// The ticket without control characters, at most 100 characters; `None` if nothing is left.
pub(super) fn ticket(inputs: &Inputs) -> Option<String> {
    let clean: String = inputs.ticket.as_deref()?.chars().filter(|c| !c.is_control()).take(MAX_TICKET).collect();
    let clean = clean.trim();
    (!clean.is_empty()).then(|| clean.to_owned())
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(s: &str) -> Expr {
    Expr::new_string(s.chars().take(MAX_TEXT).collect())
}

fn seconds(at: Timestamp) -> i64 {
    at.seconds().clamp(0, LAST_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_weekdays_are_of_the_start() {
        let at: Timestamp = "2026-01-07T12:59:59Z".parse().unwrap();
        let inputs = Inputs {
            ttl: Ttl::seconds_or_one(60),
            now: Timestamp::from_seconds(0),
            start_at: at,
            has_reason: false,
            ticket: Some(" \u{7} ".to_owned()),
            emergency: false,
            on_behalf: false,
            live_grants: 0,
        };
        let context = Vocabulary::new(Declared::new()).unwrap().context(&inputs, None).unwrap();
        let long = |key: &str| context.get(key).map(|v| v.to_string());
        assert_eq!(long("hour").as_deref(), Some("12"));
        assert_eq!(long("weekday").as_deref(), Some("3"));
        assert_eq!(long("has_ticket").as_deref(), Some("false"));
        assert!(context.get("ticket").is_none());
    }
}
