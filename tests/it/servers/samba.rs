//! A real Samba as the only domain controller of a domain of its own. Provisioned once for all tests, which use it one
//! after the other: its ports are fixed, so it has an address on this machine that no other run of the tests uses.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, OnceLock},
};

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, Mod, Scope, SearchEntry};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::sync::{Mutex, MutexGuard};

use super::{certificate, watched::Watched};

const SAMBA: &str = "/usr/sbin/samba";
const SCRIPT: &str = include_str!("samba.py");
const ADMIN_PASSWORD: &str = "Admin-Pass-3391";
pub const BASE: &str = "DC=example,DC=test";
pub const BROKER: &str = "CN=tidegate,CN=Users,DC=example,DC=test";
pub const PASSWORD: &str = "the broker's own \\ Password 7";

/// The domain controller; it ends with the tests.
pub struct Samba {
    server: Watched,
    ip: String,
}

/// The domain of this run, for one test at a time.
pub async fn exclusive() -> MutexGuard<'static, Samba> {
    static SHARED: OnceLock<Mutex<Samba>> = OnceLock::new();
    let shared = tokio::task::spawn_blocking(|| SHARED.get_or_init(|| Mutex::new(Samba::start()))).await.unwrap();
    shared.lock().await
}

impl Samba {
    /// With people, groups and the broker's account.
    fn start() -> Self {
        assert!(
            Path::new(SAMBA).exists(),
            "{SAMBA} is missing: a domain is only proven with a real domain controller; run `make deps`"
        );
        let pid = std::process::id();
        let ip = format!("127.{}.{}.{}", 1 + pid / 65_536 % 200, pid / 256 % 256, 1 + pid % 254);
        let it = Self { server: Watched::new("tidegate-samba-"), ip };
        let dir = it.dir();
        certificate::issue(dir, &it.ip);
        fs::create_dir(dir.join("run")).unwrap();
        let domain = format!("--targetdir={}", it.domain().display());
        let interfaces = format!("--option=interfaces={}/8", it.ip);
        let admin = format!("--adminpass={ADMIN_PASSWORD}");
        let own = format!("--host-ip={}", it.ip);
        let words = [
            "domain",
            "provision",
            "--realm=EXAMPLE.TEST",
            "--domain=EXAMPLE",
            "--server-role=dc",
            "--dns-backend=NONE",
            "--host-name=dc1",
            "--option=bind interfaces only=yes",
        ];
        certificate::run(dir, "samba-tool", &[&words[..], &[&domain, &interfaces, &admin, &own]].concat());
        fs::write(it.conf(), configuration(dir, &it.ip)).unwrap();
        set_mode(&dir.join("key.pem"), 0o600);
        it.script(&["seed", PASSWORD]);
        it.again();
        it
    }

    fn dir(&self) -> &Path {
        &self.server.dir
    }

    fn domain(&self) -> PathBuf {
        self.dir().join("domain")
    }

    fn conf(&self) -> PathBuf {
        self.dir().join("smb.conf")
    }

    /// Change the directory's files as nobody could from outside.
    fn script(&self, words: &[&str]) {
        let mut python = Command::new("/usr/bin/python3");
        python.arg("-c").arg(SCRIPT).arg(self.conf()).args(words).stdin(Stdio::null());
        let out = python.output().expect("python3 runs; run `make deps`");
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Another rule of access (SDDL) for an entry, in which `BROKER` is the broker's account.
    pub fn rule(&self, dn: &str, ace: &str) {
        self.script(&["access", dn, ace]);
    }

    /// Start it again on the same address.
    pub fn again(&self) {
        let conf = self.conf().display().to_string();
        let words = ["-s", &conf, "-i", "-M", "single"].map(str::to_owned);
        self.server
            .start_at(Path::new(SAMBA), &words, (&self.ip, 636))
            .unwrap_or_else(|log| panic!("Samba does not start; its ports are fixed, so it needs root:\n{log}"));
    }

    /// Stop the server, as an administrator would; the data stay.
    pub fn stop(&self) {
        self.server.stop();
    }

    pub fn freeze(&self) {
        self.server.freeze();
    }

    pub fn thaw(&self) {
        self.server.thaw();
    }

    pub fn ldaps(&self) -> String {
        format!("ldaps://{}", self.ip)
    }

    pub fn ldap(&self) -> String {
        format!("ldap://{}", self.ip)
    }

    pub fn ip(&self) -> &str {
        &self.ip
    }

    pub fn ca(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    /// A connection of the administrator.
    pub async fn admin(&self) -> Ldap {
        self.bound(&format!("CN=Administrator,CN=Users,{BASE}"), ADMIN_PASSWORD).await.unwrap()
    }

    /// A connection of anybody.
    pub async fn bound(&self, dn: &str, password: &str) -> ldap3::result::Result<Ldap> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).unwrap()).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let settings = LdapConnSettings::new().set_config(Arc::new(tls));
        let (connection, mut ldap) = LdapConnAsync::with_settings(settings, &self.ldaps()).await?;
        tokio::spawn(async move {
            let _ = connection.drive().await;
        });
        ldap.simple_bind(dn, password).await?.success()?;
        Ok(ldap)
    }

    /// The result code of a change, made by the administrator.
    pub async fn modify(&self, dn: &str, changes: Vec<Mod<String>>) -> u32 {
        self.admin().await.modify(dn, changes).await.unwrap().rc
    }

    /// Give an entry another name.
    pub async fn rename(&self, dn: &str, rdn: &str) {
        self.admin().await.modifydn(dn, rdn, true, None).await.unwrap().success().unwrap();
    }

    /// Another password for an account, as an administrator sets it.
    pub async fn password(&self, dn: &str, password: &str) {
        let quoted: Vec<u8> = format!("\"{password}\"").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let change = Mod::Replace(b"unicodePwd".to_vec(), [quoted].into());
        self.admin().await.modify(dn, vec![change]).await.unwrap().success().unwrap();
    }

    /// The values of an attribute, sorted.
    pub async fn values(&self, dn: &str, attribute: &str) -> Vec<String> {
        let mut admin = self.admin().await;
        let (found, _) =
            admin.search(dn, Scope::Base, "(objectClass=*)", vec![attribute]).await.unwrap().success().unwrap();
        let entry = SearchEntry::construct(found.into_iter().next().unwrap());
        let mut values = entry.attrs.into_values().next().unwrap_or_default();
        values.sort();
        values
    }
}

/// Nothing of it lies where another server of this machine would look.
fn configuration(dir: &Path, ip: &str) -> String {
    let dir = dir.display();
    format!(
        "[global]
netbios name = DC1
realm = EXAMPLE.TEST
workgroup = EXAMPLE
server role = active directory domain controller
server services = ldap
dcerpc endpoint servers =
interfaces = {ip}/8
bind interfaces only = yes
private dir = {dir}/domain/private
lock directory = {dir}/domain
state directory = {dir}/domain/state
cache directory = {dir}/domain/cache
binddns dir = {dir}/domain/bind-dns
pid directory = {dir}/run
ncalrpc dir = {dir}/run/ncalrpc
winbindd socket directory = {dir}/run/winbindd
log file = {dir}/samba.log
old password allowed period = 0
tls keyfile = {dir}/key.pem
tls certfile = {dir}/cert.pem
tls cafile = {dir}/ca.pem
"
    )
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
