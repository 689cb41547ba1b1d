//! A way to a real server that loses answers, is slow, or answers itself without asking. Bytes pass through it, TLS too.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

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
    /// Changes are answered with "done" and never reach the server.
    Lies,
}

/// What a change looks like on the wire, and the answer that says it was made.
pub type Lie = fn(&[u8]) -> Told;

/// What a liar makes of some bytes of a client.
pub enum Told {
    /// No change: passed on.
    Passes,
    /// A change, and the lie.
    Lied(Vec<u8>),
    /// The rest of what was lied about.
    Swallowed,
}

/// The way; it ends with the test's run-time.
#[derive(Clone)]
pub struct Way {
    pub port: u16,
    mood: Arc<Mutex<Mood>>,
}

impl Way {
    /// To a server on this machine.
    pub async fn to(port: u16, lie: Lie) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Self { port: listener.local_addr().unwrap().port(), mood: Arc::default() };
        let mood = Arc::clone(&way.mood);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, Arc::clone(&mood), lie));
            }
        });
        way
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

async fn carry(client: TcpStream, port: u16, mood: Arc<Mutex<Mood>>, lie: Lie) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let ((mut from, to), (mut answers, mut questions)) = (client.into_split(), server.into_split());
    let to = Arc::new(tokio::sync::Mutex::new(to));
    let now = |mood: &Mutex<Mood>| *mood.lock().unwrap();
    let (back, moods) = (Arc::clone(&to), Arc::clone(&mood));
    let returning = tokio::spawn(async move {
        let (mut piece, mut lost) = ([0; 16_384], false);
        while let Ok(n @ 1..) = answers.read(&mut piece).await {
            // What has lost a part of a stream has lost the rest of it, too.
            lost |= now(&moods) == Mood::LosesAnswers;
            if !lost && back.lock().await.write_all(&piece[..n]).await.is_err() {
                return;
            }
        }
        let _ = back.lock().await.shutdown().await;
    });
    let mut piece = [0; 16_384];
    while let Ok(n @ 1..) = from.read(&mut piece).await {
        let told = match now(&mood) {
            Mood::Slow(pause) => {
                tokio::time::sleep(pause).await;
                Told::Passes
            }
            Mood::Lies => lie(&piece[..n]),
            _ => Told::Passes,
        };
        let sent = match told {
            Told::Passes => questions.write_all(&piece[..n]).await,
            Told::Lied(answer) => to.lock().await.write_all(&answer).await,
            Told::Swallowed => Ok(()),
        };
        if sent.is_err() {
            break;
        }
    }
    let _ = questions.shutdown().await;
    let _ = returning.await;
}

/// Nothing is known of the protocol, so nothing is a change.
pub fn honest(_: &[u8]) -> Told {
    Told::Passes
}

/// HTTP/1.1: whatever is no GET, HEAD or LIST is a change.
pub fn http(bytes: &[u8]) -> Told {
    let starts = |method: &&str| bytes.starts_with(method.as_bytes());
    if ["GET ", "HEAD ", "LIST "].iter().any(starts) {
        return Told::Passes;
    }
    if ["PUT ", "POST ", "DELETE ", "PATCH "].iter().any(starts) {
        return Told::Lied(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec());
    }
    Told::Swallowed
}

/// LDAP in clear: a modify request (RFC 4511 §4.6) with a short message id is answered with success.
pub fn ldap(bytes: &[u8]) -> Told {
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
    let done = [0x67, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00];
    let mut answer = vec![0x30, u8::try_from(id.len() + done.len()).unwrap()];
    answer.extend_from_slice(id);
    answer.extend_from_slice(&done);
    Told::Lied(answer)
}
