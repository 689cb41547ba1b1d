//! Lists: filtered, sorted, paged by place (RFC 7644 §3.4.2.4) or by cursor (RFC 9865).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{DEFAULT_PAGE, MAX_PAGE, Resource, ScimFailure};
use crate::{
    broker::{Broker, SourceCtx},
    domain::scim::{
        Document, ScimError, core::GROUPS_TYPE, filter::parse_filter, path::AttrPath, projection::Selection,
        schema::ResourceType,
    },
    store::ScimList,
};

/// What a list is asked for.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    filter: Option<String>,
    sort_by: Option<String>,
    descending: bool,
    start_index: Option<i64>,
    count: Option<i64>,
    /// Empty for the first page.
    cursor: Option<String>,
    attributes: Vec<String>,
    excluded: Vec<String>,
}

/// A page.
#[derive(Debug, Clone, PartialEq)]
pub struct ListAnswer {
    /// How many there are in all.
    pub total: u64,
    /// Place of the first one, counted from 1; with a cursor there is none.
    pub start_index: Option<u64>,
    /// Where the next page is.
    pub next_cursor: Option<String>,
    /// The page.
    pub resources: Vec<Document>,
}

impl ListRequest {
    /// From the parameters of a URL; unknown ones are passed over.
    pub fn from_pairs<'p>(pairs: impl Iterator<Item = (&'p str, &'p str)>) -> Result<Self, ScimError> {
        let mut request = Self::default();
        for (name, value) in pairs {
            request.set(name, &Value::String(value.to_owned()))?;
        }
        request.check()
    }

    /// Only which attributes are asked for: all that is read of the parameters of one resource.
    pub fn attributes_of<'p>(pairs: impl Iterator<Item = (&'p str, &'p str)>) -> Self {
        let named = |name: &str| ["attributes", "excludedAttributes"].iter().any(|n| n.eq_ignore_ascii_case(name));
        Self::from_pairs(pairs.filter(|(name, _)| named(name))).unwrap_or_default()
    }

    /// From the body of a search.
    pub fn from_body(body: &Value) -> Result<Self, ScimError> {
        let Value::Object(body) = body else { return Err(ScimError::syntax("the body is to be an object")) };
        let mut request = Self::default();
        for (name, value) in body {
            request.set(name, value)?;
        }
        request.check()
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), ScimError> {
        if value.is_null() {
            return Ok(());
        }
        let text = || match value {
            Value::String(text) => Ok(text.clone()),
            _ => Err(ScimError::value(format!("`{name}` is to be a text"))),
        };
        let number = || {
            let parsed = match value {
                Value::String(text) => text.trim().parse().ok(),
                other => other.as_i64(),
            };
            parsed.ok_or_else(|| ScimError::value(format!("`{name}` is to be a number")))
        };
        let names = || -> Vec<String> {
            let split = |t: &str| t.split(',').map(|n| n.trim().to_owned()).collect::<Vec<_>>();
            match value {
                Value::Array(items) => items.iter().filter_map(Value::as_str).flat_map(split).collect(),
                other => other.as_str().map(split).unwrap_or_default(),
            }
        };
        match name.to_ascii_lowercase().as_str() {
            "filter" => self.filter = Some(text()?).filter(|f| !f.trim().is_empty()),
            "sortby" => self.sort_by = Some(text()?).filter(|s| !s.trim().is_empty()),
            "sortorder" => {
                self.descending = match text()?.to_ascii_lowercase().as_str() {
                    "descending" => true,
                    "ascending" | "" => false,
                    _ => return Err(ScimError::value("`sortOrder` is to be ascending or descending")),
                }
            }
            "startindex" => self.start_index = Some(number()?),
            "count" => self.count = Some(number()?),
            "cursor" => self.cursor = Some(text()?),
            "attributes" => self.attributes.extend(names()),
            "excludedattributes" => self.excluded.extend(names()),
            _ => {}
        }
        Ok(())
    }

    fn check(self) -> Result<Self, ScimError> {
        if self.cursor.is_some() && self.count.is_some_and(|count| count < 0) {
            return Err(ScimError::count("with a cursor, `count` is to be a number from 0"));
        }
        if self.cursor.is_some() && self.start_index.is_some() {
            return Err(ScimError::cursor("`cursor` and `startIndex` exclude each other"));
        }
        Ok(self)
    }

    /// Which attributes the answer is to have.
    pub fn selection(&self, of: &'static ResourceType) -> Selection {
        Selection::read(of, self.attributes.iter().map(String::as_str), self.excluded.iter().map(String::as_str))
    }

    fn limit(&self) -> u32 {
        let count = self.count.unwrap_or(i64::from(DEFAULT_PAGE)).clamp(0, i64::from(MAX_PAGE));
        u32::try_from(count).unwrap_or(MAX_PAGE)
    }

    /// Which list a cursor belongs to.
    fn mark(&self, of: &ResourceType) -> u32 {
        let text = format!("{}\n{:?}\n{:?}\n{}", of.name, self.filter, self.sort_by, self.descending);
        crc32fast::hash(text.as_bytes())
    }

    fn list(&self, of: &'static ResourceType, ctx: &SourceCtx) -> Result<ScimList, ScimError> {
        let filter = self.filter.as_deref().map(|text| parse_filter(of, text)).transpose()?;
        let sort = match self.sort_by.as_deref() {
            None => None,
            Some(name) => {
                let path = AttrPath::resolve(of, name.trim());
                let path = path.and_then(|p| p.compared());
                let path = path.ok_or_else(|| ScimError::path(format!("there is nothing to sort by at `{name}`")))?;
                Some((path, self.descending))
            }
        };
        let mut list = ScimList { filter, sort, limit: self.limit(), asks: Some(ctx.source.id), ..ScimList::default() };
        match self.cursor.as_deref() {
            None => list.offset = u64::try_from(self.start_index.unwrap_or(1).saturating_sub(1)).unwrap_or(0),
            Some("") => {}
            Some(cursor) => self.place(of, cursor, &mut list)?,
        }
        Ok(list)
    }

    /// Go on where a cursor points.
    fn place(&self, of: &ResourceType, cursor: &str, list: &mut ScimList) -> Result<(), ScimError> {
        let bad = || ScimError::cursor("this cursor was not given for this list");
        let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|b| String::from_utf8(b).ok()).ok_or_else(bad)?;
        let (mark, place) = text.split_once(':').ok_or_else(bad)?;
        if mark != format!("{:08x}", self.mark(of)) {
            return Err(bad());
        }
        match place.split_at_checked(1).ok_or_else(bad)? {
            ("i", id) if list.sort.is_none() && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                list.after = Some(id.to_owned());
            }
            ("o", offset) => list.offset = offset.parse().map_err(|_| bad())?,
            _ => return Err(bad()),
        }
        Ok(())
    }

    /// Where the page after this one begins: after the last id, or in a sorted list so many further on.
    fn next(&self, of: &ResourceType, list: &ScimList, last: Option<&str>) -> Option<String> {
        let place = match &list.sort {
            None => format!("i{}", last?),
            Some(_) => format!("o{}", list.offset + u64::from(list.limit)),
        };
        Some(URL_SAFE_NO_PAD.encode(format!("{:08x}:{place}", self.mark(of))))
    }
}

impl Broker {
    /// A page of users.
    pub async fn scim_list_users(&self, ctx: &SourceCtx, request: &ListRequest) -> Result<ListAnswer, ScimFailure> {
        let users_type = self.settings.users;
        let mut list = request.list(users_type, ctx)?;
        let selection = request.selection(users_type);
        let wanted = list.limit;
        let mut users = Vec::new();
        if wanted > 0 {
            list.limit += u32::from(request.cursor.is_some());
            users = self.store.scim_users(&list).await?;
            list.limit = wanted;
        }
        let more = users.len() > wanted as usize;
        users.truncate(wanted as usize);
        let total = match whole(&list, users.len(), more) {
            Some(total) => total,
            None => self.store.count_scim_users(&list).await?,
        };
        let last = users.last().map(|u| u.identity.id.to_string());
        let resources = self.shown_users(&users, &selection);
        Ok(page(request, users_type, &list, total, resources, last.filter(|_| more)))
    }

    /// A page of groups; with their members, unless they are excluded.
    pub async fn scim_list_groups(&self, ctx: &SourceCtx, request: &ListRequest) -> Result<ListAnswer, ScimFailure> {
        let mut list = request.list(&GROUPS_TYPE, ctx)?;
        let selection = request.selection(&GROUPS_TYPE);
        let wanted = list.limit;
        let mut groups = Vec::new();
        if wanted > 0 {
            list.limit += u32::from(request.cursor.is_some());
            groups = self.store.scim_groups(&list).await?;
            list.limit = wanted;
        }
        let more = groups.len() > wanted as usize;
        groups.truncate(wanted as usize);
        let total = match whole(&list, groups.len(), more) {
            Some(total) => total,
            None => self.store.count_scim_groups(&list).await?,
        };
        let last = groups.last().map(|g| g.id.to_string());
        let mut resources = Vec::with_capacity(groups.len());
        for group in &groups {
            resources.push(self.shown_group(group, &selection).await?);
        }
        Ok(page(request, &GROUPS_TYPE, &list, total, resources, last.filter(|_| more)))
    }

    /// A page of all there is: users, then groups. A filter that one of the two cannot have finds nothing of it.
    pub async fn scim_search_all(&self, ctx: &SourceCtx, request: &ListRequest) -> Result<ListAnswer, ScimFailure> {
        if request.cursor.is_some() {
            return Err(ScimError::cursor("a search over all types goes by `startIndex`").into());
        }
        let offset = u64::try_from(request.start_index.unwrap_or(1).saturating_sub(1)).unwrap_or(0);
        let limit = u64::from(request.limit());
        let part = |skip: u64, take: u64| ListRequest {
            start_index: i64::try_from(skip).ok().map(|n| n.saturating_add(1)),
            count: i64::try_from(take).ok(),
            ..request.clone()
        };
        let users = self.scim_list_users(ctx, &part(offset, limit)).await;
        let (refused, users) = match users {
            Ok(users) => (None, users),
            Err(ScimFailure::Refused(error)) => (Some(error), ListAnswer::none()),
            Err(other) => return Err(other),
        };
        let taken = users.resources.len() as u64;
        let groups = part(offset.saturating_sub(users.total), limit.saturating_sub(taken));
        let groups = match (self.scim_list_groups(ctx, &groups).await, refused) {
            (Ok(groups), _) => groups,
            (Err(ScimFailure::Refused(_)), Some(error)) => return Err(error.into()),
            (Err(ScimFailure::Refused(_)), None) => ListAnswer::none(),
            (Err(other), _) => return Err(other),
        };
        let mut resources = users.resources;
        resources.extend(groups.resources);
        Ok(ListAnswer {
            total: users.total + groups.total,
            start_index: Some(offset + 1),
            next_cursor: None,
            resources,
        })
    }
}

impl ListAnswer {
    const fn none() -> Self {
        Self { total: 0, start_index: Some(1), next_cursor: None, resources: Vec::new() }
    }
}

/// How many there are in all, if the page alone tells.
fn whole(list: &ScimList, found: usize, more: bool) -> Option<u64> {
    let first = list.offset == 0 && list.after.is_none();
    (first && !more && found < list.limit as usize).then_some(found as u64)
}

fn page(
    request: &ListRequest,
    of: &ResourceType,
    list: &ScimList,
    total: u64,
    resources: Vec<Resource>,
    last: Option<String>,
) -> ListAnswer {
    let by_cursor = request.cursor.is_some();
    ListAnswer {
        total,
        start_index: (!by_cursor).then_some(list.offset + 1),
        next_cursor: last.filter(|_| by_cursor).and_then(|last| request.next(of, list, Some(&last))),
        resources: resources.into_iter().filter_map(|r| r.document).collect(),
    }
}
