//! The operations of IAM that the connectors need (API version 2010-05-08): a signed form, an answer in XML.
//!
//! `docs/adr/0010-iam-by-hand.md` says why this is not the SDK's client.

use std::{fmt::Write as _, sync::Arc};

use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_xml::decode::{Document, try_data};
use url::form_urlencoded;

use super::{Account, ApiError, account::Session};

/// Longest answer that is read.
const MAX_ANSWER: usize = 4 << 20;
/// Entries of a list that one answer holds.
const PAGE: &str = "200";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// What matters of a role.
pub struct RoleFacts {
    /// Longest session in seconds.
    pub max_session: u32,
}

/// What has a name today, and an id for good (`AIDA…`, `AGPA…`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As it is called now.
    pub name: String,
    /// What it stays, however it is called.
    pub id: String,
}

type Fields = Vec<(String, String)>;

fn id_in(fields: &Fields, name: &str) -> Result<String, ApiError> {
    one(fields, name).map(str::to_owned).ok_or_else(|| ApiError::unreachable(format!("IAM's answer holds no {name}")))
}

/// Names with their ids: each element holds one of both.
fn named(fields: &Fields, name: &str, id: &str) -> Result<Vec<Named>, ApiError> {
    let of = |wanted: &str| fields.iter().filter(|(field, _)| field == wanted).map(|(_, v)| v.clone()).collect();
    let (names, ids): (Vec<String>, Vec<String>) = (of(name), of(id));
    if names.len() != ids.len() {
        return Err(ApiError::unreachable(format!("IAM's answer does not hold a {id} for each {name}")));
    }
    Ok(names.into_iter().zip(ids).map(|(name, id)| Named { name, id }).collect())
}

impl Account {
    /// A role; `None` if there is none of that name.
    pub async fn role(&self, name: &str) -> Result<Option<RoleFacts>, ApiError> {
        let asked = self.iam("GetRole", &[("RoleName", name)], &["MaxSessionDuration"]).await;
        let Some(fields) = found(asked)? else { return Ok(None) };
        let max_session = one(&fields, "MaxSessionDuration").and_then(|n| n.parse().ok()).unwrap_or(3600);
        Ok(Some(RoleFacts { max_session }))
    }

    /// The text of an inline policy of a role; `None` if role or policy are not there.
    pub async fn role_policy(&self, role: &str, policy: &str) -> Result<Option<String>, ApiError> {
        let arguments = [("RoleName", role), ("PolicyName", policy)];
        let Some(fields) = found(self.iam("GetRolePolicy", &arguments, &["PolicyDocument"]).await)? else {
            return Ok(None);
        };
        let missing = || ApiError::unreachable("IAM's answer holds no policy");
        let encoded = one(&fields, "PolicyDocument").ok_or_else(missing)?;
        // Percent-encoded (RFC 3986), where a plus is a plus.
        let form = format!("d={}", encoded.replace('+', "%2B"));
        Ok(form_urlencoded::parse(form.as_bytes()).next().map(|(_, text)| text.into_owned()))
    }

    /// Write an inline policy of a role, in place of one of that name.
    pub async fn put_role_policy(&self, role: &str, policy: &str, document: &str) -> Result<(), ApiError> {
        let arguments = [("RoleName", role), ("PolicyName", policy), ("PolicyDocument", document)];
        self.iam("PutRolePolicy", &arguments, &[]).await.map(drop)
    }

    /// Delete an inline policy of a role; none there is done.
    pub async fn delete_role_policy(&self, role: &str, policy: &str) -> Result<(), ApiError> {
        let arguments = [("RoleName", role), ("PolicyName", policy)];
        found(self.iam("DeleteRolePolicy", &arguments, &[]).await).map(drop)
    }

    /// Names of the inline policies of a role; `None` if there is no such role.
    pub async fn role_policies(&self, role: &str) -> Result<Option<Vec<String>>, ApiError> {
        let fields = self.list("ListRolePolicies", &[("RoleName", role)], &["member"]).await?;
        Ok(fields.map(|fields| fields.into_iter().map(|(_, name)| name).collect()))
    }

    /// The id of a user; `None` if there is none of that name.
    pub async fn user_id(&self, name: &str) -> Result<Option<String>, ApiError> {
        let fields = found(self.iam("GetUser", &[("UserName", name)], &["UserId"]).await)?;
        fields.map(|fields| id_in(&fields, "UserId")).transpose()
    }

    /// The id of a group; `None` if there is none of that name.
    pub async fn group_id(&self, name: &str) -> Result<Option<String>, ApiError> {
        let asked = self.iam("GetGroup", &[("GroupName", name), ("MaxItems", "1")], &["GroupId"]).await;
        found(asked)?.map(|fields| id_in(&fields, "GroupId")).transpose()
    }

    /// The users in a group; `None` if there is no such group.
    pub async fn group_members(&self, group: &str) -> Result<Option<Vec<Named>>, ApiError> {
        let fields = self.list("GetGroup", &[("GroupName", group)], &["UserName", "UserId"]).await?;
        fields.map(|fields| named(&fields, "UserName", "UserId")).transpose()
    }

    /// The groups that a user is in; `None` if there is no such user.
    pub async fn groups_of(&self, user: &str) -> Result<Option<Vec<Named>>, ApiError> {
        let fields = self.list("ListGroupsForUser", &[("UserName", user)], &["GroupName", "GroupId"]).await?;
        fields.map(|fields| named(&fields, "GroupName", "GroupId")).transpose()
    }

    /// All groups of the account.
    pub async fn groups(&self) -> Result<Vec<Named>, ApiError> {
        let fields = self.list("ListGroups", &[], &["GroupName", "GroupId"]).await?;
        named(&fields.unwrap_or_default(), "GroupName", "GroupId")
    }

    /// Put a user into a group; being in it already is done.
    pub async fn add_to_group(&self, group: &str, user: &str) -> Result<(), ApiError> {
        self.iam("AddUserToGroup", &[("GroupName", group), ("UserName", user)], &[]).await.map(drop)
    }

    /// Take a user out of a group; not being in it is done.
    pub async fn remove_from_group(&self, group: &str, user: &str) -> Result<(), ApiError> {
        found(self.iam("RemoveUserFromGroup", &[("GroupName", group), ("UserName", user)], &[]).await).map(drop)
    }

    /// These fields of the whole of a list that comes in pages.
    async fn list(
        &self,
        action: &str,
        arguments: &[(&str, &str)],
        wanted: &[&str],
    ) -> Result<Option<Fields>, ApiError> {
        let (mut all, mut marker) = (Vec::new(), None::<String>);
        loop {
            let mut arguments = arguments.to_vec();
            arguments.push(("MaxItems", PAGE));
            arguments.extend(marker.as_deref().map(|m| ("Marker", m)));
            let asked = self.iam(action, &arguments, &[wanted, &["IsTruncated", "Marker"]].concat()).await;
            let Some(fields) = found(asked)? else { return Ok(None) };
            let more = one(&fields, "IsTruncated").map(str::to_owned);
            let next = one(&fields, "Marker").map(str::to_owned).filter(|m| !m.is_empty());
            all.extend(fields.into_iter().filter(|(name, _)| wanted.contains(&name.as_str())));
            match more.as_deref() {
                Some("false") => return Ok(Some(all)),
                None if next.is_none() => return Ok(Some(all)),
                Some("true") if next.is_some() && next != marker => marker = next,
                _ => return Err(ApiError::unreachable(format!("the answer of {action} does not say where it ends"))),
            }
        }
    }

    /// Call an operation; the text of the wanted elements of its answer, in their order.
    async fn iam(&self, action: &str, arguments: &[(&str, &str)], wanted: &[&str]) -> Result<Fields, ApiError> {
        let body = form(action, arguments);
        let answer = self.call("IAM", |session| Box::pin(self.send(session, body.clone()))).await?;
        answered(&answer, action)?;
        elements(&answer, wanted)
    }

    async fn send(&self, session: Arc<Session>, body: String) -> Result<String, ApiError> {
        self.must_be_ours(&session).await?;
        let (url, region) = self.iam_endpoint();
        let request = self.signed(&session, &url, region, &body)?;
        let lost = |e: reqwest::Error| {
            let e = e.without_url();
            let mut cause: &dyn std::error::Error = &e;
            while let Some(next) = cause.source() {
                cause = next;
            }
            ApiError::unreachable(format!("IAM cannot be reached: {cause}"))
        };
        let mut response = self.http.execute(request).await.map_err(lost)?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(ApiError::unreachable("the answer of IAM is too long"));
            }
            bytes.extend_from_slice(&chunk);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if status.is_success() {
            return Ok(text);
        }
        let fields = elements(&text, &["Code", "Message"]).unwrap_or_default();
        let said = |name, otherwise| one(&fields, name).unwrap_or(otherwise).to_owned();
        Err(ApiError::answered(&said("Code", "Unknown"), &said("Message", "no message"), status.as_u16()))
    }

    fn signed(&self, session: &Session, url: &str, region: &str, body: &str) -> Result<reqwest::Request, ApiError> {
        let unsigned = |e: &dyn std::fmt::Display| ApiError::unreachable(format!("no request could be signed: {e}"));
        let identity = session.credentials().clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("iam")
            .time(self.time())
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| unsigned(&e))?
            .into();
        let mut request = http::Request::post(url)
            .header(http::header::CONTENT_TYPE, FORM)
            .body(body.to_owned())
            .map_err(|e| unsigned(&e))?;
        let signable = SignableRequest::new(
            "POST",
            url,
            std::iter::once(("content-type", FORM)),
            SignableBody::Bytes(body.as_bytes()),
        )
        .map_err(|e| unsigned(&e))?;
        let (instructions, _) = sign(signable, &params).map_err(|e| unsigned(&e))?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        reqwest::Request::try_from(request).map_err(|e| unsigned(&e))
    }
}

/// The form, encoded as the SDKs of AWS do it (RFC 3986): some signatures are checked over what the server encodes anew.
fn form(action: &str, arguments: &[(&str, &str)]) -> String {
    let mut form = format!("Action={action}&Version=2010-05-08");
    for (name, value) in arguments {
        let _ = write!(form, "&{name}=");
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => form.push(char::from(byte)),
                other => {
                    let _ = write!(form, "%{other:02X}");
                }
            }
        }
    }
    form
}

/// Is that the whole answer to this operation? A page of something in between, or half an answer, says nothing.
fn answered(xml: &str, action: &str) -> Result<(), ApiError> {
    let root = format!("{action}Response");
    let whole = Document::new(xml).next_start_element().is_some_and(|element| element.local() == root)
        && xml.trim_end().strip_suffix('>').is_some_and(|rest| rest.trim_end().ends_with(&format!("/{root}")));
    if whole { Ok(()) } else { Err(ApiError::unreachable(format!("what answered {action} is not IAM"))) }
}

/// `None` for what is not there.
fn found<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(it) => Ok(Some(it)),
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(e),
    }
}

fn one<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The texts of elements of those names, wherever they are.
fn elements(xml: &str, wanted: &[&str]) -> Result<Fields, ApiError> {
    let mut document = Document::new(xml);
    let mut fields = Vec::new();
    while let Some(element) = document.next_start_element() {
        let name = element.local();
        if wanted.contains(&name) {
            let name = name.to_owned();
            // An element of that name which holds others is not the one that is meant.
            if let Ok(text) = try_data(&mut document) {
                fields.push((name, text.into_owned()));
            }
        }
    }
    // What is cut off says nothing.
    if fields.is_empty() && !xml.trim_end().ends_with('>') {
        return Err(ApiError::unreachable("the answer of IAM is not XML"));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let xml = r#"<GetGroupResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetGroupResult><Group>
            <GroupName>g</GroupName></Group><Users><member><UserName>ana</UserName><Path>/</Path></member><member>
            <UserName>b&amp;n</UserName></member></Users><IsTruncated>true</IsTruncated><Marker>m1</Marker>
            </GetGroupResult></GetGroupResponse>"#;
        let fields = elements(xml, &["UserName", "IsTruncated", "Marker"]).unwrap();
        let texts: Vec<&str> = fields.iter().map(|(_, v)| v.as_str()).collect();
        assert_eq!(texts, ["ana", "b&n", "true", "m1"]);
        assert_eq!(one(&fields, "Marker"), Some("m1"));
        let listed = "<R><PolicyNames><member>tg-1</member><member>tg-2</member></PolicyNames></R>";
        assert_eq!(elements(listed, &["member"]).unwrap().len(), 2);
        assert!(elements("nonsense", &["member"]).is_err());
        assert!(answered(xml, "GetGroup").is_ok());
        for other in ["<html>we are down</html>", "", "<GetGroupResponse>", "<GetGroupResponse/><x/>", &xml[..200]] {
            assert!(answered(other, "GetGroup").is_err(), "{other}");
        }
        assert_eq!(form("A", &[("B", "* +ä")]), "Action=A&Version=2010-05-08&B=%2A%20%2B%C3%A4");
    }
}
