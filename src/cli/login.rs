//! `tidegate login` and `tidegate logout`: a token for this machine, by a browser here (PKCE on loopback) or by one
//! anywhere else (device flow). Kept in a file of mode 0600 under the user's configuration; there is no keyring yet.

use std::{path::PathBuf, process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

use super::{
    client::{Client, typed},
    exit::{Done, Exit, Failure},
    global::Cx,
    private_file::Pending,
    text::clean,
};
use crate::{
    domain::secret::Secret,
    ports::entropy::{Entropy as _, SystemEntropy},
};

const CLIENT: &str = "tidegate-cli";
const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// A person has this long to say yes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Sign in, by the portal
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The server, in place of --server
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// Show a code to type in a browser on another machine
    #[arg(long)]
    device: bool,
    /// Do not open a browser; only print the address
    #[arg(long)]
    no_browser: bool,
}

/// End the token that `login` keeps here, and forget it
#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// The server, in place of --server
    #[arg(value_name = "URL")]
    url: Option<String>,
}

#[derive(Deserialize)]
struct Issued {
    access_token: String,
    expires_at: String,
    token_id: String,
}

#[derive(Deserialize)]
struct Device {
    #[serde(rename = "device_code")]
    held: String,
    user_code: String,
    verification_uri: String,
    interval: u64,
}

/// Where the token of a server is kept: under `$XDG_CONFIG_HOME`, else `~/.config`.
pub fn token_file(server: &Url) -> Option<PathBuf> {
    let name: String = server
        .as_str()
        .trim_end_matches('/')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' })
        .collect();
    Some(super::profile::config_dir()?.join("tokens").join(name))
}

/// Run `login`.
pub async fn login(args: LoginArgs, cx: &Cx) -> Done {
    let client = cx.anonymous_to(args.url.as_deref())?;
    let file = token_file(client.url())
        .ok_or_else(|| Failure::local("there is neither $XDG_CONFIG_HOME nor $HOME to keep the token under"))?;
    if let Some(dir) = file.parent() {
        make_private(dir)?;
    }
    // Before anybody is asked: a token that cannot be kept is not made.
    let place = Pending::reserve(&file)?;
    let remote = std::env::var_os("SSH_CONNECTION").is_some();
    let screen = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    let by_device = args.device || (!args.no_browser && (remote || (cfg!(target_os = "linux") && !screen)));
    let issued = if by_device { device(&client, cx).await? } else { loopback(&client, cx, !args.no_browser).await? };
    let token = Secret::new(issued.access_token);
    place.fill(format!("{}\n", token.expose()).as_bytes())?;
    cx.ui.note(&format!("Signed in at {}, until {}", clean(client.server()), cx.ui.until(&issued.expires_at)));
    cx.ui.note(&format!(
        "The token {} is kept in {} (mode 0600; not in a keyring)",
        clean(&issued.token_id),
        file.display()
    ));
    if args.url.is_some() {
        let word = super::text::shell_word(client.server());
        cx.ui.note(&format!("next: export TIDEGATE_SERVER={word}; tidegate whoami"));
    }
    Ok(Exit::Ok)
}

/// Run `logout`.
pub async fn logout(args: LogoutArgs, cx: &Cx) -> Done {
    let server = cx.anonymous_to(args.url.as_deref())?;
    let Some(file) = token_file(server.url()).filter(|f| f.exists()) else {
        cx.ui.note("Nobody is signed in there from here.");
        return Ok(Exit::Ok);
    };
    let text = std::fs::read_to_string(&file).map(Secret::new);
    let ended = match text {
        Ok(text) => server.form(&["login", "end"], &[("client_id", CLIENT), ("token", text.expose().trim())]).await,
        Err(e) => Err(Failure::local(format!("{} cannot be read: {e}", file.display()))),
    };
    std::fs::remove_file(&file).map_err(|e| Failure::local(format!("{} could not be removed: {e}", file.display())))?;
    match ended {
        Ok(_) => cx.ui.note(&format!("Signed out of {}: the token no longer works.", clean(server.server()))),
        Err(failure) => {
            cx.ui.note(&format!("The token is forgotten here, but the server could not be told: {failure}"));
        }
    }
    Ok(Exit::Ok)
}

fn make_private(dir: &std::path::Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| Failure::local(format!("{} could not be made: {e}", dir.display())))
}

fn random() -> Result<Secret, Failure> {
    SystemEntropy::new().text(32).map_err(|e| Failure::local(e.to_string()))
}

/// What this machine calls itself, for the person who says yes.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "this machine".to_owned() } else { name.to_owned() }
}

async fn loopback(client: &Client, cx: &Cx, open: bool) -> Result<Issued, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .map_err(|e| Failure::local(format!("no port of this machine could be opened: {e}")).next("use --device"))?;
    let port = listener.local_addr().map_err(|e| Failure::local(e.to_string()))?.port();
    let redirect = format!("http://127.0.0.1:{port}/callback");
    let (verifier, state) = (random()?, random()?);
    let digest = ring::digest::digest(&ring::digest::SHA256, verifier.expose().as_bytes());
    let challenge = URL_SAFE_NO_PAD.encode(digest);
    let mut url = client.url().clone();
    url.path_segments_mut()
        .map_err(|()| Failure::usage("--server: not a usable URL"))?
        .pop_if_empty()
        .push("authorize");
    url.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", &redirect),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("state", state.expose()),
        ("host", &host()),
    ]);
    cx.ui.note(&format!("Sign in here: {url}"));
    if open {
        open_browser(url.as_str());
    }
    let waited = tokio::time::timeout(PATIENCE, answer(&listener, state.expose())).await;
    let code = waited.map_err(|_| Failure::new(Exit::Expired, "nobody signed in within ten minutes"))??;
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", CLIENT),
        ("code", code.expose()),
        ("code_verifier", verifier.expose()),
        ("redirect_uri", &redirect),
    ];
    Ok(typed::<Issued>(client.form(&["login", "token"], &fields).await?)?.1)
}

/// The browser's answer. Whatever else knocks at the port is turned away.
async fn answer(listener: &TcpListener, state: &str) -> Result<Secret, Failure> {
    loop {
        let (mut stream, _) = listener.accept().await.map_err(|e| Failure::local(e.to_string()))?;
        let Ok(Some(query)) = tokio::time::timeout(Duration::from_secs(5), query_of(&mut stream)).await else {
            continue;
        };
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let get = |name: &str| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        if get("state") != Some(state) {
            say(&mut stream, "This sign-in does not belong to the one that is waiting.").await;
            continue;
        }
        if let Some(code) = get("code") {
            say(&mut stream, "Signed in. You can close this window and go back to the terminal.").await;
            return Ok(Secret::new(code.to_owned()));
        }
        say(&mut stream, "Nothing was signed in. You can close this window.").await;
        return Err(Failure::new(Exit::Denied, "the sign-in was refused in the browser"));
    }
}

/// The query of `GET /callback?…`.
async fn query_of(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0_u8; 2048];
    while !bytes.windows(4).any(|w| w == b"\r\n\r\n") {
        let n = stream.read(&mut chunk).await.ok().filter(|n| *n > 0)?;
        bytes.extend_from_slice(chunk.get(..n)?);
        if bytes.len() > 16_384 {
            return None;
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let target = text.lines().next()?.strip_prefix("GET /callback?")?.split(' ').next()?.to_owned();
    Some(target)
}

async fn say(stream: &mut TcpStream, words: &str) {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Tidegate</title><h1>Tidegate</h1><p>{words}</p>"
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Content-Security-Policy: default-src 'none'\r\nReferrer-Policy: no-referrer\r\nConnection: close\r\n\r\n",
        page.len()
    );
    let _ = stream.write_all(format!("{head}{page}").as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Best effort: the address stands in the terminal.
pub fn open_browser(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let _ = std::process::Command::new(program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

async fn device(client: &Client, cx: &Cx) -> Result<Issued, Failure> {
    let begun = client.form(&["login", "device"], &[("client_id", CLIENT), ("host", &host())]).await?;
    let (_, begun) = typed::<Device>(begun)?;
    cx.ui.note(&format!("Open {} in a browser where you are signed in, and type:", clean(&begun.verification_uri)));
    cx.ui.note(&format!("    {}", clean(&begun.user_code)));
    cx.ui.note("Say yes only to a code that you see here yourself: nobody else ever needs it from you.");
    let mut pause = Duration::from_secs(begun.interval.clamp(1, 60));
    let fields = [("grant_type", DEVICE), ("client_id", CLIENT), ("device_code", begun.held.as_str())];
    let asking = async {
        loop {
            tokio::time::sleep(pause).await;
            let (status, value) = client.form_answer(&["login", "token"], &fields).await?;
            let error = value.get("error").and_then(serde_json::Value::as_str).unwrap_or_default();
            match (status, error) {
                (200, _) => return Ok(typed::<Issued>(value)?.1),
                (_, "authorization_pending") => {}
                (_, "slow_down") => pause += Duration::from_secs(5),
                (_, "access_denied") => {
                    return Err(Failure::new(Exit::Denied, "the sign-in was refused in the portal"));
                }
                (_, "expired_token") => return Err(Failure::new(Exit::Expired, "the code has lapsed; begin again")),
                (_, other) => return Err(Failure::new(Exit::Login, format!("the sign-in failed: {}", clean(other)))),
            }
        }
    };
    let waited = tokio::time::timeout(PATIENCE, asking).await;
    waited.map_err(|_| Failure::new(Exit::Expired, "nobody said yes within ten minutes"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_answer_to_this_sign_in_is_taken() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let knock = |target: &'static str| async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text).await;
            text
        };
        let waiting = tokio::spawn(async move { answer(&listener, "right").await.map(|s| s.expose().to_owned()) });
        assert_eq!(knock("/favicon.ico").await, "");
        assert!(knock("/callback?code=evil&state=wrong").await.contains("does not belong"));
        assert!(knock("/callback?code=good&state=right").await.contains("Signed in"));
        assert_eq!(waiting.await.unwrap().ok().as_deref(), Some("good"));
    }

    #[test]
    fn each_server_has_its_own_file() {
        let name = |url: &str| token_file(&url.parse().unwrap()).unwrap().file_name().unwrap().to_owned();
        assert_eq!(name("https://tg.example/"), "https___tg.example");
        assert_ne!(name("https://tg.example:8443"), name("https://tg.example"));
    }
}
