//! A Slack of our own, for trying out and for tests: the Web API over HTTP, Socket Mode over WebSocket, and a page on
//! which one can be anybody. Loopback only; everything is in memory.
//!
//! It is faithful where we rely on Slack: triggers live three seconds and work once, sizes are checked, what is gone is
//! `message_not_found`, too much is 429 with `Retry-After`, a delivery without acknowledgement comes again. It can be
//! told to fail.

mod act;
mod api;
mod beside;
mod check;
mod page;
mod socket;

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};

pub use act::Delivered;
pub use beside::beside;

use crate::{
    domain::{secret::Secret, time::Timestamp},
    ports::{clock::Clock, entropy::Entropy},
};

/// Workspace, app and channel of the fake.
pub const TEAM: &str = "T0FAKE";
/// The app.
pub const APP: &str = "A0FAKE";
/// The channel of requests.
pub const CHANNEL: &str = "C0ACCESS";

/// A message as it hangs.
#[derive(Debug, Clone)]
pub struct Hanging {
    /// Where: `C…` or `D…`.
    pub channel: String,
    /// Its name in the channel.
    pub ts: String,
    /// The message that it hangs below.
    pub thread: Option<String>,
    /// For readers and notifications.
    pub text: String,
    /// What is seen.
    pub blocks: Value,
    /// Only this account sees it.
    pub only: Option<String>,
    /// How often it was changed.
    pub edits: u32,
    /// What it carries for its app.
    pub metadata: Value,
}

/// A form, open at somebody's.
#[derive(Debug, Clone)]
pub struct OpenView {
    /// Whose.
    pub user: String,
    /// Its id.
    pub id: String,
    /// Changes with every change of it.
    pub hash: String,
    /// The form.
    pub view: Value,
}

struct Trigger {
    user: String,
    at: Timestamp,
    used: bool,
}

#[derive(Default)]
struct State {
    users: BTreeMap<String, Value>,
    messages: Vec<Hanging>,
    views: Vec<OpenView>,
    homes: BTreeMap<String, Value>,
    triggers: HashMap<String, Trigger>,
    answers: HashMap<String, (String, String, u32)>,
    calls: Vec<(String, Value)>,
    limited: HashMap<String, (u32, u64)>,
    down: bool,
    unheard: HashMap<String, u32>,
    cut_next: bool,
    request_url: Option<String>,
    sockets: Vec<(u64, mpsc::UnboundedSender<socket::Frame>)>,
    waiting: HashMap<String, oneshot::Sender<Value>>,
    tickets: Vec<String>,
    count: u64,
}

/// The fake.
pub struct FakeSlack {
    address: SocketAddr,
    bot_token: String,
    app_token: String,
    signing_secret: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    http: reqwest::Client,
}

/// Reaches this machine only.
fn http_client() -> anyhow::Result<reqwest::Client> {
    #[allow(clippy::disallowed_methods, reason = "deliveries to a server on this machine")]
    let builder = reqwest::Client::builder();
    let none = reqwest::redirect::Policy::none();
    builder.redirect(none).no_proxy().timeout(Duration::from_secs(5)).build().context("no HTTP client")
}

impl FakeSlack {
    /// Start on a port of 127.0.0.1, 0 for any, and serve until the process ends.
    pub async fn start(port: u16, clock: Arc<dyn Clock>, entropy: &dyn Entropy) -> anyhow::Result<Arc<Self>> {
        crate::keys::init_crypto();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.context("the fake Slack cannot listen")?;
        let fresh = |prefix: &str| anyhow::Ok(format!("{prefix}{}", entropy.text(24)?.expose()));
        let fake = Arc::new(Self {
            address: listener.local_addr()?,
            bot_token: fresh("xoxb-fake-")?,
            app_token: fresh("xapp-fake-")?,
            signing_secret: fresh("")?,
            clock,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            http: http_client()?,
        });
        let router = api::routes().merge(page::routes()).merge(socket::routes()).with_state(Arc::clone(&fake));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(fake)
    }

    /// `http://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Base of the Web API.
    pub fn api(&self) -> String {
        format!("{}/api/", self.url())
    }

    /// `xoxb-…`.
    pub fn bot_token(&self) -> Secret {
        Secret::new(self.bot_token.clone())
    }

    /// `xapp-…`.
    pub fn app_token(&self) -> Secret {
        Secret::new(self.app_token.clone())
    }

    /// What request URLs are signed with.
    pub fn signing_secret(&self) -> Secret {
        Secret::new(self.signing_secret.clone())
    }

    /// Deliver to this server's request URLs instead of over a socket.
    pub fn deliver_to(&self, server: &str) {
        self.lock().request_url = Some(server.trim_end_matches('/').to_owned());
    }

    /// An account; `more` is laid over what `users.info` says of it.
    pub fn join(&self, id: &str, name: &str, more: &Value) {
        let mut user = json!({
            "id": id, "team_id": TEAM, "name": name, "deleted": false, "is_bot": false, "is_restricted": false,
            "is_ultra_restricted": false, "is_app_user": false,
            "profile": {"display_name": name, "real_name": name, "image_72": ""},
        });
        if let (Some(user), Some(more)) = (user.as_object_mut(), more.as_object()) {
            user.extend(more.clone());
        }
        self.lock().users.insert(id.to_owned(), user);
        self.touch();
    }

    /// Everything fails from here on, as if the network were cut; or no more.
    pub fn set_down(&self, down: bool) {
        self.lock().down = down;
    }

    /// The next calls of this method are carried out, and whoever calls hears nothing of it.
    pub fn lose_answers(&self, method: &str, times: u32) {
        self.lock().unheard.insert(method.to_owned(), times);
    }

    /// The next delivery over a socket arrives, and the socket is cut before anything can be acknowledged.
    pub fn cut_after_next(&self) {
        self.lock().cut_next = true;
    }

    /// The next calls of this method are answered 429 with this `Retry-After`.
    pub fn limit(&self, method: &str, times: u32, retry_after: u64) {
        self.lock().limited.insert(method.to_owned(), (times, retry_after));
    }

    /// Every message, in the order in which they were posted.
    pub fn messages(&self) -> Vec<Hanging> {
        self.lock().messages.clone()
    }

    /// The form that somebody has open on top.
    pub fn view_of(&self, user: &str) -> Option<OpenView> {
        self.lock().views.iter().rev().find(|v| v.user == user).cloned()
    }

    /// Somebody's page, once it was published.
    pub fn home_of(&self, user: &str) -> Option<Value> {
        self.lock().homes.get(user).cloned()
    }

    /// Calls so far, with their arguments.
    pub fn calls(&self) -> Vec<(String, Value)> {
        self.lock().calls.clone()
    }

    /// A message of the app, as if it had been posted before.
    pub fn post(&self, channel: &str, message: &Value) -> Hanging {
        self.hang(channel, message, None)
    }

    /// Somebody deletes a message.
    pub fn delete(&self, channel: &str, ts: &str) {
        self.lock().messages.retain(|m| m.channel != channel || m.ts != ts);
        self.touch();
    }

    /// Somebody copies a message into another channel.
    pub fn copy(&self, from: &Hanging, to: &str) -> Hanging {
        let copied = Hanging { channel: to.to_owned(), ts: self.next_ts(), thread: None, ..from.clone() };
        self.lock().messages.push(copied.clone());
        self.touch();
        copied
    }

    /// Grows with every change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn touch(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    #[allow(clippy::unwrap_used, reason = "nothing panics while it holds the lock; this is no part of the broker")]
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn next(&self) -> u64 {
        let mut state = self.lock();
        state.count += 1;
        state.count
    }

    fn next_ts(&self) -> String {
        format!("{}.{:06}", self.clock.now().seconds(), self.next())
    }
}
