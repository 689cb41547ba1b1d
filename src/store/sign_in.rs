//! Sign-in on the command line: codes that wait for a yes in the portal, as hashes.

use sqlx::{any::AnyRow, query};

use super::{Store, StoreError, Tx, row::Reader};
use crate::domain::{
    id::{IdentityId, SessionId, SignInId},
    time::Timestamp,
};

/// Where a sign-in stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInState {
    /// Nobody has said yes.
    Pending,
    /// Somebody has said yes; the code can be exchanged once.
    Approved,
    /// Somebody has said no.
    Denied,
    /// Exchanged.
    Used,
}

impl SignInState {
    const ALL: [Self; 4] = [Self::Pending, Self::Approved, Self::Denied, Self::Used];

    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Used => "used",
        }
    }

    fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == s)
    }
}

/// A sign-in on the command line.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// Its id.
    pub id: SignInId,
    /// What a person types, in the device flow.
    pub user_code: Option<String>,
    /// PKCE (S256), in the loopback flow.
    pub challenge: Option<String>,
    /// Where the code went, in the loopback flow.
    pub redirect_uri: Option<String>,
    /// What the client says about itself.
    pub client: String,
    /// Where it asked from.
    pub address: String,
    /// Who said yes.
    pub identity: Option<IdentityId>,
    /// End of the session that said yes; no token lasts longer.
    pub until: Option<Timestamp>,
    /// The session that said yes; the token ends with it.
    pub session: Option<SessionId>,
    /// Where it stands.
    pub state: SignInState,
    /// When the client asked last.
    pub polled_at: Option<Timestamp>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it lapses.
    pub expires_at: Timestamp,
}

macro_rules! columns {
    () => {
        "id, user_code, challenge, redirect_uri, client, address, identity_id, until, state, polled_at, created_at, \
         expires_at, session_id"
    };
}

fn sign_in(row: &AnyRow) -> Result<SignIn, StoreError> {
    let r = Reader::new("sign_in_codes", row);
    Ok(SignIn {
        id: r.parsed("id")?,
        user_code: r.optional_text("user_code")?,
        challenge: r.optional_text("challenge")?,
        redirect_uri: r.optional_text("redirect_uri")?,
        client: r.text("client")?,
        address: r.text("address")?,
        identity: r.optional_parsed("identity_id")?,
        until: r.optional_instant("until")?,
        session: r.optional_parsed("session_id")?,
        state: r.named("state", SignInState::parse)?,
        polled_at: r.optional_instant("polled_at")?,
        created_at: r.instant("created_at")?,
        expires_at: r.instant("expires_at")?,
    })
}

impl Store {
    /// The sign-in whose code has this hash.
    pub async fn sign_in_by_code(&self, hash: &[u8]) -> Result<Option<SignIn>, StoreError> {
        let row = query(concat!("SELECT ", columns!(), " FROM sign_in_codes WHERE hash = $1"))
            .bind(hash.to_vec())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(sign_in).transpose()
    }

    /// The sign-in that a person names by what the command line shows.
    pub async fn sign_in_by_user_code(&self, code: &str) -> Result<Option<SignIn>, StoreError> {
        let row = query(concat!("SELECT ", columns!(), " FROM sign_in_codes WHERE user_code = $1"))
            .bind(code)
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(sign_in).transpose()
    }
}

impl Tx {
    /// Keep a new one under the hash of its code.
    pub async fn insert_sign_in(&mut self, s: &SignIn, hash: &[u8]) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO sign_in_codes (id, hash, user_code, challenge, redirect_uri, client, address, \
                           identity_id, until, state, created_at, expires_at, session_id) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        self.execute_one(
            query(SQL)
                .bind(s.id.to_string())
                .bind(hash.to_vec())
                .bind(s.user_code.clone())
                .bind(s.challenge.clone())
                .bind(s.redirect_uri.clone())
                .bind(s.client.clone())
                .bind(s.address.clone())
                .bind(s.identity.map(|i| i.to_string()))
                .bind(s.until.map(Timestamp::micros))
                .bind(s.state.as_str())
                .bind(s.created_at.micros())
                .bind(s.expires_at.micros())
                .bind(s.session.map(|s| s.to_string())),
        )
        .await
    }

    /// `pending → approved | denied`, by somebody; [`StoreError::Conflict`] if it does not wait any more.
    pub async fn decide_sign_in(
        &mut self,
        id: SignInId,
        state: SignInState,
        who: IdentityId,
        (until, session): (Option<Timestamp>, Option<SessionId>),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE sign_in_codes SET state = $1, identity_id = $2, until = $3, session_id = $6 \
                 WHERE id = $4 AND state = 'pending' AND expires_at > $5",
            )
            .bind(state.as_str())
            .bind(who.to_string())
            .bind(until.map(Timestamp::micros))
            .bind(id.to_string())
            .bind(now.micros())
            .bind(session.map(|s| s.to_string())),
        )
        .await
    }

    /// `approved → used`; [`StoreError::Conflict`] if it was used before.
    pub async fn use_sign_in(&mut self, id: SignInId, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            query("UPDATE sign_in_codes SET state = 'used' WHERE id = $1 AND state = 'approved' AND expires_at > $2")
                .bind(id.to_string())
                .bind(now.micros()),
        )
        .await
    }

    /// The client asked again.
    pub async fn note_poll(&mut self, id: SignInId, now: Timestamp) -> Result<(), StoreError> {
        self.execute(
            query("UPDATE sign_in_codes SET polled_at = $1 WHERE id = $2").bind(now.micros()).bind(id.to_string()),
        )
        .await?;
        Ok(())
    }
}
