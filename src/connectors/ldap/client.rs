//! Connections to one server. Each carries many calls at once; a call that met a dead connection is made once more on
//! a fresh one, so calls must bear repetition. The broker's password is read whenever a connection is opened.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Mod, Scope, SearchEntry, SearchOptions, SearchResult,
    adapters::{Adapter, EntriesOnly, PagedResults},
    controls::{Assertion, MakeCritical as _, RawControl},
    result::CompareResult,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::{sync::Mutex, time::timeout};
use zeroize::Zeroizing;

use super::config::Settings;
use crate::ports::connector::Fault;

/// Result codes (RFC 4511 §4.1.9).
pub(super) mod code {
    pub(in super::super) const COMPARE_FALSE: u32 = 5;
    pub(in super::super) const COMPARE_TRUE: u32 = 6;
    pub(in super::super) const SIZE_LIMIT: u32 = 4;
    /// The server does not know a control that it must heed.
    pub(in super::super) const UNKNOWN_EXTENSION: u32 = 12;
    pub(in super::super) const NO_SUCH_ATTRIBUTE: u32 = 16;
    pub(in super::super) const EXISTS: u32 = 20;
    pub(in super::super) const NO_SUCH_OBJECT: u32 = 32;
    pub(in super::super) const INVALID_NAME: u32 = 34;
    pub(in super::super) const INVALID_CREDENTIALS: u32 = 49;
    pub(in super::super) const INSUFFICIENT_ACCESS: u32 = 50;
    pub(in super::super) const BUSY: u32 = 51;
    /// What Active Directory says when a member is removed that is none.
    pub(in super::super) const UNWILLING: u32 = 53;
    pub(in super::super) const OBJECT_CLASS: u32 = 65;
    /// What Active Directory says when a member is added that is one.
    pub(in super::super) const ENTRY_EXISTS: u32 = 68;
    /// The entry is not the one that the change is for (RFC 4528).
    pub(in super::super) const ASSERTION_FAILED: u32 = 122;
}

/// Entries to a page: servers cap an answer at 500 or 1000.
const PAGE: i32 = 250;

/// Tries of a call that the server is too busy for, and the first and the longest pause between two: some four seconds.
const TRIES: u32 = 16;
const FIRST_PAUSE: Duration = Duration::from_millis(30);
const LONGEST_PAUSE: Duration = Duration::from_millis(300);

/// An answer with a result code.
trait Told {
    fn code(&self) -> u32;
}

impl Told for LdapResult {
    fn code(&self) -> u32 {
        self.rc
    }
}

impl Told for CompareResult {
    fn code(&self) -> u32 {
        self.0.rc
    }
}

impl Told for SearchResult {
    fn code(&self) -> u32 {
        self.1.rc
    }
}

impl Told for (Vec<SearchEntry>, LdapResult) {
    fn code(&self) -> u32 {
        self.1.rc
    }
}

/// A connection that has not answered yet. Nobody uses it again if it does not: neither when the time of the call is up,
/// nor when whoever made the call gives up before that.
struct Silent<'a>(Option<&'a Mutex<Option<Ldap>>>);

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // Whoever holds the lock is about to open another one.
        if let Some(Ok(mut kept)) = self.0.map(Mutex::try_lock) {
            kept.take();
        }
    }
}

/// What a call can end with.
#[derive(Debug)]
pub(super) struct Failure {
    /// Result code; 0 where the server said nothing.
    pub code: u32,
    /// As the broker is to see it.
    pub fault: Fault,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        failure.fault
    }
}

/// The connections to one server.
pub(super) struct Client {
    url: String,
    start_tls: bool,
    tls: Option<Arc<ClientConfig>>,
    bind_dn: String,
    password_file: PathBuf,
    limit: Duration,
    slots: Vec<Mutex<Option<Ldap>>>,
    next: AtomicUsize,
}

impl Client {
    /// Connects to nothing yet.
    pub(super) fn new(settings: &Settings, limit: Duration) -> Result<Self, String> {
        let tls = match &settings.tls_root_cert {
            None => None,
            Some(path) => {
                let wrong = |e: &dyn std::fmt::Display| format!("`tls_root_cert` {}: {e}", path.display());
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))? {
                    roots.add(certificate.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
                }
                if roots.is_empty() {
                    return Err(wrong(&"there is no certificate in it"));
                }
                let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                    .with_safe_default_protocol_versions()
                    .map_err(|e| e.to_string())?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                Some(Arc::new(config))
            }
        };
        Ok(Self {
            url: settings.url.to_string(),
            start_tls: settings.start_tls,
            tls,
            bind_dn: settings.bind_dn.clone(),
            password_file: settings.password_file.clone(),
            limit,
            slots: (0..settings.connections).map(|_| Mutex::new(None)).collect(),
            next: AtomicUsize::new(0),
        })
    }

    /// Change one entry; all changes or none. With an assertion, only if the entry fits that filter (RFC 4528).
    pub(super) async fn modify(
        &self,
        dn: &str,
        changes: &[Change<'_>],
        assertion: Option<&str>,
    ) -> Result<(), Failure> {
        let once = |mut ldap: Ldap| {
            let changes: Vec<Mod<Vec<u8>>> = changes.iter().map(|change| change.to_mod()).collect();
            async move {
                if let Some(filter) = assertion {
                    ldap.with_controls(Assertion { filter }.critical());
                }
                ldap.modify(dn, changes).await
            }
            .boxed()
        };
        let told = self.call(once).await?;
        self.judge(dn, &told)
    }

    /// Entries below a base, page by page.
    pub(super) async fn search(
        &self,
        base: &str,
        filter: &str,
        attributes: &[&str],
    ) -> Result<Vec<SearchEntry>, Failure> {
        let once = |mut ldap: Ldap| {
            async move {
                let adapters: Vec<Box<dyn Adapter<_, _>>> =
                    vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE))];
                let wanted: Vec<String> = attributes.iter().map(|&a| a.to_owned()).collect();
                let mut stream = ldap.streaming_search_with(adapters, base, Scope::Subtree, filter, wanted).await?;
                let mut entries = Vec::new();
                while let Some(entry) = stream.next().await? {
                    entries.push(SearchEntry::construct(entry));
                }
                Ok((entries, stream.finish().await))
            }
            .boxed()
        };
        let (entries, told) = self.call(once).await?;
        self.judge(base, &told).map(|()| entries)
    }

    /// One entry, if it is there and fits the filter; with a control, if one is given.
    pub(super) async fn entry(
        &self,
        dn: &str,
        filter: &str,
        attributes: &[&str],
        control: Option<&'static str>,
    ) -> Result<Option<SearchEntry>, Failure> {
        let once = |mut ldap: Ldap| {
            async move {
                if let Some(oid) = control {
                    ldap.with_controls(RawControl { ctype: oid.to_owned(), crit: true, val: None });
                }
                ldap.search(dn, Scope::Base, filter, attributes).await
            }
            .boxed()
        };
        let SearchResult(mut entries, told) = self.call(once).await?;
        self.judge(dn, &told)?;
        Ok(entries.pop().filter(|e| !e.is_ref()).map(SearchEntry::construct))
    }

    /// Has the entry this value? `None` if it has no such attribute, or, in Active Directory, if it does not show it.
    /// A server that may not say refuses, unlike one that is asked with a filter.
    pub(super) async fn compare(&self, dn: &str, attribute: &str, value: &str) -> Result<Option<bool>, Failure> {
        let once = |mut ldap: Ldap| async move { ldap.compare(dn, attribute, value).await }.boxed();
        let CompareResult(told) = self.call(once).await?;
        match told.rc {
            code::COMPARE_TRUE => Ok(Some(true)),
            code::COMPARE_FALSE => Ok(Some(false)),
            code::NO_SUCH_ATTRIBUTE => Ok(None),
            _ => self.judge(dn, &told).map(|()| None),
        }
    }

    /// Is an entry seen below this one?
    pub(super) async fn shows_children(&self, base: &str) -> Result<bool, Failure> {
        let once = |mut ldap: Ldap| {
            async move {
                ldap.with_search_options(SearchOptions::new().sizelimit(2));
                ldap.search(base, Scope::Subtree, "(objectClass=*)", ["1.1"]).await
            }
            .boxed()
        };
        let SearchResult(entries, told) = self.call(once).await?;
        if told.rc != code::SIZE_LIMIT {
            self.judge(base, &told)?;
        }
        Ok(entries.into_iter().filter(|entry| !entry.is_ref()).count() > 1)
    }

    /// One call; again, with growing pauses, while the server has too much to do.
    async fn call<'a, T: Told>(
        &'a self,
        op: impl Fn(Ldap) -> BoxFuture<'a, Result<T, LdapError>> + Send + Sync,
    ) -> Result<T, Failure> {
        let mut pause = FIRST_PAUSE;
        for _ in 1..TRIES {
            let answer = self.call_once(&op).await?;
            if answer.code() != code::BUSY {
                return Ok(answer);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.call_once(&op).await
    }

    async fn call_once<'a, T>(
        &'a self,
        op: &(impl Fn(Ldap) -> BoxFuture<'a, Result<T, LdapError>> + Send + Sync),
    ) -> Result<T, Failure> {
        let slot = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len().max(1);
        let Some(slot) = self.slots.get(slot) else { return Err(self.unavailable("no connections are configured")) };
        for fresh in [false, true] {
            let ldap = self.connection(slot, fresh).await?;
            let mut silent = Silent(Some(slot));
            let answer = timeout(self.limit, op(ldap)).await;
            if answer.is_ok() {
                silent.0 = None;
            }
            match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(e)) if !fresh && is_lost(&e) => {}
                Ok(Err(e)) => return Err(self.broken(&e)),
                Err(_) => return Err(self.unavailable("no answer in time")),
            }
        }
        Err(self.unavailable("the connection was lost"))
    }

    /// A handle on the slot's connection, which is opened if there is none or if the kept one turned out to be dead.
    async fn connection(&self, slot: &Mutex<Option<Ldap>>, fresh: bool) -> Result<Ldap, Failure> {
        let mut kept = slot.lock().await;
        if fresh && kept.as_mut().is_some_and(Ldap::is_closed) {
            *kept = None;
        }
        if let Some(ldap) = kept.as_mut()
            && !ldap.is_closed()
        {
            return Ok(ldap.clone());
        }
        let ldap = timeout(self.limit, self.open()).await.map_err(|_| self.unavailable("no connection in time"))??;
        Ok(kept.insert(ldap).clone())
    }

    async fn open(&self) -> Result<Ldap, Failure> {
        let password = self.password().await?;
        let (ldap, told) = self.bind(&password).await?;
        if told.rc != code::INVALID_CREDENTIALS {
            return self.judge(&self.bind_dn, &told).map(|()| ldap);
        }
        // The password may have been changed between the reading and the asking.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let again = self.password().await?;
        if again == password {
            return Err(self.judge(&self.bind_dn, &told).err().unwrap_or_else(|| self.unavailable("bind failed")));
        }
        let (ldap, told) = self.bind(&again).await?;
        self.judge(&self.bind_dn, &told).map(|()| ldap)
    }

    async fn bind(&self, password: &str) -> Result<(Ldap, LdapResult), Failure> {
        if password.is_empty() {
            // A bind without a password succeeds, as nobody (RFC 4513 §5.1.2).
            return Err(self.unavailable("the broker's password file is empty"));
        }
        let mut settings = LdapConnSettings::new().set_conn_timeout(self.limit).set_starttls(self.start_tls);
        if let Some(tls) = &self.tls {
            settings = settings.set_config(Arc::clone(tls));
        }
        let (connection, mut ldap) =
            LdapConnAsync::with_settings(settings, &self.url).await.map_err(|e| self.broken(&e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!(%error, "a connection to a directory ended");
            }
        });
        let told = ldap.simple_bind(&self.bind_dn, password).await.map_err(|e| self.broken(&e))?;
        Ok((ldap, told))
    }

    async fn password(&self) -> Result<Zeroizing<String>, Failure> {
        let text = tokio::fs::read_to_string(&self.password_file).await.map(Zeroizing::new).map_err(|e| {
            let file = self.password_file.display();
            self.unavailable(&format!("the broker's password file {file} cannot be read: {e}"))
        })?;
        Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
    }

    fn unavailable(&self, why: &str) -> Failure {
        Failure { code: 0, fault: Fault::Unavailable(format!("{}: {why}", self.url)) }
    }

    fn broken(&self, error: &LdapError) -> Failure {
        let source = std::error::Error::source(error).map(|s| format!(" ({s})")).unwrap_or_default();
        self.unavailable(&format!("{error}{source}"))
    }

    fn judge(&self, dn: &str, told: &LdapResult) -> Result<(), Failure> {
        if told.rc == 0 {
            return Ok(());
        }
        let said = if told.text.is_empty() { "no reason given" } else { told.text.trim_end_matches('\0') };
        let text = format!("{}: {dn}: {said} ({})", self.url, name_of(told.rc));
        // Time and size limits, busy, unavailable, "other"; and credentials, which may be about to be replaced.
        let later = matches!(told.rc, 3 | 4 | 11 | code::INVALID_CREDENTIALS | code::BUSY | 52 | 80);
        Err(Failure { code: told.rc, fault: if later { Fault::Unavailable(text) } else { Fault::Refused(text) } })
    }
}

fn name_of(code: u32) -> String {
    let name = match code {
        10 => "referral: point `url` to the server that takes changes",
        code::NO_SUCH_ATTRIBUTE => "no such attribute or value",
        code::NO_SUCH_OBJECT => "no such object",
        code::INVALID_CREDENTIALS => "invalid credentials",
        code::INSUFFICIENT_ACCESS => "insufficient access",
        code::UNWILLING => "unwilling to perform",
        code::OBJECT_CLASS => "object class violation",
        _ => "result",
    };
    format!("{name}, {code}")
}

/// Did the connection break, rather than the call?
const fn is_lost(error: &LdapError) -> bool {
    matches!(
        error,
        LdapError::Io { .. }
            | LdapError::OpSend { .. }
            | LdapError::ResultRecv { .. }
            | LdapError::IdScrubSend { .. }
            | LdapError::EndOfStream
    )
}

/// One change of an entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    /// Add a value to an attribute.
    Add(&'a str, &'a str),
    /// Delete a value from an attribute.
    Delete(&'a str, &'a str),
}

impl Change<'_> {
    fn to_mod(self) -> Mod<Vec<u8>> {
        let bytes = |text: &str| text.as_bytes().to_vec();
        match self {
            Self::Add(attribute, value) => Mod::Add(bytes(attribute), HashSet::from([bytes(value)])),
            Self::Delete(attribute, value) => Mod::Delete(bytes(attribute), HashSet::from([bytes(value)])),
        }
    }
}
