//! Who vouches for people: an OpenID provider. Says who somebody is; what they may do is the directory's to say.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::domain::{secret::Secret, time::Timestamp};

/// What a sign-in is tied to, from its start in the browser to its end.
pub struct Attempt {
    /// Comes back with the browser.
    pub state: String,
    /// Comes back in the ID token.
    pub nonce: String,
    /// PKCE: proves that who redeems the code is who asked for it.
    pub verifier: Secret,
    /// The person has to show who they are now, whatever they showed before.
    pub afresh: bool,
}

/// Whom the provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The provider's own name.
    pub issuer: String,
    /// Its id for the person, which never changes.
    pub subject: String,
    /// E-mail, if the provider has verified it or is trusted to.
    pub email: Option<String>,
    /// The name that the directory knows the person by, if the provider tells it.
    pub name: Option<String>,
    /// Name for people to read.
    pub display_name: Option<String>,
    /// When the person showed it who they are, if it says so.
    pub proved_at: Option<Timestamp>,
    /// What else it says, as far as it is text: rules about first logins may ask for it.
    pub claims: BTreeMap<String, String>,
}

/// What a sign-in came to.
pub struct Redeemed {
    /// Who it is.
    pub vouched: Vouched,
    /// What the provider likes to see when it is asked to end its own session: the browser keeps it, and nobody else.
    pub hint: Secret,
}

/// Why a sign-in did not come to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It does not answer, or not in time.
    #[error("{name} does not answer: {why}")]
    Unavailable {
        /// Its name for people.
        name: String,
        /// What went wrong.
        why: String,
    },
    /// It, or what came back from it, is not to be trusted.
    #[error("the answer of the identity provider does not hold: {0}")]
    Untrusted(String),
    /// It said no.
    #[error("the identity provider refused: {0}")]
    Refused(String),
}

/// An OpenID provider.
#[async_trait]
pub trait IdentityProvider: Send + Sync {
    /// Its name for people.
    fn name(&self) -> &str;

    /// Where the browser goes to show who its user is.
    async fn begin(&self, attempt: &Attempt, redirect_uri: &str, now: Timestamp) -> Result<String, ProviderError>;

    /// What the code that came back with the browser stands for.
    async fn redeem(
        &self,
        code: &str,
        attempt: &Attempt,
        redirect_uri: &str,
        now: Timestamp,
    ) -> Result<Redeemed, ProviderError>;

    /// Where the browser goes to end the session at the provider too, if it can be done. With the hint of the sign-in the
    /// provider knows which session is meant, and need not ask; the address is for that browser alone.
    async fn end_session(&self, back_to: &str, hint: Option<Secret>, now: Timestamp) -> Option<Secret>;
}
