//! A real `sshd` that trusts an authority and reads a revocation list, and the real `ssh` that logs in to it.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tidegate::domain::secret::Minted;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
};

const SSHD: &str = "/usr/sbin/sshd";

/// A running `sshd`; it ends with this value.
pub struct Sshd {
    dir: TempDir,
    port: u16,
    process: Child,
}

/// What came of a login.
#[derive(Debug)]
pub struct Login {
    pub ok: bool,
    pub stdout: String,
    /// What `ssh` said, for a failing test's text.
    pub said: String,
}

/// The user that the test runs as: the only one that an unprivileged `sshd` lets in.
pub fn login_name() -> String {
    let out = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

pub fn run(program: &str, args: &[&str]) -> (bool, String) {
    let out = std::process::Command::new(program).args(args).stdin(Stdio::null()).output();
    let out = out.unwrap_or_else(|e| panic!("`{program}` is needed: install the package openssh-client ({e})"));
    (out.status.success(), format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)))
}

impl Sshd {
    /// Start it with that authority and that revocation list.
    pub async fn start(ca_pub: &[u8], krl: &Path) -> Self {
        assert!(
            Path::new(SSHD).exists(),
            "{SSHD} is missing: the SSH connector is only proven against a real one; install the package openssh-server"
        );
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let (made, said) = run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at("host")]);
        assert!(made, "ssh-keygen: {said}");
        fs::write(at("ca.pub"), ca_pub).unwrap();
        // sshd separates privileges in this directory and does not start without it.
        let _ = fs::create_dir_all("/run/sshd");
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {}\nPidFile none\nTrustedUserCAKeys {}\nRevokedKeys {}\n\
                 AuthorizedKeysFile none\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n\
                 PermitRootLogin prohibit-password\nStrictModes no\nLogLevel VERBOSE\nMaxStartups 100\n",
                at("host"),
                at("ca.pub"),
                krl.display()
            );
            fs::write(at("sshd_config"), config).unwrap();
            let log = fs::File::create(at("log")).unwrap();
            let mut process = Command::new(SSHD)
                .args(["-D", "-e", "-f", &at("sshd_config")])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            for _ in 0..100 {
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    return Self { dir, port, process };
                }
                if process.try_wait().unwrap().is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        panic!("sshd did not start: {}", fs::read_to_string(at("log")).unwrap());
    }

    /// Log in with a minted certificate and run `echo in`.
    pub async fn login(&self, user: &str, minted: &Minted) -> Login {
        let out = self.ssh(user, minted, "echo in").output().await.unwrap();
        let stdout = String::from_utf8_lossy(&out.stdout).into_owned();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        Login { ok: out.status.success() && stdout.trim() == "in", stdout, said }
    }

    /// An `ssh` command with a minted certificate.
    pub fn ssh(&self, user: &str, minted: &Minted, command: &str) -> Command {
        let (key, certificate) = self.write(minted);
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-T", "-p", &self.port.to_string(), "-o", "BatchMode=yes"])
            .args(["-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10", "-o", "LogLevel=ERROR"])
            .args(["-i", &key.display().to_string()])
            .args(["-o", &format!("CertificateFile={}", certificate.display())])
            .arg(format!("{user}@127.0.0.1"))
            .arg(command)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        ssh
    }

    /// Write the key and the certificate as their holder would.
    pub fn write(&self, minted: &Minted) -> (PathBuf, PathBuf) {
        let serial = minted.public["serial"].as_u64().unwrap();
        let key = self.dir.path().join(format!("id-{serial}"));
        let certificate = self.dir.path().join(format!("id-{serial}-cert.pub"));
        fs::write(&key, minted.secrets[0].1.expose()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&certificate, minted.public["certificate"].as_str().unwrap()).unwrap();
        (key, certificate)
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Stop it.
    pub async fn stop(mut self) {
        let _ = self.process.kill().await;
    }
}
