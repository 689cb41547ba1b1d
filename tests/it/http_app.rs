//! A world behind its HTTP edge, in this process and without a socket.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Router, body::Body};
use http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::Value;
use tidegate::{
    app::seed_directory,
    domain::{id::IdentityId, secret::Secret, time::Ttl},
    edge::{EdgeParts, Limits, Portal, router},
    ports::entropy::SystemEntropy,
};
use tower::ServiceExt;

use crate::world::{Db, World};

/// The world, its router, and a secret for everybody of the seed.
pub struct App {
    pub world: World,
    pub ids: BTreeMap<String, IdentityId>,
    router: Router,
    secrets: BTreeMap<String, Secret>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Last part of the problem's type.
    pub fn problem(&self) -> &str {
        self.body["type"].as_str().and_then(|t| t.strip_prefix("https://tidegate.dev/problems/")).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    pub fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {}", self.body)).to_owned()
    }
}

/// Limits that no test runs into by accident.
pub fn open() -> Limits {
    Limits { per_identity: None, per_address: None, ..Limits::default() }
}

/// A portal as `tidegate dev` has one.
pub fn portal() -> Portal {
    Portal {
        origins: vec![ORIGIN.to_owned()],
        choices: ["ana", "ben", "eve"].map(str::to_owned).to_vec(),
        provider: None,
    }
}

/// Where that portal is.
pub const ORIGIN: &str = "http://127.0.0.1:8420";

impl App {
    pub async fn start() -> Self {
        Self::with(open()).await
    }

    /// On that ledger.
    pub async fn on(db: Db) -> Self {
        Self::with_on(db, open()).await
    }

    pub async fn with_on(db: Db, limits: Limits) -> Self {
        Self::build(World::on(db).await, limits, portal()).await
    }

    pub async fn with(limits: Limits) -> Self {
        Self::with_portal(limits, portal()).await
    }

    pub async fn with_portal(limits: Limits, portal: Portal) -> Self {
        Self::build(World::on(Db::Sqlite).await, limits, portal).await
    }

    /// Behind the edge of a world that is there.
    pub async fn build(world: World, limits: Limits, portal: Portal) -> Self {
        let broker = &world.broker;
        let ids = seed_directory().unwrap().apply(broker.store(), broker.entropy(), broker.now()).await.unwrap();
        let mut secrets = BTreeMap::new();
        for (name, id) in &ids {
            let made = broker.create_token_at_console(*id, "test", Ttl::seconds_or_one(3600)).await.unwrap();
            secrets.insert(name.clone(), made.token);
        }
        let router = router(EdgeParts {
            broker: Arc::clone(broker),
            prometheus: None,
            limits,
            entropy: Arc::new(SystemEntropy::new()),
            portal,
        });
        Self { world, ids, router, secrets }
    }

    /// The token (people) or client secret (workloads) of a seeded identity.
    pub fn secret(&self, who: &str) -> &str {
        self.secrets[who].expose()
    }

    /// `Authorization` of a seeded person.
    pub fn bearer(&self, who: &str) -> String {
        format!("Bearer {}", self.secret(who))
    }

    /// Send it as it is.
    pub async fn send(&self, request: Request<Body>) -> axum::response::Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Send it as it is, and read the answer to its end.
    pub async fn answer(&self, request: Request<Body>) -> Answer {
        let response = self.send(request).await;
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, who: &str, path: &str) -> Answer {
        self.call(who, Method::GET, path, &[], None).await
    }

    pub async fn post(&self, who: &str, path: &str, body: Value) -> Answer {
        self.call(who, Method::POST, path, &[], Some(body)).await
    }

    pub async fn call(
        &self,
        who: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, self.bearer(who));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            None => Body::empty(),
            Some(json) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(json.to_string())
            }
        };
        self.answer(request.body(body).unwrap()).await
    }

    /// Send a form, as OAuth wants it.
    pub async fn form(&self, path: &str, authorization: Option<&str>, fields: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.answer(request.body(Body::from(body)).unwrap()).await
    }
}

/// A call without a token.
pub fn anonymous(method: &str, path: &str) -> Request<Body> {
    Request::builder().method(method).uri(path).body(Body::empty()).unwrap()
}
