//! Who an entry is, whatever it is called today: its `entryUUID` (RFC 4530), or `objectGUID` in Active Directory.
//!
//! Names move: a group is renamed, a person marries. What a grant opened is found by id, and "there is nothing" is only
//! said of a part of the directory that can be seen to hold something.

use ldap3::SearchEntry;

use super::{
    client::{Client, Failure, code},
    config::Style,
};
use crate::ports::connector::Fault;

/// The attribute that holds the id.
pub(super) const fn attribute(style: Style) -> &'static str {
    match style {
        Style::Openldap => "entryUUID",
        Style::ActiveDirectory => "objectGUID",
    }
}

/// The id of an entry that was read with [`attribute`]; `None` if the directory shows none.
pub(super) fn of(entry: &SearchEntry, style: Style) -> Option<String> {
    let of_name = |name: &String| name.eq_ignore_ascii_case(attribute(style));
    let text = entry.attrs.iter().find(|(name, _)| of_name(name)).and_then(|(_, values)| values.first());
    match style {
        Style::Openldap => text.filter(|text| is_uuid(text)).map(|text| text.to_ascii_lowercase()),
        Style::ActiveDirectory => {
            // Bytes; as text only if they happen to be some.
            let bytes = entry.bin_attrs.iter().find(|(name, _)| of_name(name)).and_then(|(_, values)| values.first());
            guid(bytes.map(Vec::as_slice).or_else(|| text.map(String::as_bytes))?)
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

/// A GUID as it is written: its first three numbers have their bytes the other way round (MS-DTYP §2.3.4.2).
fn guid(bytes: &[u8]) -> Option<String> {
    if bytes.len() != 16 {
        return None;
    }
    let part = |from: usize, to: usize| bytes.get(from..to).unwrap_or_default().to_vec();
    let turned = |from, to| part(from, to).into_iter().rev().collect::<Vec<u8>>();
    let parts = [turned(0, 4), turned(4, 6), turned(6, 8), part(8, 10), part(10, 16)];
    Some(parts.map(hex::encode).join("-"))
}

/// The filter that only the entry of that id fits.
pub(super) fn filter(id: &str) -> String {
    format!("(entryUUID={id})")
}

/// The entry of that id, wherever it is now, if the broker can see it.
pub(super) async fn find(
    client: &Client,
    style: Style,
    id: &str,
    wanted: &[&str],
) -> Result<Option<SearchEntry>, Failure> {
    if style == Style::ActiveDirectory {
        return match client.entry(&format!("<GUID={id}>"), "(objectClass=*)", wanted, None).await {
            Err(e) if e.code == code::NO_SUCH_OBJECT => Ok(None),
            other => other,
        };
    }
    let root = client.entry("", "(objectClass=*)", &["namingContexts"], None).await?;
    let contexts = root.map(|root| root.attrs.into_values().flatten().collect::<Vec<_>>()).unwrap_or_default();
    for context in &contexts {
        if let Some(found) = client.search(context, &filter(id), wanted).await?.pop() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Who bears a name: the id, if the directory shows it; `None` if nobody does.
pub(super) async fn at(client: &Client, style: Style, dn: &str) -> Result<Option<Option<String>>, Failure> {
    match client.entry(dn, "(objectClass=*)", &[attribute(style)], None).await {
        Err(e) if e.code == code::NO_SUCH_OBJECT => Ok(None),
        other => Ok(other?.map(|entry| of(&entry, style))),
    }
}

/// The entry that was called `dn`, and is the one with that id. Without an id, its name is all that is known of it.
pub(super) async fn named(
    client: &Client,
    style: Style,
    dn: &str,
    id: Option<&str>,
    wanted: &[&str],
) -> Result<Option<SearchEntry>, Failure> {
    let wanted = [wanted, &[attribute(style)]].concat();
    let found = match client.entry(dn, "(objectClass=*)", &wanted, None).await {
        Err(e) if e.code == code::NO_SUCH_OBJECT => None,
        other => other?,
    };
    match id {
        Some(id) if found.as_ref().and_then(|entry| of(entry, style)).as_deref() != Some(id) => {
            find(client, style, id, &wanted).await
        }
        _ => Ok(found),
    }
}

/// Is a part of the directory open to the broker? It must be seen to hold something. Without that, "no such object" is
/// what a server says of what it does not disclose.
pub(super) async fn sighted(client: &Client, base: &str) -> Result<(), Fault> {
    if client.shows_children(base).await? {
        return Ok(());
    }
    Err(Fault::Unavailable(format!(
        "nothing is seen below {base}, so that what is not seen there may be there: let the broker's entry read it"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(guid(&bytes).as_deref(), Some("03020100-0504-0706-0809-0a0b0c0d0e0f"));
        assert_eq!(guid(b"short"), None);
        assert!(is_uuid("7f2b3c1e-0000-103f-8000-0123456789ab"));
        assert!(!is_uuid("*)(objectClass=*"));
    }
}
