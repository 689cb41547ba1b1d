//! A credential as the server hands it over, and the shapes that programs take it in. Prints and writes nothing itself.

use std::{fmt::Write as _, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{exit::Failure, text::shell_word};
use crate::domain::secret::Secret;

/// Where systems keep the authorities that they trust.
const ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The profile of a child: a name that nobody has in a configuration of their own, whose settings would go before it.
const PROFILE: &str = "tidegate-child";

/// Names of secret fields.
const SECRETS: [&str; 4] = ["password", "token", "private_key", "secret_access_key"];

/// What `POST /v1/grants/{id}/credential` answers, once.
#[derive(Deserialize)]
pub struct Credential {
    /// The grant.
    pub grant: String,
    /// Which connector minted it.
    pub kind: String,
    /// When this copy stops working by itself.
    pub expires_at: String,
    #[serde(rename = "credential")]
    fields: Map<String, Value>,
}

impl Credential {
    /// A field as text.
    pub fn field(&self, name: &str) -> Option<String> {
        match self.fields.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(n) => Some(n.to_string()),
            Value::Bool(b) => Some(b.to_string()),
            Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")),
            _ => None,
        }
    }

    fn needed(&self, name: &str, format: &str) -> Result<String, Failure> {
        self.field(name).ok_or_else(|| {
            Failure::usage(format!("a credential of kind `{}` has no `{name}`, which {format} needs", self.kind))
                .next("use --format json")
        })
    }

    /// The secret itself.
    pub fn raw(&self) -> Result<Secret, Failure> {
        let secret = SECRETS.iter().find_map(|name| self.field(name)).map(Secret::new);
        secret.ok_or_else(|| {
            Failure::local(format!("a credential of kind `{}` holds no secret", self.kind)).next("use --format json")
        })
    }

    /// Is it a key pair with a certificate?
    pub fn is_ssh(&self) -> bool {
        self.fields.contains_key("private_key") && self.fields.contains_key("certificate")
    }

    /// Is it a login to PostgreSQL?
    pub fn is_postgres(&self) -> bool {
        ["host", "username", "password"].iter().all(|f| self.fields.contains_key(*f))
    }

    /// Is it a session of an AWS role?
    pub fn is_aws(&self) -> bool {
        ["access_key_id", "secret_access_key"].iter().all(|f| self.fields.contains_key(*f))
    }

    /// What `credential_process` of the AWS command line and SDKs takes (version 1): these fields and no others.
    pub fn aws_process(&self) -> Result<String, Failure> {
        let field = |name| self.needed(name, "aws-credential-process");
        let keys = serde_json::json!({
            "Version": 1,
            "AccessKeyId": field("access_key_id")?,
            "SecretAccessKey": field("secret_access_key")?,
            "SessionToken": field("session_token")?,
            "Expiration": self.expires_at,
        });
        Ok(format!("{keys}\n"))
    }

    /// What an exec plugin of a Kubernetes client answers, in that version.
    pub fn exec_credential(&self, version: &str) -> Result<String, Failure> {
        let answer = serde_json::json!({
            "apiVersion": version,
            "kind": "ExecCredential",
            "status": {"expirationTimestamp": self.expires_at, "token": self.needed("token", "kube")?},
        });
        Ok(format!("{answer}\n"))
    }

    /// A profile of a shared credentials file of AWS.
    pub fn aws_profile(&self, profile: &str) -> Result<String, Failure> {
        let field = |name| self.needed(name, "aws");
        let mut text = format!("[{profile}]\n");
        let names = [
            ("aws_access_key_id", field("access_key_id")?),
            ("aws_secret_access_key", field("secret_access_key")?),
            ("aws_session_token", field("session_token")?),
        ];
        for (name, value) in names.into_iter().chain(self.field("region").map(|r| ("region", r))) {
            if value.contains(['\n', '\r']) {
                return Err(Failure::local("the credential does not fit into a credentials file"));
            }
            let _ = writeln!(text, "{name} = {value}");
        }
        Ok(text)
    }

    /// Variables of the AWS command line and SDKs, without the keys.
    fn aws_facts(&self) -> Vec<(String, String)> {
        let region = self.field("region");
        region.into_iter().map(|r| ("AWS_REGION".to_owned(), r)).collect()
    }

    /// Facts about it, none secret.
    fn common(&self) -> Vec<(String, String)> {
        vec![
            ("TIDEGATE_GRANT".to_owned(), self.grant.clone()),
            ("TIDEGATE_EXPIRES_AT".to_owned(), self.expires_at.clone()),
        ]
    }

    /// Variables of libpq, without the password. `root` is the file with the authority that signed the server's
    /// certificate: libpq knows none of the system's by itself.
    fn libpq(&self, root: Option<&str>) -> Vec<(String, String)> {
        let pairs = [
            ("PGHOST", "host"),
            ("PGPORT", "port"),
            ("PGUSER", "username"),
            ("PGDATABASE", "database"),
            ("PGSSLMODE", "sslmode"),
        ];
        let mut env: Vec<(String, String)> =
            pairs.iter().filter_map(|(name, field)| Some(((*name).to_owned(), self.field(field)?))).collect();
        env.extend(root.map(|file| ("PGSSLROOTCERT".to_owned(), file.to_owned())));
        env
    }

    /// The system's authorities, where libpq would refuse the server for want of any.
    fn system_roots(&self) -> Option<&'static str> {
        let verifies = self.field("sslmode").is_some_and(|mode| mode.starts_with("verify"));
        let own = std::env::var_os("PGSSLROOTCERT").is_some()
            || std::env::var_os("HOME").is_some_and(|home| Path::new(&home).join(".postgresql/root.crt").exists());
        let known = ROOTS.iter().copied().find(|file| Path::new(file).exists());
        known.filter(|_| verifies && !own)
    }

    /// Environment variables that carry everything, the secret too: for `eval "$(tidegate creds …)"`.
    pub fn env(&self) -> Result<Vec<(String, String)>, Failure> {
        let mut env = self.common();
        if self.is_postgres() {
            // An authority of the server's own does not fit into a variable: libpq wants a file.
            let root = if self.fields.contains_key("tls_root_cert") { None } else { self.system_roots() };
            env.extend(self.libpq(root));
            env.push(("PGPASSWORD".to_owned(), self.needed("password", "env")?));
        } else if self.is_aws() {
            env.extend(self.aws_facts());
            for (name, field) in [
                ("AWS_ACCESS_KEY_ID", "access_key_id"),
                ("AWS_SECRET_ACCESS_KEY", "secret_access_key"),
                ("AWS_SESSION_TOKEN", "session_token"),
            ] {
                env.push((name.to_owned(), self.needed(field, "env")?));
            }
        } else if let Some(token) = self.field("token") {
            env.push(("TIDEGATE_ACCESS_TOKEN".to_owned(), token));
        } else if self.is_ssh() {
            return Err(Failure::usage("a key and a certificate do not fit into variables")
                .next("use --out DIR for files, or --format json"));
        } else {
            for name in self.fields.keys() {
                if let Some(value) = self.field(name) {
                    env.push((format!("TIDEGATE_{}", variable(name)), value));
                }
            }
        }
        Ok(env)
    }

    /// The same as lines for a shell.
    pub fn env_lines(&self) -> Result<String, Failure> {
        let mut lines = String::new();
        for (name, value) in self.env()? {
            let _ = writeln!(lines, "export {name}={}", shell_word(&value));
        }
        Ok(lines)
    }

    /// A line of a password file (PostgreSQL 15, §34.16).
    pub fn pgpass(&self) -> Result<String, Failure> {
        let field = |name| self.needed(name, "pgpass");
        let escape = |text: String| text.replace('\\', r"\\").replace(':', r"\:");
        let line = [field("host")?, field("port").unwrap_or_else(|_| "5432".to_owned())].map(escape).join(":");
        let rest = [field("username")?, field("password")?].map(escape).join(":");
        if line.contains('\n') || rest.contains('\n') {
            return Err(Failure::local("the credential does not fit into a password file"));
        }
        Ok(format!("{line}:*:{rest}\n"))
    }

    /// Variables for a child process, with files in a private directory where the secret can be kept out of them.
    pub fn child_env(&self, dir: &Path) -> Result<Vec<(String, String)>, Failure> {
        let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let write = |name: &str, text: &str| {
            super::private_file::write_new(&dir.join(name), text.as_bytes())
                .map_err(|e| Failure::local(format!("the credential could not be kept in {}: {e}", path(name))))
        };
        if self.is_postgres() {
            write("pgpass", &self.pgpass()?)?;
            let mut env = self.common();
            match self.field("tls_root_cert") {
                Some(authority) => {
                    write("root.crt", &authority)?;
                    env.extend(self.libpq(Some(&path("root.crt"))));
                }
                None => env.extend(self.libpq(self.system_roots())),
            }
            env.push(("PGPASSFILE".to_owned(), path("pgpass")));
            return Ok(env);
        }
        if self.is_aws() {
            write("aws", &self.aws_profile(PROFILE)?)?;
            let mut env = self.common();
            env.extend(self.aws_facts());
            env.push(("AWS_SHARED_CREDENTIALS_FILE".to_owned(), path("aws")));
            env.push(("AWS_PROFILE".to_owned(), PROFILE.to_owned()));
            return Ok(env);
        }
        if self.is_ssh() {
            write("id", &key_file(&self.needed("private_key", "exec")?))?;
            write("id-cert.pub", &key_file(&self.needed("certificate", "exec")?))?;
            let mut env = self.common();
            let key = path("id");
            let command = format!("ssh -i {} -o IdentitiesOnly=yes", shell_word(&key));
            env.push(("TIDEGATE_SSH_KEY".to_owned(), key));
            env.push(("TIDEGATE_SSH_CERTIFICATE".to_owned(), path("id-cert.pub")));
            env.push(("TIDEGATE_SSH_PRINCIPALS".to_owned(), self.field("principals").unwrap_or_default()));
            env.push(("GIT_SSH_COMMAND".to_owned(), command.clone()));
            env.push(("RSYNC_RSH".to_owned(), command));
            return Ok(env);
        }
        self.env()
    }

    /// Key and certificate as files of a directory, named so that `ssh -i DIR/id` finds both.
    pub fn ssh_files(&self) -> Result<[(&'static str, String); 2], Failure> {
        let part = |name| self.needed(name, "--out DIR").map(|text| key_file(&text));
        Ok([("id", part("private_key")?), ("id-cert.pub", part("certificate")?)])
    }
}

/// Key files end in a line feed, or OpenSSH refuses them.
fn key_file(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// A field's name as part of a variable's.
fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn postgres() -> Value {
        json!({
            "grant": "grt_01KGA5MYR00000000000000005", "claim": 1, "serial": 7, "kind": "postgres",
            "expires_at": "2026-01-31T14:30:00Z",
            "credential": {"host": "db:1", "port": 5433, "database": "orders", "databases": ["orders", "audit"],
                           "username": "tg_x", "sslmode": "verify-full", "password": r"a\b:c'd"},
        })
    }

    fn read(value: Value) -> Credential {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_password_survives_the_shell_and_the_password_file() {
        // With its authority, or what this machine trusts would be among the variables.
        let mut own = postgres();
        own["credential"]["tls_root_cert"] = "AUTHORITY".into();
        let it = read(own);
        assert_eq!(it.pgpass().unwrap(), "db\\:1:5433:*:tg_x:a\\\\b\\:c'd\n");
        assert_eq!(
            it.env_lines().unwrap(),
            "export TIDEGATE_GRANT=grt_01KGA5MYR00000000000000005\n\
             export TIDEGATE_EXPIRES_AT=2026-01-31T14:30:00Z\n\
             export PGHOST=db:1\nexport PGPORT=5433\nexport PGUSER=tg_x\nexport PGDATABASE=orders\n\
             export PGSSLMODE=verify-full\nexport PGPASSWORD='a\\b:c'\\''d'\n"
        );
        assert_eq!(it.raw().unwrap().expose(), r"a\b:c'd");
    }

    #[test]
    fn a_child_finds_the_password_in_a_file_and_not_in_its_environment() {
        let dir = super::super::private_file::TempDir::new().unwrap();
        let env = read(postgres()).child_env(dir.path()).unwrap();
        assert!(env.iter().all(|(_, value)| !value.contains("a\\b")));
        let of = |name: &str| env.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
        assert!(std::fs::read_to_string(of("PGPASSFILE").unwrap()).unwrap().ends_with(":a\\\\b\\:c'd\n"));
        // The authority of the server comes with it, for libpq goes by no other.
        let mut known = postgres();
        known["credential"]["tls_root_cert"] = "AUTHORITY\n".into();
        let dir = super::super::private_file::TempDir::new().unwrap();
        let env = read(known).child_env(dir.path()).unwrap();
        let (_, file) = env.iter().find(|(name, _)| name == "PGSSLROOTCERT").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "AUTHORITY\n");
    }

    #[test]
    fn a_session_of_aws_has_the_shapes_that_aws_reads() {
        let it = read(json!({"grant": "g", "kind": "aws_sts", "expires_at": "2026-01-31T14:30:00Z",
            "credential": {"access_key_id": "ASIA1", "secret_access_key": "s/+e=", "session_token": "t==",
                           "role": "arn:aws:iam::123456789012:role/x", "region": "eu-central-1"}}));
        let keys: Value = serde_json::from_str(&it.aws_process().unwrap()).unwrap();
        assert_eq!(
            keys,
            json!({"Version": 1, "AccessKeyId": "ASIA1", "SecretAccessKey": "s/+e=", "SessionToken": "t==",
                   "Expiration": "2026-01-31T14:30:00Z"})
        );
        assert_eq!(
            it.aws_profile("prod").unwrap(),
            "[prod]\naws_access_key_id = ASIA1\naws_secret_access_key = s/+e=\naws_session_token = t==\n\
             region = eu-central-1\n"
        );
        assert!(it.env_lines().unwrap().contains("export AWS_SECRET_ACCESS_KEY=s/+e=\n"));
        let dir = super::super::private_file::TempDir::new().unwrap();
        let env = it.child_env(dir.path()).unwrap();
        assert!(env.iter().all(|(_, value)| !value.contains("s/+e") && !value.contains("t==")));
        assert!(read(postgres()).aws_process().is_err());
    }

    #[test]
    fn tokens_and_keys_have_their_shapes() {
        let token = read(
            json!({"grant": "g", "kind": "token", "expires_at": "t", "credential": {"token": "abc", "scope": "x"}}),
        );
        assert!(token.env_lines().unwrap().contains("export TIDEGATE_ACCESS_TOKEN=abc\n"));
        assert!(token.pgpass().unwrap_err().what.contains("`token`"));
        let ssh = read(json!({"grant": "g", "kind": "ssh", "expires_at": "t",
            "credential": {"private_key": "KEY", "certificate": "CERT\n", "principals": ["web", "db"]}}));
        assert!(ssh.env().is_err());
        let dir = super::super::private_file::TempDir::new().unwrap();
        let env = ssh.child_env(dir.path()).unwrap();
        let get = |name: &str| env.iter().find(|(n, _)| n == name).unwrap().1.clone();
        assert_eq!(std::fs::read_to_string(get("TIDEGATE_SSH_KEY")).unwrap(), "KEY\n");
        assert_eq!(std::fs::read_to_string(get("TIDEGATE_SSH_CERTIFICATE")).unwrap(), "CERT\n");
        assert_eq!(get("TIDEGATE_SSH_PRINCIPALS"), "web,db");
        let other =
            read(json!({"grant": "g", "kind": "x", "expires_at": "t", "credential": {"api-key": "k", "n": null}}));
        assert!(other.env_lines().unwrap().ends_with("export TIDEGATE_API_KEY=k\n"));
    }
}
