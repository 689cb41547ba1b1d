//! Accounts that are made at a first login: who may have one, and what it comes with.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::time::Ttl;

/// Who may have an account made at the first login, and with what. The first rule that fits decides; without one,
/// nobody may.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JitRule {
    /// `iss` of the identity provider that vouches.
    pub issuer: String,
    /// Only people with a verified e-mail of this domain.
    #[serde(default)]
    pub email_domain: Option<String>,
    /// Only people with these claims.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
    /// Standing groups that the account begins with: those of least right.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// Becomes the attribute `employment`.
    #[serde(default = "JitRule::guest")]
    pub employment: String,
    /// Unique name of the person who answers for such accounts. Guests must have one; when they leave, somebody else must
    /// answer for their guests, or the clock ends them.
    #[serde(default)]
    pub sponsor: Option<String>,
    /// The account ends after this, whatever happens. Guests must have an end.
    #[serde(default)]
    pub ends_after: Option<Ttl>,
    /// A source must have taken it over by then, or the clock deactivates it.
    #[serde(default = "JitRule::week")]
    pub grace: Ttl,
    /// Never to be taken over by a source: it lives until `ends_after`.
    #[serde(default)]
    pub never_adopted: bool,
    /// By what a source may take it over.
    #[serde(default = "JitRule::both")]
    pub adopt_by: BTreeSet<AdoptBy>,
}

/// By what a source takes over an account that was made at its first login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdoptBy {
    /// The source's `externalId` is the provider's `sub`.
    ExternalId,
    /// The source's e-mail is the one that the provider has verified.
    VerifiedEmail,
}

impl JitRule {
    fn guest() -> String {
        "guest".to_owned()
    }

    const fn week() -> Ttl {
        Ttl::seconds_or_one(7 * 86_400)
    }

    fn both() -> BTreeSet<AdoptBy> {
        BTreeSet::from([AdoptBy::ExternalId, AdoptBy::VerifiedEmail])
    }

    /// What is wrong with it, if something is.
    pub fn fault(&self) -> Option<String> {
        if self.ends_after.is_none() && (self.employment == "guest" || self.never_adopted) {
            return Some(format!(
                "jit rule for {}: guests, and accounts that no source takes over, need `ends_after`",
                self.issuer
            ));
        }
        if self.sponsor.is_none() && self.employment == "guest" {
            return Some(format!("jit rule for {}: guests need a `sponsor`, who answers for them", self.issuer));
        }
        None
    }

    /// Does it fit this login?
    pub fn fits(&self, login: &FirstLogin) -> bool {
        let domain = login.verified_email().and_then(|e| e.rsplit_once('@')).map(|(_, domain)| domain.to_lowercase());
        self.issuer == login.issuer
            && self.email_domain.as_ref().is_none_or(|wanted| domain.as_deref() == Some(&*wanted.to_lowercase()))
            && self.claims.iter().all(|(name, value)| login.claims.get(name) == Some(value))
    }
}

/// Somebody whom an identity provider vouches for, and who is not known here.
#[derive(Debug, Clone, Default)]
pub struct FirstLogin {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `email`.
    pub email: Option<String>,
    /// `email_verified`: an e-mail that is not counts for nothing.
    pub email_verified: bool,
    /// `preferred_username`, or whatever is to be the unique name.
    pub name: Option<String>,
    /// Name for people to read.
    pub display_name: Option<String>,
    /// Other claims that rules may ask for.
    pub claims: BTreeMap<String, String>,
}

impl FirstLogin {
    /// The e-mail, if the provider has verified it.
    pub fn verified_email(&self) -> Option<&str> {
        self.email.as_deref().filter(|_| self.email_verified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> JitRule {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_domain_counts_only_if_the_e_mail_is_verified() {
        let rule = rule("issuer = \"https://idp.example\"\nemail_domain = \"Partner.example\"\nends_after = \"30d\"");
        let login = FirstLogin {
            issuer: "https://idp.example".to_owned(),
            email: Some("kim@partner.EXAMPLE".to_owned()),
            email_verified: true,
            ..FirstLogin::default()
        };
        assert!(rule.fits(&login));
        assert!(!rule.fits(&FirstLogin { email_verified: false, ..login.clone() }));
        assert!(!rule.fits(&FirstLogin { email: Some("kim@notpartner.example".to_owned()), ..login.clone() }));
        assert!(!rule.fits(&FirstLogin { issuer: "https://idp.example/".to_owned(), ..login }));
    }

    #[test]
    fn guests_need_an_end() {
        assert!(rule("issuer = \"https://idp.example\"").fault().is_some());
        let guest = "issuer = \"https://idp.example\"\nends_after = \"30d\"";
        assert!(rule(guest).fault().unwrap().contains("sponsor"));
        assert!(rule(&format!("{guest}\nsponsor = \"ben\"")).fault().is_none());
        assert!(rule("issuer = \"https://idp.example\"\nemployment = \"employee\"").fault().is_none());
    }
}
