//! A way to a real server that loses answers, is slow, or answers itself without asking. Bytes pass through it as they
//! are; or it ends TLS, with the server's own certificate, and sees what is inside.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What the way does with what comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it comes.
    #[default]
    Pass,
    /// The server hears everything, and its answers are lost.
    LosesAnswers,
    /// Each question waits this long.
    Slow(Duration),
    /// Changes are lied about and never reach the server.
    Lies,
    /// The same, but for every so many-th change.
    LiesMostly(u64),
    /// As it comes, and the last answer is kept.
    Remembers,
    /// Each question is answered with what was kept.
    Replays,
}

/// What a change looks like on the wire, and what is made of it.
#[derive(Clone, Copy)]
pub struct Lie {
    /// How long the first message is.
    message: fn(&[u8]) -> usize,
    told: fn(&[u8]) -> Told,
}

/// Nothing is known of the protocol, so nothing is a change.
pub const HONEST: Lie = Lie { message: <[u8]>::len, told: |_| Told::Passes };
/// HTTP/1.1: whatever is no GET, HEAD or LIST is a change.
pub const HTTP: Lie = Lie { message: <[u8]>::len, told: http };
/// LDAP: a modify request is answered with success.
pub const LDAP: Lie = Lie { message: ldap_message, told: |bytes| ldap_answer(bytes, 0) };
/// LDAP: a modify request is answered with `busy`.
pub const LDAP_BUSY: Lie = Lie { message: ldap_message, told: |bytes| ldap_answer(bytes, 51) };
/// PostgreSQL in clear: changes are cut out of the text of a simple query, so that the server says "done" of nothing.
pub const POSTGRES: Lie = Lie { message: <[u8]>::len, told: postgres };

/// What a liar makes of some bytes of a client.
pub enum Told {
    /// No change: passed on.
    Passes,
    /// A change, and the lie.
    Lied(Vec<u8>),
    /// What the server is told in its place: its own answer to that is the lie.
    Changed(Vec<u8>),
    /// The rest of what was lied about.
    Swallowed,
}

/// How a way speaks TLS.
#[derive(Clone)]
pub struct Tls {
    accept: TlsAcceptor,
    /// After StartTLS of LDAP.
    starts: bool,
    /// TLS to the server, too.
    onward: Option<(TlsConnector, ServerName<'static>)>,
}

impl Tls {
    /// With `cert.pem` and `key.pem` of a directory; in clear to the server.
    pub fn of(dir: &Path, starts: bool) -> Self {
        let certificate = CertificateDer::from_pem_file(dir.join("cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Self { accept: TlsAcceptor::from(Arc::new(config)), starts, onward: None }
    }

    /// Over TLS to the server, whose authority is `ca.pem` of a directory.
    pub fn onward(mut self, dir: &Path, server: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(server.to_owned()).unwrap();
        self.onward = Some((TlsConnector::from(Arc::new(config)), name));
        self
    }
}

/// The way; it ends with the test's run-time.
#[derive(Clone)]
pub struct Way {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    place: (String, u16),
    tls: Option<Tls>,
    lie: Lie,
    mood: Mutex<Mood>,
    changes: AtomicU64,
    kept: Mutex<Vec<u8>>,
}

impl Shared {
    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    /// A lie, unless it is this change's turn to get through.
    fn lie(&self, bytes: &[u8], every: Option<u64>) -> Told {
        match (self.lie.told)(bytes) {
            Told::Passes => Told::Passes,
            told => {
                let n = self.changes.fetch_add(1, Ordering::Relaxed);
                if every.is_some_and(|every| n % every == every - 1) { Told::Passes } else { told }
            }
        }
    }
}

impl Way {
    /// To a server on this machine.
    pub async fn to(port: u16, lie: Lie) -> Self {
        Self::reading("127.0.0.1", port, None, lie).await
    }

    /// To a server, with a look at what is said to it.
    pub async fn reading(host: &str, port: u16, tls: Option<Tls>, lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = (host.to_owned(), port);
        let (mood, changes, kept) = (Mutex::default(), AtomicU64::new(0), Mutex::default());
        let shared = Arc::new(Shared { place, tls, lie, mood, changes, kept });
        let way = Self { port: listener.local_addr().unwrap().port(), shared };
        let shared = Arc::clone(&way.shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, Arc::clone(&shared)));
            }
        });
        way
    }

    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Changes that were lied about, or could have been.
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Relaxed)
    }
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

async fn ends(client: TcpStream, shared: &Shared) -> std::io::Result<(Box<dyn Wire>, Box<dyn Wire>)> {
    let (host, port) = &shared.place;
    let server = TcpStream::connect((host.as_str(), *port)).await?;
    let Some(tls) = &shared.tls else { return Ok((Box::new(client), Box::new(server))) };
    let mut client = client;
    if tls.starts {
        start_tls(&mut client).await?;
    }
    let client = tls.accept.accept(client).await?;
    Ok(match &tls.onward {
        Some((connector, name)) => (Box::new(client), Box::new(connector.connect(name.clone(), server).await?)),
        None => (Box::new(client), Box::new(server)),
    })
}

/// The first question must be StartTLS (RFC 4511 §4.14); it is answered with "go on".
async fn start_tls(client: &mut TcpStream) -> std::io::Result<()> {
    let mut piece = [0; 512];
    let n = client.read(&mut piece).await?;
    let [0x30, _, 0x02, 0x01, id, 0x77, ..] = piece[..n] else {
        return Err(std::io::Error::other("that is not StartTLS"));
    };
    client.write_all(&[0x30, 0x0c, 0x02, 0x01, id, 0x78, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00]).await
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let Ok((client, server)) = ends(client, &shared).await else { return };
    let ((mut from, to), (mut answers, mut questions)) = (split(client), split(server));
    let to = Arc::new(tokio::sync::Mutex::new(to));
    let (back, moods) = (Arc::clone(&to), Arc::clone(&shared));
    let returning = tokio::spawn(async move {
        let (mut piece, mut lost) = ([0; 16_384], false);
        while let Ok(n @ 1..) = answers.read(&mut piece).await {
            // What has lost a part of a stream has lost the rest of it, too.
            lost |= moods.mood() == Mood::LosesAnswers;
            if lost {
                continue;
            }
            if moods.mood() == Mood::Remembers {
                *moods.kept.lock().unwrap() = piece[..n].to_vec();
            }
            let mut to = back.lock().await;
            if to.write_all(&piece[..n]).await.is_err() || to.flush().await.is_err() {
                return;
            }
        }
        let _ = back.lock().await.shutdown().await;
    });
    let mut piece = [0; 16_384];
    'open: while let Ok(n @ 1..) = from.read(&mut piece).await {
        let mut rest = &piece[..n];
        while !rest.is_empty() {
            let (message, others) = rest.split_at((shared.lie.message)(rest).clamp(1, rest.len()));
            rest = others;
            let told = match shared.mood() {
                Mood::Slow(pause) => {
                    tokio::time::sleep(pause).await;
                    Told::Passes
                }
                Mood::Lies => shared.lie(message, None),
                Mood::LiesMostly(every) => shared.lie(message, Some(every)),
                Mood::Replays => Told::Lied(shared.kept.lock().unwrap().clone()),
                _ => Told::Passes,
            };
            let sent = match told {
                Told::Passes => questions.write_all(message).await,
                Told::Changed(bytes) => questions.write_all(&bytes).await,
                Told::Lied(answer) => {
                    let mut to = to.lock().await;
                    to.write_all(&answer).await.and(to.flush().await)
                }
                Told::Swallowed => Ok(()),
            };
            if sent.and(questions.flush().await).is_err() {
                break 'open;
            }
        }
    }
    let _ = questions.shutdown().await;
    let _ = returning.await;
}

fn http(bytes: &[u8]) -> Told {
    let starts = |method: &&str| bytes.starts_with(method.as_bytes());
    if ["GET ", "HEAD ", "LIST "].iter().any(starts) {
        return Told::Passes;
    }
    if ["PUT ", "POST ", "DELETE ", "PATCH "].iter().any(starts) {
        return Told::Lied(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    }
    Told::Swallowed
}

/// A message is a SEQUENCE: its tag, its length, in one byte or in as many as that byte says, and so many bytes.
fn ldap_message(bytes: &[u8]) -> usize {
    match bytes {
        [0x30, n, ..] if *n < 0x80 => 2 + usize::from(*n),
        [0x30, n, rest @ ..] => {
            let many = usize::from(n & 0x7f);
            let length = rest.iter().take(many).fold(0, |sum, byte| (sum << 8) | usize::from(*byte));
            2 + many + length
        }
        _ => bytes.len(),
    }
}

/// A modify request (RFC 4511 §4.6) with a short message id is answered with a result code.
fn ldap_answer(bytes: &[u8], code: u8) -> Told {
    // SEQUENCE, its length, INTEGER, its length, the id, [APPLICATION 6].
    let header = match bytes.get(1) {
        Some(n) if *n < 0x80 => 2,
        Some(n) => 2 + usize::from(n & 0x7f),
        None => return Told::Passes,
    };
    let (Some(0x02), Some(&length)) = (bytes.get(header), bytes.get(header + 1)) else { return Told::Passes };
    let operation = header + 2 + usize::from(length);
    if bytes.get(operation) != Some(&0x66) {
        return Told::Passes;
    }
    let id = &bytes[header..operation];
    let done = [0x67, 0x07, 0x0a, 0x01, code, 0x04, 0x00, 0x04, 0x00];
    let mut answer = vec![0x30, u8::try_from(id.len() + done.len()).unwrap()];
    answer.extend_from_slice(id);
    answer.extend_from_slice(&done);
    Told::Lied(answer)
}

fn postgres(bytes: &[u8]) -> Told {
    const CHANGES: [&str; 9] =
        ["CREATE ", "ALTER ", "DROP ", "COMMENT ", "GRANT ", "REVOKE ", "REASSIGN ", "ROLLBACK ", "SET "];
    let [b'Q', a, b, c, d, text @ .., 0] = bytes else { return Told::Passes };
    if u32::from_be_bytes([*a, *b, *c, *d]) as usize != bytes.len() - 1 {
        return Told::Passes;
    }
    let Ok(text) = std::str::from_utf8(text) else { return Told::Passes };
    let is_change = |part: &&str| CHANGES.iter().any(|verb| part.starts_with(verb));
    let kept: Vec<&str> = text.split(';').map(str::trim).filter(|part| !is_change(part)).collect();
    let told = kept.join("; ").replace("pg_terminate_backend(a.pid)", "a.pid");
    if told.matches(';').count() == text.matches(';').count() && !text.contains("pg_terminate_backend") {
        return Told::Passes;
    }
    let mut changed = vec![b'Q'];
    changed.extend_from_slice(&u32::try_from(told.len() + 5).unwrap().to_be_bytes());
    changed.extend_from_slice(told.as_bytes());
    changed.push(0);
    Told::Changed(changed)
}
