//! Bodies of OAuth endpoints: `application/x-www-form-urlencoded`, no parameter twice (RFC 6749 §3.2).

use axum::{
    body::Body,
    extract::{FromRequest, Request},
};
use http::request::Parts;

use super::refusal::Refusal;
use crate::{
    domain::secret::Secret,
    edge::http::{
        Edge,
        body::{media_type, read},
    },
};

/// The parameters of a form, with the head of the call that it came in.
pub struct Form {
    /// Head of the call.
    pub parts: Parts,
    fields: Vec<(String, Secret)>,
}

impl Form {
    /// A parameter; an empty one counts as missing.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(n, _)| n == name)?;
        Some(value.expose()).filter(|text| !text.is_empty())
    }

    /// A parameter that must be there.
    pub fn need(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| Refusal::invalid(format!("`{name}` is missing")))
    }

    fn parse(parts: Parts, body: &[u8]) -> Result<Self, Refusal> {
        let mut fields: Vec<(String, Secret)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            if fields.iter().any(|(n, _)| *n == name) {
                return Err(Refusal::invalid("a parameter is there twice"));
            }
            fields.push((name.into_owned(), Secret::new(value.into_owned())));
        }
        Ok(Self { parts, fields })
    }
}

impl FromRequest<Edge> for Form {
    type Rejection = Refusal;

    async fn from_request(request: Request, edge: &Edge) -> Result<Self, Refusal> {
        let (parts, body): (Parts, Body) = request.into_parts();
        let bytes = read(&parts.headers, body, &edge.limits).await?;
        let is_form = media_type(&parts.headers).eq_ignore_ascii_case("application/x-www-form-urlencoded");
        if !bytes.is_empty() && !is_form {
            return Err(Refusal::invalid("send the parameters as `application/x-www-form-urlencoded`"));
        }
        Self::parse(parts, &bytes)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn form(body: &str, authorization: Option<&str>) -> Result<Form, Refusal> {
        let mut request = Request::new(());
        if let Some(text) = authorization {
            request.headers_mut().insert(http::header::AUTHORIZATION, text.parse().unwrap());
        }
        Form::parse(request.into_parts().0, body.as_bytes())
    }

    #[test]
    fn parameters_are_decoded_and_never_doubled() {
        let read = form("grant_type=client_credentials&scope=a+b%20c&empty=", None).ok().unwrap();
        assert_eq!((read.get("scope"), read.get("empty")), (Some("a b c"), None));
        assert!(read.need("token").is_err());
        assert!(form("a=1&a=2", None).is_err());
    }
}
