//! A real `slapd` of its own for each test, with a certificate of its own authority.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, Scope, SearchEntry};

use super::{
    certificate::{self, run},
    watched::{Watched, free_port},
};

const SLAPD: &str = "/usr/sbin/slapd";
pub const BASE: &str = "dc=example";
pub const BROKER: &str = "cn=tidegate,dc=example";
pub const PASSWORD: &str = "the broker's own \\ password";

/// A running server; it ends with this value.
pub struct Slapd {
    server: Watched,
    port: u16,
    tls_port: u16,
}

impl Slapd {
    /// With people, groups and the broker's own entry.
    pub fn start() -> Self {
        assert!(
            Path::new(SLAPD).exists(),
            "{SLAPD} is missing: the LDAP connector is only proven against a real one; run `make deps`"
        );
        let mut it = Self { server: Watched::new("tidegate-slapd-"), port: 0, tls_port: 0 };
        let dir = it.server.dir.clone();
        fs::create_dir(dir.join("db")).unwrap();
        certificate::issue(&dir, "127.0.0.1");
        fs::write(dir.join("slapd.conf"), configuration(&dir)).unwrap();
        fs::write(dir.join("seed.ldif"), SEED.replace("{password}", PASSWORD)).unwrap();
        run(&dir, "/usr/sbin/slapadd", &["-q", "-f", "slapd.conf", "-l", "seed.ldif"]);
        for attempt in 0.. {
            (it.port, it.tls_port) = (free_port(), free_port());
            match it.try_start() {
                Ok(()) => return it,
                // Another process may have taken the port meanwhile.
                Err(log) => assert!(attempt < 4, "slapd does not start:\n{log}"),
            }
        }
        unreachable!("it returns or panics")
    }

    fn try_start(&self) -> Result<(), String> {
        let urls = format!("ldap://127.0.0.1:{}/ ldaps://127.0.0.1:{}/", self.port, self.tls_port);
        let conf = self.server.dir.join("slapd.conf").display().to_string();
        let arguments = ["-d", "0", "-f", &conf, "-h", &urls].map(str::to_owned);
        self.server.start(Path::new(SLAPD), &arguments, self.tls_port)
    }

    pub fn ldap(&self) -> String {
        format!("ldap://127.0.0.1:{}", self.port)
    }

    pub fn ldaps(&self) -> String {
        format!("ldaps://127.0.0.1:{}", self.tls_port)
    }

    pub fn dir(&self) -> &Path {
        &self.server.dir
    }

    pub fn ca(&self) -> PathBuf {
        self.server.dir.join("ca.pem")
    }

    /// Stop the server, as an administrator would; the data stay.
    pub fn stop(&self) {
        self.server.stop();
    }

    /// Start it again on the same ports.
    pub fn again(&self) {
        self.try_start().unwrap_or_else(|log| panic!("slapd does not start again:\n{log}"));
    }

    /// Start it again with these access rules before its own.
    pub fn access(&self, rules: &str) {
        let conf = configuration(&self.server.dir)
            .replace("access to attrs=userPassword", &format!("{rules}\naccess to attrs=userPassword"));
        fs::write(self.server.dir.join("slapd.conf"), conf).unwrap();
        self.stop();
        self.again();
    }

    pub fn freeze(&self) {
        self.server.freeze();
    }

    pub fn thaw(&self) {
        self.server.thaw();
    }

    /// A connection of the administrator.
    pub async fn admin(&self) -> Ldap {
        self.bound("cn=admin,dc=example", "admin").await
    }

    /// A connection of anybody.
    pub async fn bound(&self, dn: &str, password: &str) -> Ldap {
        let (connection, mut ldap) = LdapConnAsync::with_settings(LdapConnSettings::new(), &self.ldap()).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.drive().await;
        });
        ldap.simple_bind(dn, password).await.unwrap().success().unwrap();
        ldap
    }

    /// Change entries as the administrator, in LDIF.
    pub fn ldif(&self, text: &str) {
        let file = self.server.dir.join("change.ldif");
        fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        run(
            &self.server.dir,
            "ldapmodify",
            &["-x", "-H", &self.ldap(), "-D", "cn=admin,dc=example", "-w", "admin", "-f", &file],
        );
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

fn configuration(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {dir}/slapd.pid
TLSCACertificateFile {dir}/ca.pem
TLSCertificateFile {dir}/cert.pem
TLSCertificateKeyFile {dir}/key.pem
database mdb
directory {dir}/db
maxsize 67108864
dbnosync
suffix \"{BASE}\"
rootdn \"cn=admin,{BASE}\"
rootpw admin
index objectClass eq
index uid eq
index description eq,sub
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree=\"ou=groups,{BASE}\" attrs=member,memberUid,description by dn.exact=\"{BROKER}\" write by * read
access to * by * read
"
    )
}

const SEED: &str = "dn: dc=example
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: cn=tidegate,dc=example
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: tidegate
userPassword: {password}

dn: ou=people,dc=example
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example
objectClass: organizationalUnit
ou: groups

dn: uid=ana,ou=people,dc=example
objectClass: inetOrgPerson
uid: ana
cn: Ana
sn: Example

dn: uid=ben,ou=people,dc=example
objectClass: inetOrgPerson
uid: ben
cn: Ben
sn: Example

dn: uid=o\\,d \\28x\\2a\\29,ou=people,dc=example
objectClass: inetOrgPerson
uid: o,d (x*)
cn: Odd
sn: Example

dn: cn=ops,ou=groups,dc=example
objectClass: groupOfNames
cn: ops
description: People who operate
member: uid=ben,ou=people,dc=example

dn: cn=a\\, b \\28c\\29,ou=groups,dc=example
objectClass: groupOfNames
cn: a, b (c)
member: uid=ben,ou=people,dc=example

dn: cn=unix,ou=groups,dc=example
objectClass: posixGroup
cn: unix
gidNumber: 5000
";
