//! Bodies: JSON of a bounded size that came in within a bounded time, with no fields that nobody reads. Nesting is
//! bounded by the parser (128 levels).

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream},
    extract::{FromRequest, Request},
};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;

use super::{
    problem::{Kind, Problem},
    state::{Edge, Limits},
};

/// Of a body that is too large, so much is still taken in before the answer.
const THROWN_AWAY: usize = 16 * 1024 * 1024;

/// A JSON body. Put it last among a handler's arguments.
pub struct JsonBody<T>(pub T);

/// A JSON body that may be left out, for every field of it may be.
pub struct OptionalBody<T>(pub T);

/// A body without fields: nothing, or `{}`.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl<T: DeserializeOwned> FromRequest<Edge> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        expect_json(&parts.headers)?;
        let bytes = read(&parts.headers, body, &edge.limits).await?;
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<Edge> for OptionalBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, &edge.limits).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        expect_json(&parts.headers)?;
        parse(&bytes).map(Self)
    }
}

/// All of the body, if it is not too large and does not trickle.
pub async fn read(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Bytes, Problem> {
    read_up_to(headers, body, limits.body_bytes, limits.body_time).await
}

/// The same with a bound of its own.
pub async fn read_up_to(headers: &HeaderMap, body: Body, bound: usize, within: Duration) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(Kind::BodyTooLarge, format!("the body is larger than {bound} bytes; nothing was changed"));
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let refused = announced.is_some_and(|n| n > bound as u64);
    if refused && headers.contains_key(header::EXPECT) {
        return Err(too_large());
    }
    let all = async {
        let mut chunks = body.into_data_stream();
        if refused {
            throw_away(&mut chunks).await;
            return Err(too_large());
        }
        let mut whole = BytesMut::new();
        let mut first = Bytes::new();
        while let Some(chunk) = chunks.next().await {
            let chunk =
                chunk.map_err(|_| Problem::input("body", "the connection broke before the body was complete"))?;
            if first.len() + whole.len() + chunk.len() > bound {
                throw_away(&mut chunks).await;
                return Err(too_large());
            }
            if first.is_empty() && whole.is_empty() {
                first = chunk;
            } else {
                whole.extend_from_slice(&std::mem::take(&mut first));
                whole.extend_from_slice(&chunk);
            }
        }
        Ok(if whole.is_empty() { first } else { whole.freeze() })
    };
    tokio::time::timeout(within, all)
        .await
        .unwrap_or_else(|_| Err(Problem::new(Kind::SlowBody, "the body was not complete in time; nothing was changed")))
}

/// Take in what still comes, up to a bound, and keep nothing of it: a client that is cut off while it sends does not read
/// why.
async fn throw_away(chunks: &mut BodyDataStream) {
    let mut taken = 0;
    while let Some(Ok(chunk)) = chunks.next().await {
        taken += chunk.len();
        if taken > THROWN_AWAY {
            break;
        }
    }
}

/// `application/json`, or a merge patch for those who call it that.
fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let given = media_type(headers);
    let fits = |name: &str| given.eq_ignore_ascii_case(name);
    if fits("application/json") || fits("application/merge-patch+json") {
        return Ok(());
    }
    Err(Problem::new(Kind::UnsupportedMediaType, "send the body as JSON, with `Content-Type: application/json`"))
}

/// The media type of the body without its parameters; empty if there is none.
pub fn media_type(headers: &HeaderMap) -> &str {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim()
}

/// Parse, and say where it went wrong. JSON that is none and JSON that does not fit are two problems.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let kind = if error.is_data() { Kind::InvalidInput } else { Kind::InvalidJson };
        Problem::new(kind, error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[allow(dead_code, reason = "only parsed")]
        reason: String,
    }

    fn refused(text: &str) -> (Kind, String) {
        let problem = parse::<Sample>(text.as_bytes()).unwrap_err();
        (problem.kind(), problem.detail().to_owned())
    }

    #[test]
    fn what_is_wrong_with_the_json_is_said_with_its_place() {
        assert_eq!(refused("{\n \"reason\": }").0, Kind::InvalidJson);
        assert!(refused("{\n \"reason\": }").1.contains("line 2 column 12"));
        assert_eq!(refused(""), (Kind::InvalidJson, "EOF while parsing a value at line 1 column 0".into()));
        assert_eq!(refused("{}").0, Kind::InvalidInput);
        assert!(refused("{}").1.contains("missing field `reason`"));
        assert!(refused(r#"{"reason":"x","colour":1}"#).1.contains("unknown field `colour`"));
        assert!(refused(r#"{"reason":"x","reason":"y"}"#).1.contains("duplicate field `reason`"));
        assert_eq!(refused(r#"{"reason":"x"} {}"#).0, Kind::InvalidJson);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let deep = "[".repeat(100_000);
        let problem = parse::<serde_json::Value>(deep.as_bytes()).unwrap_err();
        assert!(problem.detail().contains("recursion limit"), "{}", problem.detail());
    }

    #[test]
    fn only_json_is_read() {
        let with = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(text));
            expect_json(&headers).is_ok()
        };
        assert!(with("application/json") && with("Application/JSON; charset=utf-8"));
        assert!(!with("text/plain") && !with("application/jsonp") && expect_json(&HeaderMap::new()).is_err());
    }

    async fn reading(body: Body, limits: &Limits) -> Result<Bytes, Kind> {
        read(&HeaderMap::new(), body, limits).await.map_err(|p| p.kind())
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_bound() {
        let limits = Limits { body_bytes: 8, ..Limits::default() };
        let chunks = |n: usize| {
            Body::from_stream(stream::iter(vec![Ok::<_, std::convert::Infallible>(Bytes::from_static(b"1234")); n]))
        };
        assert_eq!(reading(chunks(2), &limits).await, Ok(Bytes::from_static(b"12341234")));
        assert_eq!(reading(chunks(3), &limits).await, Err(Kind::BodyTooLarge));
        assert_eq!(reading(Body::empty(), &limits).await, Ok(Bytes::new()));
    }

    #[tokio::test]
    async fn a_body_that_trickles_is_given_up() {
        let limits = Limits { body_time: Duration::from_millis(10), ..Limits::default() };
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::convert::Infallible>>());
        assert_eq!(reading(never, &limits).await, Err(Kind::SlowBody));
    }
}
