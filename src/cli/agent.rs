//! A key with its certificate into the running `ssh-agent`, for as long as the certificate lasts; no file on disk.
//!
//! Speaks draft-ietf-sshm-ssh-agent: one message, `SSH_AGENTC_ADD_ID_CONSTRAINED` with a lifetime.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use ssh_key::{Certificate, PrivateKey};
use zeroize::Zeroizing;

use super::exit::Failure;

const ADD_ID_CONSTRAINED: u8 = 25;
const SUCCESS: u8 = 6;
const LIFETIME: u8 = 1;
const CERTIFICATE: &str = "ssh-ed25519-cert-v01@openssh.com";

/// The agent of this session.
pub struct Agent(UnixStream);

impl Agent {
    /// The one that `SSH_AUTH_SOCK` names. Found before anything is claimed.
    pub fn find() -> Result<Self, Failure> {
        let next = "start one: eval \"$(ssh-agent)\"";
        let path = std::env::var_os("SSH_AUTH_SOCK").filter(|p| !p.is_empty()).map(PathBuf::from);
        let path = path.ok_or_else(|| Failure::usage("no ssh-agent runs here: SSH_AUTH_SOCK is not set").next(next))?;
        let open = || {
            let stream = UnixStream::connect(&path)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.set_write_timeout(Some(Duration::from_secs(10)))?;
            Ok::<_, std::io::Error>(stream)
        };
        open().map(Self).map_err(|e| Failure::local(format!("the ssh-agent cannot be reached: {e}")).next(next))
    }

    /// Add a key with its certificate; the agent drops both after so many seconds.
    pub fn add(&mut self, key: &str, certificate: &str, comment: &str, seconds: u32) -> Result<(), Failure> {
        let message = message(key, certificate, comment, seconds)
            .ok_or_else(|| Failure::local("the credential is not an Ed25519 key with a certificate"))?;
        let lost = |e: std::io::Error| Failure::local(format!("the ssh-agent did not take the key: {e}"));
        self.0.write_all(&message).map_err(lost)?;
        let mut answer = [0_u8; 5];
        self.0.read_exact(&mut answer).map_err(lost)?;
        match answer {
            [_, _, _, _, SUCCESS] => Ok(()),
            _ => Err(Failure::local("the ssh-agent refused the key").next("is it locked? unlock it with ssh-add -X")),
        }
    }
}

fn message(key: &str, certificate: &str, comment: &str, seconds: u32) -> Option<Zeroizing<Vec<u8>>> {
    let key = PrivateKey::from_openssh(key).ok()?;
    let pair = key.key_data().ed25519()?;
    let certificate = Certificate::from_openssh(certificate.trim()).ok()?.to_bytes().ok()?;
    let secret = Zeroizing::new(pair.to_bytes());
    let mut body = Zeroizing::new(vec![ADD_ID_CONSTRAINED]);
    for part in [CERTIFICATE.as_bytes(), &certificate, &pair.public.0, secret.as_slice(), comment.as_bytes()] {
        body.extend_from_slice(&u32::try_from(part.len()).ok()?.to_be_bytes());
        body.extend_from_slice(part);
    }
    body.push(LIFETIME);
    body.extend_from_slice(&seconds.max(1).to_be_bytes());
    let mut message = Zeroizing::new(u32::try_from(body.len()).ok()?.to_be_bytes().to_vec());
    message.extend_from_slice(&body);
    Some(message)
}
