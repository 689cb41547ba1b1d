//! A world with a Slack beside it: the fake over real HTTP and WebSocket, people with linked accounts, and a clock moved
//! by hand.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tidegate::{
    app::{
        DirectoryFile,
        fake_slack::{APP, CHANNEL, FakeSlack, Hanging, TEAM},
    },
    config::SlackConfig,
    domain::{id::RequestId, request::RequestState, slack::SlackUser},
    edge::{EdgeParts, Limits, router_with},
    ports::entropy::SystemEntropy,
};

use crate::world::{Db, Plan, World, want};

/// More people than the seed has.
const MORE: &str = r#"
groups = []
[[identity]]
name = "cat"
display_name = "Cat, second approver"
groups = ["approvers"]
[[identity]]
name = "ben-bot"
kind = "workload"
display_name = "A job of ben"
owner = "ben"
groups = ["workloads"]
"#;

pub struct Desk {
    pub world: World,
    pub fake: Arc<FakeSlack>,
    pub server: String,
    pub secrets: tempfile::TempDir,
}

/// Over which way Slack comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Urls,
    Socket,
}

pub fn account(user: &str) -> SlackUser {
    SlackUser { enterprise: String::new(), team: TEAM.to_owned(), user: user.to_owned() }
}

pub fn config(fake: &FakeSlack, secrets: &std::path::Path, way: Way) -> SlackConfig {
    let write = |name: &str, secret: tidegate::domain::secret::Secret| {
        let file = secrets.join(name);
        std::fs::write(&file, format!("{}\n", secret.expose())).unwrap();
        file
    };
    SlackConfig {
        app_id: APP.to_owned(),
        channel: CHANNEL.to_owned(),
        bot_token_file: write("bot", fake.bot_token()),
        app_token_file: (way == Way::Socket).then(|| write("app", fake.app_token())),
        signing_secret_file: (way == Way::Urls).then(|| write("signing", fake.signing_secret())),
        api: Some(fake.api().parse().unwrap()),
        allow_loopback: true,
        on_call_group: Some("oncall".to_owned()),
        escalate_after: None,
        remind_every: None,
        quiet: std::iter::empty().collect(),
    }
}

impl Desk {
    pub async fn on(db: Db) -> Self {
        Self::by(db, Way::Urls).await
    }

    pub async fn by(db: Db, way: Way) -> Self {
        Box::pin(Self::with(db, way, |_| {})).await
    }

    pub async fn with(db: Db, way: Way, change: impl FnOnce(&mut SlackConfig)) -> Self {
        let mut plan = Plan::on(db);
        let fake = FakeSlack::start(0, Arc::clone(&plan.clock) as _, &SystemEntropy::new()).await.unwrap();
        let secrets = tempfile::tempdir().unwrap();
        let mut slack = config(&fake, secrets.path(), way);
        change(&mut slack);
        plan.slack = Some(slack);
        let world = Box::pin(plan.build()).await;
        let more: DirectoryFile = toml::from_str(MORE).unwrap();
        more.apply(world.store(), world.broker.entropy(), world.now()).await.unwrap();
        let server = serve(&world).await;
        if way == Way::Urls {
            fake.deliver_to(&server);
        }
        for (user, name) in [("U0ANA", "ana"), ("U0BEN", "ben"), ("U0CAT", "cat"), ("U0EVE", "eve")] {
            fake.join(user, name, &json!({}));
            link(&world, user, name).await;
        }
        let desk = Self { world, fake, server, secrets };
        desk.run();
        // Whoever is linked hears of it; that is said and done before anything else happens.
        desk.until(|d| d.fake.messages().len() == 4).await;
        for m in desk.fake.messages() {
            assert!(m.text.contains("acts for"), "{}", m.text);
            desk.fake.delete(&m.channel, &m.ts);
        }
        if way == Way::Socket {
            desk.until(|d| d.fake.sockets() > 0).await;
        }
        desk
    }

    /// The surface's own loops.
    pub fn run(&self) {
        tokio::spawn(Arc::clone(self.world.slack.as_ref().unwrap()).run());
    }

    /// Wait until it holds. Time goes on a second at a time while nothing happens.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changes = self.fake.changes();
        for _ in 0..150 {
            if holds(self) {
                return;
            }
            if tokio::time::timeout(Duration::from_millis(150), changes.changed()).await.is_err() {
                self.world.advance(1);
            }
        }
        let calls: Vec<String> = self.fake.calls().into_iter().map(|(method, _)| method).collect();
        panic!("it never held; {} sockets; calls {calls:?}; messages {:#?}", self.fake.sockets(), self.fake.messages());
    }

    /// The same, for what only the ledger shows.
    pub async fn until_state(&self, id: &str, state: RequestState) {
        let id: RequestId = id.parse().unwrap();
        for _ in 0..200 {
            if self.world.store().request(id).await.unwrap().unwrap().state == state {
                return;
            }
            let mut committed = self.world.broker.committed();
            let _ = tokio::time::timeout(Duration::from_millis(50), committed.changed()).await;
        }
        panic!("{id} never became {state:?}");
    }

    /// Everything that was begun has been done: nothing more comes.
    pub async fn quiet(&self) {
        let mut changes = self.fake.changes();
        for _ in 0..4 {
            self.world.advance(2);
            while tokio::time::timeout(Duration::from_millis(700), changes.changed()).await.is_ok() {}
        }
    }

    /// Somebody asks for something that needs approval; its message, once it hangs.
    pub async fn asked(&self, who: &str, entitlement: &str) -> (String, Hanging) {
        let request = self.world.ask(who, want(entitlement, 1800)).await.unwrap();
        self.until(|d| d.request_message(&request.id).is_some()).await;
        let message = self.request_message(&request.id).unwrap();
        (request.id, message)
    }

    /// Messages of a channel that everybody sees, threads apart.
    pub fn channel(&self, channel: &str) -> Vec<Hanging> {
        let mut all = self.fake.messages();
        all.retain(|m| m.channel == channel && m.thread.is_none() && m.only.is_none());
        all
    }

    pub fn request_messages(&self, id: &str) -> Vec<Hanging> {
        let mut all = self.channel(CHANNEL);
        all.retain(|m| m.blocks.to_string().contains(id));
        all
    }

    pub fn request_message(&self, id: &str) -> Option<Hanging> {
        self.request_messages(id).pop()
    }

    /// What only this account was shown, in order.
    pub fn whispers(&self, user: &str) -> Vec<String> {
        let all = self.fake.messages().into_iter().filter(|m| m.only.as_deref() == Some(user));
        all.map(|m| m.blocks.to_string()).collect()
    }

    pub async fn whispered(&self, user: &str, text: &str) {
        self.until(|d| d.whispers(user).iter().any(|w| w.contains(text))).await;
    }

    pub async fn state(&self, id: &str) -> RequestState {
        self.world.store().request(id.parse().unwrap()).await.unwrap().unwrap().state
    }

    pub async fn click(&self, user: &str, m: &Hanging, action: &str) -> u16 {
        self.fake.click(user, &m.channel, &m.ts, action, None).await.status
    }

    /// Events of that action.
    pub async fn events(&self, action: &str) -> Vec<Value> {
        let page = self.world.store().events(&tidegate::store::AuditFilter::default(), 0, 10_000).await.unwrap();
        let events = page.items.iter().map(|e| serde_json::from_str::<Value>(&e.leaf).unwrap());
        events.filter(|e| e["action"] == action).collect()
    }
}

/// The world's router on a port of its own.
pub async fn serve(world: &World) -> String {
    let limits = Limits { per_identity: None, per_address: None, ..Limits::default() };
    let parts = EdgeParts {
        portal: tidegate::edge::Portal::default(),
        broker: Arc::clone(&world.broker),
        prometheus: None,
        limits,
        entropy: Arc::new(SystemEntropy::new()),
    };
    let router = router_with(parts, world.slack.clone());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    server
}

/// Link an account as people do: with a code, signed in.
pub async fn link(world: &World, user: &str, name: &str) {
    let code = world.broker.offer_slack_link(&account(user), name, "").await.unwrap();
    let ctx = world.in_portal(name).await;
    world.broker.link_slack(&ctx, code.expose()).await.unwrap();
}

/// Does it have a button of that action?
pub fn has(m: &Hanging, action: &str) -> bool {
    m.blocks.to_string().contains(&format!("\"action_id\":\"{action}\""))
}
