//! One membership in one group: how it is looked at, taken and left.
//!
//! Never replaces an attribute: only values of ours are added, and only they are deleted. A membership and its mark
//! change in one call, so neither is ever there without the other unless somebody else had a hand in it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use ldap3::{SearchEntry, ldap_escape};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    super::membership::{Seat, Seen},
    client::{Change, Client, Failure, code},
    config::{Data, Settings, Style, is_below, plain},
    identity,
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

/// What the one who asks may write of an entry (MS-ADTS §3.1.1.4.5.22).
const EFFECTIVE: &str = "allowedAttributesEffective";

/// Look-ups at once.
const WIDTH: usize = 8;

/// What the recipe names, at one server.
pub(super) struct Membership<'a> {
    pub client: &'a Client,
    pub settings: &'a Settings,
    pub clock: &'a dyn Clock,
    pub data: Data,
    /// Group and holder have been found just now: their names are those of today.
    pub found_now: bool,
    /// What the holder's entry is called today, if it was looked up and is another name than that of the recipe.
    pub alias: Option<String>,
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
    let wanted = if by_dn { identity::attribute(settings.style) } else { settings.member_value.as_str() };
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
    let Some(entry) = client.entry(group, "(objectClass=*)", &[identity::attribute(settings.style)], None).await?
    else {
        return Err(Fault::Refused(format!("{group} cannot be read")));
    };
    if !is_below(&entry.dn, &settings.group_base) {
        return Err(Fault::Refused(format!("{} is not below {}", entry.dn, settings.group_base)));
    }
    let data = Data {
        group_id: identity::of(&entry, settings.style),
        member_id: by_dn.then(|| identity::of(user, settings.style)).flatten(),
        group: entry.dn,
        member,
        attribute: settings.member_attribute.clone(),
        mark_attribute: settings.mark_attribute().map(str::to_owned),
        mark: settings.mark.clone(),
        shared: Shared { key: String::new(), was_there: false },
    };
    Ok(data.keyed())
}

impl Membership<'_> {
    /// Change the group: it, and not another one that has come to bear its name. Where it is gone, "no such object".
    async fn modify(&self, changes: &[Change<'_>]) -> Result<(), Failure> {
        let (client, style) = (self.client, self.settings.style);
        let Some(id) = &self.data.group_id else { return client.modify(&self.data.group, changes, None).await };
        if style == Style::ActiveDirectory {
            return client.modify(&format!("<GUID={id}>"), changes, None).await;
        }
        let filter = identity::filter(id);
        let done = client.modify(&self.data.group, changes, Some(&filter)).await;
        let Err(e) = done else { return Ok(()) };
        let assertion = match e.code {
            code::NO_SUCH_OBJECT | code::ASSERTION_FAILED => Some(filter.as_str()),
            // Then the look that leads there must do.
            code::UNKNOWN_EXTENSION => None,
            _ => return Err(e),
        };
        match identity::named(client, style, &self.data.group, Some(id), &[]).await? {
            Some(group) => client.modify(&group.dn, changes, assertion).await,
            None => Err(Failure { code: code::NO_SUCH_OBJECT, ..e }),
        }
    }

    /// Is that value in the group? Only an answer that tells "no" from "you may not know" is taken for one.
    async fn holds(&self, group: &str, value: &str) -> Result<bool, Fault> {
        let told = self.client.compare(group, &self.data.attribute, value).await?;
        if told == Some(true) || self.settings.style != Style::ActiveDirectory {
            return Ok(told.unwrap_or_default());
        }
        // Active Directory says "no such attribute" of an empty group, and of one whose members the broker may not
        // see; Samba says "no" of both. Who may write them may see them, as a rule.
        let asked = self.client.entry(group, "(objectClass=*)", &[EFFECTIVE], None).await?;
        let mine = asked.is_some_and(|entry| {
            entry.attrs.values().flatten().any(|name| name.eq_ignore_ascii_case(&self.data.attribute))
        });
        if mine {
            return Ok(false);
        }
        Err(Fault::Unavailable(format!(
            "{group} shows no {}, and the broker has no right to them: there may be some",
            self.data.attribute
        )))
    }

    /// What the holder is called now, and whether its name in the recipe is still nobody else's. An entry is gone only if
    /// the place where entries are can be looked at.
    async fn names(&self) -> Result<Names, Fault> {
        let own = &self.data.member;
        let (Some(id), false) = (&self.data.member_id, self.found_now) else {
            return Ok(Names { today: Some(own.clone()), own_is_free: true });
        };
        let style = self.settings.style;
        let bearer = identity::at(self.client, style, own).await?;
        if bearer.as_ref() == Some(&Some(id.clone())) {
            return Ok(Names { today: Some(own.clone()), own_is_free: true });
        }
        let own_is_free = !matches!(bearer, Some(Some(_)));
        let found = identity::find(self.client, style, id, &[identity::attribute(style)]).await?;
        if found.is_none() {
            identity::sighted(self.client, &self.settings.user_base).await?;
        }
        Ok(Names { today: found.map(|entry| entry.dn), own_is_free })
    }

    /// What the holder's entry is called now, if otherwise than in the recipe.
    async fn other_name(&self) -> Result<Option<String>, Fault> {
        Ok(self.names().await?.today.filter(|dn| plain(dn) != plain(&self.data.member)))
    }

    /// The same, with the holder's name of today. What names a holder must not be put into a group after somebody else
    /// may have got the name.
    pub(super) async fn named_today(&self) -> Result<Membership<'_>, Fault> {
        let today = self.names().await?.today.ok_or_else(|| {
            Fault::Refused(format!(
                "the entry that was {} is gone; whoever bears its name is another",
                self.data.member
            ))
        })?;
        Ok(self.named(today))
    }

    /// The same, with the holder under this name.
    fn named(&self, today: String) -> Membership<'_> {
        let alias = Some(today).filter(|dn| plain(dn) != plain(&self.data.member));
        Membership { alias, data: self.data.clone(), ..*self }
    }

    /// What stands in the group.
    fn member(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.data.member)
    }

    /// The value to add: with its time, where the directory ends it by itself.
    fn value(&self, until: Timestamp) -> String {
        if !self.settings.time_limited {
            return self.member().to_owned();
        }
        let seconds = until.since(self.clock.now()).as_secs().max(1);
        format!("<TTL={seconds},{}>", self.member())
    }

    /// How long the directory keeps the membership by itself; `None` for ever. Members come in ranges where there are
    /// many.
    pub(super) async fn ttl(&self) -> Result<Option<u64>, Fault> {
        let mut from = 0_u32;
        loop {
            let wanted = format!("{};range={from}-*", self.data.attribute);
            let group = match (&self.data.group_id, self.settings.style) {
                (Some(id), Style::ActiveDirectory) => format!("<GUID={id}>"),
                _ => self.data.group.clone(),
            };
            let entry = self.client.entry(&group, "(objectClass=*)", &[&wanted], Some(LINK_TTL)).await?;
            let Some(entry) = entry else { return Ok(None) };
            let (mut next, prefix) = (None, self.data.attribute.to_lowercase());
            for (name, values) in &entry.attrs {
                let name = name.to_lowercase();
                let Some(rest) = name.strip_prefix(&prefix) else { continue };
                let of_holder = |v: &String| ttl_of(v, &self.data.member).or_else(|| ttl_of(v, self.member()));
                if let Some(ttl) = values.iter().find_map(of_holder) {
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

/// How a holder is called.
struct Names {
    /// Its entry now; `None` if it is gone.
    today: Option<String>,
    /// No other entry bears the name of the recipe.
    own_is_free: bool,
}

/// The seconds of `<TTL=seconds,member>`.
fn ttl_of(value: &str, member: &str) -> Option<u64> {
    let (seconds, dn) = value.strip_prefix("<TTL=")?.strip_suffix('>')?.split_once(',')?;
    (plain(dn) == plain(member)).then(|| seconds.parse().ok())?
}

#[async_trait]
impl Seat for Membership<'_> {
    async fn look(&self) -> Result<Seen, Fault> {
        let (client, style, data) = (self.client, self.settings.style, &self.data);
        let mut details = Map::from_iter([("asked".into(), data.group.as_str().into())]);
        // Both at once: the name is right nearly always, and then the second answer is of use.
        let wanted: Vec<&str> = data.mark_attribute.as_deref().into_iter().collect();
        let named = identity::named(client, style, &data.group, data.group_id.as_deref(), &wanted);
        let (group, told) = tokio::join!(named, self.holds(&data.group, &data.member));
        let Some(group) = group? else {
            // The group is gone, and every membership with it; unless it is only hidden.
            identity::sighted(client, &self.settings.group_base).await?;
            details.insert("answer".into(), "the group does not exist".into());
            details.insert("also_seen".into(), format!("entries below {}", self.settings.group_base).into());
            return Ok(Seen { details: Value::Object(details), ..Seen::default() });
        };
        let mut present = if plain(&group.dn) == plain(&data.group) {
            told?
        } else {
            details.insert("found_as".into(), group.dn.as_str().into());
            self.holds(&group.dn, &data.member).await?
        };
        if !present && let Some(name) = self.other_name().await? {
            present = self.holds(&group.dn, &name).await?;
            details.insert("member_found_as".into(), name.into());
        } else if present {
            let names = self.names().await?;
            if !names.own_is_free {
                // The value is somebody else's, who bears the name today.
                details.insert("name_is_now_anothers".into(), true.into());
                present = match &names.today {
                    Some(name) => self.holds(&group.dn, name).await?,
                    None => false,
                };
                details.insert("member_found_as".into(), names.today.into());
            }
        }
        // A mark without a membership is no access; the sweep finds it.
        let marks: BTreeSet<GrantId> = texts_of(&group, data.mark_attribute.as_deref().filter(|_| present))
            .filter_map(|text| Data::read_mark(&data.mark, text))
            .filter(|(_, member)| [&data.member, self.member()].iter().any(|name| member.eq_ignore_ascii_case(name)))
            .map(|(grant, _)| grant)
            .collect();
        details.insert("compared".into(), format!("{}={}", data.attribute, data.member).into());
        details.insert("answer".into(), if present { "a member" } else { "not a member" }.into());
        details.insert("checked_at".into(), json!(self.clock.now()));
        if present && self.settings.time_limited {
            details.insert("ttl_seconds".into(), json!(self.ttl().await?));
        }
        Ok(Seen { present, marks, details: Value::Object(details) })
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

    async fn restore(&self, grant: GrantId, until: Timestamp) -> Result<(), Fault> {
        match self.names().await?.today {
            Some(today) => self.named(today).take(grant, until).await,
            // Nobody is left who could hold it.
            None => Ok(()),
        }
    }

    async fn leave(&self, grant: GrantId, last: bool) -> Result<(), Fault> {
        let text = self.data.mark_of(grant);
        // Never the value of somebody else who bears the name today.
        let name = if last {
            let names = self.names().await?;
            if names.own_is_free { Some(self.data.member.clone()) } else { names.today }
        } else {
            None
        };
        let member = name.as_deref().map(|name| Change::Delete(&self.data.attribute, name));
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
                self.leave_as_other(last).await
            }
            Err(e) if is_missing(&e) => self.leave_as_other(last).await,
            Err(e) if e.code == code::NO_SUCH_OBJECT => Ok(()),
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
            changes.extend([Change::Delete(&self.data.attribute, self.member()), member]);
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

    /// The holder's entry may have been given another name meanwhile, and the group with it.
    async fn leave_as_other(&self, last: bool) -> Result<(), Failure> {
        let other = if last { self.other_name().await } else { Ok(None) };
        let Some(name) = other.map_err(|fault| Failure { code: 0, fault })? else { return Ok(()) };
        match self.delete(&[Change::Delete(&self.data.attribute, &name)]).await {
            Err(e) if !is_missing(&e) => Err(e),
            _ => Ok(()),
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

fn texts_of<'e>(entry: &'e SearchEntry, attribute: Option<&'e str>) -> impl Iterator<Item = &'e String> {
    let of = move |name: &str| attribute.is_some_and(|wanted| name.eq_ignore_ascii_case(wanted));
    entry.attrs.iter().filter(move |(name, _)| of(name)).flat_map(|(_, values)| values)
}

/// All memberships with our mark.
pub(super) async fn sweep(client: &Client, settings: &Settings) -> Result<Vec<Found>, Fault> {
    let Some(attribute) = settings.mark_attribute() else { return Ok(Vec::new()) };
    let (style, filter) = (settings.style, format!("({attribute}={} grt_*)", ldap_escape(settings.mark.as_str())));
    let entries = client.search(&settings.group_base, &filter, &[attribute, identity::attribute(style)]).await?;
    let marked: Vec<(&SearchEntry, GrantId, &str)> = entries
        .iter()
        .flat_map(|entry| texts_of(entry, Some(attribute)).map(move |text| (entry, text)))
        .filter_map(|(entry, text)| Data::read_mark(&settings.mark, text).map(|(grant, member)| (entry, grant, member)))
        .collect();
    let by_dn = settings.member_value.eq_ignore_ascii_case("dn");
    let named = if by_dn { marked.as_slice() } else { &[] };
    let members: BTreeSet<String> = named.iter().map(|(.., member)| (*member).to_owned()).collect();
    let id = |member: String| async move {
        match identity::named(client, style, &member, None, &[]).await {
            Ok(entry) => Ok((member, entry.and_then(|entry| identity::of(&entry, style)))),
            // What a forged mark names need not be a name.
            Err(e) if e.code == code::INVALID_NAME => Ok((member, None)),
            Err(e) => Err(e.fault),
        }
    };
    let ids: BTreeMap<String, Option<String>> =
        stream::iter(members).map(id).buffer_unordered(WIDTH).try_collect().await?;
    let found = marked.into_iter().map(|(entry, grant, member)| {
        let data = Data {
            group: entry.dn.clone(),
            member: member.to_owned(),
            attribute: settings.member_attribute.clone(),
            mark_attribute: Some(attribute.to_owned()),
            mark: settings.mark.clone(),
            group_id: identity::of(entry, style),
            member_id: ids.get(member).cloned().flatten(),
            shared: Shared { key: String::new(), was_there: false },
        };
        let data = serde_json::to_value(data.keyed()).map_err(|e| Fault::Refused(e.to_string()))?;
        Ok(Found { object: object_name(grant), grant, native_expiry: None, data })
    });
    found.collect()
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
