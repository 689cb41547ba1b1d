//! The cookies of the portal: out with everything that browsers offer to keep them in place, in by name.

use http::{HeaderMap, HeaderValue, header};

use crate::edge::inbound::portal::Portal;

/// The session.
pub const SESSION: &str = "tidegate";
/// A sign-in that is on its way.
pub const SIGN_IN: &str = "tidegate-sign-in";
/// The ID token of the sign-in, which the provider likes to see at the end: in this browser and nowhere else.
pub const HINT: &str = "tidegate-hint";
/// The one page that it goes to.
const HINT_PATH: &str = "/signed-out";
/// Browsers keep no cookie that is longer.
const LONGEST: usize = 3800;
/// `light` or `dark`; set by a script, read for display only.
const THEME: &str = "tidegate-theme";

/// With TLS, `__Host-` binds it to this very host: no neighbour under the same domain can plant one.
fn full_name(portal: &Portal, name: &str) -> String {
    if !portal.is_secure() {
        name.to_owned()
    } else if name == HINT {
        // What is bound to the host goes to every page of it; this one goes to a single page.
        format!("__Secure-{name}")
    } else {
        format!("__Host-{name}")
    }
}

/// The value of a cookie, if it is there once.
pub fn read<'a>(headers: &'a HeaderMap, portal: &Portal, name: &str) -> Option<&'a str> {
    pick(headers, &full_name(portal, name))
}

fn pick<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let one = found.next()?;
    found.next().is_none().then_some(one)
}

/// The theme that the reader chose.
pub fn theme(headers: &HeaderMap) -> Option<&'static str> {
    match pick(headers, THEME)? {
        "light" => Some("light"),
        "dark" => Some("dark"),
        _ => None,
    }
}

/// A cookie for scripts to leave alone, for this site alone.
pub fn set(portal: &Portal, name: &str, value: &str, seconds: u32) -> Option<HeaderValue> {
    let secure = if portal.is_secure() { "; Secure" } else { "" };
    let path = if name == HINT { HINT_PATH } else { "/" };
    let name = full_name(portal, name);
    if value.len() > LONGEST {
        return None;
    }
    let text = format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Take it away.
pub fn clear(portal: &Portal, name: &str) -> Option<HeaderValue> {
    set(portal, name, "", 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portal(origin: &str) -> Portal {
        Portal { origins: vec![origin.to_owned()], ..Portal::default() }
    }

    #[test]
    fn with_tls_a_cookie_is_bound_to_its_host() {
        let text = |origin| set(&portal(origin), SESSION, "x", 60).unwrap().to_str().unwrap().to_owned();
        assert_eq!(text("https://a.example"), "__Host-tidegate=x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure");
        let hint = set(&portal("https://a.example"), HINT, "x", 60).unwrap();
        assert!(hint.to_str().unwrap().starts_with("__Secure-tidegate-hint=x; Path=/signed-out; "));
        assert!(set(&portal("https://a.example"), HINT, &"x".repeat(4000), 60).is_none());
        assert_eq!(text("http://127.0.0.1:8420"), "tidegate=x; Path=/; Max-Age=60; HttpOnly; SameSite=Lax");
    }

    #[test]
    fn a_cookie_that_is_there_twice_counts_for_nothing() {
        let with = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_static(text));
            read(&headers, &portal("http://127.0.0.1"), SESSION).map(str::to_owned)
        };
        assert_eq!(with("a=b; tidegate=x; c=d").as_deref(), Some("x"));
        assert_eq!(with("tidegate=x; tidegate=y"), None);
        assert_eq!(with("tidegate-theme=dark"), None);
    }
}
