//! What Active Directory says of time-limited membership, as bytes on the wire: a small server that knows one person and
//! one group. It proves what is sent and how answers are read, not that a real domain behaves like it.

use std::sync::{Arc, Mutex};

use ldap3::asn1::{PL, StructureTag, parse_tag};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub const GROUP: &str = "CN=Ops,OU=Groups,DC=example";
pub const ANA: &str = "CN=Ana,OU=People,DC=example";
const LINK_TTL: &str = "1.2.840.113556.1.4.2309";
/// The sixteen bytes of the two ids.
const GROUP_ID: &str = "the group's own.";
const ANA_ID: &str = "the id of ana...";

/// `<GUID=…>` as the name of one of the two.
fn resolved(name: &str) -> String {
    let guid = |id: &str| {
        let b = id.as_bytes();
        let first = [b[3], b[2], b[1], b[0]];
        let parts = [&first[..], &[b[5], b[4]], &[b[7], b[6]], &b[8..10], &b[10..]].map(hex::encode);
        format!("<GUID={}>", parts.join("-"))
    };
    match name {
        name if name == guid(GROUP_ID) => GROUP.to_owned(),
        name if name == guid(ANA_ID) => ANA.to_owned(),
        name => name.to_owned(),
    }
}

/// What it has been told and what it holds.
#[derive(Default)]
pub struct State {
    /// Values of `member`, with their time if they have one.
    pub members: Vec<String>,
    /// Changes, in order: `add member <TTL=…>`.
    pub changes: Vec<String>,
    /// Keep the value and forget its time, as a domain without the feature might.
    pub forgets_time: bool,
    /// Show no member to the broker, and leave it no right to write one.
    pub hides_members: bool,
}

/// Started by a test; it ends with the test's runtime.
pub struct ActiveDirectory {
    pub port: u16,
    pub state: Arc<Mutex<State>>,
}

impl ActiveDirectory {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut buffer = Vec::new();
    loop {
        while let Ok((rest, tag)) = parse_tag(&buffer) {
            let left = rest.to_vec();
            let answer = answer(&tag, &state);
            buffer = left;
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&piece[..n]),
            _ => return,
        }
    }
}

fn parts(tag: &StructureTag) -> &[StructureTag] {
    match &tag.payload {
        PL::C(parts) => parts,
        PL::P(_) => &[],
    }
}

fn text(tag: &StructureTag) -> String {
    match &tag.payload {
        PL::P(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        PL::C(_) => String::new(),
    }
}

/// One element: tag, length, content.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut it = vec![tag];
    match content.len() {
        n if n < 128 => it.push(u8::try_from(n).unwrap()),
        n => it.extend([0x82, u8::try_from(n >> 8).unwrap(), u8::try_from(n & 0xff).unwrap()]),
    }
    it.extend_from_slice(content);
    it
}

fn done(operation: u8, code: u8) -> Vec<u8> {
    element(operation, &[element(0x0a, &[code]), element(0x04, b""), element(0x04, b"")].concat())
}

fn entry(dn: &str, attributes: &[(&str, Vec<String>)]) -> Vec<u8> {
    let attribute = |(name, values): &(&str, Vec<String>)| {
        let values: Vec<u8> = values.iter().flat_map(|v| element(0x04, v.as_bytes())).collect();
        element(0x30, &[element(0x04, name.as_bytes()), element(0x31, &values)].concat())
    };
    let attributes: Vec<u8> = attributes.iter().flat_map(attribute).collect();
    element(0x64, &[element(0x04, dn.as_bytes()), element(0x30, &attributes)].concat())
}

fn answer(message: &StructureTag, state: &Mutex<State>) -> Vec<u8> {
    let message = parts(message);
    let id = match &message[0].payload {
        PL::P(bytes) => element(0x02, bytes),
        PL::C(_) => return Vec::new(),
    };
    let controls: Vec<String> =
        message.get(2).iter().flat_map(|c| parts(c)).map(|control| text(&parts(control)[0])).collect();
    let mut state = state.lock().unwrap();
    let replies = match message[1].id {
        0 => vec![done(0x61, 0)],
        3 => search(&message[1], controls.iter().any(|c| c == LINK_TTL), &state),
        6 => vec![done(0x67, modify(&message[1], &mut state))],
        14 => vec![done(0x6f, compare(&message[1], &state))],
        _ => Vec::new(),
    };
    replies.into_iter().flat_map(|reply| element(0x30, &[id.clone(), reply].concat())).collect()
}

fn search(operation: &StructureTag, shows_time: bool, state: &State) -> Vec<Vec<u8>> {
    let fields = parts(operation);
    let (base, filter) = (resolved(&text(&fields[0])), &fields[6]);
    let wanted: Vec<String> = parts(&fields[7]).iter().map(text).collect();
    let mut replies = Vec::new();
    if base.is_empty() {
        replies.push(entry("", &[("supportedControl", vec![LINK_TTL.into()])]));
    } else if ["OU=People,DC=example", ANA].iter().any(|name| base.eq_ignore_ascii_case(name)) {
        replies.push(entry(ANA, &[("objectGUID", vec![ANA_ID.into()])]));
    } else if base.eq_ignore_ascii_case(GROUP) {
        let range =
            wanted.iter().find_map(|w| w.strip_prefix("member;range=")?.split('-').next()?.parse::<usize>().ok());
        match (filter.id, range) {
            // Values come one at a time, as they come in thousands from a real one.
            (_, Some(from)) if from < state.members.len() => {
                let last = from + 1 == state.members.len();
                let name = if last { format!("member;range={from}-*") } else { format!("member;range={from}-{from}") };
                let value = &state.members[from];
                let value = if shows_time { value.clone() } else { plain(value) };
                replies.push(entry(GROUP, &[(&name, vec![value])]));
            }
            (3, _) => {
                let member = text(&parts(filter)[1]);
                if state.members.iter().any(|m| plain(m).eq_ignore_ascii_case(&member)) {
                    replies.push(entry(GROUP, &[]));
                }
            }
            _ => {
                let mut shown = vec![("objectGUID", vec![GROUP_ID.into()])];
                if wanted.iter().any(|w| w == "objectClass") {
                    shown.push(("objectClass", vec!["group".into()]));
                }
                if wanted.iter().any(|w| w == "allowedAttributesEffective") && !state.hides_members {
                    shown.push(("allowedAttributesEffective", vec!["description".into(), "member".into()]));
                }
                replies.push(entry(GROUP, &shown));
            }
        }
    }
    replies.push(done(0x65, 0));
    replies
}

/// As Active Directory says it: an attribute without a value, or one that is not shown, is "no such attribute".
fn compare(operation: &StructureTag, state: &State) -> u8 {
    let value = text(&parts(&parts(operation)[1])[1]);
    if state.members.is_empty() || state.hides_members {
        return 16;
    }
    if state.members.iter().any(|m| plain(m).eq_ignore_ascii_case(&value)) { 6 } else { 5 }
}

/// The name in `<TTL=seconds,name>`.
fn plain(value: &str) -> String {
    let inner = value.strip_prefix("<TTL=").and_then(|v| v.strip_suffix('>')).and_then(|v| v.split_once(','));
    inner.map_or_else(|| value.to_owned(), |(_, dn)| dn.to_owned())
}

fn modify(operation: &StructureTag, state: &mut State) -> u8 {
    let mut members = state.members.clone();
    let mut said = Vec::new();
    for change in parts(&parts(operation)[1]) {
        let adds = matches!(&parts(change)[0].payload, PL::P(code) if code == &[0]);
        let attribute = &parts(change)[1];
        for value in parts(&parts(attribute)[1]).iter().map(text) {
            said.push(format!("{} {} {value}", if adds { "add" } else { "delete" }, text(&parts(attribute)[0])));
            let at = members.iter().position(|m| plain(m).eq_ignore_ascii_case(&plain(&value)));
            match (adds, at) {
                (true, None) if state.forgets_time => members.push(plain(&value)),
                (true, None) => members.push(value),
                (true, Some(_)) => return 68,
                (false, Some(at)) => drop(members.remove(at)),
                (false, None) => return 53,
            }
        }
    }
    state.members = members;
    state.changes.extend(said);
    0
}
