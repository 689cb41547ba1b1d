//! AWS: the conformance suite against `moto`, and what is peculiar to its targets.
//!
//! moto looks at no condition of a policy, so what a session may still do is told from the role's policies here, by the
//! rules of IAM: a deny holds if each of its conditions does.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use tidegate::{
    connectors::{
        build,
        conformance::{self, Harness, Trouble},
        fakes::FakeLedger,
    },
    domain::{
        capability::RevocationClass,
        catalog::TargetConfig,
        grant::{Claim, Intent, Recipe, object_name},
        id::GrantId,
        secret::Minted,
        time::Timestamp,
    },
    ports::{
        clock::{Clock, ManualClock, SystemClock},
        connector::{Connector, Fault, Presence, Wish},
    },
};

use crate::{
    connectors::{TARGET, World, intent, wish},
    servers::moto::{ACCOUNT, Gate, Mode, Moto, shared, texts, tool, unique},
};

/// The broker's own.
const SECRET: &str = "the-brokers-own-secret-access-key";

fn mode_of(trouble: Trouble) -> Mode {
    match trouble {
        Trouble::Down => Mode::Down,
        Trouble::Hangs => Mode::Hangs,
        Trouble::Lies => Mode::LiesAlways,
        Trouble::LosesAnswers => Mode::LosesAnswers,
        Trouble::Slow => Mode::Slow,
    }
}

/// The broker's keys, as a credentials file of AWS.
pub fn credentials(dir: &Path, key: &str, secret: &str) -> String {
    let path = dir.join("aws-credentials");
    std::fs::write(&path, format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")).unwrap();
    path.display().to_string()
}

pub fn broker(world: &World, url: &str) -> Value {
    json!({
        "credentials_file": credentials(world.path(), "AKIABROKER", SECRET),
        "region": "us-east-1",
        "endpoint_url": url,
    })
}

pub fn target(kind: &str, timeout: u32, settings: &Value) -> TargetConfig {
    serde_json::from_value(json!({"id": TARGET, "kind": kind, "timeout_seconds": timeout, "settings": settings}))
        .unwrap()
}

/// What the role's policies say of a session with this source identity at that time.
pub fn is_denied<'a>(policies: impl IntoIterator<Item = &'a String>, source: &str, now: Timestamp) -> bool {
    policies.into_iter().any(|text| {
        let policy: Value = serde_json::from_str(text).unwrap();
        let statement = &policy["Statement"];
        let condition = &statement["Condition"];
        let from = condition["DateGreaterThan"]["aws:CurrentTime"].as_str();
        statement["Effect"] == "Deny"
            && condition["StringEquals"]["aws:SourceIdentity"] == source
            && from.is_none_or(|at| now > at.parse::<Timestamp>().unwrap())
    })
}

pub struct Roles {
    pub world: World,
    pub moto: &'static Moto,
    pub gate: Gate,
    pub role: String,
}

impl Roles {
    pub async fn new(clock: Arc<dyn Clock>) -> Self {
        let moto = shared();
        Self { world: World::new(clock), moto, gate: Gate::before(moto).await, role: moto.role().await }
    }

    pub fn connect(&self) -> Arc<dyn Connector> {
        let settings = json!({"roles": [self.role], "broker": broker(&self.world, &self.gate.url())});
        build(&target("aws_sts", 2, &settings), &self.world.parts()).unwrap()
    }

    fn wished(&self) -> Wish {
        wish(self.world.grant(), json!({"role": self.role}))
    }

    pub async fn intent(&self, connector: &dyn Connector, lasting: Duration) -> Intent {
        intent(connector, self.wished(), self.world.clock.now().plus_std(lasting)).await
    }

    pub fn claim(&self, intent: &Intent) -> Claim {
        self.world.ledger.issue(TARGET, intent, self.world.clock.now())
    }

    pub async fn denied(&self, source: &str) -> bool {
        is_denied(self.moto.policies(&self.role).await.values(), source, self.world.clock.now())
    }
}

#[async_trait]
impl Harness for Roles {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        Ok(self.connect())
    }

    fn ledger(&self) -> &FakeLedger {
        &self.world.ledger
    }

    fn target(&self) -> &str {
        TARGET
    }

    fn wish(&self, grant: GrantId) -> Wish {
        wish(grant, json!({"role": self.role}))
    }

    fn grant(&self) -> GrantId {
        self.world.grant()
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    async fn pass_until(&self, at: Timestamp) {
        tokio::time::sleep(at.since(self.now())).await;
    }

    /// The keys are a session of the role under the grant's name, and the role does not deny it everything.
    async fn works(&self, intent: &Intent, minted: Option<&Minted>) -> Result<bool, String> {
        let minted = minted.ok_or("no keys")?;
        let key = minted.public["access_key_id"].as_str().unwrap();
        let token = minted.secrets.iter().find(|(name, _)| *name == "session_token").map(|(_, s)| s.expose());
        let form = [("Action", "GetCallerIdentity"), ("Version", "2011-06-15")];
        let (status, said) = self.moto.ask("sts", key, token, &form).await;
        let session = format!("assumed-role/{}/{}.", self.role.rsplit('/').next().unwrap(), intent.recipe.object);
        if status != 200 || !said.contains(&session) {
            return Err(format!("not a session of the grant: {status} {said}"));
        }
        Ok(!self.denied(minted.public["source_identity"].as_str().unwrap()).await)
    }

    fn second_claim_ends_first(&self) -> bool {
        false
    }

    async fn plant_foreign(&self, object: &str) -> Result<bool, String> {
        let role = self.role.rsplit('/').next().unwrap();
        let form =
            [("Action", "PutRolePolicy"), ("RoleName", role), ("PolicyName", object), ("PolicyDocument", THEIRS)];
        self.moto.iam(&form).await;
        Ok(true)
    }

    async fn foreign_intact(&self, object: &str) -> Result<bool, String> {
        Ok(self.moto.policies(&self.role).await.get(object).is_some_and(|text| text == THEIRS))
    }

    async fn remove_foreign(&self, object: &str) -> Result<(), String> {
        let role = self.role.rsplit('/').next().unwrap();
        self.moto.iam(&[("Action", "DeleteRolePolicy"), ("RoleName", role), ("PolicyName", object)]).await;
        Ok(())
    }

    async fn trouble(&self, trouble: Trouble) -> Result<bool, String> {
        self.gate.set(mode_of(trouble));
        Ok(true)
    }

    fn own_secrets(&self) -> Vec<String> {
        vec![SECRET.into()]
    }

    async fn heal(&self) -> Result<(), String> {
        self.gate.set(Mode::Pass);
        Ok(())
    }
}

const THEIRS: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_sts_conforms() {
    conformance::run(&Roles::new(Arc::new(SystemClock::new())).await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_sts_says_what_it_can_and_cannot() {
    let roles = Roles::new(Arc::new(SystemClock::new())).await;
    let said = roles.connect().describe();
    assert_eq!((said.revocation_class, said.residual_window_seconds), (RevocationClass::Propagating, 300));
    assert!(said.native_expiry && !said.replaces_copies);
    assert!(said.rights.statements.contains(&roles.role) && said.rights.statements.contains("sts:SetSourceIdentity"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_sts_tells_aws_whose_session_it_is() {
    let roles = Roles::new(Arc::new(SystemClock::new())).await;
    let connector = roles.connect();
    let mut wished = roles.wished();
    wished.holder_name = "ana;o'neill".into();
    wished.parameters["session"] = json!("15m");
    wished.parameters["session_tags"] = json!({"team": "payments"});
    wished.parameters["session_policy"] = json!(THEIRS);
    let intent = intent(connector.as_ref(), wished, roles.world.clock.now().plus_std(Duration::from_hours(2))).await;
    // Not before the deny is there.
    let claim = roles.claim(&intent);
    assert!(matches!(connector.mint(&intent, &claim).await, Err(Fault::Refused(_))));
    assert_eq!(roles.gate.calls("AssumeRole"), 0);
    let applied = connector.activate(&intent).await.unwrap();
    assert_eq!(applied["source_identity"], intent.recipe.object);
    let minted = connector.mint(&intent, &claim).await.unwrap();
    assert_eq!(minted.public["session_name"], format!("{}.1", intent.recipe.object));
    let lasts = minted.expires_at.since(roles.world.clock.now()).as_secs();
    assert!((880..=901).contains(&lasts), "{lasts} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_sts_denies_are_collected_when_their_sessions_are_over_and_not_before() {
    let now = SystemClock::new().now();
    let clock = Arc::new(ManualClock::at(now));
    let roles = Roles::new(Arc::clone(&clock) as _).await;
    let connector = roles.connect();
    let held = roles.intent(connector.as_ref(), Duration::from_mins(30)).await;
    let unclaimed = roles.intent(connector.as_ref(), Duration::from_mins(30)).await;
    for intent in [&held, &unclaimed] {
        connector.activate(intent).await.unwrap();
    }
    connector.mint(&held, &roles.claim(&held)).await.unwrap();
    for intent in [&held, &unclaimed] {
        roles.world.ledger.end(intent.recipe.grant);
        connector.revoke(&intent.recipe).await.unwrap();
    }
    let names = || async { roles.moto.policies(&roles.role).await.into_keys().collect::<Vec<_>>() };
    assert_eq!(names().await, std::slice::from_ref(&held.recipe.object), "what nobody claimed needs no deny");
    let Presence::Absent(evidence) = connector.verify(&held.recipe).await else { panic!("not absent") };
    let ends: Timestamp = evidence["sessions_end"].as_str().unwrap().parse().unwrap();
    assert_eq!(ends.seconds(), held.not_after.seconds() + 960);
    clock.set(ends.minus_std(Duration::from_secs(2)));
    assert_eq!(connector.sweep().await.unwrap(), []);
    assert_eq!(names().await.len(), 1, "the last session may still live");
    clock.set(ends.plus_std(Duration::from_secs(1)));
    connector.sweep().await.unwrap();
    assert_eq!(names().await.len(), 0);
    assert!(matches!(connector.verify(&held.recipe).await, Presence::Absent(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_sts_opens_nothing_that_it_could_not_deny() {
    let clock = Arc::new(ManualClock::at(SystemClock::new().now()));
    let roles = Roles::new(Arc::clone(&clock) as _).await;
    let connector = roles.connect();
    let old = roles.intent(connector.as_ref(), Duration::from_mins(1)).await;
    connector.activate(&old).await.unwrap();
    connector.mint(&old, &roles.claim(&old)).await.unwrap();
    let full = roles.intent(connector.as_ref(), Duration::from_hours(1)).await;
    roles.gate.set(Mode::Refuses("PutRolePolicy", "LimitExceeded"));
    let Err(Fault::Refused(why)) = connector.activate(&full).await else { panic!("opened") };
    assert!(why.contains("no room") && why.contains("10,240"), "{why}");
    assert!(connector.mint(&full, &roles.claim(&full)).await.is_err());
    assert_eq!(roles.gate.calls("AssumeRole"), 1);
    // Ending does not need room: it makes the deny shorter.
    roles.gate.set(Mode::Pass);
    let open = roles.moto.policies(&roles.role).await[&old.recipe.object].len();
    roles.world.ledger.end(old.recipe.grant);
    connector.revoke(&old.recipe).await.unwrap();
    assert!(roles.moto.policies(&roles.role).await[&old.recipe.object].len() < open);
    // What has outlived its sessions makes room for the next one.
    clock.advance(Duration::from_mins(30));
    let next = roles.intent(connector.as_ref(), Duration::from_hours(1)).await;
    roles.gate.set(Mode::Refuses("PutRolePolicy", "LimitExceeded"));
    assert!(connector.activate(&next).await.is_err());
    assert_eq!(roles.moto.policies(&roles.role).await.len(), 0, "it was collected to make room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_sts_refuses_a_session_that_aws_would_not_give() {
    let roles = Roles::new(Arc::new(SystemClock::new())).await;
    let settings = json!({
        "roles": [roles.role], "max_session": "12h", "broker": broker(&roles.world, &roles.gate.url()),
    });
    let connector = build(&target("aws_sts", 2, &settings), &roles.world.parts()).unwrap();
    // The role's MaxSessionDuration is AWS's default, an hour.
    let Err(Fault::Refused(why)) = connector.prepare(&roles.wished()).await else { panic!("prepared") };
    assert!(why.contains("--max-session-duration 43200"), "{why}");
    let findings = connector.check().await;
    let bad: Vec<_> = findings.iter().filter(|f| !f.ok).collect();
    assert!(bad.len() == 1 && bad[0].fix.as_ref().unwrap().contains("update-role"), "{bad:?}");
    let nowhere = json!({"roles": [format!("{}x", roles.role)], "broker": broker(&roles.world, &roles.gate.url())});
    let connector = build(&target("aws_sts", 2, &nowhere), &roles.world.parts()).unwrap();
    let mut wished = roles.wished();
    wished.parameters = json!({"role": format!("{}x", roles.role)});
    assert!(matches!(connector.prepare(&wished).await, Err(Fault::Refused(_))));
    assert!(connector.check().await.iter().any(|f| !f.ok && f.detail.contains("no such role")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_that_says_yes_and_does_nothing_is_caught() {
    let roles = Roles::new(Arc::new(SystemClock::new())).await;
    let connector = roles.connect();
    let one = roles.intent(connector.as_ref(), Duration::from_mins(30)).await;
    connector.activate(&one).await.unwrap();
    connector.mint(&one, &roles.claim(&one)).await.unwrap();
    roles.world.ledger.end(one.recipe.grant);
    roles.gate.set(Mode::Lies("PutRolePolicy"));
    connector.revoke(&one.recipe).await.unwrap();
    assert!(matches!(connector.verify(&one.recipe).await, Presence::Present(_)));
    // Its effect, and then no answer.
    roles.gate.set(Mode::LosesAnswer("PutRolePolicy"));
    assert!(matches!(connector.revoke(&one.recipe).await, Err(Fault::Unavailable(_))));
    roles.gate.set(Mode::Pass);
    assert!(matches!(connector.verify(&one.recipe).await, Presence::Absent(_)));
    // Somebody deletes the deny: that is seen, and it is put there again.
    roles.remove_foreign(&one.recipe.object).await.unwrap();
    assert!(matches!(connector.verify(&one.recipe).await, Presence::Present(_)));
    connector.revoke(&one.recipe).await.unwrap();
    assert!(matches!(connector.verify(&one.recipe).await, Presence::Absent(_)));
    // An activation that comes after the end does not open it again.
    assert!(matches!(connector.activate(&one).await, Err(Fault::Refused(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_credentials_that_were_rotated_are_read_again() {
    let roles = Roles::new(Arc::new(SystemClock::new())).await;
    let connector = roles.connect();
    let one = roles.intent(connector.as_ref(), Duration::from_mins(30)).await;
    connector.activate(&one).await.unwrap();
    roles.gate.set(Mode::Knows("AKIANEW".into()));
    let Err(Fault::Unavailable(why)) = connector.mint(&one, &roles.claim(&one)).await else { panic!("minted") };
    assert!(why.contains("the broker's own credentials"), "{why}");
    assert!(connector.revoke(&one.recipe).await.unwrap_err().is_transient());
    assert!(matches!(connector.verify(&one.recipe).await, Presence::Unknown(_)));
    credentials(roles.world.path(), "AKIANEW", "secret");
    connector.mint(&one, &roles.claim(&one)).await.unwrap();
    roles.world.ledger.end(one.recipe.grant);
    connector.revoke(&one.recipe).await.unwrap();
    assert!(matches!(connector.verify(&one.recipe).await, Presence::Absent(_)));
}

/// With IAM's rights looked at: the policy that the sheet prints is enough, and a deny in force ends a session that works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_sts_needs_no_more_than_it_says_and_its_deny_is_felt() {
    let moto = Moto::start(Some(9));
    let role = moto.role().await;
    let name = role.rsplit('/').next().unwrap().to_owned();
    let world = World::new(Arc::new(SystemClock::new()));
    let settings = |file: &str| json!({"roles": [role], "broker": {"credentials_file": file, "region": "us-east-1", "endpoint_url": moto.url()}});
    let rights = build(&target("aws_sts", 10, &settings("/nowhere")), &world.parts()).unwrap().describe().rights;
    let all = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    let mut keys = Vec::new();
    for (user, policy) in [("broker", rights.statements.as_str()), ("admin", all)] {
        moto.iam(&[("Action", "CreateUser"), ("UserName", user)]).await;
        let form = [("Action", "PutUserPolicy"), ("UserName", user), ("PolicyName", "p"), ("PolicyDocument", policy)];
        moto.iam(&form).await;
        let made = moto.iam(&[("Action", "CreateAccessKey"), ("UserName", user)]).await;
        keys.push((texts(&made, "AccessKeyId").remove(0), texts(&made, "SecretAccessKey").remove(0)));
    }
    let own = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:ListUsers","Resource":"*"}]}"#;
    let form =
        [("Action", "PutRolePolicy"), ("RoleName", name.as_str()), ("PolicyName", "own"), ("PolicyDocument", own)];
    moto.iam(&form).await;
    // From here on AWS's rules hold.
    let aws = |key: &str, secret: &str, token: &str, words: &[&str]| {
        let mut command = Command::new(tool("aws"));
        command
            .args(["--endpoint-url", &moto.url(), "--region", "us-east-1"])
            .args(words)
            .env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_ACCESS_KEY_ID", key).env("AWS_SECRET_ACCESS_KEY", secret);
        if !token.is_empty() {
            command.env("AWS_SESSION_TOKEN", token);
        }
        let out = command.output().unwrap();
        (
            out.status.success(),
            format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)),
        )
    };
    let connect = |key: &(String, String)| {
        let file = credentials(world.path(), &key.0, &key.1);
        build(&target("aws_sts", 10, &settings(&file)), &world.parts()).unwrap()
    };
    let bad = connect(&(keys[0].0.clone(), "wrong".into())).check().await;
    assert!(bad.iter().any(|f| !f.ok), "{bad:?}");
    let connector = connect(&keys[0]);
    let findings = connector.check().await;
    assert!(findings.iter().all(|f| f.ok), "{findings:?}");

    // A session that was there before, under the grant's name: what a crash while minting leaves.
    let grant = world.grant();
    let object = object_name(grant);
    let wished = wish(grant, json!({"role": role}));
    let intent = intent(connector.as_ref(), wished, world.clock.now().plus_std(Duration::from_hours(1))).await;
    let words = ["sts", "assume-role", "--role-arn", &role, "--role-session-name", &object];
    let words = [&words[..], &["--source-identity", &object, "--output", "json"]].concat();
    let (ok, made) = aws(&keys[0].0, &keys[0].1, "", &words);
    assert!(ok, "{made}");
    let made: Value = serde_json::from_str(&made).unwrap();
    let field = |name: &str| made["Credentials"][name].as_str().unwrap().to_owned();
    let unseen =
        || aws(&field("AccessKeyId"), &field("SecretAccessKey"), &field("SessionToken"), &["iam", "list-users"]);
    let (ok, said) = unseen();
    assert!(ok, "{said}");
    world.ledger.issue(TARGET, &intent, world.clock.now());
    world.ledger.end(grant);
    connector.revoke(&intent.recipe).await.unwrap();
    assert!(matches!(connector.verify(&intent.recipe).await, Presence::Absent(_)));
    let (ok, said) = unseen();
    assert!(!ok && said.contains("AccessDenied"), "{said}");
    // It was the deny: without it the session works again.
    let words = ["iam", "delete-role-policy", "--role-name", &name, "--policy-name", &object];
    let (ok, said) = aws(&keys[1].0, &keys[1].1, "", &words);
    assert!(ok, "{said}");
    assert!(unseen().0);
}

pub struct Members {
    pub world: World,
    pub moto: &'static Moto,
    pub gate: Gate,
    pub group: String,
    pub user: String,
}

impl Members {
    pub async fn new() -> Self {
        let moto = shared();
        let (group, user) = (unique("group"), unique("user"));
        moto.iam(&[("Action", "CreateGroup"), ("GroupName", &group)]).await;
        moto.iam(&[("Action", "CreateUser"), ("UserName", &user)]).await;
        let group = format!("arn:aws:iam::{ACCOUNT}:group/{group}");
        let world = World::new(Arc::new(SystemClock::new()));
        Self { world, moto, gate: Gate::before(moto).await, group, user }
    }

    pub fn connect(&self) -> Arc<dyn Connector> {
        let settings = json!({
            "groups": [self.group],
            "users": {"ana": self.user},
            "between_looks_seconds": 0,
            "broker": broker(&self.world, &self.gate.url()),
        });
        build(&target("aws_iam_group", 2, &settings), &self.world.parts()).unwrap()
    }

    pub async fn is_member(&self) -> bool {
        self.moto.members(&self.group).await.contains(&self.user)
    }

    pub async fn change(&self, action: &str) {
        let group = self.group.rsplit('/').next().unwrap();
        self.moto.iam(&[("Action", action), ("GroupName", group), ("UserName", &self.user)]).await;
    }

    pub async fn open(&self, connector: &dyn Connector) -> Intent {
        let end = self.world.clock.now().plus_std(Duration::from_mins(5));
        let intent = intent(connector, Harness::wish(self, self.world.grant()), end).await;
        self.world.ledger.intend(TARGET, &intent);
        connector.activate(&intent).await.unwrap();
        intent
    }

    pub async fn close(&self, connector: &dyn Connector, recipe: &Recipe) -> Value {
        self.world.ledger.end(recipe.grant);
        connector.revoke(recipe).await.unwrap();
        match connector.verify(recipe).await {
            Presence::Absent(evidence) => evidence,
            other => panic!("{other:?}"),
        }
    }
}

#[async_trait]
impl Harness for Members {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        Ok(self.connect())
    }

    fn ledger(&self) -> &FakeLedger {
        &self.world.ledger
    }

    fn target(&self) -> &str {
        TARGET
    }

    fn wish(&self, grant: GrantId) -> Wish {
        wish(grant, json!({"group": self.group}))
    }

    fn grant(&self) -> GrantId {
        self.world.grant()
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    async fn pass_until(&self, at: Timestamp) {
        tokio::time::sleep(at.since(self.now())).await;
    }

    async fn works(&self, _intent: &Intent, _minted: Option<&Minted>) -> Result<bool, String> {
        Ok(self.is_member().await)
    }

    fn shares_access(&self) -> bool {
        true
    }

    async fn trouble(&self, trouble: Trouble) -> Result<bool, String> {
        self.gate.set(mode_of(trouble));
        Ok(true)
    }

    fn own_secrets(&self) -> Vec<String> {
        vec![SECRET.into()]
    }

    async fn heal(&self) -> Result<(), String> {
        self.gate.set(Mode::Pass);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_iam_group_conforms() {
    conformance::run(&Members::new().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_iam_group_counts_in_both_orders_and_leaves_standing_members() {
    let it = Members::new().await;
    let connector = it.connect();
    for first in [0, 1] {
        let two = [it.open(connector.as_ref()).await, it.open(connector.as_ref()).await];
        it.close(connector.as_ref(), &two[first].recipe).await;
        assert!(it.is_member().await, "the other grant is still there");
        it.close(connector.as_ref(), &two[1 - first].recipe).await;
        assert!(!it.is_member().await);
    }
    it.change("AddUserToGroup").await;
    let calls = it.gate.calls("AddUserToGroup") + it.gate.calls("RemoveUserFromGroup");
    let standing = it.open(connector.as_ref()).await;
    assert!(standing.recipe.shared().unwrap().was_there);
    assert_eq!(connector.sweep().await.unwrap(), [], "a standing member is not ours");
    let evidence = it.close(connector.as_ref(), &standing.recipe).await;
    assert_eq!(evidence["looks"][1]["was_member"], true);
    assert!(it.is_member().await);
    let after = it.gate.calls("AddUserToGroup") + it.gate.calls("RemoveUserFromGroup");
    assert_eq!(after, calls, "nothing was changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_iam_group_that_does_nothing_is_caught_and_an_unknown_user_is_refused() {
    let it = Members::new().await;
    let connector = it.connect();
    let one = it.open(connector.as_ref()).await;
    it.world.ledger.end(one.recipe.grant);
    it.gate.set(Mode::Lies("RemoveUserFromGroup"));
    connector.revoke(&one.recipe).await.unwrap();
    assert!(matches!(connector.verify(&one.recipe).await, Presence::Present(_)));
    it.gate.set(Mode::Pass);
    let evidence = it.close(connector.as_ref(), &one.recipe).await;
    assert_eq!(evidence["looks"].as_array().unwrap().len(), 2);
    let mut stranger = Harness::wish(&it, it.world.grant());
    stranger.holder_name = "nobody".into();
    let Err(Fault::Refused(why)) = connector.prepare(&stranger).await else { panic!("prepared") };
    assert!(why.contains("no IAM user `nobody`"), "{why}");
}
