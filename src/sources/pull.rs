//! A directory that is read by SCIM, page by page.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;

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
        Ok(Box::new(Pages { client, mapping, next: None, ended: false, number: 0 }))
    }
}

struct Pages {
    client: Arc<ScimClient>,
    mapping: Arc<BTreeMap<String, String>>,
    next: Option<String>,
    ended: bool,
    number: u64,
}

#[async_trait]
impl Reading for Pages {
    async fn next(&mut self) -> Result<Vec<Line>, Fault> {
        if self.ended {
            return Ok(Vec::new());
        }
        let page = self.client.page("Users", self.next.as_deref()).await?;
        self.ended = page.next.is_none();
        self.next = page.next;
        let mut lines = Vec::with_capacity(page.resources.len());
        for user in &page.resources {
            self.number += 1;
            // RFC 7643 has no default; a directory that does not say so does not mean that they left.
            let value =
                |path: &str| resource::get(user, path).or_else(|| (path == "active").then(|| "true".to_owned()));
            lines.push(read_line(&self.mapping, self.number, value));
        }
        Ok(lines)
    }
}
