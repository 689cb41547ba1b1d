//! Typed ids: a readable prefix and a ULID. Parsed once, at the edge.

use std::{fmt, str::FromStr};

use ulid::Ulid;

/// A text that is not an id of the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an id of the form {prefix}_<ulid>")]
pub struct IdError {
    given: String,
    prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Ulid);

        impl $name {
            /// The prefix in front of the ULID, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// An id from a ULID, which the entropy port makes.
            pub const fn new(ulid: Ulid) -> Self {
                Self(ulid)
            }

            /// The ULID without the prefix.
            pub const fn ulid(self) -> Ulid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(s: &str) -> Result<Self, IdError> {
                s.strip_prefix(concat!($prefix, "_"))
                    .filter(|rest| rest.len() == 26)
                    .and_then(|rest| Ulid::from_string(rest).ok())
                    .map(Self)
                    .ok_or_else(|| IdError { given: s.chars().take(40).collect(), prefix: $prefix })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let s = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                s.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A person, workload or agent.
    IdentityId = "idn";
    /// A group of the directory.
    GroupId = "grp";
    /// Somebody asks for one or more entitlements.
    RequestId = "req";
    /// One person's decision on a request.
    ApprovalId = "apr";
    /// One entitlement held by one identity until `not_after`.
    GrantId = "grt";
    /// An audit event.
    EventId = "evt";
    /// A kill switch on an identity, target or entitlement.
    LockId = "lck";
    /// A personal token or a workload's client secret.
    TokenId = "tok";
    /// Where identities come from: an identity provider, an HR feed.
    SourceId = "src";
    /// Something that somebody is to do by hand in an application.
    TaskId = "tsk";
    /// One comparison of an application, or one reading of a source.
    RunId = "run";
    /// Somebody who has signed in to the portal.
    SessionId = "ses";
    /// A sign-in on the command line that waits for a yes in the portal.
    SignInId = "sgn";
    /// A message waiting in the outbox.
    MessageId = "msg";
    /// One call of the API; every effect of it carries this id.
    CorrelationId = "cor";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text_and_refuses_the_wrong_prefix() {
        let id = GrantId::new(Ulid::from_parts(1, 2));
        assert_eq!(id.to_string().parse::<GrantId>(), Ok(id));
        assert!(id.to_string().parse::<RequestId>().is_err());
        assert!("grt_".parse::<GrantId>().is_err());
        assert!("grt_é".repeat(9).parse::<GrantId>().is_err());
    }
}
