//! Obligations: what a permit asks for in return, written as annotations. Over several permits the strictest wins;
//! what is not understood is never ignored.

use std::collections::BTreeSet;

use cedar_policy::Effect;

use super::action::Action;
use crate::domain::time::Ttl;

/// Most approvals that a permit can ask for.
const MAX_APPROVALS: u8 = 20;

/// A fact that a requester must provide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Required {
    /// A reason of substance.
    Reason,
    /// A ticket reference.
    Ticket,
}

/// What satisfied permits ask for, together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obligations {
    /// `@approvals`: how many people.
    pub approvals: Option<u8>,
    /// `@max_ttl`: how long at most.
    pub max_ttl: Option<Ttl>,
    /// `@require`: what must be provided.
    pub require: BTreeSet<Required>,
    /// `@step_up`: whoever asks has shown who they are within this time.
    pub step_up: Option<Ttl>,
    /// Annotations that were not understood; any of them denies.
    pub unknown: Vec<Unknown>,
}

/// An annotation that cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The annotation's name.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Obligations {
    /// From the annotations of a policy that is about `actions`.
    pub fn read<'a>(
        effect: Effect,
        actions: &BTreeSet<Action>,
        annotations: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut all = Self::default();
        for (key, value) in annotations {
            match key {
                "id" | "reason" => {}
                "approvals" | "max_ttl" | "require" | "step_up" => all.read_one(effect, actions, key, value),
                _ => all.refuse(
                    key,
                    format!("`@{key}` is not an obligation, and one that is not understood would deny everything"),
                    "use @id, @reason, @approvals, @max_ttl, @require, @step_up, or write a comment",
                ),
            }
        }
        all
    }

    /// Both: the strictest of each.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        self.approvals = self.approvals.max(other.approvals);
        self.max_ttl = shorter(self.max_ttl, other.max_ttl);
        self.step_up = shorter(self.step_up, other.step_up);
        self.require.extend(&other.require);
        self.unknown.extend(other.unknown.iter().cloned());
        self
    }

    fn read_one(&mut self, effect: Effect, actions: &BTreeSet<Action>, key: &str, value: &str) {
        let allowed: &[Action] = match key {
            "approvals" => &[Action::Request],
            _ => &[Action::Request, Action::AutoApprove],
        };
        if effect == Effect::Forbid {
            self.refuse(key, format!("`@{key}` on a forbid has no meaning"), "put it on the permit that it restricts");
        } else if !actions.iter().any(|a| allowed.contains(a)) {
            let allowed: Vec<_> = allowed.iter().map(|a| a.as_str()).collect();
            self.refuse(
                key,
                format!("`@{key}` would have no effect here"),
                format!("put it on a permit of {}", allowed.join(" or ")),
            );
        }
        match key {
            "approvals" => match value.trim().parse::<u8>() {
                Ok(n) if (1..=MAX_APPROVALS).contains(&n) => self.approvals = Some(n),
                _ => self.refuse(
                    key,
                    "this is not a number of approvals".to_owned(),
                    format!("write @approvals(\"1\") to @approvals(\"{MAX_APPROVALS}\")"),
                ),
            },
            "max_ttl" | "step_up" => match value.parse::<Ttl>() {
                Ok(ttl) if key == "max_ttl" => self.max_ttl = Some(ttl),
                Ok(ttl) => self.step_up = Some(ttl),
                Err(e) => self.refuse(key, e.to_string(), format!("write it like @{key}(\"1h30m\")")),
            },
            _ => {
                for item in value.split(',').map(str::trim) {
                    match item {
                        "reason" => drop(self.require.insert(Required::Reason)),
                        "ticket" => drop(self.require.insert(Required::Ticket)),
                        _ => self.refuse(
                            key,
                            format!("`{item}` cannot be required"),
                            "write @require(\"reason\"), @require(\"ticket\") or @require(\"reason, ticket\")",
                        ),
                    }
                }
            }
        }
    }

    fn refuse(&mut self, key: &str, message: String, help: impl Into<String>) {
        self.unknown.push(Unknown { key: key.to_owned(), message, help: help.into() });
    }
}

fn shorter(one: Option<Ttl>, other: Option<Ttl>) -> Option<Ttl> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> Obligations {
        Obligations::read(Effect::Permit, &BTreeSet::from([Action::Request]), annotations.iter().copied())
    }

    #[test]
    fn the_strictest_of_each_wins() {
        let a = read(&[("approvals", "1"), ("max_ttl", "2h"), ("require", "reason"), ("step_up", "15m")]);
        let b = read(&[("approvals", "3"), ("max_ttl", "30m"), ("require", "ticket"), ("step_up", "5m")]);
        for both in [a.clone().and(&b), b.and(&a)] {
            assert_eq!(both.approvals, Some(3));
            assert_eq!(both.max_ttl.map(Ttl::seconds), Some(1800));
            assert_eq!(both.step_up.map(Ttl::seconds), Some(300));
            assert_eq!(both.require, BTreeSet::from([Required::Reason, Required::Ticket]));
            assert!(both.unknown.is_empty());
        }
    }

    #[test]
    fn what_is_not_understood_is_kept_to_be_refused() {
        for (key, value) in [
            ("approval", "2"),
            ("approvals", "0"),
            ("approvals", "21"),
            ("approvals", "two"),
            ("max_ttl", "soon"),
            ("max_ttl", "0"),
            ("step_up", "often"),
            ("require", ""),
            ("require", "reason, blood"),
        ] {
            let unknown = read(&[(key, value)]).unknown;
            assert_eq!(unknown.len(), 1, "{key} {value}");
            assert!(!unknown[0].help.is_empty());
        }
        let forbid = Obligations::read(
            Effect::Forbid,
            &BTreeSet::from([Action::Request]),
            [("approvals", "2"), ("reason", "no")].into_iter(),
        );
        assert_eq!(forbid.unknown.len(), 1);
        let auto = |key| {
            Obligations::read(Effect::Permit, &BTreeSet::from([Action::AutoApprove]), [(key, "2")].into_iter()).unknown
        };
        assert_eq!(auto("approvals").len(), 1);
        assert!(auto("max_ttl").is_empty());
    }
}
