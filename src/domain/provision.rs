//! Who makes somebody's account in an application: the sync as soon as they belong there, or the application itself when
//! they sign in for the first time. A table of rules decides, and every answer says which of them did.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::identity::{IdentityKind, Origin, Subject};

/// Who makes an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    /// The sync, as soon as its holder belongs there.
    #[default]
    Sync,
    /// The first sign-in: until then there is none.
    Login,
    /// Nobody: what is there is kept as it should be, and closed with its holder.
    Nobody,
}

/// Which of them, for whom.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Provision {
    /// The same for everybody.
    Everybody(MadeBy),
    /// The first rule that fits; the sync if none does.
    Rules(Vec<ProvisionRule>),
}

impl Default for Provision {
    fn default() -> Self {
        Self::Everybody(MadeBy::Sync)
    }
}

/// One line of the table. Everything that is given must hold; nothing given is everybody.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProvisionRule {
    /// Who makes their account.
    pub by: MadeBy,
    /// Why, for people.
    pub reason: Option<String>,
    /// Kinds of identity.
    pub kinds: BTreeSet<IdentityKind>,
    /// How they came to be.
    pub origins: Vec<Origin>,
    /// In one of these standing groups.
    pub groups: BTreeSet<String>,
    /// With one of these values in each of these attributes.
    pub attributes: BTreeMap<String, BTreeSet<String>>,
}

impl ProvisionRule {
    fn fits(&self, subject: &Subject, standing: &BTreeSet<String>) -> bool {
        let identity = &subject.identity;
        (self.kinds.is_empty() || self.kinds.contains(&identity.kind))
            && (self.origins.is_empty() || self.origins.contains(&identity.origin))
            && (self.groups.is_empty() || self.groups.iter().any(|g| standing.contains(&g.to_lowercase())))
            && self
                .attributes
                .iter()
                .all(|(name, values)| identity.attributes.get(name).is_some_and(|v| values.contains(v)))
    }
}

impl Provision {
    /// Who makes somebody's account. `standing` are the standing groups, in lower case.
    pub fn made_by(&self, subject: &Subject, standing: &BTreeSet<String>) -> MadeBy {
        self.decide(subject, standing).0
    }

    /// The same, and why.
    pub fn decide(&self, subject: &Subject, standing: &BTreeSet<String>) -> (MadeBy, String) {
        match self {
            Self::Everybody(by) => (*by, "it is the same for everybody in this application".to_owned()),
            Self::Rules(rules) => {
                let found = rules.iter().enumerate().find(|(_, rule)| rule.fits(subject, standing));
                match found {
                    Some((at, rule)) => {
                        let reason = rule.reason.as_ref().map_or_else(String::new, |r| format!(": {r}"));
                        (rule.by, format!("rule {} is the first that fits{reason}", at + 1))
                    }
                    None => (MadeBy::Sync, "no rule fits, so the sync makes it".to_owned()),
                }
            }
        }
    }

    /// Does a first sign-in matter to anybody?
    pub fn waits_for_logins(&self) -> bool {
        match self {
            Self::Everybody(by) => *by == MadeBy::Login,
            Self::Rules(rules) => rules.iter().any(|r| r.by == MadeBy::Login),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{id::IdentityId, identity::Identity};

    #[derive(Deserialize)]
    struct Application {
        provision: Provision,
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_says_so() {
        let read = |text: &str| toml::from_str::<Application>(text).unwrap().provision;
        let mut who = Subject {
            identity: Identity::new(IdentityId::new(ulid::Ulid::from(1)), IdentityKind::Person, "kim"),
            groups: BTreeSet::new(),
        };
        who.identity.attributes.insert("employment".to_owned(), "guest".to_owned());
        let standing = BTreeSet::from(["staff".to_owned()]);
        let decide = |provision: &Provision, who: &Subject| provision.decide(who, &standing);
        assert_eq!(decide(&read("provision = \"login\""), &who).0, MadeBy::Login);
        let table = read(
            "[[provision]]\nby = \"nobody\"\norigins = [\"feed\"]\n[[provision]]\nby = \"login\"\nreason = \"guests come late\"\n\
             attributes = { employment = [\"guest\"] }\n[[provision]]\nby = \"nobody\"\ngroups = [\"Staff\"]\n",
        );
        assert!(table.waits_for_logins());
        let (by, why) = decide(&table, &who);
        assert_eq!(by, MadeBy::Login);
        assert!(why.contains("rule 2") && why.contains("guests come late"), "{why}");
        who.identity.attributes.clear();
        assert_eq!(decide(&table, &who).0, MadeBy::Nobody);
        assert_eq!(table.decide(&who, &BTreeSet::new()).0, MadeBy::Sync);
    }
}
