//! Who calls? A session in a cookie. A form must also come from this site and carry what is bound to the session.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
};
use http::{HeaderMap, header, request::Parts};
use ring::digest;

use super::{cookie, frame::Frame};
use crate::{
    broker::{BrokerError, Ctx},
    domain::{id::SessionId, secret::Secret},
    edge::inbound::{
        auth::{admit, call},
        body::{media_type, read},
        portal::Portal,
        problem::{Kind, Problem},
        state::{Call, Edge},
    },
};

/// Header of calls that a page makes by itself, without its reader doing anything.
const BY_ITSELF: &str = "tidegate-by-itself";

/// A person who has signed in. Put it first among a handler's arguments.
pub struct Visitor {
    /// Who acts.
    pub ctx: Ctx,
    /// In which session.
    pub session: SessionId,
    /// What every form must send along.
    pub csrf: String,
    /// What the browser prefers.
    pub theme: Option<&'static str>,
    /// Where this call goes to, with its query, for coming back to it.
    pub here: String,
    /// It was not a link on another site that led here, as far as the browser says.
    pub from_here: bool,
    edge: Edge,
}

impl Visitor {
    /// The frame of a page for this person.
    pub async fn frame(&self, title: &str, place: &'static str) -> Result<Frame, Problem> {
        let inbox = self.edge.broker.inbox(&self.ctx).await?;
        Ok(Frame::of(self, title, place, inbox, self.edge.broker.now()))
    }

    async fn of(parts: &Parts, edge: &Edge) -> Result<Self, Problem> {
        let call = call(parts)?;
        let given = cookie::read(&parts.headers, &edge.portal, cookie::SESSION);
        let known = match given {
            // What a page does by itself keeps nobody signed in.
            Some(secret) if parts.headers.contains_key(BY_ITSELF) || parts.uri.path() == "/live" => {
                edge.broker.watch_session(secret).await
            }
            Some(secret) => edge.broker.authenticate_session(secret).await,
            None => Err(BrokerError::Unauthenticated),
        };
        let (known, rest) = match known {
            Ok(visit) => (Ok(visit.ctx), Some((visit.session, visit.csrf))),
            Err(error) => (Err(error), None),
        };
        let ctx = admit(edge, &call, known, given.is_some())?;
        let (session, csrf) = rest.ok_or_else(|| Problem::unauthenticated(true))?;
        let here = parts.uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        let from_here = parts.headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin");
        Ok(Self { ctx, session, csrf, from_here, theme: cookie::theme(&parts.headers), here, edge: Arc::clone(edge) })
    }
}

impl FromRequestParts<Edge> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, edge: &Edge) -> Result<Self, Problem> {
        Self::of(parts, edge).await
    }
}

/// The fields of a form, in order. Values may be secrets, so they are not shown in `Debug`.
pub struct Fields(Vec<(String, Secret)>);

impl Fields {
    /// From a form's body or a query.
    pub fn parse(bytes: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(bytes).map(|(n, v)| (n.into_owned(), Secret::new(v.into_owned()))).collect())
    }

    /// A field without white space around it; an empty one counts as missing.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(n, _)| n == name)?;
        Some(value.expose().trim()).filter(|text| !text.is_empty())
    }

    /// A text, empty if it is missing.
    pub fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    /// All fields of a name.
    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(n, _)| n == name).map(|(_, v)| v.expose().trim().to_owned());
        values.filter(|v| !v.is_empty()).collect()
    }

    /// A field that parses, if it is there.
    pub fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Problem> {
        self.get(name).map(|text| text.parse().map_err(|e| Problem::input(name, e))).transpose()
    }
}

/// A form that came from this site, in a session, with what is bound to it. Put it last among a handler's arguments.
pub struct Posted {
    /// Who sent it.
    pub visitor: Visitor,
    /// What is in it.
    pub fields: Fields,
}

impl FromRequest<Edge> for Posted {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        from_here(&parts.headers, &edge.portal)?;
        let visitor = Visitor::of(&parts, edge).await?;
        let fields = fields(&parts.headers, body, edge).await?;
        let given = fields.get("csrf").unwrap_or_default();
        if !is_same(given, &visitor.csrf) {
            return Err(Problem::new(
                Kind::Forbidden,
                "this form belongs to another session, perhaps because you signed in again; nothing was changed: go \
                 back, reload the page, and send it once more",
            ));
        }
        Ok(Self { visitor, fields })
    }
}

/// A form that came from this site, without a session: for signing in.
pub struct PostedOutside {
    /// What is in it.
    pub fields: Fields,
    /// The head of the call.
    pub parts: Parts,
    /// The call.
    pub call: Arc<Call>,
}

impl FromRequest<Edge> for PostedOutside {
    type Rejection = Problem;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let call = call(&parts)?;
        edge.gate.address(call.address)?;
        from_here(&parts.headers, &edge.portal)?;
        let fields = fields(&parts.headers, body, edge).await?;
        Ok(Self { fields, parts, call })
    }
}

async fn fields(headers: &HeaderMap, body: Body, edge: &Edge) -> Result<Fields, Problem> {
    let bytes = read(headers, body, &edge.limits).await?;
    if !bytes.is_empty() && !media_type(headers).eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Problem::new(Kind::UnsupportedMediaType, "send the form as `application/x-www-form-urlencoded`"));
    }
    Ok(Fields::parse(&bytes))
}

/// Compares secrets by their hashes, so that the time it takes says nothing about them.
pub fn is_same(one: &str, other: &str) -> bool {
    let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
    hash(one).as_ref() == hash(other).as_ref()
}

/// Browsers say where a form comes from. One that does not say so is not a browser of ours.
fn from_here(headers: &HeaderMap, portal: &Portal) -> Result<(), Problem> {
    let mut given = headers.get_all(header::ORIGIN).iter();
    let origin = given.next().and_then(|v| v.to_str().ok());
    let ours = origin.is_some_and(|o| portal.origins.iter().any(|ours| ours == o)) && given.next().is_none();
    let elsewhere = headers.get("sec-fetch-site").is_some_and(|v| v != "same-origin");
    if ours && !elsewhere {
        return Ok(());
    }
    Err(Problem::new(Kind::Forbidden, "this form did not come from this site; nothing was changed"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn forms_come_from_this_site_or_not_at_all() {
        let portal = Portal { origins: vec!["https://tg.example".to_owned()], ..Portal::default() };
        let check = |origin: Option<&'static str>, site: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(text) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(text));
            }
            if let Some(text) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_static(text));
            }
            from_here(&headers, &portal).is_ok()
        };
        assert!(check(Some("https://tg.example"), Some("same-origin")));
        assert!(check(Some("https://tg.example"), None));
        assert!(!check(None, None) && !check(None, Some("same-origin")));
        assert!(!check(Some("null"), None) && !check(Some("https://tg.example.evil"), None));
        assert!(!check(Some("http://tg.example"), None) && !check(Some("https://tg.example:444"), None));
        assert!(!check(Some("https://tg.example"), Some("cross-site")));
        assert!(!check(Some("https://tg.example"), Some("same-site")));
    }

    #[test]
    fn fields_are_read_by_name() {
        let fields = Fields::parse(b"e=a&e=b&reason=+why%20not+&empty=");
        assert_eq!(fields.all("e"), ["a", "b"]);
        assert_eq!(fields.get("reason"), Some("why not"));
        assert_eq!(fields.get("empty"), None);
        assert!(fields.parsed::<crate::domain::time::Ttl>("reason").is_err());
    }
}
