//! What the ledger says of the copies that were minted for a grant. Shared by the connectors whose credentials cannot
//! be deleted anywhere: tokens and certificates.

use crate::{
    domain::{id::GrantId, time::Timestamp},
    ports::{
        connector::Fault,
        revocations::{Issued, Revocations, RevocationsError},
    },
};

/// The copies of one grant, at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copies {
    /// Nothing was ever minted.
    None,
    /// The last copy stopped working by itself then.
    Expired(Timestamp),
    /// Every copy that has not expired is revoked; the last one expires then.
    Revoked(Vec<Issued>, Timestamp),
    /// A verifier that asks would be told that a copy works.
    Live(Timestamp),
}

impl From<RevocationsError> for Fault {
    fn from(e: RevocationsError) -> Self {
        Self::Unavailable(e.to_string())
    }
}

/// Ask the ledger. Whatever it leaves open counts as live.
pub async fn of_grant(
    ledger: &dyn Revocations,
    target: &str,
    grant: GrantId,
    now: Timestamp,
) -> Result<Copies, RevocationsError> {
    let Some(last) = ledger.last_expiry(grant).await? else {
        return Ok(Copies::None);
    };
    if last <= now {
        return Ok(Copies::Expired(last));
    }
    let revoked: Vec<Issued> = ledger.revoked_of(target, grant, now).await?;
    // The latest claim has the latest expiry. Either it is among the revoked ones, or it comes right after them.
    if !revoked.iter().any(|issued| issued.expires_at == last) {
        return Ok(Copies::Live(last));
    }
    let latest = revoked.iter().map(|issued| issued.number).max().unwrap_or(0);
    for number in [latest, latest.saturating_add(1)] {
        if ledger.is_live(grant, number, now).await? {
            return Ok(Copies::Live(last));
        }
    }
    Ok(Copies::Revoked(revoked, last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connectors::fakes::FakeLedger,
        domain::{
            grant::{Intent, Recipe, object_name},
            id::IdentityId,
        },
    };

    fn intent(n: u128, end: i64) -> Intent {
        let grant = GrantId::new(ulid::Ulid::from_parts(1, n));
        Intent {
            recipe: Recipe { grant, object: object_name(grant), data: serde_json::Value::Null },
            holder: IdentityId::new(ulid::Ulid::from_parts(1, 1)),
            holder_name: "ana".into(),
            entitlement: "e".into(),
            parameters: serde_json::Value::Null,
            not_after: Timestamp::from_seconds(end),
        }
    }

    #[tokio::test]
    async fn a_live_copy_is_never_overlooked() {
        let ledger = FakeLedger::new();
        let ask = async |i: &Intent, now: i64| {
            of_grant(&ledger, "t", i.recipe.grant, Timestamp::from_seconds(now)).await.unwrap()
        };
        let one = intent(1, 100);
        assert_eq!(ask(&one, 0).await, Copies::None);
        ledger.issue("t", &one, Timestamp::from_seconds(0));
        assert!(matches!(ask(&one, 10).await, Copies::Live(_)));
        ledger.issue("t", &one, Timestamp::from_seconds(0));
        assert!(matches!(ask(&one, 10).await, Copies::Live(_)), "the second copy has the same expiry as the first");
        let longer = intent(1, 200);
        ledger.issue("t", &longer, Timestamp::from_seconds(50));
        assert!(matches!(ask(&one, 10).await, Copies::Live(_)), "the extended copy");
        assert!(matches!(ask(&one, 150).await, Copies::Live(_)), "the extended copy alone");
        ledger.end(one.recipe.grant);
        let Copies::Revoked(copies, last) = ask(&one, 10).await else { panic!("not revoked") };
        assert_eq!((copies.len(), last), (3, Timestamp::from_seconds(200)));
        assert_eq!(ask(&one, 200).await, Copies::Expired(Timestamp::from_seconds(200)));
    }
}
