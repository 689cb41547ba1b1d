//! SCIM over the whole edge, in this process, on either database, with a source and its token.

use http::{Method, Request, StatusCode, header};
use serde_json::{Value, json};

use crate::{
    http_app::{Answer, App, open},
    world::{Db, Plan},
};
use axum::body::Body;
use tidegate::{
    domain::{secret::Secret, time::Ttl},
    edge::{Limits, Portal},
};

/// An app with two sources.
pub struct Scim {
    pub app: App,
    pub token: Secret,
    pub other: Secret,
}

pub const BASE: &str = "/scim/v2";
pub const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
pub const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
pub const IDENTITY: &str = "urn:tidegate:params:scim:schemas:1.0:Identity";

impl Scim {
    pub async fn on(db: Db) -> Self {
        Self::of(Plan::on(db)).await
    }

    pub async fn of(plan: Plan) -> Self {
        Box::pin(Self::within(plan, open())).await
    }

    /// Where people come and go all day, and that is no mass change.
    pub async fn lively(db: Db) -> Self {
        let mut plan = Plan::on(db);
        plan.settings.departures.least = u64::MAX;
        Self::of(plan).await
    }

    pub async fn within(plan: Plan, limits: Limits) -> Self {
        let app = App::build(Box::pin(plan.build()).await, limits, Portal::default()).await;
        let broker = &app.world.broker;
        let hour = Ttl::seconds_or_one(3600);
        let token = broker.create_source_token_at_console("okta", hour).await.unwrap().token;
        let other = broker.create_source_token_at_console("entra", hour).await.unwrap().token;
        Self { app, token, other }
    }

    /// As the first source.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(self.token.expose(), method, path, &[], body).await
    }

    /// As the second source.
    pub async fn as_other(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(self.other.expose(), method, path, &[], body).await
    }

    pub async fn with(&self, headers: &[(&str, &str)], method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(self.token.expose(), method, path, headers, body).await
    }

    async fn send(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let method: Method = method.parse().unwrap();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{BASE}{path}"))
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            None => Body::empty(),
            Some(Value::String(raw)) => Body::from(raw),
            Some(json) => Body::from(json.to_string()),
        };
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header(header::CONTENT_TYPE, "application/scim+json");
        }
        self.app.answer(request.body(body).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, Some(body)).await
    }

    /// A PATCH with these operations.
    pub async fn patch(&self, path: &str, operations: Value) -> Answer {
        self.call("PATCH", path, Some(json!({"schemas": [PATCH_OP], "Operations": operations}))).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None).await
    }

    /// Make a user; its id.
    pub async fn user(&self, name: &str) -> String {
        self.user_of(json!({"userName": name})).await
    }

    pub async fn user_of(&self, body: Value) -> String {
        let made = self.post("/Users", body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        made.text("id")
    }

    /// Make a group with members; its id.
    pub async fn group(&self, name: &str, members: &[&str]) -> String {
        let members: Vec<Value> = members.iter().map(|m| json!({"value": m})).collect();
        let made = self.post("/Groups", json!({"displayName": name, "members": members})).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        made.text("id")
    }

    /// Ids of a group's members, sorted.
    pub async fn members(&self, group: &str) -> Vec<String> {
        let group = self.get(&format!("/Groups/{group}")).await;
        let mut ids: Vec<String> = group.body["members"]
            .as_array()
            .map(|m| m.iter().map(|m| m["value"].as_str().unwrap().to_owned()).collect())
            .unwrap_or_default();
        ids.sort();
        ids
    }

    /// `userName`s that a filter finds, sorted.
    pub async fn found(&self, filter: &str) -> Vec<String> {
        let answer = self.filter("/Users", filter).await;
        assert_eq!(answer.status, StatusCode::OK, "{filter}: {}", answer.body);
        let mut names: Vec<String> = answer.body["Resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|u| u["userName"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(answer.body["totalResults"], names.len(), "{filter}");
        names.sort();
        names
    }

    pub async fn filter(&self, path: &str, filter: &str) -> Answer {
        if filter.len() > 10_000 {
            return self.post(&format!("{path}/.search"), json!({"filter": filter})).await;
        }
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("filter", filter).finish();
        self.get(&format!("{path}?{query}")).await
    }
}

/// That it is a refusal in SCIM's form, of that status and type.
#[track_caller]
pub fn refused(answer: &Answer, status: u16, scim_type: &str) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    assert_eq!(answer.header("content-type"), "application/scim+json");
    assert_eq!(answer.body["schemas"], json!(["urn:ietf:params:scim:api:messages:2.0:Error"]), "{}", answer.body);
    assert_eq!(answer.body["status"], status.to_string());
    assert_eq!(answer.body["scimType"].as_str().unwrap_or_default(), scim_type, "{}", answer.body);
    assert!(!answer.body["detail"].as_str().unwrap().is_empty());
}

/// That it went through.
#[track_caller]
pub fn done(answer: &Answer, status: u16) {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
}
