//! A browser without a screen: keeps cookies, follows where forms lead, sends what a page's forms carry.

use std::{cell::RefCell, collections::BTreeMap};

use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};

use crate::http_app::{App, ORIGIN};

pub struct Browser<'a> {
    pub app: &'a App,
    pub origin: String,
    pub cookies: RefCell<BTreeMap<String, String>>,
}

/// An answer, read to its end.
pub struct Shown {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub html: String,
}

impl Shown {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// Where it sends the browser.
    pub fn location(&self) -> &str {
        self.header("location")
    }

    /// The value of a hidden field.
    pub fn field(&self, name: &str) -> String {
        let mark = format!(r#"name="{name}" value=""#);
        let rest = self.html.split_once(&mark).unwrap_or_else(|| panic!("no field `{name}`: {}", self.html)).1;
        rest.split('"').next().unwrap().to_owned()
    }
}

/// A form as browsers write it.
pub fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

impl<'a> Browser<'a> {
    pub fn new(app: &'a App) -> Self {
        Self { app, origin: ORIGIN.to_owned(), cookies: RefCell::default() }
    }

    /// Somebody of the seed, signed in.
    pub async fn of(app: &'a App, who: &str) -> Self {
        let browser = Self::new(app);
        let done = browser.send_form("/login/dev", &[("who", who)]).await;
        assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.html);
        browser
    }

    pub async fn send(&self, mut request: Request<Body>) -> Shown {
        let pairs: Vec<String> = self.cookies.borrow().iter().map(|(n, v)| format!("{n}={v}")).collect();
        if !pairs.is_empty() {
            request.headers_mut().insert(header::COOKIE, pairs.join("; ").parse().unwrap());
        }
        let (parts, body) = self.app.send(request).await.into_parts();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let text = cookie.to_str().unwrap();
            let (name, rest) = text.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if value.is_empty() {
                self.cookies.borrow_mut().remove(name);
            } else {
                self.cookies.borrow_mut().insert(name.to_owned(), value.to_owned());
            }
        }
        let bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
        let html = String::from_utf8(bytes.to_vec()).unwrap();
        Shown { status: parts.status, headers: parts.headers, html }
    }

    pub async fn open(&self, path: &str) -> Shown {
        let request = Request::builder().uri(path).header(header::ACCEPT, "text/html");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// A page that must be there.
    pub async fn page(&self, path: &str) -> Shown {
        let shown = self.open(path).await;
        assert_eq!(shown.status, StatusCode::OK, "{path}: {}", shown.html);
        shown
    }

    /// What the session's forms carry.
    pub async fn csrf(&self) -> String {
        self.page("/people/me").await.field("csrf")
    }

    pub async fn send_form(&self, path: &str, fields: &[(&str, &str)]) -> Shown {
        self.send_from(Some(&self.origin), path, fields).await
    }

    pub async fn send_from(&self, origin: Option<&str>, path: &str, fields: &[(&str, &str)]) -> Shown {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        self.send(request.body(Body::from(form(fields))).unwrap()).await
    }

    /// A form of this session.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Shown {
        let csrf = self.csrf().await;
        let mut all = vec![("csrf", csrf.as_str())];
        all.extend_from_slice(fields);
        self.send_form(path, &all).await
    }

    /// Decide on a request with the form of its page.
    pub async fn decide(&self, request: &str, verb: &str, fields: &[(&str, &str)]) -> Shown {
        let terms = self.page(request).await.field("terms");
        let mut all = vec![("terms", terms.as_str())];
        all.extend_from_slice(fields);
        self.post(&format!("{request}/{verb}"), &all).await
    }

    /// Ask for one entitlement; the path of the request.
    pub async fn ask(&self, entitlement: &str, reason: &str) -> String {
        let fields = [("e", entitlement), ("duration", "900"), ("reason", reason), ("do", "send")];
        let asked = self.post("/request", &fields).await;
        assert_eq!(asked.status, StatusCode::SEE_OTHER, "{}", asked.html);
        asked.location().split('?').next().unwrap().to_owned()
    }

    /// The name of the session's cookie, and its secret.
    pub fn session(&self) -> Option<String> {
        self.cookies.borrow().get("tidegate").cloned()
    }
}
