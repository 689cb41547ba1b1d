use std::time::Duration;

use jsonwebtoken::DecodingKey;

use super::*;
use crate::ports::entropy::SystemEntropy;

const ISSUER: &str = "https://tidegate.example";
const DAY: u32 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + seconds)
}

fn open(dir: &Path, now: Timestamp) -> FileSigner {
    FileSigner::open(&dir.join("keys"), ISSUER, Ttl::seconds_or_one(DAY), Arc::new(SystemEntropy::new()), now).unwrap()
}

fn claims(exp: Timestamp) -> Map<String, Value> {
    let claims = json!({"iss": ISSUER, "aud": "api", "sub": "idn_x", "exp": exp.seconds(), "jti": "tg-1.1"});
    claims.as_object().unwrap().clone()
}

fn kids(signer: &FileSigner) -> Vec<String> {
    signer.jwks()["keys"].as_array().unwrap().iter().map(|k| k["kid"].as_str().unwrap().to_owned()).collect()
}

/// The same token with other JSON in one of its parts.
fn tampered(token: &str, part: usize, change: impl Fn(&mut Map<String, Value>)) -> String {
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let mut json: Value = serde_json::from_slice(&B64.decode(&parts[part]).unwrap()).unwrap();
    change(json.as_object_mut().unwrap());
    parts[part] = B64.encode(json.to_string());
    parts.join(".")
}

#[test]
fn both_algorithms_round_trip_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let signer = open(dir.path(), at(0));
    let again = open(dir.path(), at(5));
    assert_eq!(kids(&signer), kids(&again));
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let token = signer.sign(algorithm, &claims(at(60))).unwrap();
        assert_eq!(again.verify(token.expose(), "api", at(59)).unwrap()["sub"], "idn_x");
        assert!(again.inspect(token.expose()).is_ok());
    }
}

#[test]
fn anybody_can_check_a_token_with_the_published_keys() {
    let dir = tempfile::tempdir().unwrap();
    let signer = open(dir.path(), at(0));
    let set: jsonwebtoken::jwk::JwkSet = serde_json::from_value(signer.jwks()).unwrap();
    for (ours, theirs) in
        [(Algorithm::EdDsa, jsonwebtoken::Algorithm::EdDSA), (Algorithm::Es256, jsonwebtoken::Algorithm::ES256)]
    {
        let token = signer.sign(ours, &claims(at(60))).unwrap();
        let kid = decode_header(token.expose()).unwrap().kid.unwrap();
        let jwk = set.find(&kid).unwrap();
        let thumbprint = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
        assert_eq!(thumbprint, kid, "kid is the RFC 7638 thumbprint");
        let mut wanted = Validation::new(theirs);
        wanted.validate_exp = false;
        wanted.set_audience(&["api"]);
        let key = DecodingKey::from_jwk(jwk).unwrap();
        assert!(decode::<Map<String, Value>>(token.expose(), &key, &wanted).is_ok());
    }
}

#[test]
fn whatever_is_wrong_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let signer = open(dir.path(), at(0));
    let token = signer.sign(Algorithm::EdDsa, &claims(at(60))).unwrap();
    let token = token.expose();
    assert!(signer.verify(token, "api", at(0)).is_ok());
    assert!(signer.verify(token, "api", at(60)).is_err(), "no leeway: at exp it is over");
    assert!(signer.verify(token, "other", at(0)).is_err());
    let mut later = claims(at(60));
    later.insert("nbf".into(), json!(at(10).seconds()));
    let later = signer.sign(Algorithm::EdDsa, &later).unwrap();
    assert!(signer.verify(later.expose(), "api", at(9)).is_err());
    assert!(signer.verify(later.expose(), "api", at(10)).is_ok());

    let other = tempfile::tempdir().unwrap();
    assert!(open(other.path(), at(0)).inspect(token).is_err(), "foreign keys");
    let es = signer.sign(Algorithm::Es256, &claims(at(60))).unwrap();
    let es_kid = json!(decode_header(es.expose()).unwrap().kid);
    for bad in [
        String::new(),
        "a.b.c".into(),
        "x".repeat(100_000),
        tampered(token, 1, |c| drop(c.insert("sub".into(), json!("idn_y")))),
        tampered(token, 0, |h| drop(h.insert("typ".into(), json!("JWT")))),
        tampered(token, 0, |h| drop(h.insert("alg".into(), json!("none")))),
        tampered(token, 0, |h| drop(h.insert("alg".into(), json!("HS256")))),
        tampered(token, 0, |h| drop(h.insert("alg".into(), json!("ES256")))),
        tampered(token, 0, |h| drop(h.insert("kid".into(), es_kid.clone()))),
        tampered(token, 0, |h| drop(h.remove("kid"))),
        token.rsplit_once('.').unwrap().0.to_owned() + ".",
    ] {
        assert!(signer.verify(&bad, "api", at(0)).is_err(), "{bad}");
        assert!(signer.inspect(&bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_not_ours_is_not_signed() {
    let dir = tempfile::tempdir().unwrap();
    let mut foreign = claims(at(60));
    foreign.insert("iss".into(), json!("https://evil.example"));
    assert!(open(dir.path(), at(0)).sign(Algorithm::EdDsa, &foreign).is_err());
}

#[test]
fn a_replaced_key_verifies_until_its_last_token_has_expired() {
    let dir = tempfile::tempdir().unwrap();
    let signer = open(dir.path(), at(0));
    let old = signer.sign(Algorithm::EdDsa, &claims(at(10 + i64::from(DAY)))).unwrap();
    signer.rotate(at(10)).unwrap();
    assert_eq!(kids(&signer).len(), 4);
    let new = signer.sign(Algorithm::EdDsa, &claims(at(60))).unwrap();
    assert_ne!(decode_header(old.expose()).unwrap().kid, decode_header(new.expose()).unwrap().kid);
    let late = at(10 + i64::from(DAY));
    assert!(!signer.maintain(Ttl::seconds_or_one(30 * DAY), late).unwrap());
    assert!(signer.verify(old.expose(), "api", at(9 + i64::from(DAY))).is_ok());
    let later = late.plus_std(Duration::from_secs(1));
    assert!(!signer.maintain(Ttl::seconds_or_one(30 * DAY), later).unwrap());
    assert_eq!(kids(&signer).len(), 2);
    assert!(signer.inspect(old.expose()).is_err());
    assert_eq!(kids(&open(dir.path(), later)), kids(&signer), "and its file is gone");
}

#[test]
fn maintenance_rotates_by_age_and_sees_another_replicas_key() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(dir.path(), at(0)), open(dir.path(), at(0)));
    let month = Ttl::seconds_or_one(30 * DAY);
    let due = at(i64::from(30 * DAY));
    assert!(one.maintain(month, due).unwrap());
    assert!(!two.maintain(month, due).unwrap(), "the other replica's new key is taken up");
    assert_eq!(kids(&one), kids(&two));
}

#[test]
fn a_clock_set_back_does_not_revive_the_old_key() {
    let dir = tempfile::tempdir().unwrap();
    let signer = open(dir.path(), at(1000));
    let before = signer.sign(Algorithm::EdDsa, &claims(at(5000))).unwrap();
    signer.rotate(at(0)).unwrap();
    let after = signer.sign(Algorithm::EdDsa, &claims(at(5000))).unwrap();
    assert_ne!(decode_header(before.expose()).unwrap().kid, decode_header(after.expose()).unwrap().kid);
}
