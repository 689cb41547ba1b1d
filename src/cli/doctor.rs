//! `tidegate doctor`: everything between this machine and a working call, each with what to do about it.

use http::header;
use serde_json::{Value, json};

use super::{
    client::{Client, is_loopback},
    exit::{Done, Exit},
    global::{Cx, open_to_others},
    text::{clean, shell_word, span},
    view,
};
use crate::{broker::view::MeView, domain::time::Timestamp, ports::connector::Finding};

/// Seconds by which clocks may differ before tokens and certificates fail.
const SKEW: u64 = 30;
/// A token that ends within so many seconds is worth a word.
const SOON: u64 = 300;

fn finding(name: &str, ok: bool, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
    Finding { name: name.to_owned(), ok, detail: detail.into(), fix: (!ok).then(|| fix.into()) }
}

/// Run it.
pub async fn run(cx: &Cx) -> Done {
    let mut findings = Vec::new();
    match cx.anonymous() {
        Ok(client) => {
            findings.push(transport(&client));
            findings.append(&mut server(&client, cx.ui.now()).await);
        }
        Err(failure) => {
            findings.push(finding("server address", false, failure.what, "correct --server or TIDEGATE_SERVER"));
        }
    }
    findings.append(&mut token(cx).await);
    let ok = findings.iter().all(|f| f.ok);
    cx.ui.show(&json!({"ok": ok, "findings": findings}), || view::findings(&findings))?;
    Ok(if ok { Exit::Ok } else { Exit::Error })
}

fn transport(client: &Client) -> Finding {
    let local = is_loopback(client.url());
    let detail = match (client.url().scheme(), local) {
        ("https", _) => "TLS",
        (_, true) => "this machine, without TLS",
        _ => "in clear over a network",
    };
    finding(
        "transport",
        local || client.url().scheme() == "https",
        format!("{}: {detail}", clean(client.server())),
        "use https:// in --server or TIDEGATE_SERVER; a token is not sent otherwise",
    )
}

async fn server(client: &Client, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    match client.probe(&["healthz"]).await {
        Err(failure) => {
            findings.push(finding(
                "server",
                false,
                failure.what,
                "start it (`tidegate serve`, or `tidegate dev` to try it out), or correct --server or TIDEGATE_SERVER",
            ));
            return findings;
        }
        Ok(probe) => {
            let ok = probe.status == 200;
            findings.push(finding(
                "server",
                ok,
                format!("/healthz answers {}", probe.status),
                "this is not a Tidegate server, or something in front of it answers",
            ));
            findings.extend(version(probe.body.get("version").and_then(Value::as_str)));
            let date = probe.headers.get(header::DATE).and_then(|v| v.to_str().ok());
            findings.extend(date.and_then(|date| skew(date, now)));
        }
    }
    match client.probe(&["readyz"]).await {
        Err(failure) => findings.push(finding("ready", false, failure.what, "look at the server's log")),
        Ok(probe) => {
            findings.push(finding(
                "ready",
                probe.status == 200,
                format!("/readyz answers {}", probe.status),
                "see the checks below, and the server's log",
            ));
            let checks = probe.body.get("checks").cloned().unwrap_or_default();
            findings.extend(serde_json::from_value::<Vec<Finding>>(checks).unwrap_or_default());
        }
    }
    findings
}

/// Only where the server says which it is.
fn version(server: Option<&str>) -> Option<Finding> {
    let (server, own) = (server?, env!("CARGO_PKG_VERSION"));
    let minor = |v: &str| v.split('.').take(2).collect::<Vec<_>>().join(".");
    Some(finding(
        "version",
        minor(server) == minor(own),
        format!("server {}, command line {own}", clean(server)),
        "install the `tidegate` of the server's version",
    ))
}

/// The server's clock against ours (RFC 9110 §6.6.1); to the second, for the header has no more.
fn skew(date: &str, now: Timestamp) -> Option<Finding> {
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp().as_second();
    let off = now.seconds().abs_diff(theirs);
    Some(finding(
        "clock",
        off <= SKEW,
        format!("{} apart from the server's", span(off)),
        "set the clock of this machine (NTP): tokens and certificates depend on it",
    ))
}

async fn token(cx: &Cx) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(path) = cx.global.token_file.as_deref().filter(|_| !cx.global.token_stdin) {
        let name = path.display().to_string();
        let mode = open_to_others(path);
        findings.push(finding(
            "token file",
            mode.is_none(),
            mode.map_or_else(|| clean(&name), |mode| format!("{} has mode {mode:o}: others can read it", clean(&name))),
            format!("chmod 600 {}", shell_word(&clean(&name))),
        ));
    } else if !cx.global.token_stdin && std::env::var_os("TIDEGATE_TOKEN").is_some() {
        let detail = "from $TIDEGATE_TOKEN, which every child process inherits; a file is safer";
        findings.push(finding("token source", true, detail, ""));
    }
    let client = match cx.client() {
        Ok(client) => client,
        Err(failure) => {
            let fix = failure.next.unwrap_or_default();
            findings.push(finding("token", false, failure.what, fix));
            return findings;
        }
    };
    match client.get_as::<MeView>(&["v1", "me"]).await {
        Ok((raw, me)) => {
            findings.push(finding("token", true, format!("works, as {}", clean(&me.identity.name)), ""));
            findings.extend(expiry(&raw, client, cx));
        }
        Err(failure) => {
            let fix = failure.next.unwrap_or_else(|| "see the server's log".to_owned());
            findings.push(finding("token", false, failure.what, fix));
        }
    }
    findings
}

/// When the token ends, where it or the server says so.
fn expiry(me: &Value, client: &Client, cx: &Cx) -> Option<Finding> {
    let told = me.get("token_expires_at").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let at: Timestamp = told.or_else(|| client.token_expiry())?;
    let left = at.since(cx.ui.now()).as_secs();
    Some(finding(
        "token expiry",
        left > SOON,
        cx.ui.until(&at.to_string()),
        "make a new one: tidegate token mint --out FILE",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_to_the_second() {
        let now: Timestamp = "2026-01-31T14:00:00Z".parse().unwrap();
        let near = skew("Sat, 31 Jan 2026 14:00:20 GMT", now).unwrap();
        let far = skew("Sat, 31 Jan 2026 13:58:00 GMT", now).unwrap();
        assert_eq!((near.ok, near.detail.as_str()), (true, "20s apart from the server's"));
        assert_eq!((far.ok, far.fix.is_some()), (false, true));
        assert!(skew("yesterday", now).is_none());
    }

    #[test]
    fn a_patch_release_is_no_difference() {
        let own = env!("CARGO_PKG_VERSION");
        assert!(version(Some(own)).unwrap().ok);
        assert!(!version(Some("99.0.0")).unwrap().ok);
        assert!(version(None).is_none());
    }
}
