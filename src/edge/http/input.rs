//! Fields, parameters and headers that many endpoints share: durations, instants, ids in paths, pages.

use std::{fmt, str::FromStr};

use axum::extract::{FromRequestParts, Path, Query};
use http::{HeaderMap, request::Parts};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{IntoParams, PartialSchema, ToSchema, openapi};

use super::problem::Problem;
use crate::{
    broker::input::Paging,
    domain::{
        id::{EventId, GrantId, IdentityId, LockId, MessageId, RequestId, TokenId},
        time::{TimeError, Timestamp, Ttl},
    },
};

/// A duration as clients write it: `"90m"`, `"1h30m"` or a number of seconds. Kept as it was read, so that a bad one
/// can be refused under the name of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurationInput(Result<Ttl, TimeError>);

impl DurationInput {
    /// The duration, or a problem that names the field.
    pub fn ttl(self, field: &'static str) -> Result<Ttl, Problem> {
        self.0.map_err(|error| Problem::input(field, error))
    }
}

/// The duration of a field that may be left out.
pub fn optional_ttl(given: Option<DurationInput>, field: &'static str) -> Result<Option<Ttl>, Problem> {
    given.map(|d| d.ttl(field)).transpose()
}

/// The instant of a field that may be left out.
pub fn optional_instant(given: Option<&str>, field: &'static str) -> Result<Option<Timestamp>, Problem> {
    given.map(|text| text.parse().map_err(|error: TimeError| Problem::input(field, error))).transpose()
}

impl<'de> Deserialize<'de> for DurationInput {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl serde::de::Visitor<'_> for V {
            type Value = DurationInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"90m\" or a number of seconds")
            }

            fn visit_str<E>(self, v: &str) -> Result<DurationInput, E> {
                Ok(DurationInput(v.parse()))
            }

            fn visit_u64<E>(self, v: u64) -> Result<DurationInput, E> {
                Ok(DurationInput(v.to_string().parse()))
            }

            fn visit_i64<E>(self, v: i64) -> Result<DurationInput, E> {
                Ok(DurationInput(v.to_string().parse()))
            }

            fn visit_f64<E>(self, v: f64) -> Result<DurationInput, E> {
                Ok(DurationInput(v.to_string().parse()))
            }
        }
        d.deserialize_any(V)
    }
}

impl Serialize for DurationInput {
    /// Seconds, so that `"90m"` and `5400` are one and the same body to an `Idempotency-Key`.
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().ok().serialize(s)
    }
}

impl PartialSchema for DurationInput {
    fn schema() -> openapi::RefOr<openapi::Schema> {
        openapi::schema::OneOfBuilder::new()
            .item(
                openapi::ObjectBuilder::new()
                    .schema_type(openapi::Type::String)
                    .pattern(Some("^([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$|^[0-9]+$"))
                    .examples(["90m", "1h30m"]),
            )
            .item(
                openapi::ObjectBuilder::new()
                    .schema_type(openapi::Type::Integer)
                    .minimum(Some(1))
                    .description(Some("Seconds")),
            )
            .description(Some("How long: `90m`, `1h30m`, `2d`, or a number of seconds. At least one second."))
            .into()
    }
}

impl ToSchema for DurationInput {
    fn name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
}

/// An id that can stand in a path, and what it is an id of.
pub trait InPath: FromStr {
    /// What is not there if the id is none.
    const NOUN: &'static str;
}

impl InPath for RequestId {
    const NOUN: &'static str = "request";
}
impl InPath for GrantId {
    const NOUN: &'static str = "grant";
}
impl InPath for LockId {
    const NOUN: &'static str = "lock";
}
impl InPath for TokenId {
    const NOUN: &'static str = "token";
}
impl InPath for MessageId {
    const NOUN: &'static str = "delivery";
}
impl InPath for EventId {
    const NOUN: &'static str = "event";
}
impl InPath for IdentityId {
    const NOUN: &'static str = "identity";
}

/// The id in the path. What is not an id names nothing, so it is 404 and not 400.
pub struct PathId<T>(pub T);

impl<T: InPath, S: Send + Sync> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.map_err(|_| Problem::not_found(T::NOUN))?;
        text.0.parse().map(Self).map_err(|_| Problem::not_found(T::NOUN))
    }
}

/// The name in the path.
pub struct PathName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, state).await.map_err(|_| Problem::not_found("name"))?;
        Ok(Self(text.0))
    }
}

/// The parameters behind the `?`. Those that nobody reads are refused.
pub struct Parameters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri).map(|Query(given)| Self(given)).map_err(|error| {
            Problem::input("query", error.body_text().trim_start_matches("Failed to deserialize query string: "))
        })
    }
}

/// A page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Rows wanted, 1 to 200; 50 if missing.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Cursor: `next` of the page before.
    pub after: Option<String>,
}

impl PageQuery {
    /// Within its bounds, or a problem.
    pub fn paging(self) -> Result<Paging, Problem> {
        paging(self.limit, self.after)
    }
}

/// Limit and cursor within their bounds, or a problem.
pub fn paging(limit: Option<u32>, after: Option<String>) -> Result<Paging, Problem> {
    if limit.is_some_and(|n| !(1..=200).contains(&n)) {
        return Err(Problem::input("limit", "must be a number from 1 to 200"));
    }
    if after.as_ref().is_some_and(|cursor| cursor.is_empty() || cursor.len() > 200) {
        return Err(Problem::input("after", "is not a cursor; pass `next` of the page before"));
    }
    Ok(Paging { after, limit })
}

/// The `Idempotency-Key`, if there is one: 1 to 255 visible ASCII characters.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut all = headers.get_all("idempotency-key").iter();
    let Some(value) = all.next() else { return Ok(None) };
    let bytes = value.as_bytes();
    if all.next().is_some() || !(1..=255).contains(&bytes.len()) || !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(Problem::input("Idempotency-Key", "must be one value of 1 to 255 visible ASCII characters"));
    }
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

/// SHA-256 over the path and the body in canonical form: keys sorted, no white space, empty fields left out.
pub fn body_hash<T: Serialize>(path: &str, body: &T) -> Result<Vec<u8>, Problem> {
    let mut value = serde_json::to_value(body).map_err(|e| Problem::internal(e.to_string()))?;
    value.sort_all_objects();
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(path.as_bytes());
    context.update(b"\n");
    context.update(value.to_string().as_bytes());
    Ok(context.finish().as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn duration(value: serde_json::Value) -> Result<u32, String> {
        let given: DurationInput = serde_json::from_value(value).map_err(|e| e.to_string())?;
        given.ttl("duration").map(Ttl::seconds).map_err(|p| p.detail().to_owned())
    }

    #[test]
    fn durations_come_as_text_or_seconds() {
        assert_eq!(duration(json!("1h30m")), Ok(5400));
        assert_eq!(duration(json!(5400)), Ok(5400));
    }

    #[test]
    fn bad_durations_are_refused_under_their_field() {
        let not_positive = "duration: a duration must be at least one second";
        let overflow = "duration: the duration is too long to be represented";
        for (given, want) in [
            (json!(0), not_positive),
            (json!("0m"), not_positive),
            (json!(-5), not_positive),
            (json!("-5m"), not_positive),
            (json!(u64::MAX), overflow),
            (json!("99999999999999999999w"), overflow),
            (json!(1e30), overflow),
        ] {
            assert_eq!(duration(given.clone()), Err(want.into()), "{given}");
        }
        for given in [json!("soon"), json!(""), json!(1.5), json!("1h5")] {
            assert!(duration(given.clone()).unwrap_err().contains("is not a duration"), "{given}");
        }
        assert!(duration(json!([])).unwrap_err().contains("expected a duration"));
    }

    #[test]
    fn a_page_has_bounds() {
        assert!(paging(Some(200), None).is_ok());
        assert!(paging(None, Some("req_1".into())).is_ok());
        for (limit, after) in [(Some(0), None), (Some(201), None), (None, Some(String::new()))] {
            assert!(paging(limit, after).is_err());
        }
    }

    #[test]
    fn keys_are_visible_ascii() {
        let key = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_bytes(value).unwrap());
            idempotency_key(&headers).map_err(|p| p.field().map(str::to_owned))
        };
        assert_eq!(key(b"abc-123"), Ok(Some("abc-123".into())));
        assert_eq!(idempotency_key(&HeaderMap::new()).map_err(|_| ()), Ok(None));
        for bad in [&b""[..], b"a b", "schl\u{fc}ssel".as_bytes(), &[b'x'; 256]] {
            assert_eq!(key(bad), Err(Some("Idempotency-Key".into())));
        }
    }

    #[test]
    fn the_hash_is_of_the_meaning_and_of_the_path() {
        #[derive(Deserialize, Serialize)]
        struct Body {
            reason: String,
            duration: DurationInput,
        }
        let hash = |path, text| body_hash(path, &serde_json::from_str::<Body>(text).unwrap()).unwrap();
        let one = hash("/a", r#"{"reason":"x","duration":"90m"}"#);
        assert_eq!(one, hash("/a", r#"{ "duration": 5400, "reason": "x" }"#));
        assert_ne!(one, hash("/b", r#"{"reason":"x","duration":"90m"}"#));
        assert_ne!(one, hash("/a", r#"{"reason":"y","duration":"90m"}"#));
    }
}
