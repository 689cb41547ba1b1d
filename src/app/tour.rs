//! `tidegate dev --tour`: the whole story, played over the public API against the real connectors. Every step is
//! checked; the first that does not hold ends the tour with an error.

use std::{io::Write, time::Duration};

use anyhow::{Context, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    domain::{
        checkpoint::VerifierKey,
        export::{Proof, verify_proof},
    },
    telemetry::Stopwatch,
};

/// Long enough to see each thing work, short enough to wait for its end.
const SECONDS: u32 = 4;
/// Promise P1 with room for a slow machine.
const END_WITHIN: Duration = Duration::from_secs(30);

struct Tour {
    http: Client,
    url: String,
    ana: String,
    ben: String,
    eve: String,
}

/// Play it. `access` is what `tidegate dev --json` prints.
pub(super) async fn play(url: &str, access: &Value) -> anyhow::Result<()> {
    let token = |who: &str| -> anyhow::Result<String> {
        let token = access.pointer(&format!("/people/{who}/token")).and_then(Value::as_str);
        Ok(token.with_context(|| format!("no token for {who}"))?.to_owned())
    };
    #[allow(clippy::disallowed_methods, reason = "calls this very process on loopback, without redirects")]
    let http = Client::builder()
        .timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    let tour = Tour { http, url: url.to_owned(), ana: token("ana")?, ben: token("ben")?, eve: token("eve")? };
    let watch = Stopwatch::start();
    say("Tidegate tour: ana asks, ben approves, the tide gate shuts by itself, and everybody can check that it did.")?;
    tour.scoped_token().await.context("scoped token")?;
    tour.ssh_certificate().await.context("SSH certificate")?;
    tour.membership().await.context("temporary membership")?;
    tour.kill_switch().await.context("kill switch")?;
    say(&format!("\nEvery step held ({:.1} s).", watch.elapsed().as_secs_f64()))
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(())
}

fn held(line: &str) -> anyhow::Result<()> {
    say(&format!("  ✓ {line}"))
}

fn text(value: &Value, pointer: &str) -> anyhow::Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    Ok(found.with_context(|| format!("no text at {pointer} in {value}"))?.to_owned())
}

impl Tour {
    async fn call(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Option<Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok((status, value))
    }

    async fn get(&self, path: &str, token: &str) -> anyhow::Result<Value> {
        let (status, value) = self.call(Method::GET, path, token, None).await?;
        ensure!(status.is_success(), "GET {path} answered {status}: {value}");
        Ok(value)
    }

    async fn post(&self, path: &str, token: &str, body: Value) -> anyhow::Result<Value> {
        let (status, value) = self.call(Method::POST, path, token, Some(body)).await?;
        ensure!(status.is_success(), "POST {path} answered {status}: {value}");
        Ok(value)
    }

    /// The first entitlement on a target for which ana gets this verdict.
    async fn pick(&self, target: &str, verdict: &str) -> anyhow::Result<Value> {
        let list = self.get("/v1/entitlements", &self.ana).await?;
        let items = list.get("items").and_then(Value::as_array).context("no list of entitlements")?;
        let fits = |e: &&Value| e.get("target") == Some(&json!(target)) && e.get("verdict") == Some(&json!(verdict));
        items.iter().find(fits).cloned().with_context(|| format!("ana has no {verdict} entitlement on {target}"))
    }

    /// Ask, and let ben approve if it needs approval; the grant, active.
    async fn open(&self, target: &str, verdict: &str, seconds: u32) -> anyhow::Result<Value> {
        let entitlement = self.pick(target, verdict).await?;
        let name = text(&entitlement, "/id")?;
        let class = text(&entitlement, "/revocation_class")?;
        held(&format!(
            "before asking, ana sees: {name} is `{class}`, {}",
            text(&entitlement, "/residual_window_text")?
        ))?;
        let body = json!({"entitlements": [name], "duration": seconds, "reason": "Tidegate tour"});
        let mut request = self.post("/v1/requests", &self.ana, body).await?;
        let id = text(&request, "/id")?;
        if verdict == "approval" {
            ensure!(text(&request, "/state")? == "pending", "should wait for approval: {request}");
            held(&format!("{id} is pending: needs {}", request.pointer("/approvals/from").unwrap_or(&Value::Null)))?;
            let path = format!("/v1/requests/{id}/approve");
            let (status, _) = self.call(Method::POST, &path, &self.ana, Some(json!({"comment": "me"}))).await?;
            ensure!(status == StatusCode::FORBIDDEN, "ana must not approve her own request, got {status}");
            held("ana cannot approve it herself")?;
            request = self.post(&path, &self.ben, json!({"comment": "go ahead"})).await?;
        }
        ensure!(text(&request, "/state")? == "approved", "should be approved: {request}");
        held(if verdict == "approval" { "ben approves" } else { "policy approves by itself" })?;
        let grant = request.pointer("/grants/0").cloned().context("no grant")?;
        ensure!(text(&grant, "/state")? == "active", "should be active: {grant}");
        held(&format!("{} is active until {}", text(&grant, "/id")?, text(&grant, "/not_after")?))?;
        Ok(grant)
    }

    /// Wait until the grant has ended; its final view.
    async fn ended(&self, grant: &Value, reason: &str) -> anyhow::Result<Value> {
        let id = text(grant, "/id")?;
        let watch = Stopwatch::start();
        loop {
            let now = self.get(&format!("/v1/grants/{id}"), &self.ana).await?;
            if text(&now, "/state")? == "ended" {
                ensure!(text(&now, "/end_reason")? == reason, "ended for another reason: {now}");
                let evidence = now.get("evidence").filter(|e| !e.is_null()).context("ended without evidence")?;
                held(&format!("{id} is ended ({reason}), verified absent: {evidence}"))?;
                return Ok(now);
            }
            ensure!(watch.elapsed() < END_WITHIN, "not ended after {END_WITHIN:?}: {now}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The event that says so is in the log, and anybody can check that without asking us.
    async fn proven(&self, grant: &Value) -> anyhow::Result<()> {
        let id = text(grant, "/id")?;
        let events = self.get(&format!("/v1/audit?grant={id}"), &self.ana).await?;
        let items = events.get("items").and_then(Value::as_array).context("no events")?;
        let last = items.last().context("no events")?;
        ensure!(text(last, "/event/action")? == "grant.ended", "the last event is another: {last}");
        let event = text(last, "/event/id")?;
        let proof: Proof = serde_json::from_value(self.get(&format!("/v1/audit/proof/{event}"), &self.ana).await?)?;
        let key: VerifierKey = proof.verifier_key.clone().context("no verifier key")?;
        let head = verify_proof(&proof, std::slice::from_ref(&key)).map_err(|e| anyhow::anyhow!("{e}"))?;
        let mut forged = proof.clone();
        forged.leaf = forged.leaf.replace("\"expired\"", "\"released\"").replace("grant.ended", "grant.endeD");
        ensure!(verify_proof(&forged, &[key]).is_err(), "a forged event must not verify");
        held(&format!(
            "proof: event {} of a log of {} events, signed by {}; a forged one is found out",
            proof.index, head.size, head.origin
        ))
    }

    async fn claim(&self, grant: &Value) -> anyhow::Result<Value> {
        self.post(&format!("/v1/grants/{}/credential", text(grant, "/id")?), &self.ana, json!({})).await
    }

    async fn scoped_token(&self) -> anyhow::Result<()> {
        say("\n1. A scoped token, granted by policy")?;
        let grant = self.open("dev-token", "auto", SECONDS).await?;
        let handover = self.claim(&grant).await?;
        let token = text(&handover, "/credential/token").or_else(|_| text(&handover, "/credential/access_token"))?;
        held("ana claims it: a signed at+jwt, handed over once")?;
        let introspect = || async {
            let form = [("token", token.as_str())];
            let response = self.http.post(format!("{}/oauth/introspect", self.url)).bearer_auth(&self.eve).form(&form);
            let answer: Value = response.send().await?.error_for_status()?.json().await?;
            answer.get("active").and_then(Value::as_bool).context("introspection gave no answer")
        };
        ensure!(introspect().await?, "the token should be active");
        held("use: a verifier that asks is told that it is active")?;
        let ended = self.ended(&grant, "expired").await?;
        ensure!(!introspect().await?, "the token should be inactive");
        held("a verifier that asks is told that it is not active any more")?;
        self.proven(&ended).await
    }

    async fn ssh_certificate(&self) -> anyhow::Result<()> {
        say("\n2. An SSH certificate, approved by a person, given back early")?;
        let grant = self.open("dev-ssh", "approval", 600).await?;
        let handover = self.claim(&grant).await?;
        let certificate: ssh_key::Certificate = text(&handover, "/credential/certificate")?.parse()?;
        let ca_text = self.http.get(format!("{}/published/dev-ssh/ca.pub", self.url)).send().await?.text().await?;
        let ca: ssh_key::PublicKey = ca_text.trim().parse()?;
        let fingerprint = ca.fingerprint(ssh_key::HashAlg::Sha256);
        certificate.validate(std::iter::once(&fingerprint)).context("the certificate should hold")?;
        held(&format!(
            "use: certificate serial {} for {:?} holds under our CA",
            certificate.serial(),
            certificate.valid_principals()
        ))?;
        let krl = || async {
            let response = self.http.get(format!("{}/published/dev-ssh/krl", self.url)).send().await?;
            anyhow::Ok(response.error_for_status()?.bytes().await?)
        };
        let before = krl().await?;
        self.post(&format!("/v1/grants/{}/release", text(&grant, "/id")?), &self.ana, json!({})).await?;
        held("ana gives it back")?;
        let ended = self.ended(&grant, "released").await?;
        ensure!(krl().await? != before, "the revocation list should have changed");
        held("its serial is in the revocation list that hosts fetch")?;
        self.proven(&ended).await
    }

    async fn membership(&self) -> anyhow::Result<()> {
        say("\n3. Temporary membership in a group, approved by a person")?;
        let before = self.get("/v1/me", &self.ana).await?;
        let grant = self.open("dev-directory", "approval", SECONDS).await?;
        let during = self.get("/v1/me", &self.ana).await?;
        ensure!(before.get("groups") != during.get("groups"), "ana should be in one more group");
        held(&format!("use: ana is now in {}", during.get("groups").unwrap_or(&Value::Null)))?;
        let ended = self.ended(&grant, "expired").await?;
        let after = self.get("/v1/me", &self.ana).await?;
        ensure!(before.get("groups") == after.get("groups"), "ana should be in the groups of before: {after}");
        held("ana is in the groups of before, no more and no less")?;
        self.proven(&ended).await
    }

    async fn kill_switch(&self) -> anyhow::Result<()> {
        say("\n4. A kill switch")?;
        let grant = self.open("dev-token", "auto", 600).await?;
        let body = json!({"kind": "target", "value": "dev-token", "reason": "Tidegate tour"});
        let lock = self.post("/v1/locks", &self.eve, body).await?;
        held("eve locks the target dev-token")?;
        let ended = self.ended(&grant, "locked").await?;
        let entitlement = text(&grant, "/entitlement")?;
        let body = json!({"entitlements": [entitlement], "duration": 60, "reason": "Tidegate tour"});
        let (status, _) = self.call(Method::POST, "/v1/requests", &self.ana, Some(body)).await?;
        ensure!(status == StatusCode::LOCKED, "a locked target must refuse, got {status}");
        held("nothing new is granted on it")?;
        let path = format!("/v1/locks/{}", text(&lock, "/id")?);
        let (status, _) = self.call(Method::DELETE, &path, &self.eve, None).await?;
        ensure!(status.is_success(), "the lock should be lifted, got {status}");
        held("eve lifts the lock; what it ended stays ended")?;
        self.proven(&ended).await
    }
}
