//! Is it Slack that calls? HMAC-SHA256 over `v0:{timestamp}:{raw body}`
//! (<https://api.slack.com/authentication/verifying-requests-from-slack>).
//!
//! The expected signature is computed inside ring and never leaves it: there is nothing to log or to compare by hand.

use http::HeaderMap;
use ring::hmac;

use crate::domain::{secret::Secret, time::Timestamp};

/// A call may be this many seconds old, or ahead.
const SKEW: u64 = 300;

/// The signing secret of the app.
pub struct SigningSecret(hmac::Key);

impl SigningSecret {
    /// From the content of its file.
    pub fn new(secret: &Secret) -> Option<Self> {
        let text = secret.expose().trim();
        (!text.is_empty()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes())))
    }

    /// Did Slack sign this body, now?
    pub fn holds(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> bool {
        let one = |name: &str| {
            let mut all = headers.get_all(name).iter();
            let (one, None) = (all.next()?, all.next()) else { return None };
            one.to_str().ok()
        };
        let (Some(stamp), Some(signature)) = (one("x-slack-request-timestamp"), one("x-slack-signature")) else {
            return false;
        };
        if stamp.is_empty() || stamp.len() > 12 || !stamp.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
        let fresh = stamp.parse::<i64>().is_ok_and(|at| at.abs_diff(now.seconds()) <= SKEW);
        let Some(given) = signature.strip_prefix("v0=").and_then(|hex| hex::decode(hex).ok()) else { return false };
        let mut signed = format!("v0:{stamp}:").into_bytes();
        signed.extend_from_slice(body);
        hmac::verify(&self.0, &signed, &given).is_ok() && fresh
    }

    /// What Slack would send with this body.
    pub fn sign(&self, stamp: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("v0:{stamp}:").as_bytes());
        context.update(body);
        format!("v0={}", hex::encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&\
                        channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&\
                        command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2F\
                        T1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
                        trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const AT: i64 = 1_531_420_618;
    const SIGNATURE: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";

    fn holds(stamp: &str, signature: &str, body: &str, now: i64) -> bool {
        let secret = SigningSecret::new(&Secret::new("8f742231b10e8888abcd99yyyzzz85a5\n".to_owned())).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-slack-request-timestamp", stamp.parse().unwrap());
        headers.insert("x-slack-signature", signature.parse().unwrap());
        secret.holds(&headers, body.as_bytes(), Timestamp::from_seconds(now))
    }

    #[test]
    fn the_official_vector() {
        let at = AT.to_string();
        assert!(holds(&at, SIGNATURE, BODY, AT));
        for (now, good) in [(AT + 300, true), (AT + 301, false), (AT - 300, true), (AT - 301, false)] {
            assert_eq!(holds(&at, SIGNATURE, BODY, now), good, "{now}");
        }
    }

    #[test]
    fn one_changed_byte_is_one_too_many() {
        let at = AT.to_string();
        for i in 0..BODY.len() {
            let mut body = BODY.as_bytes().to_vec();
            body[i] ^= 1;
            assert!(!holds(&at, SIGNATURE, &String::from_utf8_lossy(&body), AT), "byte {i}");
        }
        assert!(!holds(&(AT + 1).to_string(), SIGNATURE, BODY, AT));
        for bad in [
            "",
            "v0=",
            "v1=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            "v0=zz",
            &SIGNATURE[..40],
        ] {
            assert!(!holds(&at, bad, BODY, AT), "{bad}");
        }
        for bad in ["", "-1531420618", "1531420618.0", "1531420618a", "99999999999999999999"] {
            assert!(!holds(bad, SIGNATURE, BODY, AT), "{bad}");
        }
    }

    #[test]
    fn no_header_twice() {
        let secret = SigningSecret::new(&Secret::new("x".to_owned())).unwrap();
        let mut headers = HeaderMap::new();
        let now = Timestamp::from_seconds(AT);
        headers.append("x-slack-request-timestamp", AT.into());
        headers.append("x-slack-signature", secret.sign(AT, b"x").parse().unwrap());
        assert!(secret.holds(&headers, b"x", now));
        headers.append("x-slack-signature", secret.sign(AT, b"x").parse().unwrap());
        assert!(!secret.holds(&headers, b"x", now));
    }
}
