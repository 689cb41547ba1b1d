//! Who calls, with what: a source's token, a body of a bounded size, the parameters of the URL.

use axum::extract::{FromRequest, FromRequestParts, Request};
use http::{HeaderMap, HeaderName, header, request::Parts};
use serde_json::Value;

use crate::{
    broker::{
        BrokerError, SourceCtx,
        scim::{ListRequest, MAX_BODY, Precondition},
    },
    domain::scim::{projection::Selection, schema::ResourceType},
    edge::inbound::{
        Edge,
        auth::{bearer, call},
        body::{media_type, parse, read_up_to},
        problem::{Kind, Problem},
    },
};

/// The name of this surface in the audit log.
pub const VIA: &str = "scim";

/// The source that calls. Put it first among a handler's arguments.
pub struct Caller(pub SourceCtx);

impl FromRequestParts<Edge> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let call = call(parts)?;
        let token = bearer(&parts.headers);
        let known = match token {
            Some(token) => edge.broker.authenticate_source(token, VIA).await,
            None => Err(BrokerError::Unauthenticated),
        };
        match known {
            Ok(mut ctx) => {
                ctx.correlation = call.id;
                let _ = call.source.set(ctx.source.id);
                edge.gate.source(ctx.source.id)?;
                Ok(Self(ctx))
            }
            Err(BrokerError::Unauthenticated) => {
                edge.gate.address(call.address)?;
                Err(Problem::unauthenticated(token.is_some()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A JSON body. Put it last.
pub struct Body(pub Value);

impl FromRequest<Edge> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Problem> {
        read_json(request, edge, MAX_BODY).await.map(Self)
    }
}

/// Read JSON of at most `bound` bytes.
pub async fn read_json(request: Request, edge: &Edge, bound: usize) -> Result<Value, Problem> {
    let (parts, body) = request.into_parts();
    let given = media_type(&parts.headers);
    let fits =
        ["", "application/scim+json", "application/json", "text/json"].iter().any(|m| given.eq_ignore_ascii_case(m));
    if !fits {
        return Err(Problem::new(Kind::UnsupportedMediaType, "send the body as `application/scim+json`"));
    }
    let bytes = read_up_to(&parts.headers, body, bound, edge.limits.body_time).await?;
    // Some begin with a byte order mark.
    parse(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes))
}

/// What is behind the `?`. Names that nobody knows are passed over.
pub struct Parameters(Vec<(String, String)>);

impl FromRequestParts<Edge> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _edge: &Edge) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl Parameters {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What a list is asked for.
    pub fn list(&self) -> Result<ListRequest, Problem> {
        ListRequest::from_pairs(self.pairs()).map_err(super::answer::refused)
    }

    /// Which attributes of one resource are asked for.
    pub fn selection(&self, of: &'static ResourceType) -> Selection {
        ListRequest::attributes_of(self.pairs()).selection(of)
    }

    /// Does it speak as Entra ID does with the flag that its tenants set at the URL?
    pub fn is_entra(&self) -> bool {
        self.pairs().any(|(name, _)| name.eq_ignore_ascii_case("aadOptscim062020"))
    }

    /// Is a filter asked for?
    pub fn is_filtered(&self) -> bool {
        self.pairs().any(|(name, _)| name.eq_ignore_ascii_case("filter"))
    }
}

/// On which versions a call depends.
pub struct Versions(pub Precondition);

impl FromRequestParts<Edge> for Versions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _edge: &Edge) -> Result<Self, Problem> {
        Ok(Self(Precondition {
            matches: tags(&parts.headers, &header::IF_MATCH),
            none_of: tags(&parts.headers, &header::IF_NONE_MATCH),
        }))
    }
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let all = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(',')).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()).collect()
}

/// The id in the path, as it was sent.
pub struct Id(pub String);

impl FromRequestParts<Edge> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        let path = axum::extract::Path::<String>::from_request_parts(parts, edge).await;
        path.map(|id| Self(id.0)).map_err(|_| Problem::not_found("resource"))
    }
}
