//! The cases of the conformance suite, one function a promise. Each answers with what it saw, if that was wrong.

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::timeout;
use tracing::instrument::WithSubscriber;

use super::{Harness, Trouble};
use crate::{
    domain::{
        grant::{Intent, Recipe, grant_of_object},
        secret::Minted,
    },
    ports::connector::{Connector, Fault, Found, Presence},
};

type Case = Result<(), String>;

/// One grant in the hands of the suite.
struct Held {
    intent: Intent,
    minted: Option<Minted>,
}

impl Held {
    const fn recipe(&self) -> &Recipe {
        &self.intent.recipe
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Case {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// A recipe as the ledger gives it back: written as JSON and read again.
fn from_ledger(recipe: &Recipe) -> Result<Recipe, String> {
    let text = serde_json::to_string(recipe).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

async fn intend(h: &dyn Harness, c: &dyn Connector, lasting: std::time::Duration) -> Result<Intent, String> {
    let wish = h.wish(h.grant());
    let recipe = c.prepare(&wish).await.map_err(|e| format!("prepare: {e}"))?;
    ensure(recipe.grant == wish.grant, || "prepare made a recipe for another grant".into())?;
    let intent = Intent {
        recipe,
        holder: wish.holder,
        holder_name: wish.holder_name,
        entitlement: wish.entitlement,
        parameters: wish.parameters,
        not_after: h.now().plus_std(lasting),
    };
    h.ledger().intend(h.target(), &intent);
    Ok(intent)
}

/// A credential, as the broker claims it; `None` where the target mints none.
async fn claim(h: &dyn Harness, c: &dyn Connector, intent: &Intent) -> Result<Option<Minted>, String> {
    if !c.describe().mints_secrets {
        return Ok(None);
    }
    let claim = h.ledger().issue(h.target(), intent, h.now());
    let minted = c.mint(intent, &claim).await.map_err(|e| format!("mint: {e}"))?;
    ensure(minted.expires_at <= intent.not_after, || {
        format!("the credential lasts until {}, the grant only until {}", minted.expires_at, intent.not_after)
    })?;
    ensure(!minted.secrets.is_empty(), || "the connector says that it mints secrets, and minted none".into())?;
    Ok(Some(minted))
}

async fn open(h: &dyn Harness, c: &dyn Connector, lasting: std::time::Duration) -> Result<Held, String> {
    let intent = intend(h, c, lasting).await?;
    c.activate(&intent).await.map_err(|e| format!("activate: {e}"))?;
    let minted = claim(h, c, &intent).await?;
    Ok(Held { intent, minted })
}

async fn works(h: &dyn Harness, held: &Held) -> Result<bool, String> {
    h.works(&held.intent, held.minted.as_ref()).await
}

async fn must_work(h: &dyn Harness, held: &Held, when: &str) -> Case {
    ensure(works(h, held).await?, || format!("the access does not work {when}"))
}

async fn must_not_work(h: &dyn Harness, held: &Held, when: &str) -> Case {
    ensure(!works(h, held).await?, || format!("the access still works {when}"))
}

async fn close(h: &dyn Harness, c: &dyn Connector, recipe: &Recipe) -> Case {
    h.ledger().end(recipe.grant);
    c.revoke(recipe).await.map_err(|e| format!("revoke: {e}"))?;
    must_be_absent(c, recipe).await
}

async fn must_be_absent(c: &dyn Connector, recipe: &Recipe) -> Case {
    match c.verify(recipe).await {
        Presence::Absent(evidence) => ensure(evidence.is_object(), || "evidence of absence must be an object".into()),
        other => Err(format!("verify said {other:?}, not absent")),
    }
}

async fn listed(c: &dyn Connector, recipe: &Recipe) -> Result<Vec<Found>, String> {
    let found = c.sweep().await.map_err(|e| format!("sweep: {e}"))?;
    Ok(found.into_iter().filter(|f| f.grant == recipe.grant).collect())
}

pub async fn describes_and_checks_itself(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let d = c.describe();
    ensure(!d.kind.is_empty() && !d.summary.is_empty(), || "kind or summary is empty".into())?;
    ensure(!d.residual_window.is_empty(), || "the residual window is not said in words".into())?;
    c.validate(&h.wish(h.grant()).parameters).map_err(|e| format!("validate refused the harness's wish: {e}"))?;
    ensure(c.validate(&serde_json::json!({"no-such-parameter": 1})).is_err(), || {
        "validate accepted an unknown parameter".into()
    })?;
    let findings = c.check().await;
    ensure(!findings.is_empty(), || "check looked at nothing".into())?;
    match findings.iter().find(|f| !f.ok) {
        Some(bad) => Err(format!("check found `{}` wrong at a healthy target: {}", bad.name, bad.detail)),
        None => Ok(()),
    }
}

pub async fn prepare_changes_nothing(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let wish = h.wish(h.grant());
    let first = c.prepare(&wish).await.map_err(|e| format!("prepare: {e}"))?;
    let again = h.connector().await?.prepare(&wish).await.map_err(|e| format!("prepare: {e}"))?;
    ensure(first == again, || "two recipes for one wish differ".into())?;
    ensure(grant_of_object(&first.object) == Some(wish.grant), || {
        format!("`{}` does not lead back to its grant", first.object)
    })?;
    ensure(listed(c.as_ref(), &first).await?.is_empty(), || "prepare left an object".into())?;
    must_be_absent(c.as_ref(), &first).await
}

pub async fn activate_twice_is_once(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let intent = intend(h, c.as_ref(), h.long()).await?;
    for _ in 0..2 {
        c.activate(&intent).await.map_err(|e| format!("activate: {e}"))?;
    }
    let minted = claim(h, c.as_ref(), &intent).await?;
    let held = Held { intent, minted };
    must_work(h, &held, "after two activations").await?;
    // A third one, as after a lost answer, must not harm the holder's copy.
    c.activate(&held.intent).await.map_err(|e| format!("activate again: {e}"))?;
    must_work(h, &held, "after a repeated activation").await?;
    if h.lists() {
        let n = listed(c.as_ref(), held.recipe()).await?.len();
        ensure(n == 1, || format!("sweep lists {n} objects of one grant"))?;
    }
    close(h, c.as_ref(), held.recipe()).await?;
    must_not_work(h, &held, "after revocation").await
}

pub async fn mint_twice_leaves_one(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let mut held = open(h, c.as_ref(), h.long()).await?;
    let Some(first) = held.minted.take() else {
        return close(h, c.as_ref(), held.recipe()).await;
    };
    held.minted = claim(h, c.as_ref(), &held.intent).await?;
    must_work(h, &held, "after a second claim").await?;
    let first = Held { intent: held.intent.clone(), minted: Some(first) };
    if h.second_claim_ends_first() {
        must_not_work(h, &first, "as the first copy, after a second claim").await?;
    }
    close(h, c.as_ref(), held.recipe()).await?;
    must_not_work(h, &first, "as the first copy, after revocation").await?;
    must_not_work(h, &held, "as the second copy, after revocation").await
}

pub async fn verify_sees_before_and_after(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let held = open(h, c.as_ref(), h.long()).await?;
    if c.describe().read_back {
        match c.verify(held.recipe()).await {
            Presence::Present(_) => {}
            other => return Err(format!("verify said {other:?} of live access")),
        }
    }
    close(h, c.as_ref(), held.recipe()).await
}

pub async fn revoke_twice_is_once(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let held = open(h, c.as_ref(), h.long()).await?;
    must_work(h, &held, "before revocation").await?;
    close(h, c.as_ref(), held.recipe()).await?;
    must_not_work(h, &held, "after revocation").await?;
    close(h, c.as_ref(), held.recipe()).await?;
    must_not_work(h, &held, "after two revocations").await
}

pub async fn revoke_of_the_unknown_is_done(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let intent = intend(h, c.as_ref(), h.long()).await?;
    close(h, c.as_ref(), &intent.recipe).await
}

pub async fn a_crash_is_cleaned_by_name(h: &dyn Harness) -> Case {
    // After the call and before the record: only the intent's recipe is left.
    let c = h.connector().await?;
    let intent = intend(h, c.as_ref(), h.long()).await?;
    c.activate(&intent).await.map_err(|e| format!("activate: {e}"))?;
    let recipe = from_ledger(&intent.recipe)?;
    drop(c);
    let c = h.connector().await?;
    close(h, c.as_ref(), &recipe).await?;

    // With a credential in the holder's hands.
    let held = open(h, c.as_ref(), h.long()).await?;
    drop(c);
    let c = h.connector().await?;
    must_work(h, &held, "after a restart").await?;
    let recipe = from_ledger(held.recipe())?;
    close(h, c.as_ref(), &recipe).await?;
    must_not_work(h, &held, "after a restart and a revocation").await
}

pub async fn overlapping_grants_end_apart(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let one = open(h, c.as_ref(), h.long()).await?;
    let two = open(h, c.as_ref(), h.long()).await?;
    close(h, c.as_ref(), one.recipe()).await?;
    if !h.shares_access() {
        must_not_work(h, &one, "after its end, while another grant of the same holder is open").await?;
    }
    must_work(h, &two, "after the end of another grant of the same holder").await?;
    close(h, c.as_ref(), two.recipe()).await?;
    must_not_work(h, &one, "after both grants ended").await?;
    must_not_work(h, &two, "after both grants ended").await
}

pub async fn an_extension_moves_the_end(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    if !c.describe().native_expiry {
        return Ok(());
    }
    let mut held = open(h, c.as_ref(), h.short()).await?;
    let first_end = held.intent.not_after;
    held.intent.not_after = h.now().plus_std(h.long());
    h.ledger().intend(h.target(), &held.intent);
    c.activate(&held.intent).await.map_err(|e| format!("activate with a later end: {e}"))?;
    h.pass_until(first_end.plus_std(h.slack())).await;
    held.minted = claim(h, c.as_ref(), &held.intent).await?;
    must_work(h, &held, "after its first end, although it was extended").await?;
    close(h, c.as_ref(), held.recipe()).await?;
    must_not_work(h, &held, "after revocation").await
}

pub async fn sweep_finds_ours_and_only_ours(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    if !h.lists() {
        let n = c.sweep().await.map_err(|e| format!("sweep: {e}"))?.len();
        return ensure(n == 0, || format!("nothing can be listed, and sweep lists {n} objects"));
    }
    let one = open(h, c.as_ref(), h.long()).await?;
    let two = open(h, c.as_ref(), h.long()).await?;
    drop(c);
    let c = h.connector().await?;
    let found = listed(c.as_ref(), one.recipe()).await?;
    let [orphan] = found.as_slice() else {
        return Err(format!("sweep lists {} objects of a live grant", found.len()));
    };
    // An orphan is ended from what sweep said, without a ledger row.
    let recipe = Recipe { grant: orphan.grant, object: orphan.object.clone(), data: orphan.data.clone() };
    close(h, c.as_ref(), &recipe).await?;
    if !h.shares_access() {
        must_not_work(h, &one, "after it was ended as an orphan").await?;
    }
    must_work(h, &two, "after an orphan was ended").await?;
    ensure(listed(c.as_ref(), one.recipe()).await?.is_empty(), || "sweep still lists the ended orphan".into())?;
    close(h, c.as_ref(), two.recipe()).await?;
    must_not_work(h, &one, "after both were ended").await
}

pub async fn a_foreign_object_is_left_alone(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let intent = intend(h, c.as_ref(), h.long()).await?;
    let object = intent.recipe.object.clone();
    let planted = h.plant_foreign(&object).await?;
    if !planted {
        h.ledger().end(intent.recipe.grant);
        return Ok(());
    }
    let activated = c.activate(&intent).await;
    ensure(matches!(activated, Err(Fault::Foreign(_))), || {
        format!("activation over a foreign object said {activated:?}, not foreign")
    })?;
    h.ledger().end(intent.recipe.grant);
    let revoked = c.revoke(&intent.recipe).await;
    ensure(h.foreign_intact(&object).await?, || format!("revoke ({revoked:?}) touched an object that is not ours"))?;
    let _ = c.verify(&intent.recipe).await;
    ensure(listed(c.as_ref(), &intent.recipe).await?.is_empty(), || "sweep lists an object that is not ours".into())?;
    ensure(h.foreign_intact(&object).await?, || "verify or sweep touched an object that is not ours".into())?;
    h.remove_foreign(&object).await
}

/// Collects log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub async fn secrets_never_show(h: &dyn Harness) -> Case {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let (held, seen) = async {
        let c = h.connector().await?;
        let held = open(h, c.as_ref(), h.long()).await?;
        let report = c.activate(&held.intent).await;
        let mut seen = format!("{c:?} {report:?} {:?} {:?}", c.verify(held.recipe()).await, c.sweep().await);
        if let Some(minted) = &held.minted {
            seen.push_str(&serde_json::to_string(&minted.public).unwrap_or_default());
        }
        h.ledger().end(held.recipe().grant);
        let revoked = c.revoke(held.recipe()).await;
        let after = (revoked, c.verify(held.recipe()).await, c.check().await);
        write!(seen, "{after:?}").map_err(|e| e.to_string())?;
        Ok::<_, String>((held, seen))
    }
    .with_subscriber(subscriber)
    .await?;
    let log = String::from_utf8_lossy(&lines.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
    for secret in h.own_secrets() {
        ensure(!seen.contains(&secret), || "the broker's own secret shows in an answer of the connector".into())?;
        ensure(!log.contains(&secret), || "the broker's own secret shows in the log".into())?;
    }
    for (name, secret) in held.minted.iter().flat_map(|m| &m.secrets) {
        for part in secret.expose().lines().filter(|l| l.len() >= 12 && !l.starts_with("-----")) {
            ensure(!seen.contains(part), || format!("the secret `{name}` shows in an answer of the connector"))?;
            ensure(!log.contains(part), || format!("the secret `{name}` shows in the log"))?;
        }
    }
    Ok(())
}

pub async fn open_sessions_are_cut(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    if !c.describe().cuts_sessions {
        return Ok(());
    }
    let held = open(h, c.as_ref(), h.long()).await?;
    h.hold_session(&held.intent, held.minted.as_ref()).await?;
    close(h, c.as_ref(), held.recipe()).await?;
    ensure(!h.session_alive().await?, || "a session outlived the verified revocation".into())
}

pub async fn trouble_is_not_believed(h: &dyn Harness) -> Case {
    for trouble in [Trouble::Down, Trouble::Hangs] {
        let c = h.connector().await?;
        let held = open(h, c.as_ref(), h.long()).await?;
        if !h.trouble(trouble).await? {
            close(h, c.as_ref(), held.recipe()).await?;
            continue;
        }
        h.ledger().end(held.recipe().grant);
        let seen = in_trouble(h, c.as_ref(), &held, trouble).await;
        h.heal().await?;
        seen?;
        close(h, c.as_ref(), held.recipe()).await?;
        must_not_work(h, &held, "after the target came back and the grant was revoked").await?;
    }
    Ok(())
}

async fn in_trouble(h: &dyn Harness, c: &dyn Connector, held: &Held, trouble: Trouble) -> Case {
    let late = |what: &str| format!("{what} did not come back from a target that is {trouble:?}");
    let revoked = timeout(h.patience(), c.revoke(held.recipe())).await.map_err(|_| late("revoke"))?;
    ensure(matches!(&revoked, Err(f) if f.is_transient()), || format!("{trouble:?}: revoke said {revoked:?}"))?;
    let presence = timeout(h.patience(), c.verify(held.recipe())).await.map_err(|_| late("verify"))?;
    ensure(!matches!(presence, Presence::Absent(_)), || format!("{trouble:?}: verify said {presence:?}"))?;
    let findings = timeout(h.patience(), c.check()).await.map_err(|_| late("check"))?;
    ensure(findings.iter().any(|f| !f.ok), || format!("{trouble:?}: check found nothing wrong"))
}

/// "OK" without an effect: the look that follows tells, for ending and for opening.
pub async fn a_lie_is_not_believed(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let held = open(h, c.as_ref(), h.long()).await?;
    if !h.trouble(Trouble::Lies).await? {
        return close(h, c.as_ref(), held.recipe()).await;
    }
    h.ledger().end(held.recipe().grant);
    let revoked = timeout(h.patience(), c.revoke(held.recipe())).await;
    let seen = timeout(h.patience(), c.verify(held.recipe())).await;
    h.heal().await?;
    let (revoked, seen) = (revoked.map_err(|e| e.to_string())?, seen.map_err(|e| e.to_string())?);
    let still = works(h, &held).await?;
    ensure(still, || "the harness's lie had an effect".into())?;
    ensure(!matches!(seen, Presence::Absent(_)), || format!("revoke said {revoked:?}, verify {seen:?}"))?;
    close(h, c.as_ref(), held.recipe()).await?;
    must_not_work(h, &held, "after the lies ended and the grant was revoked").await?;
    let intent = intend(h, c.as_ref(), h.long()).await?;
    h.trouble(Trouble::Lies).await?;
    let opened = c.activate(&intent).await.map(drop);
    // Where a secret is minted, that is what opens.
    let opened = match opened {
        Ok(()) if held.minted.is_some() => claim(h, c.as_ref(), &intent).await.map(drop),
        other => other.map_err(|e| e.to_string()),
    };
    h.heal().await?;
    ensure(opened.is_err(), || "a lie was believed when the access was opened".into())?;
    close(h, c.as_ref(), &intent.recipe).await
}

/// The effect, and then a time-out: a repeat finds what is there.
pub async fn a_lost_answer_is_made_good(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    let held = open(h, c.as_ref(), h.long()).await?;
    let next = intend(h, c.as_ref(), h.long()).await?;
    if !h.trouble(Trouble::LosesAnswers).await? {
        h.ledger().end(next.recipe.grant);
        return close(h, c.as_ref(), held.recipe()).await;
    }
    h.ledger().end(held.recipe().grant);
    let revoked = timeout(h.patience(), c.revoke(held.recipe())).await;
    let opened = timeout(h.patience(), c.activate(&next)).await;
    h.heal().await?;
    for answer in [revoked.map_err(|e| e.to_string())?, opened.map_err(|e| e.to_string())?.map(drop)] {
        ensure(matches!(&answer, Err(f) if f.is_transient()), || format!("without an answer it said {answer:?}"))?;
    }
    close(h, c.as_ref(), held.recipe()).await?;
    c.activate(&next).await.map_err(|e| format!("activate again: {e}"))?;
    let minted = claim(h, c.as_ref(), &next).await?;
    let held = Held { intent: next, minted };
    must_work(h, &held, "after an activation whose answer was lost").await?;
    close(h, c.as_ref(), held.recipe()).await?;
    must_not_work(h, &held, "at its end").await
}

pub async fn a_slow_target_is_waited_for(h: &dyn Harness) -> Case {
    if !h.trouble(Trouble::Slow).await? {
        return Ok(());
    }
    let c = h.connector().await?;
    let played = async {
        let held = open(h, c.as_ref(), h.long()).await?;
        must_work(h, &held, "at a slow target").await?;
        close(h, c.as_ref(), held.recipe()).await?;
        must_not_work(h, &held, "after its end at a slow target").await
    }
    .await;
    h.heal().await?;
    played
}

pub async fn the_end_comes_by_itself(h: &dyn Harness) -> Case {
    let c = h.connector().await?;
    if !c.describe().native_expiry {
        return Ok(());
    }
    let held = open(h, c.as_ref(), h.short()).await?;
    must_work(h, &held, "before its end").await?;
    drop(c);
    h.pass_until(held.intent.not_after.plus_std(h.slack())).await;
    must_not_work(h, &held, "after its end, with the broker dead").await?;
    let c = h.connector().await?;
    close(h, c.as_ref(), held.recipe()).await
}
