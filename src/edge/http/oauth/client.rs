//! Which client calls: `client_secret_basic` or `client_secret_post` (RFC 6749 §2.3.1), never both; or a bearer token
//! where the endpoint takes one.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{form::Form, refusal::Refusal};
use crate::{
    broker::{BrokerError, Ctx},
    domain::secret::Secret,
    edge::http::{
        Edge,
        auth::{VIA, admit, authorization, bearer, call},
        problem::{Kind, Problem},
    },
};

/// Id and secret of a client.
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
}

/// Id and secret, from the header or from the form.
pub fn client(form: &Form) -> Result<Option<Client>, Refusal> {
    let basic = match authorization(&form.parts.headers) {
        Some((scheme, text)) if scheme.eq_ignore_ascii_case("basic") => Some(decode(text).ok_or_else(Refusal::client)?),
        _ => None,
    };
    let posted = match (form.get("client_id"), form.get("client_secret")) {
        (Some(id), Some(secret)) => Some(Client { id: id.to_owned(), secret: Secret::new(secret.to_owned()) }),
        (None, Some(_)) => return Err(Refusal::invalid("`client_id` is missing")),
        _ => None,
    };
    match (basic, posted) {
        (Some(_), Some(_)) => Err(Refusal::invalid("authenticate in one way: by header or by form")),
        (Some(one), None) | (None, Some(one)) => Ok(Some(one)),
        (None, None) => Ok(None),
    }
}

/// Who calls introspection or revocation: a client, or whoever has a bearer token.
pub async fn caller(edge: &Edge, form: &Form) -> Result<Ctx, Refusal> {
    let (given, known) = match client(form)? {
        Some(client) => (true, edge.broker.authenticate_client(&client.id, client.secret.expose(), VIA).await),
        None => match bearer(&form.parts.headers) {
            Some(token) => (true, edge.broker.authenticate(token, VIA).await),
            None => (false, Err(BrokerError::Unauthenticated)),
        },
    };
    admit(edge, &*call(&form.parts)?, known, given).map_err(unknown_client)
}

/// An unknown caller has a code of its own here.
fn unknown_client(problem: Problem) -> Refusal {
    if problem.kind() == Kind::Unauthenticated { Refusal::client() } else { Refusal::Problem(problem) }
}

/// `base64(urlencode(id) ":" urlencode(secret))`.
fn decode(text: &str) -> Option<Client> {
    let plain = zeroize::Zeroizing::new(STANDARD.decode(text).ok()?);
    let (id, secret) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    Some(Client { id: url_decoded(id), secret: Secret::new(url_decoded(secret)) })
}

fn url_decoded(text: &str) -> String {
    url::form_urlencoded::parse(text.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::form::tests::form, *};

    fn read(body: &str, authorization: Option<&str>) -> Result<Option<(String, String)>, ()> {
        let form = form(body, authorization).map_err(|_| ())?;
        let client = client(&form).map_err(|_| ())?;
        Ok(client.map(|c| (c.id, c.secret.expose().to_owned())))
    }

    fn pair(id: &str, secret: &str) -> (String, String) {
        (id.to_owned(), secret.to_owned())
    }

    #[test]
    fn a_client_shows_its_secret_in_one_of_two_ways() {
        let basic = format!("Basic {}", STANDARD.encode("deploy%2Dbot:tgs_x"));
        assert_eq!(read("", Some(&basic)), Ok(Some(pair("deploy-bot", "tgs_x"))));
        assert_eq!(read("client_id=a&client_secret=b", None), Ok(Some(pair("a", "b"))));
        assert_eq!(read("grant_type=x", None), Ok(None));
        assert_eq!(read("", Some("Bearer x")), Ok(None));
        assert_eq!(read("client_id=a&client_secret=b", Some(&basic)), Err(()));
        assert_eq!(read("client_secret=b", None), Err(()));
        assert_eq!(read("", Some("Basic %%%")), Err(()));
    }
}
