//! `POST /v1/grants/{id}/credential`: the one place where a secret leaves the house.

use axum::{Json, extract::State, response::IntoResponse};
use http::header;
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap, SerializeStruct},
};
use utoipa::ToSchema;

use crate::{
    broker::Handover,
    domain::{id::GrantId, secret::Minted},
    edge::http::{Changes, Edge, auth::Authenticated, call::carry_through, input::PathId, problem::Problem},
};

/// A credential, handed over this once.
#[derive(ToSchema)]
#[schema(example = json!({
    "grant": "grt_01KVF3T2M8XQ4B7N9D5R6S1W0Z", "claim": 1, "serial": 42, "kind": "postgres",
    "expires_at": "2026-01-31T15:00:00Z",
    "credential": {"host": "db.example.net", "port": 5432, "user": "tg_01kvf3t2m8xq4b7n9d5r6s1w0z", "password": "…"}
}))]
#[allow(dead_code, reason = "documents what `Once` writes")]
pub struct CredentialView {
    /// The grant.
    grant: String,
    /// Count within the grant, from 1. A later claim ends the copy of an earlier one, where the target can.
    claim: u32,
    /// Serial in the ledger.
    serial: u64,
    /// Which connector minted it; says what the fields are.
    kind: String,
    /// When this copy stops working by itself.
    #[schema(format = DateTime)]
    expires_at: String,
    /// The fields, public and secret.
    #[schema(value_type = Object)]
    credential: serde_json::Value,
}

/// Writes the hand-over straight into the answer, so that no second copy of the secret is made.
struct Once(Handover);

impl Serialize for Once {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let Handover { grant, claim, kind, minted } = &self.0;
        let mut out = s.serialize_struct("Credential", 6)?;
        out.serialize_field("grant", grant)?;
        out.serialize_field("claim", &claim.number)?;
        out.serialize_field("serial", &claim.serial)?;
        out.serialize_field("kind", kind)?;
        out.serialize_field("expires_at", &minted.expires_at)?;
        out.serialize_field("credential", &Fields(minted))?;
        out.end()
    }
}

struct Fields<'a>(&'a Minted);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        for (name, value) in &self.0.public {
            map.serialize_entry(name, value)?;
        }
        for (name, secret) in &self.0.secrets {
            map.serialize_entry(name, secret.expose())?;
        }
        map.end()
    }
}

/// Claim a credential
///
/// Mints it now and hands it over in this one answer; it is written nowhere else. Claiming again mints another one and
/// ends the one before, where the target can. For the holder, while the grant is active.
#[utoipa::path(
    post, path = "/v1/grants/{id}/credential", tag = "grants", operation_id = "claimCredential",
    params(("id" = String, Path, description = "Id of the grant, `grt_…`")),
    responses((status = 200, description = "The credential, never to be cached", body = CredentialView), Changes)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(ctx): Authenticated,
    PathId(id): PathId<GrantId>,
) -> Result<impl IntoResponse, Problem> {
    let handover = carry_through(async move { edge.broker.claim(&ctx, id).await }).await?;
    Ok(([(header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")], Json(Once(handover))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{grant::Claim, secret::Secret, time::Timestamp};

    #[test]
    fn public_and_secret_fields_stand_side_by_side() {
        let mut public = serde_json::Map::new();
        public.insert("user".into(), "tg_x".into());
        let at = Timestamp::from_seconds(1_769_868_000);
        let once = Once(Handover {
            grant: GrantId::new(ulid::Ulid::from_parts(1, 2)),
            claim: Claim { serial: 42, number: 2, at },
            kind: "postgres".into(),
            minted: Minted {
                public,
                secrets: vec![("password".into(), Secret::new("hunter2".into()))],
                expires_at: at,
            },
        });
        assert_eq!(
            serde_json::to_value(&once).unwrap(),
            serde_json::json!({
                "grant": GrantId::new(ulid::Ulid::from_parts(1, 2)).to_string(), "claim": 2, "serial": 42,
                "kind": "postgres", "expires_at": "2026-01-31T14:00:00Z",
                "credential": {"user": "tg_x", "password": "hunter2"}
            })
        );
    }
}
