//! One user's place in one group, whatever the two are called today.
//!
//! IAM is asked by name, and names move: a group is renamed, a user is, and somebody else may get the old name. What a
//! grant opened is told by the ids of both, which IAM never gives twice.

use std::collections::BTreeSet;

use async_trait::async_trait;
use futures::{FutureExt as _, future::BoxFuture};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::{
    aws::{Account, ApiError, Named},
    membership::{Seat, Seen, shared},
};
use crate::{
    domain::{
        grant::{Recipe, Shared},
        id::GrantId,
        time::Timestamp,
    },
    ports::connector::Fault,
};

/// What a recipe of this kind holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Data {
    pub group: String,
    pub user: String,
    /// Not in older recipes, which know names only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Ids>,
    pub shared: Shared,
}

/// Who group and user are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ids {
    pub group: String,
    pub user: String,
}

impl Data {
    /// Of a membership in that group. Nothing is known of the prior state yet.
    pub(super) fn new(group: String, user: String, group_id: String, user_id: String) -> Self {
        let shared = Shared { key: format!("{group_id}/{user_id}"), was_there: false };
        Self { group, user, ids: Some(Ids { group: group_id, user: user_id }), shared }
    }

    /// The same, as older recipes have it.
    pub(super) fn by_names(&self) -> Self {
        let key = format!("{}/{}", self.group, self.user);
        Self { ids: None, shared: Shared { key, was_there: false }, ..self.clone() }
    }

    /// Read a recipe back. The oldest hold a key of names and nothing else.
    pub(super) fn read(recipe: &Recipe) -> Result<Self, Fault> {
        let shared = shared(recipe)?;
        if let Ok(data) = Self::deserialize(&recipe.data) {
            return Ok(data);
        }
        let unreadable = || Fault::Refused("the recipe cannot be read: its key is not group/user".into());
        let (group, user) = shared.key.split_once('/').ok_or_else(unreadable)?;
        Ok(Self { group: group.to_owned(), user: user.to_owned(), ids: None, shared })
    }
}

/// What the recipe names, in one account.
pub(super) struct Place<'a> {
    pub account: &'a Account,
    pub data: Data,
}

/// Where the membership is.
struct Found {
    /// Is there a user of the recipe's name who is the one that is meant?
    user: bool,
    /// The names of today, if he is in.
    at: Option<(String, String)>,
}

impl Place<'_> {
    /// Boxed: it may make many calls.
    fn find(&self) -> BoxFuture<'_, Result<Found, ApiError>> {
        self.found().boxed()
    }

    async fn found(&self) -> Result<Found, ApiError> {
        let data = &self.data;
        let (id, groups) = tokio::join!(self.account.user_id(&data.user), self.account.groups_of(&data.user));
        let Some(ids) = &data.ids else {
            let groups = groups?;
            let member = groups.iter().flatten().any(|group| group.name == data.group);
            return Ok(Found { user: groups.is_some(), at: member.then(|| (data.group.clone(), data.user.clone())) });
        };
        if id?.as_ref() == Some(&ids.user)
            && let Some(groups) = groups?
        {
            let group = groups.into_iter().find(|group| group.id == ids.group);
            return Ok(Found { user: true, at: group.map(|group| (group.name, data.user.clone())) });
        }
        // The user has another name, or is gone. The group tells, if it has not got another name itself.
        let is_it = self.account.group_id(&data.group).await?.as_ref() == Some(&ids.group);
        let name = if is_it {
            Some(data.group.clone())
        } else {
            self.account.groups().await?.into_iter().find(|group| group.id == ids.group).map(|group| group.name)
        };
        let Some(name) = name else { return Ok(Found { user: false, at: None }) };
        let members = self.account.group_members(&name).await?.unwrap_or_default();
        let member = members.into_iter().find(|member| member.id == ids.user);
        Ok(Found { user: false, at: member.map(|Named { name: user, .. }| (name, user)) })
    }

    /// Are these names still those of whom the grant is for?
    fn must_be_the_same(&self) -> BoxFuture<'_, Result<(), Fault>> {
        self.compared().boxed()
    }

    async fn compared(&self) -> Result<(), Fault> {
        let Some(ids) = &self.data.ids else { return Ok(()) };
        let (user, group) =
            tokio::join!(self.account.user_id(&self.data.user), self.account.group_id(&self.data.group));
        if user?.as_ref() == Some(&ids.user) && group?.as_ref() == Some(&ids.group) {
            return Ok(());
        }
        Err(Fault::Refused(format!(
            "the user `{}` or the group `{}` has got another name since this was decided; ask again",
            self.data.user, self.data.group
        )))
    }
}

#[async_trait]
impl Seat for Place<'_> {
    async fn look(&self) -> Result<Seen, Fault> {
        let found = self.find().await?;
        let details = json!({
            "account": self.account.number(),
            "user_exists": found.user,
            "listed": found.at.is_some(),
            "found_as": found.at.as_ref().map(|(group, user)| format!("{group}/{user}")),
        });
        Ok(Seen { present: found.at.is_some(), marks: BTreeSet::new(), details })
    }

    async fn take(&self, _grant: GrantId, _until: Timestamp) -> Result<(), Fault> {
        self.must_be_the_same().await?;
        let taken = self.account.add_to_group(&self.data.group, &self.data.user).await;
        crate::failpoint::hit("aws_iam_group.taken");
        Ok(taken?)
    }

    async fn leave(&self, _grant: GrantId, last: bool) -> Result<(), Fault> {
        if !last {
            return Ok(());
        }
        let names = match self.find().await?.at {
            Some(names) => names,
            // IAM answers from many copies: what one does not list yet may be there. Names that are another's are not
            // touched.
            None if self.must_be_the_same().await.is_ok() => (self.data.group.clone(), self.data.user.clone()),
            None => return Ok(()),
        };
        self.account.remove_from_group(&names.0, &names.1).await?;
        crate::failpoint::hit("aws_iam_group.left");
        Ok(())
    }
}
