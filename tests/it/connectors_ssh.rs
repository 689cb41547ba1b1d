//! SSH certificates: the conformance suite against a real `sshd` with the real `ssh`, and what is peculiar to them.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use tidegate::{
    connectors::{
        conformance::{self, Harness, Trouble},
        fakes::{FakeLedger, Mood},
    },
    domain::{grant::Intent, id::GrantId, secret::Minted, time::Timestamp},
    ports::{
        clock::{ManualClock, SystemClock},
        connector::{Connector, Fault, Presence, Wish},
    },
};

use crate::{
    connectors::{TARGET, World, intent, start, wish},
    servers::sshd::{Sshd, login_name, run},
};

struct Host {
    world: World,
    sshd: Sshd,
    user: String,
}

fn krl_file(world: &World) -> PathBuf {
    world.path().join("published").join("revoked.krl")
}

fn settings(world: &World) -> Value {
    fs::create_dir_all(world.path().join("published")).unwrap();
    json!({"krl_file": krl_file(world), "krl_fetch_seconds": 0, "host": "bastion"})
}

fn connector(world: &World) -> Arc<dyn Connector> {
    world.connector("ssh", &settings(world))
}

impl Host {
    async fn start() -> Self {
        let world = World::new(Arc::new(SystemClock::new()));
        let ca = connector(&world).publication("ca.pub").await.unwrap().body;
        let sshd = Sshd::start(&ca, &krl_file(&world)).await;
        Self { world, sshd, user: login_name() }
    }

    fn away(&self) -> PathBuf {
        self.world.path().join("away")
    }

    /// Open a grant and claim a certificate for it.
    async fn claim(&self, parameters: Value, lasting: Duration) -> (Intent, Minted) {
        let c = connector(&self.world);
        let end = self.world.clock.now().plus_std(lasting);
        let intent = intent(c.as_ref(), wish(self.world.grant(), parameters), end).await;
        c.activate(&intent).await.unwrap();
        let claim = self.world.ledger.issue(TARGET, &intent, self.world.clock.now());
        let minted = c.mint(&intent, &claim).await.unwrap();
        (intent, minted)
    }
}

#[async_trait]
impl Harness for Host {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        Ok(connector(&self.world))
    }

    fn ledger(&self) -> &FakeLedger {
        &self.world.ledger
    }

    fn target(&self) -> &str {
        TARGET
    }

    fn wish(&self, grant: GrantId) -> Wish {
        wish(grant, json!({"principals": [self.user]}))
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

    async fn works(&self, _intent: &Intent, minted: Option<&Minted>) -> Result<bool, String> {
        Ok(self.sshd.login(&self.user, minted.unwrap()).await.ok)
    }

    fn lists(&self) -> bool {
        false
    }

    fn short(&self) -> Duration {
        Duration::from_secs(4)
    }

    async fn trouble(&self, trouble: Trouble) -> Result<bool, String> {
        match trouble {
            Trouble::Down => fs::rename(self.world.path().join("published"), self.away()).map_err(|e| e.to_string())?,
            Trouble::Hangs => self.world.ledger.set_mood(Mood::Hanging),
            // It is no server that could lie or lose an answer.
            Trouble::Lies | Trouble::LosesAnswers | Trouble::Slow => return Ok(false),
        }
        Ok(true)
    }

    async fn heal(&self) -> Result<(), String> {
        self.world.ledger.set_mood(Mood::Well);
        if self.away().exists() {
            fs::rename(self.away(), self.world.path().join("published")).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn ssh_conforms_against_a_real_sshd() {
    let host = Host::start().await;
    if let Err(broken) = conformance::run(&host).await {
        panic!("{broken}\n{}", host.sshd.log());
    }
    host.sshd.stop().await;
}

#[tokio::test]
async fn ssh_lets_in_only_as_certified() {
    let host = Host::start().await;
    let minute = Duration::from_mins(1);
    let (_, other) = host.claim(json!({"principals": ["somebody-else"]}), minute).await;
    let refused = host.sshd.login(&host.user, &other).await;
    assert!(!refused.ok && refused.said.contains("Permission denied"), "another principal: {refused:?}");
    assert!(host.sshd.log().contains("name is not a listed principal"), "{}", host.sshd.log());

    let (_, far) = host.claim(json!({"principals": [host.user], "source_address": ["192.0.2.0/24"]}), minute).await;
    assert!(!host.sshd.login(&host.user, &far).await.ok, "from another network");

    let forced = json!({"principals": [host.user], "force_command": "echo forced", "extensions": [],
        "source_address": ["127.0.0.0/8"]});
    let (_, forced) = host.claim(forced, minute).await;
    let login = host.sshd.login(&host.user, &forced).await;
    assert_eq!(login.stdout.trim(), "forced", "{}", host.sshd.log());
    host.sshd.stop().await;
}

#[tokio::test]
async fn ssh_list_is_what_ssh_keygen_reads() {
    let host = Host::start().await;
    let (gone, first) = host.claim(json!({"principals": [host.user]}), Duration::from_mins(1)).await;
    let (_, stays) = host.claim(json!({"principals": [host.user]}), Duration::from_mins(1)).await;
    let c = connector(&host.world);
    host.world.ledger.end(gone.recipe.grant);
    c.revoke(&gone.recipe).await.unwrap();
    let Presence::Absent(evidence) = c.verify(&gone.recipe).await else { panic!("not absent") };

    let krl = krl_file(&host.world).display().to_string();
    let (sums, sum) = run("sha256sum", &[&krl]);
    assert!(sums && sum.starts_with(evidence["krl"]["sha256"].as_str().unwrap()), "{sum} {evidence}");
    let ask =
        |minted: &Minted| run("ssh-keygen", &["-Q", "-f", &krl, &host.sshd.write(minted).1.display().to_string()]);
    let (good, said) = ask(&first);
    assert!(!good && said.contains("REVOKED"), "{said}");
    let (good, said) = ask(&stays);
    assert!(good, "{said}");

    let published = c.publication("krl").await.unwrap().body;
    let copy = host.world.path().join("copy.krl");
    fs::write(&copy, published).unwrap();
    let (_, listed) = run("ssh-keygen", &["-Q", "-l", "-f", &copy.display().to_string()]);
    let serial = first.public["serial"].as_u64().unwrap();
    assert!(listed.contains(&format!("serial: {serial}")), "{listed}");
    let (_, shown) = run("ssh-keygen", &["-L", "-f", &host.sshd.write(&first).1.display().to_string()]);
    assert!(shown.contains(&format!("Key ID: \"{} ana\"", gone.recipe.object)), "{shown}");
    host.sshd.stop().await;
}

fn minutes(n: u64) -> Timestamp {
    start().plus_std(Duration::from_mins(n))
}

#[tokio::test]
async fn ssh_list_is_there_from_the_start_and_for_all_to_read() {
    let world = World::still();
    let c = connector(&world);
    let file = krl_file(&world);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
    fs::remove_file(&file).unwrap();
    c.sweep().await.unwrap();
    assert!(file.exists(), "the sweep puts a lost list back");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    c.sweep().await.unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
    let names: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["revoked.krl"], "nothing is left beside it");
}

#[tokio::test]
async fn ssh_believes_only_what_it_reads_back() {
    let world = World::still();
    let c = connector(&world);
    let intent = intent(c.as_ref(), wish(world.grant(), json!({"principals": ["root"]})), minutes(5)).await;
    let claim = world.ledger.issue(TARGET, &intent, start());
    c.mint(&intent, &claim).await.unwrap();
    let empty = fs::read(krl_file(&world)).unwrap();
    world.ledger.end(intent.recipe.grant);
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Present(_)), "revoked in the ledger, not on the list");
    c.revoke(&intent.recipe).await.unwrap();
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Absent(_)));
    fs::write(krl_file(&world), empty).unwrap();
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Present(_)), "somebody put the old list back");
    fs::write(krl_file(&world), b"nonsense").unwrap();
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Unknown(_)));
    c.revoke(&intent.recipe).await.unwrap();
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Absent(_)), "and it is set right");
}

#[tokio::test]
async fn ssh_mints_no_second_copy_while_the_first_cannot_be_ended() {
    let world = World::still();
    let c = connector(&world);
    let intent = intent(c.as_ref(), wish(world.grant(), json!({"principals": ["root"]})), minutes(5)).await;
    let first = world.ledger.issue(TARGET, &intent, start());
    c.mint(&intent, &first).await.unwrap();
    fs::remove_dir_all(krl_file(&world).parent().unwrap()).unwrap();
    let second = world.ledger.issue(TARGET, &intent, start());
    let minted = c.mint(&intent, &second).await;
    assert!(matches!(minted.map(|_| ()), Err(Fault::Unavailable(_))));
}

#[tokio::test]
async fn ssh_serials_stay_listed_for_hosts_with_a_late_clock_and_then_go() {
    let clock = Arc::new(ManualClock::at(start()));
    let world = World::new(Arc::clone(&clock) as _);
    let c = connector(&world);
    let intent = intent(c.as_ref(), wish(world.grant(), json!({"principals": ["root"]})), minutes(5)).await;
    world.ledger.issue(TARGET, &intent, start());
    world.ledger.end(intent.recipe.grant);
    let size = || fs::metadata(krl_file(&world)).unwrap().len();
    let empty = size();
    for (at, listed) in [(0, true), (5, true), (9, true), (10, false)] {
        clock.set(minutes(at));
        c.sweep().await.unwrap();
        assert_eq!(size() > empty, listed, "after {at} minutes");
    }
}

#[tokio::test]
async fn ssh_without_its_directory_harms_only_itself() {
    let world = World::still();
    let missing = world.path().join("missing").join("revoked.krl");
    let c = world.connector("ssh", &json!({"krl_file": missing}));
    let findings = c.check().await;
    let bad = findings.iter().find(|f| !f.ok).unwrap();
    assert!(bad.fix.as_deref().unwrap().contains("install -d"), "{bad:?}");
    let intent = intent(c.as_ref(), wish(world.grant(), json!({"principals": ["root"]})), minutes(5)).await;
    assert!(matches!(c.revoke(&intent.recipe).await, Err(Fault::Unavailable(_))));
    fs::create_dir_all(missing.parent().unwrap()).unwrap();
    assert_eq!(c.revoke(&intent.recipe).await, Ok(()));
    assert!(c.check().await.iter().all(|f| f.ok));
}

#[tokio::test]
async fn ssh_publishing_is_shared() {
    let world = World::still();
    let c = connector(&world);
    let mut intents = Vec::new();
    for _ in 0..200 {
        let i = intent(c.as_ref(), wish(world.grant(), json!({"principals": ["root"]})), minutes(5)).await;
        world.ledger.issue(TARGET, &i, start());
        intents.push(i);
    }
    let revoked = intents.iter().map(|i| {
        let (c, recipe) = (Arc::clone(&c), i.recipe.clone());
        world.ledger.end(recipe.grant);
        tokio::spawn(async move {
            c.revoke(&recipe).await.unwrap();
            assert!(matches!(c.verify(&recipe).await, Presence::Absent(_)));
        })
    });
    for done in revoked.collect::<Vec<_>>() {
        done.await.unwrap();
    }
}
