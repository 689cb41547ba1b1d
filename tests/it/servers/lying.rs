//! A SCIM server of ours that lies, hangs back, loses answers and refuses, as it is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::{Value, json};

/// How it answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// Changes are answered with 200, and nothing is done.
    Lies,
    /// 502 to everything.
    Down,
    /// 429 to everything, with an hour to wait.
    Busy,
    /// What is made is made, and the answer is 500.
    LosesAnswers,
    /// PATCH is no method here, and that is 404 with a page of HTML.
    NoPatch,
    /// 404 with a page of HTML to everything.
    Moved,
    /// Everything is somewhere else.
    Redirects(String),
    /// A user of that name is refused.
    Refuses(String),
    /// Lists end after so many, whatever `totalResults` says.
    EndsAfter(usize),
    /// Lists leave out whoever has this name; asked for by id, they are there.
    Hides(String),
    /// Filters are overlooked, and two are shown at once.
    Overlooks,
    /// Lists say nothing of how many there are, and begin at the first one whatever is asked for.
    Repeats,
    /// Only this token is taken.
    WantsToken(String),
}

#[derive(Default)]
struct Inside {
    mood: Mood,
    users: BTreeMap<String, Value>,
    /// People that are answered in lists without being kept: how many, and their ids here.
    crowd: Vec<String>,
    calls: Vec<String>,
}

/// The server.
#[derive(Clone)]
pub struct Liar {
    inside: Arc<Mutex<Inside>>,
    pub url: String,
    dir: Arc<tempfile::TempDir>,
}

impl Liar {
    pub async fn start() -> Self {
        let inside: Arc<Mutex<Inside>> = Arc::default();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/scim", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(Arc::clone(&inside));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let dir = Arc::new(tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("token"), "first").unwrap();
        Self { inside, url, dir }
    }

    pub fn settings(&self) -> Value {
        json!({"url": format!("{}/", self.url), "token_file": self.token_file(), "allow_loopback": true})
    }

    pub fn token_file(&self) -> std::path::PathBuf {
        self.dir.path().join("token")
    }

    pub fn set(&self, mood: Mood) {
        self.inside.lock().unwrap().mood = mood;
    }

    /// Accounts of people with these ids here.
    pub fn crowd(&self, ids: Vec<String>) {
        self.inside.lock().unwrap().crowd = ids;
    }

    pub fn user(&self, name: &str) -> Option<Value> {
        self.inside.lock().unwrap().users.values().find(|u| u["userName"] == name).cloned()
    }

    pub fn count(&self) -> usize {
        self.inside.lock().unwrap().users.len()
    }

    /// Put somebody in by hand; the id there.
    pub fn plant(&self, user: &Value) -> String {
        let mut inside = self.inside.lock().unwrap();
        let id = format!("u{}", inside.users.len() + 1);
        let mut user = user.clone();
        user["id"] = json!(id);
        inside.users.insert(id.clone(), user);
        id
    }

    /// Change somebody by hand.
    pub fn edit(&self, id: &str, name: &str, value: &Value) {
        self.inside.lock().unwrap().users.get_mut(id).unwrap()[name] = value.clone();
    }

    /// Take somebody away by hand.
    pub fn remove(&self, id: &str) {
        self.inside.lock().unwrap().users.remove(id).expect("somebody");
    }

    /// Calls since the last time, as method and path.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.inside.lock().unwrap().calls)
    }
}

fn scim(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/scim+json")], body.to_string()).into_response()
}

fn error(status: StatusCode, detail: &str) -> Response {
    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": status.as_u16(), "detail": detail,
    });
    scim(status, &body)
}

fn html() -> Response {
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/html")], "<html>Not Found</html>").into_response()
}

async fn answer(
    State(inside): State<Arc<Mutex<Inside>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut it = inside.lock().unwrap();
    let path = uri.path().trim_start_matches("/scim").to_owned();
    it.calls.push(format!("{method} {path}"));
    let change = method != Method::GET;
    match it.mood.clone() {
        Mood::Down => return (StatusCode::BAD_GATEWAY, "<html>").into_response(),
        Mood::Busy => return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "3600")]).into_response(),
        Mood::Moved => return html(),
        Mood::Redirects(to) => return (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Mood::NoPatch if method == Method::PATCH => return html(),
        Mood::Lies if change => return scim(StatusCode::OK, &json!({})),
        Mood::WantsToken(token) => {
            let given = headers.get(header::AUTHORIZATION).and_then(|h| h.to_str().ok()).unwrap_or_default();
            if given != format!("Bearer {token}") {
                return error(StatusCode::UNAUTHORIZED, "no");
            }
        }
        _ => {}
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let id = path.strip_prefix("/Users/").map(str::to_owned);
    match (method.as_str(), path.as_str(), id) {
        ("GET", "/ServiceProviderConfig", _) => {
            scim(StatusCode::OK, &json!({"patch": {"supported": true}, "filter": {"supported": true}}))
        }
        ("GET", "/Users", _) => list(&it, &uri),
        ("POST", "/Users", _) => make(&mut it, body),
        ("GET", _, Some(id)) => match it.users.get(&id) {
            Some(user) => scim(StatusCode::OK, user),
            None => error(StatusCode::NOT_FOUND, "no such user"),
        },
        (method, _, Some(id)) => {
            let Some(user) = it.users.get_mut(&id) else { return error(StatusCode::NOT_FOUND, "no such user") };
            match method {
                "DELETE" => {
                    it.users.remove(&id);
                }
                "PUT" => *user = body,
                _ => {
                    for operation in body["Operations"].as_array().cloned().unwrap_or_default() {
                        let path = operation["path"].as_str().unwrap_or_default().to_owned();
                        user[path] = operation["value"].clone();
                    }
                }
            }
            StatusCode::NO_CONTENT.into_response()
        }
        _ => html(),
    }
}

fn make(it: &mut Inside, mut user: Value) -> Response {
    if it.mood == Mood::Refuses(user["userName"].as_str().unwrap_or_default().to_owned()) {
        return error(StatusCode::BAD_REQUEST, "that name is not for us");
    }
    if it.users.values().any(|u| u["userName"] == user["userName"]) {
        return error(StatusCode::CONFLICT, "taken");
    }
    let id = format!("u{}", it.users.len() + 1);
    user["id"] = json!(id);
    user["unknown"] = json!("kept");
    it.users.insert(id, user.clone());
    if it.mood == Mood::LosesAnswers {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "lost");
    }
    scim(StatusCode::CREATED, &user)
}

/// Lower-case `resources` and numbers as texts: some do.
fn list(it: &Inside, uri: &Uri) -> Response {
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let filter = query.get("filter").map(String::as_str).unwrap_or_default();
    let overlooked = it.mood == Mood::Overlooks;
    let found: Vec<Value> = if let Some((name, value)) = filter.split_once(" eq ").filter(|_| !overlooked) {
        let value: Value = serde_json::from_str(value).unwrap();
        it.users.values().filter(|u| u[name] == value).cloned().collect()
    } else {
        let number = |name: &str, or: usize| query.get(name).and_then(|n| n.parse().ok()).unwrap_or(or);
        let (start, count) = (number("startIndex", 1).max(1), number("count", 100));
        let one = |(n, id): (usize, &String)| json!({"id": format!("c{n}"), "externalId": id, "userName": format!("crowd{n}"), "active": true});
        let crowd = it.crowd.iter().enumerate().skip(start - 1).take(count).map(one);
        let users = it.users.values().skip(start - 1).take(count).cloned();
        let all: Vec<Value> = if it.crowd.is_empty() { users.collect() } else { crowd.collect() };
        let mut total = it.crowd.len().max(it.users.len());
        let mut all = all;
        match &it.mood {
            Mood::Repeats => {
                return scim(StatusCode::OK, &json!({"resources": it.users.values().cloned().collect::<Vec<_>>()}));
            }
            Mood::Overlooks => all.truncate(2),
            Mood::EndsAfter(most) => {
                all.truncate(most.saturating_sub(start - 1));
            }
            Mood::Hides(name) => {
                all.retain(|u| u["userName"] != *name);
                total = all.len();
            }
            _ => {}
        }
        return scim(StatusCode::OK, &json!({"totalResults": total.to_string(), "resources": all}));
    };
    scim(StatusCode::OK, &json!({"totalResults": found.len(), "resources": found}))
}
