//! A directory that is read by SCIM, page by page.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;

use super::BuildError;
use crate::{
    domain::roster::{Line, SourceConfig, read_line},
    ports::{
        clock::Clock,
        connector::Fault,
        roster::{Reading, Roster},
    },
    scim_client::{ScimClient, Settings, resource},
};

/// A page of people may take this long.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Reads users.
pub(super) struct Pull {
    client: Arc<ScimClient>,
    mapping: Arc<BTreeMap<String, String>>,
}

impl Pull {
    pub(super) fn new(config: &SourceConfig, clock: Arc<dyn Clock>) -> Result<Self, BuildError> {
        let settings: Settings = super::settings(config)?;
        let client = ScimClient::new(&settings, TIMEOUT, clock).map_err(|e| BuildError::new(config, e.to_string()))?;
        let mut mapping = config.mapping.clone();
        for (fact, path) in [
            ("external_id", "id"),
            ("name", "userName"),
            ("display_name", "displayName"),
            ("email", "emails.work"),
            ("active", "active"),
        ] {
            mapping.entry(fact.to_owned()).or_insert_with(|| path.to_owned());
        }
        Ok(Self { client: Arc::new(client), mapping: Arc::new(mapping) })
    }
}

#[async_trait]
impl Roster for Pull {
    async fn open(&self) -> Result<Box<dyn Reading>, Fault> {
        let (client, mapping) = (Arc::clone(&self.client), Arc::clone(&self.mapping));
        Ok(Box::new(Pages { client, mapping, next: None, ended: false, short: false, number: 0 }))
    }

    async fn ask(&self, external_id: &str) -> Result<Option<Line>, Fault> {
        let path = self.mapping.get("external_id").map_or("id", String::as_str);
        let user = self.client.show_user(path, external_id).await?;
        Ok(user.map(|user| line(&self.mapping, 0, &user)))
    }
}

struct Pages {
    client: Arc<ScimClient>,
    mapping: Arc<BTreeMap<String, String>>,
    next: Option<String>,
    ended: bool,
    short: bool,
    number: u64,
}

fn line(mapping: &BTreeMap<String, String>, number: u64, user: &Value) -> Line {
    // RFC 7643 has no default; a directory that does not say so does not mean that they left.
    let value = |path: &str| resource::get(user, path).or_else(|| (path == "active").then(|| "true".to_owned()));
    read_line(mapping, number, value)
}

#[async_trait]
impl Reading for Pages {
    async fn next(&mut self) -> Result<Vec<Line>, Fault> {
        if self.ended {
            return Ok(Vec::new());
        }
        let page = self.client.page("Users", self.next.as_deref()).await?;
        self.ended = page.next.is_none();
        self.short = page.short;
        self.next = page.next;
        let mut lines = Vec::with_capacity(page.resources.len());
        for user in &page.resources {
            self.number += 1;
            lines.push(line(&self.mapping, self.number, user));
        }
        Ok(lines)
    }

    fn is_whole(&self) -> bool {
        !self.short
    }
}
