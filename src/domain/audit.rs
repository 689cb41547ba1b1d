//! Audit events: one for every state change, in the same transaction (promise P15).

use serde::{Deserialize, Serialize};

use super::{
    id::{CorrelationId, EventId, GrantId, IdentityId, RequestId},
    time::Timestamp,
};

/// One thing that happened. Its canonical JSON is the leaf of the Merkle log; see [`Event::leaf`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// When, by the broker's clock.
    pub at: Timestamp,
    /// Dotted name of what happened: `request.created`, `grant.ended`.
    pub action: String,
    /// Who did it; `None` for the broker itself.
    pub actor: Option<IdentityId>,
    /// Which surface: `api`, `cli`, `worker`…
    pub via: String,
    /// Whom it concerns.
    pub subject: Option<IdentityId>,
    /// Which request.
    pub request: Option<RequestId>,
    /// Which grant.
    pub grant: Option<GrantId>,
    /// Which target.
    pub target: Option<String>,
    /// The call that it follows from.
    pub correlation: CorrelationId,
    /// The call or clock event that made it happen, where that is another one: what a leaver loses follows from the
    /// call that asked for it and ends because of the one that told of the leaving.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<CorrelationId>,
    /// Facts, free of secrets.
    pub details: serde_json::Value,
}

impl Event {
    /// The bytes that are hashed: this struct as JSON, keys in the order of the struct, `details` keys sorted,
    /// no white space. Stored as they are, so verification never depends on re-serialising.
    pub fn leaf(&self) -> String {
        let mut sorted = self.clone();
        sorted.details.sort_all_objects();
        serde_json::to_string(&sorted).unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An event with every field set.
    pub(crate) fn event(action: &str, details: serde_json::Value) -> Event {
        let ulid = |n| ulid::Ulid::from_parts(1_769_868_000_000, n);
        Event {
            id: EventId::new(ulid(1)),
            at: Timestamp::from_micros(1_769_868_000_000_001),
            action: action.to_owned(),
            actor: Some(IdentityId::new(ulid(2))),
            via: "api".to_owned(),
            subject: Some(IdentityId::new(ulid(3))),
            request: Some(RequestId::new(ulid(4))),
            grant: Some(GrantId::new(ulid(5))),
            target: Some("orders-db".to_owned()),
            correlation: CorrelationId::new(ulid(6)),
            cause: None,
            details,
        }
    }

    #[test]
    fn a_leaf_is_canonical() {
        let one = serde_json::from_str(r#"{"b": {"y": 1, "x": [{"d": 1, "c": "ü"}]}, "a": null}"#);
        let two = serde_json::from_str(r#"{"a": null, "b": {"x": [{"c": "\u00fc", "d": 1}], "y": 1}}"#);
        let leaf = event("grant.ended", one.unwrap()).leaf();
        assert_eq!(leaf, event("grant.ended", two.unwrap()).leaf());
        assert_eq!(
            leaf,
            concat!(
                r#"{"id":"evt_01KGA5MYR00000000000000001","at":"2026-01-31T14:00:00.000001Z","action":"grant.ended","#,
                r#""actor":"idn_01KGA5MYR00000000000000002","via":"api","subject":"idn_01KGA5MYR00000000000000003","#,
                r#""request":"req_01KGA5MYR00000000000000004","grant":"grt_01KGA5MYR00000000000000005","#,
                r#""target":"orders-db","correlation":"cor_01KGA5MYR00000000000000006","#,
                r#""details":{"a":null,"b":{"x":[{"c":"ü","d":1}],"y":1}}}"#
            )
        );
    }

    #[test]
    fn a_cause_stands_before_the_details_and_is_left_out_where_there_is_none() {
        let mut with = event("grant.ended", serde_json::json!({}));
        assert!(!with.leaf().contains("cause"));
        with.cause = Some(CorrelationId::new(ulid::Ulid::from_parts(1_769_868_000_000, 7)));
        assert!(with.leaf().contains(r#""cause":"cor_01KGA5MYR00000000000000007","details""#), "{}", with.leaf());
        assert_eq!(serde_json::from_str::<Event>(&with.leaf()).unwrap(), with);
    }
}
