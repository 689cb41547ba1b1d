//! Accounts in applications: what one should be, what it is, and how far apart the two are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    identity::{IdentityKind, Subject},
    provision::Provision,
    time::Ttl,
};

/// Name of an application in configuration.
pub type ApplicationId = std::sync::Arc<str>;

/// The kind of application that people keep by hand, from tasks.
pub const MANUAL: &str = "manual";

/// An application as configuration knows it. Its `settings` belong to the adapter and may name secret files, never
/// secrets.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationConfig {
    /// Its name.
    pub id: ApplicationId,
    /// How it is spoken to: `scim`, `mdm` for device managers, or `manual` for people who do it by hand.
    pub kind: String,
    /// Calls in flight at once.
    #[serde(default = "ApplicationConfig::default_concurrency")]
    pub concurrency: u32,
    /// Seconds after which one call is given up.
    #[serde(default = "ApplicationConfig::default_timeout")]
    pub timeout_seconds: u32,
    /// Who has an account there.
    #[serde(default)]
    pub scope: Scope,
    /// Who makes an account: `sync`, `login`, `nobody`, or a table of rules.
    #[serde(default)]
    pub provision: Provision,
    /// What somebody is to do by hand once an account is there: `assign role`. The `owner` gets it as a task.
    pub role_task: Option<String>,
    /// Which attribute there is which fact here; see [`Mapping`].
    #[serde(default)]
    pub mapping: Mapping,
    /// Standing groups here that are groups there: ours, then theirs. Memberships of other groups are left alone.
    #[serde(default)]
    pub groups: BTreeMap<String, String>,
    /// When everything is compared, as in crontab(5); by hand only if missing.
    pub schedule: Option<String>,
    /// Delete an account so long after it was deactivated; never if missing.
    pub delete_after: Option<Ttl>,
    /// What happens to accounts that are nobody's.
    #[serde(default)]
    pub orphans: OrphanPolicy,
    /// Take over an account of the right user name even if it bears somebody else's external id.
    #[serde(default)]
    pub adopt_claimed: bool,
    /// Who does the tasks, where there are any.
    pub owner: Option<String>,
    /// How long a task may take.
    pub deadline: Option<Ttl>,
    /// The adapter's own settings.
    #[serde(default)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

impl ApplicationConfig {
    const fn default_concurrency() -> u32 {
        4
    }

    const fn default_timeout() -> u32 {
        20
    }

    /// What somebody's account should be here. `standing` are the standing groups, in lower case.
    pub fn desired(&self, subject: &Subject, standing: &BTreeSet<String>) -> Desired {
        let identity = &subject.identity;
        let mut attributes = BTreeMap::new();
        let mut user_name = identity.name.clone();
        for (path, fact) in &self.mapping.0 {
            let value = Mapping::value(fact, subject);
            if path == "userName" {
                user_name = value.unwrap_or(user_name);
            } else {
                attributes.insert(path.clone(), value);
            }
        }
        let theirs = self.groups.iter().filter(|(ours, _)| standing.contains(&ours.to_lowercase()));
        Desired {
            external_id: identity.id.to_string(),
            also_known_as: identity.external_id.clone(),
            user_name,
            attributes,
            groups: theirs.map(|(_, theirs)| theirs.clone()).collect(),
        }
    }
}

/// Whose accounts an application holds. Everything that is given must hold; nothing given is every person.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// Kinds of identity.
    pub kinds: BTreeSet<IdentityKind>,
    /// In one of these standing groups.
    pub groups: BTreeSet<String>,
    /// With one of these values in each of these attributes.
    pub attributes: BTreeMap<String, BTreeSet<String>>,
}

impl Default for Scope {
    fn default() -> Self {
        Self { kinds: [IdentityKind::Person].into(), groups: BTreeSet::new(), attributes: BTreeMap::new() }
    }
}

impl Scope {
    /// Is somebody in it, active or not?
    pub fn holds(&self, subject: &Subject, standing: &BTreeSet<String>) -> bool {
        let identity = &subject.identity;
        self.kinds.contains(&identity.kind)
            && (self.groups.is_empty() || self.groups.iter().any(|g| standing.contains(&g.to_lowercase())))
            && self
                .attributes
                .iter()
                .all(|(name, values)| identity.attributes.get(name).is_some_and(|v| values.contains(v)))
    }
}

/// Attribute of the account → fact of the identity.
///
/// Attributes are SCIM paths: `displayName`, `name.givenName`, `emails.work`,
/// `urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department`. Facts are `name`, `display_name`, `email`,
/// `id`, `external_id`, `=some fixed text`, or the name of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Mapping(pub BTreeMap<String, String>);

impl Default for Mapping {
    fn default() -> Self {
        let pairs = [("userName", "name"), ("displayName", "display_name"), ("emails.work", "email")];
        Self(pairs.into_iter().map(|(path, fact)| (path.to_owned(), fact.to_owned())).collect())
    }
}

impl Mapping {
    fn value(fact: &str, subject: &Subject) -> Option<String> {
        let identity = &subject.identity;
        let value = match fact {
            "name" => Some(identity.name.clone()),
            "display_name" => Some(identity.display_name.clone()),
            "email" => identity.email.clone(),
            "id" => Some(identity.id.to_string()),
            "external_id" => identity.external_id.clone(),
            other => match other.strip_prefix('=') {
                Some(fixed) => Some(fixed.to_owned()),
                None => identity.attributes.get(other).cloned(),
            },
        };
        value.filter(|v| !v.is_empty())
    }

    /// Attributes besides the user name.
    pub fn paths(&self) -> Vec<String> {
        self.0.keys().filter(|p| *p != "userName").cloned().collect()
    }
}

/// What happens to accounts of an application that are nobody's here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrphanPolicy {
    /// They are listed.
    #[default]
    Report,
    /// `apply` deactivates them.
    Deactivate,
}

/// What an account should be. It is active: what should not be has no such value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Desired {
    /// Our name for it: the identity's id.
    pub external_id: String,
    /// Its source's name for it, under which it may have been made before us.
    #[serde(skip)]
    pub also_known_as: Option<String>,
    /// Name at sign-in.
    pub user_name: String,
    /// Mapped attributes; `None` clears one.
    pub attributes: BTreeMap<String, Option<String>>,
    /// Groups there that it is in, of those that are mapped.
    pub groups: BTreeSet<String>,
}

/// What an account is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The application's name for it; never changes.
    pub remote_id: String,
    /// The provisioner's name for it.
    pub external_id: Option<String>,
    /// Name at sign-in.
    pub user_name: String,
    /// May its holder sign in?
    pub active: bool,
    /// Mapped attributes that are set.
    pub attributes: BTreeMap<String, String>,
}

/// One attribute that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// Which one.
    pub attribute: String,
    /// What it is.
    pub is: Option<String>,
    /// What it should be.
    pub should: Option<String>,
}

/// Compared without case, as RFC 7643 has it.
fn without_case(path: &str) -> bool {
    path == "userName" || path.starts_with("emails")
}

fn same(path: &str, is: Option<&str>, should: Option<&str>) -> bool {
    match (is, should) {
        (Some(is), Some(should)) if without_case(path) => is.to_lowercase() == should.to_lowercase(),
        (is, should) => is.unwrap_or_default() == should.unwrap_or_default(),
    }
}

impl Desired {
    /// What of an account is not as it should be, groups apart.
    pub fn differences(&self, is: &Account) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut compare = |attribute: &str, is: Option<&str>, should: Option<&str>| {
            if !same(attribute, is, should) {
                found.push(Difference {
                    attribute: attribute.to_owned(),
                    is: is.map(str::to_owned),
                    should: should.map(str::to_owned),
                });
            }
        };
        compare("active", Some(if is.active { "true" } else { "false" }), Some("true"));
        compare("externalId", is.external_id.as_deref(), Some(&self.external_id));
        compare("userName", Some(&is.user_name), Some(&self.user_name));
        for (path, should) in &self.attributes {
            compare(path, is.attributes.get(path).map(String::as_str), should.as_deref());
        }
        found
    }
}

/// How an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// Something is to be done about it.
    Pending,
    /// Read back, and as it should be.
    Aligned,
    /// Changed by us, read back, and as it should be.
    Corrected,
    /// The application said that it is done, or nobody said anything, and reading back does not show it.
    NotVerified,
    /// The application refused.
    Failed,
    /// Found different, and nobody has told us to set it right.
    Drifted,
    /// Nobody's.
    Orphan,
}

impl AccountState {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Aligned, Self::Corrected, Self::NotVerified, Self::Failed, Self::Drifted, Self::Orphan];

    /// The stored and public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Aligned => "aligned",
            Self::Corrected => "corrected",
            Self::NotVerified => "not_verified",
            Self::Failed => "failed",
            Self::Drifted => "drifted",
            Self::Orphan => "orphan",
        }
    }

    /// From the stored name.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Desired, Account) {
        let desired = Desired {
            external_id: "idn_1".into(),
            also_known_as: None,
            user_name: "ana".into(),
            attributes: [("emails.work".to_owned(), Some("Ana@x.org".to_owned())), ("title".to_owned(), None)].into(),
            groups: BTreeSet::new(),
        };
        let account = Account {
            remote_id: "7".into(),
            external_id: Some("idn_1".into()),
            user_name: "ANA".into(),
            active: true,
            attributes: [("emails.work".to_owned(), "ana@X.org".to_owned())].into(),
        };
        (desired, account)
    }

    #[test]
    fn names_and_mail_are_compared_without_case_and_unset_is_empty() {
        let (desired, mut account) = pair();
        assert_eq!(desired.differences(&account), []);
        account.attributes.insert("title".into(), String::new());
        assert_eq!(desired.differences(&account), []);
    }

    #[test]
    fn every_difference_is_named() {
        let (desired, mut account) = pair();
        account.active = false;
        account.external_id = None;
        account.user_name = "anna".into();
        account.attributes.insert("title".into(), "Boss".into());
        let names: Vec<String> = desired.differences(&account).into_iter().map(|d| d.attribute).collect();
        assert_eq!(names, ["active", "externalId", "userName", "title"]);
    }
}
