//! The deny of one grant: an inline policy of the role, named after the grant.
//!
//! It is written before any session is minted, and denies everything to the grant's sessions from the grant's end on.
//! Ending early only takes the time out of it, which makes it shorter: so ending never fails for want of room. Each
//! grant has a policy of its own, so brokers at work on one role never write over each other.

use serde_json::{Value, json};

use crate::domain::{grant::object_name, id::GrantId, time::Timestamp};

/// Seconds that a session may outlast the grant, for AWS mints none shorter; then clocks may differ a little.
const LONGEST_TAIL: i64 = 960;

/// What a grant's policy at the role says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deny {
    /// Its sessions are denied everything from then on.
    From(Timestamp),
    /// Its sessions are denied everything; the last of them expires by itself before then.
    Now(Timestamp),
}

impl Deny {
    /// The text of the policy. Instants are whole seconds: a policy knows no others.
    pub(super) fn document(self, grant: GrantId, mark: &str) -> String {
        let (Self::From(at) | Self::Now(at)) = self;
        let mut condition = json!({"StringEquals": {"aws:SourceIdentity": object_name(grant)}});
        if let (Self::From(_), Some(condition)) = (self, condition.as_object_mut()) {
            let at = Timestamp::from_seconds(at.seconds()).to_string();
            condition.insert("DateGreaterThan".into(), json!({"aws:CurrentTime": at}));
        }
        json!({
            "Version": "2012-10-17",
            "Statement": {
                "Sid": format!("{mark}{}", at.seconds()),
                "Effect": "Deny",
                "Action": "*",
                "Resource": "*",
                "Condition": condition,
            },
        })
        .to_string()
    }

    /// Read a policy; `None` if it is not ours to the letter.
    pub(super) fn read(text: &str, grant: GrantId, mark: &str) -> Option<Self> {
        let found: Value = serde_json::from_str(text).ok()?;
        let seconds = found.pointer("/Statement/Sid")?.as_str()?.strip_prefix(mark)?.parse().ok()?;
        let at = Timestamp::from_seconds(seconds);
        [Self::From(at), Self::Now(at)].into_iter().find(|deny| {
            let ours: Option<Value> = serde_json::from_str(&deny.document(grant, mark)).ok();
            ours.as_ref() == Some(&found)
        })
    }
}

/// When the last session that was minted for a grant with this end has expired by itself, in whole seconds.
pub(super) const fn last_session_ends(not_after: Timestamp) -> Timestamp {
    Timestamp::from_seconds(not_after.seconds().saturating_add(LONGEST_TAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deny_is_read_back_as_it_was_written_and_nothing_else_is() {
        let grant = GrantId::new(ulid::Ulid::from_parts(1, 2));
        let at = Timestamp::from_seconds(1_800_000_000);
        for deny in [Deny::From(at), Deny::Now(at)] {
            let text = deny.document(grant, "tidegate");
            assert_eq!(Deny::read(&text, grant, "tidegate"), Some(deny));
            assert_eq!(Deny::read(&text, grant, "other"), None);
            assert_eq!(Deny::read(&text, GrantId::new(ulid::Ulid::from_parts(1, 3)), "tidegate"), None);
            assert_eq!(Deny::read(&text.replace("Deny", "Allow"), grant, "tidegate"), None);
            assert_eq!(Deny::read(&text.replace("\"*\"", "\"s3:*\""), grant, "tidegate"), None);
        }
        let from = Deny::From(at).document(grant, "tidegate");
        let now = Deny::Now(last_session_ends(at)).document(grant, "tidegate");
        assert!(now.len() < from.len(), "ending needs no more room than opening took");
        assert!(10_240 / from.len() >= 40, "{} characters", from.len());
        assert!(from.contains(r#""DateGreaterThan":{"aws:CurrentTime":"2027-01-15T08:00:00Z"}"#), "{from}");
    }
}
