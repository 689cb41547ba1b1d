//! One membership in one group: how it is looked at, taken and left.
//!
//! Never replaces an attribute: only values of ours are added, and only they are deleted. A membership and its mark
//! change in one call, so neither is ever there without the other unless somebody else had a hand in it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use ldap3::ldap_escape;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    super::membership::{Seat, Seen},
    client::{Change, Client, Failure, code},
    config::{Data, Settings, plain},
};
use crate::{
    domain::{
        grant::{Recipe, Shared, grant_of_object, object_name},
        id::GrantId,
        time::Timestamp,
    },
    failpoint,
    ports::{
        clock::Clock,
        connector::{Fault, Found},
    },
};

/// Shows how long a value of a linked attribute still lasts: `<TTL=seconds,value>` (MS-ADTS §3.1.1.3.4.1.24).
pub(super) const LINK_TTL: &str = "1.2.840.113556.1.4.2309";

/// What the recipe names, at one server.
pub(super) struct Membership<'a> {
    pub client: &'a Client,
    pub settings: &'a Settings,
    pub clock: &'a dyn Clock,
    pub data: Data,
}

/// Read a recipe back.
pub(super) fn data(recipe: &Recipe) -> Result<Data, Fault> {
    let wrong = |what: &str| Fault::Refused(format!("the recipe of {} {what}", recipe.grant));
    if grant_of_object(&recipe.object) != Some(recipe.grant) {
        return Err(wrong("is of another grant"));
    }
    Data::deserialize(&recipe.data).map_err(|e| wrong(&format!("cannot be read: {e}")))
}

/// Find the holder and the group, as the server writes them. Nothing is known of the prior state yet.
pub(super) async fn find(client: &Client, settings: &Settings, holder: &str, group: &str) -> Result<Data, Fault> {
    let filter = settings.user_filter().replace("{name}", &ldap_escape(holder));
    let by_dn = settings.member_value.eq_ignore_ascii_case("dn");
    let wanted = if by_dn { "1.1" } else { settings.member_value.as_str() };
    let found = client.search(&settings.user_base, &filter, &[wanted]).await?;
    let [user] = found.as_slice() else {
        return Err(Fault::Refused(format!(
            "{} entries below {} fit {filter}; there must be one",
            found.len(),
            settings.user_base
        )));
    };
    let member = if by_dn {
        user.dn.clone()
    } else {
        let values = user.attrs.iter().find(|(name, _)| name.eq_ignore_ascii_case(&settings.member_value));
        match values.map(|(_, values)| values.as_slice()) {
            Some([one]) => one.clone(),
            _ => return Err(Fault::Refused(format!("{} has not exactly one {}", user.dn, settings.member_value))),
        }
    };
    let Some(entry) = client.entry(group, "(objectClass=*)", &["1.1"], None).await? else {
        return Err(Fault::Refused(format!("{group} cannot be read")));
    };
    if !plain(&entry.dn).ends_with(&format!(",{}", plain(&settings.group_base))) {
        return Err(Fault::Refused(format!("{} is not below {}", entry.dn, settings.group_base)));
    }
    let shared = Shared { key: Data::key(&entry.dn, &settings.member_attribute, &member), was_there: false };
    Ok(Data {
        group: entry.dn,
        member,
        attribute: settings.member_attribute.clone(),
        mark_attribute: settings.mark_attribute().map(str::to_owned),
        mark: settings.mark.clone(),
        shared,
    })
}

impl Membership<'_> {
    fn filter(&self) -> String {
        format!("({}={})", self.data.attribute, ldap_escape(self.data.member.as_str()))
    }

    async fn modify(&self, changes: &[Change<'_>]) -> Result<(), Failure> {
        self.client.modify(&self.data.group, changes).await
    }

    /// The value to add: with its time, where the directory ends it by itself.
    fn value(&self, until: Timestamp) -> String {
        if !self.settings.time_limited {
            return self.data.member.clone();
        }
        let seconds = until.since(self.clock.now()).as_secs().max(1);
        format!("<TTL={seconds},{}>", self.data.member)
    }

    /// How long the directory keeps the membership by itself; `None` for ever. Members come in ranges where there are
    /// many.
    pub(super) async fn ttl(&self) -> Result<Option<u64>, Fault> {
        let mut from = 0_u32;
        loop {
            let wanted = format!("{};range={from}-*", self.data.attribute);
            let entry = self.client.entry(&self.data.group, "(objectClass=*)", &[&wanted], Some(LINK_TTL)).await?;
            let Some(entry) = entry else { return Ok(None) };
            let (mut next, prefix) = (None, self.data.attribute.to_lowercase());
            for (name, values) in &entry.attrs {
                let name = name.to_lowercase();
                let Some(rest) = name.strip_prefix(&prefix) else { continue };
                if let Some(ttl) = values.iter().find_map(|v| ttl_of(v, &self.data.member)) {
                    return Ok(Some(ttl));
                }
                next = rest
                    .strip_prefix(";range=")
                    .and_then(|r| r.split_once('-'))
                    .and_then(|(_, to)| to.parse::<u32>().ok());
            }
            match next {
                Some(last) if last >= from => from = last + 1,
                _ => return Ok(None),
            }
        }
    }
}

/// The seconds of `<TTL=seconds,member>`.
fn ttl_of(value: &str, member: &str) -> Option<u64> {
    let (seconds, dn) = value.strip_prefix("<TTL=")?.strip_suffix('>')?.split_once(',')?;
    (plain(dn) == plain(member)).then(|| seconds.parse().ok())?
}

#[async_trait]
impl Seat for Membership<'_> {
    async fn look(&self) -> Result<Seen, Fault> {
        let wanted = self.data.mark_attribute.as_deref().unwrap_or("1.1");
        let entry = match self.client.entry(&self.data.group, &self.filter(), &[wanted], None).await {
            Ok(entry) => entry,
            // The group is gone, and every membership with it.
            Err(e) if e.code == code::NO_SUCH_OBJECT => {
                let details = json!({"asked": self.data.group, "answer": "the group does not exist"});
                return Ok(Seen { details, ..Seen::default() });
            }
            Err(e) => return Err(e.fault),
        };
        let texts = entry.iter().flat_map(|e| e.attrs.values().flatten());
        let marks: BTreeSet<GrantId> = texts
            .filter_map(|text| Data::read_mark(&self.data.mark, text))
            .filter(|(_, member)| member.eq_ignore_ascii_case(&self.data.member))
            .map(|(grant, _)| grant)
            .collect();
        let mut details = Map::new();
        details.insert("asked".into(), self.data.group.as_str().into());
        details.insert("filter".into(), self.filter().into());
        details.insert("answer".into(), if entry.is_some() { "a member" } else { "not a member" }.into());
        details.insert("checked_at".into(), json!(self.clock.now()));
        if entry.is_some() && self.settings.time_limited {
            details.insert("ttl_seconds".into(), json!(self.ttl().await?));
        }
        Ok(Seen { present: entry.is_some(), marks, details: Value::Object(details) })
    }

    async fn take(&self, grant: GrantId, until: Timestamp) -> Result<(), Fault> {
        let (value, text) = (self.value(until), self.data.mark_of(grant));
        let member = Change::Add(&self.data.attribute, &value);
        let mark = self.data.mark_attribute.as_deref().map(|name| Change::Add(name, &text));
        let both: Vec<Change<'_>> = [Some(member), mark].into_iter().flatten().collect();
        let taken = match self.modify(&both).await {
            Err(e) if [code::EXISTS, code::ENTRY_EXISTS].contains(&e.code) => self.complete(grant, member, mark).await,
            other => other,
        };
        failpoint::hit("ldap.take.called");
        Ok(taken?)
    }

    async fn leave(&self, grant: GrantId, last: bool) -> Result<(), Fault> {
        let text = self.data.mark_of(grant);
        let member = last.then_some(Change::Delete(&self.data.attribute, &self.data.member));
        let mark = self.data.mark_attribute.as_deref().map(|name| Change::Delete(name, &text));
        let both: Vec<Change<'_>> = [member, mark].into_iter().flatten().collect();
        if both.is_empty() {
            return Ok(());
        }
        let left = match self.delete(&both).await {
            Err(e) if both.len() > 1 && is_missing(&e) => {
                // One of the two is not there. Each by itself then; the next look tells whether it was of use.
                for change in both {
                    match self.delete(&[change]).await {
                        Err(e) if !is_missing(&e) => return Err(e.fault),
                        _ => {}
                    }
                }
                Ok(())
            }
            Err(e) if is_missing(&e) || e.code == code::NO_SUCH_OBJECT => Ok(()),
            other => other,
        };
        failpoint::hit("ldap.leave.called");
        Ok(left?)
    }
}

impl Membership<'_> {
    /// Something of it is there: look what, and add what is missing.
    async fn complete(&self, grant: GrantId, member: Change<'_>, mark: Option<Change<'_>>) -> Result<(), Failure> {
        let seen = self.look().await.map_err(|fault| Failure { code: 0, fault })?;
        let mut changes = Vec::new();
        if !seen.present {
            changes.push(member);
        } else if self.settings.time_limited {
            // Its time is moved by taking it out and putting it in again, in one call.
            changes.extend([Change::Delete(&self.data.attribute, &self.data.member), member]);
        }
        if seen.present && !seen.marks.contains(&grant) {
            changes.extend(mark);
        }
        if changes.is_empty() {
            return Ok(());
        }
        match self.modify(&changes).await {
            // Somebody else was as fast. Whether it holds is seen by the look that follows.
            Err(e) if [code::EXISTS, code::ENTRY_EXISTS].contains(&e.code) => Ok(()),
            other => other,
        }
    }

    /// Delete values; where the group must not become empty, a placeholder takes the place.
    async fn delete(&self, changes: &[Change<'_>]) -> Result<(), Failure> {
        match self.modify(changes).await {
            Err(e) if e.code == code::OBJECT_CLASS => match &self.settings.placeholder {
                Some(placeholder) => {
                    let mut with = vec![Change::Add(&self.data.attribute, placeholder)];
                    with.extend_from_slice(changes);
                    self.modify(&with).await
                }
                None => Err(Failure {
                    code: e.code,
                    fault: Fault::Refused(format!(
                        "{}: the schema wants a member in {}, and {} is the last one; name a `placeholder` in the \
                         target's settings, or add another member",
                        e.fault, self.data.group, self.data.member
                    )),
                }),
            },
            other => other,
        }
    }
}

fn is_missing(failure: &Failure) -> bool {
    [code::NO_SUCH_ATTRIBUTE, code::UNWILLING].contains(&failure.code)
}

/// All memberships with our mark.
pub(super) async fn sweep(client: &Client, settings: &Settings) -> Result<Vec<Found>, Fault> {
    let Some(attribute) = settings.mark_attribute() else { return Ok(Vec::new()) };
    let filter = format!("({attribute}={} grt_*)", ldap_escape(settings.mark.as_str()));
    let mut found = Vec::new();
    for entry in client.search(&settings.group_base, &filter, &[attribute]).await? {
        for text in entry.attrs.values().flatten() {
            let Some((grant, member)) = Data::read_mark(&settings.mark, text) else { continue };
            let key = Data::key(&entry.dn, &settings.member_attribute, member);
            let data = Data {
                group: entry.dn.clone(),
                member: member.to_owned(),
                attribute: settings.member_attribute.clone(),
                mark_attribute: Some(attribute.to_owned()),
                mark: settings.mark.clone(),
                shared: Shared { key, was_there: false },
            };
            let data = serde_json::to_value(data).map_err(|e| Fault::Refused(e.to_string()))?;
            found.push(Found { object: object_name(grant), grant, native_expiry: None, data });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_value_is_read() {
        assert_eq!(ttl_of("<TTL=3600,CN=Ana,DC=example>", "cn=ana,dc=example"), Some(3600));
        assert_eq!(ttl_of("<TTL=3600,CN=Ben,DC=example>", "cn=ana,dc=example"), None);
        assert_eq!(ttl_of("CN=Ana,DC=example", "cn=ana,dc=example"), None);
        assert_eq!(ttl_of("<TTL=x,CN=Ana,DC=example>", "cn=ana,dc=example"), None);
    }
}
