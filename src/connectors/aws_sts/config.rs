//! Settings of a target and parameters of an entitlement: everything that can be known to be wrong is refused here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    connectors::aws::{Arn, Broker},
    domain::{catalog::TargetConfig, time::Ttl},
    ports::connector::BadParameters,
};

/// AWS mints no shorter session.
pub(super) const SHORTEST: Ttl = Ttl::seconds_or_one(900);
/// Nor a longer one.
const LONGEST: Ttl = Ttl::seconds_or_one(43_200);
/// Longest session of a role that was assumed by a role.
pub(super) const LONGEST_CHAINED: Ttl = Ttl::seconds_or_one(3600);
/// Characters of a session policy, as AWS counts them.
const SESSION_POLICY: usize = 2048;
/// Tags of a session that are left beside ours.
const TAGS: usize = 47;

/// The `settings` of a target of kind `aws_sts`: roles of one account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// ARNs of the roles that entitlements may name, all of one account.
    pub roles: Vec<String>,
    /// How the broker comes in.
    #[serde(default)]
    pub broker: Broker,
    /// Longest session of any entitlement here.
    #[serde(default = "Settings::default_session")]
    pub max_session: Ttl,
    /// The broker is in a role itself, so that AWS ends every session after an hour.
    #[serde(default)]
    pub chained: bool,
    /// For how long after its change a policy of IAM may not be heard of everywhere.
    #[serde(default = "Settings::default_propagation")]
    pub propagation_seconds: u32,
    /// Two brokers on one role need two marks, or each takes the other's denies for orphans.
    #[serde(default = "Settings::default_mark")]
    pub mark: String,
    /// Region that holders are told.
    #[serde(default)]
    pub holder_region: Option<String>,
}

impl Settings {
    const fn default_session() -> Ttl {
        LONGEST_CHAINED
    }

    const fn default_propagation() -> u32 {
        300
    }

    fn default_mark() -> String {
        "tidegate".into()
    }

    /// Read and check; the roles as what they are.
    pub fn read(config: &TargetConfig) -> Result<(Self, Vec<Arn>), String> {
        let it: Self =
            serde_json::from_value(Value::Object(config.settings.clone())).map_err(|e| format!("settings: {e}"))?;
        let roles: Vec<Arn> = it
            .roles
            .iter()
            .map(|text| match text.parse::<Arn>() {
                Ok(arn) if arn.kind() != "role" => Err(format!("settings: roles: `{arn}` is not a role")),
                Ok(arn) if arn.path().starts_with("/aws-service-role/") || arn.path().starts_with("/aws-reserved/") => {
                    Err(format!("settings: roles: `{arn}` is AWS's own; no session of it could be ended early"))
                }
                other => other.map_err(|e| format!("settings: roles: {e}")),
            })
            .collect::<Result<_, _>>()?;
        let Some(first) = roles.first() else { return Err("settings: `roles` names no role".into()) };
        if let Some(other) = roles.iter().find(|r| (r.partition(), r.account()) != (first.partition(), first.account()))
        {
            return Err(format!("settings: roles: `{other}` is in another account than `{first}`: make two targets"));
        }
        it.broker.checked()?;
        if it.max_session < SHORTEST || it.max_session > LONGEST {
            return Err(format!("settings: `max_session` is {SHORTEST} to {LONGEST}"));
        }
        if it.chained && it.max_session > LONGEST_CHAINED {
            return Err(format!(
                "settings: `max_session` is longer than {LONGEST_CHAINED}, which is all that AWS gives a role that a role assumes (`chained`)"
            ));
        }
        if it.mark.is_empty() || it.mark.len() > 20 || !it.mark.bytes().all(|b| b.is_ascii_lowercase()) {
            return Err("settings: `mark` is 1 to 20 letters a-z".into());
        }
        Ok((it, roles))
    }
}

/// The `parameters` of an entitlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The role.
    pub role: Arn,
    /// How long a session lasts, unless the grant ends before.
    pub session: Ttl,
    /// Narrows what the role may do: JSON without needless space.
    pub session_policy: Option<String>,
    /// The same, by managed policies.
    pub policy_arns: Vec<Arn>,
    /// Tags of the session.
    pub session_tags: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    role: String,
    #[serde(default)]
    session: Option<Ttl>,
    #[serde(default)]
    session_policy: Option<String>,
    #[serde(default)]
    policy_arns: Vec<String>,
    #[serde(default)]
    session_tags: BTreeMap<String, String>,
}

impl Parameters {
    /// Read and check an entitlement's parameters.
    pub fn read(parameters: &Value, settings: &Settings) -> Result<Self, BadParameters> {
        let raw: Raw = crate::connectors::parameters(parameters)?;
        let bad = |text: String| Err(BadParameters(format!("parameters: {text}")));
        if !settings.roles.contains(&raw.role) {
            return bad(format!("role: `{}` is not among the target's `roles`", raw.role.escape_debug()));
        }
        let role = raw.role.parse::<Arn>().map_err(BadParameters)?;
        let session = raw.session.unwrap_or(settings.max_session);
        if session < SHORTEST {
            return bad(format!(
                "`session` is shorter than {SHORTEST}, and AWS mints no shorter one; the grant may be shorter"
            ));
        }
        if session > settings.max_session {
            let why =
                if settings.chained { "; a role that a role assumes lasts an hour at most (`chained`)" } else { "" };
            return bad(format!("`session` is longer than the target's `max_session`, {}{why}", settings.max_session));
        }
        let session_policy = raw.session_policy.as_deref().map(session_policy).transpose()?;
        if raw.policy_arns.len() > 10 {
            return bad("`policy_arns` has more than 10 entries".into());
        }
        let policy_arns = raw.policy_arns.iter().map(|text| match text.parse::<Arn>() {
            Ok(arn) if arn.kind() == "policy" => Ok(arn),
            Ok(arn) => Err(BadParameters(format!("parameters: policy_arns: `{arn}` is not a policy"))),
            Err(e) => Err(BadParameters(format!("parameters: policy_arns: {e}"))),
        });
        let policy_arns = policy_arns.collect::<Result<_, _>>()?;
        if raw.session_tags.len() > TAGS {
            return bad(format!("`session_tags` has more than {TAGS} entries"));
        }
        for (key, value) in &raw.session_tags {
            let own = ["aws:", "tidegate:"].iter().any(|p| key.to_ascii_lowercase().starts_with(p));
            if own || key.is_empty() || key.chars().count() > 128 || tag(key) != *key {
                return bad(format!("session_tags: `{}` cannot be a key", key.escape_debug()));
            }
            if value.chars().count() > 256 || tag(value) != *value {
                return bad(format!(
                    "session_tags: the value of `{key}` has characters that AWS does not take, or more than 256"
                ));
            }
        }
        Ok(Self { role, session, session_policy, policy_arns, session_tags: raw.session_tags })
    }
}

/// Without needless space, and checked against AWS's limit before AWS is asked.
fn session_policy(text: &str) -> Result<String, BadParameters> {
    let policy: Value = serde_json::from_str(text)
        .map_err(|e| BadParameters(format!("parameters: `session_policy` is not JSON: {e}")))?;
    if !policy.get("Statement").is_some_and(|s| s.is_array() || s.is_object()) {
        return Err(BadParameters("parameters: `session_policy` has no `Statement`".into()));
    }
    let policy = policy.to_string();
    if policy.chars().any(|c| !('\u{20}'..='\u{ff}').contains(&c)) {
        return Err(BadParameters(
            "parameters: `session_policy` has characters beyond U+00FF, which AWS does not take".into(),
        ));
    }
    let length = policy.chars().count();
    if length > SESSION_POLICY {
        return Err(BadParameters(format!(
            "parameters: `session_policy` has {length} characters, and AWS takes {SESSION_POLICY}; use `policy_arns`"
        )));
    }
    Ok(policy)
}

/// A text as the value of a tag: what AWS does not take becomes `_`.
pub(super) fn tag(text: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c);
    text.chars().take(256).map(|c| if fits(c) { c } else { '_' }).collect()
}

/// What the broker must be allowed to do, as a policy.
pub(super) fn rights(roles: &[Arn]) -> String {
    let roles: Vec<&str> = roles.iter().map(Arn::as_str).collect();
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "MintSessions",
                "Effect": "Allow",
                "Action": ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"],
                "Resource": roles,
            },
            {
                "Sid": "DenyByGrant",
                "Effect": "Allow",
                "Action": [
                    "iam:GetRole",
                    "iam:ListRolePolicies",
                    "iam:GetRolePolicy",
                    "iam:PutRolePolicy",
                    "iam:DeleteRolePolicy",
                ],
                "Resource": roles,
            },
        ],
    });
    serde_json::to_string_pretty(&policy).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";

    fn settings(extra: &Value) -> Result<Settings, String> {
        let mut settings = json!({"roles": [ROLE]});
        settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let config = serde_json::from_value(json!({"id": "t", "kind": "aws_sts", "settings": settings})).unwrap();
        Settings::read(&config).map(|(it, _)| it)
    }

    #[test]
    fn settings_are_refused_with_the_field_and_the_reason() {
        assert!(settings(&json!({"max_session": "12h"})).is_ok());
        for (bad, word) in [
            (json!({"roles": []}), "names no role"),
            (json!({"roles": ["deploy"]}), "arn:aws:iam"),
            (json!({"roles": ["arn:aws:iam::123456789012:user/x"]}), "not a role"),
            (json!({"roles": ["arn:aws:iam::123456789012:role/aws-service-role/x/y"]}), "AWS's own"),
            (json!({"roles": [ROLE, "arn:aws:iam::210987654321:role/x"]}), "two targets"),
            (json!({"max_session": "13h"}), "max_session"),
            (json!({"max_session": "10m"}), "max_session"),
            (json!({"chained": true, "max_session": "2h"}), "chained"),
            (json!({"mark": "A b"}), "mark"),
            (json!({"broker": {"endpoint_url": "http://10.0.0.1/"}}), "endpoint_url"),
            (json!({"broker": {"profile": "x"}}), "credentials_file"),
            (json!({"colour": 1}), "colour"),
        ] {
            let text = settings(&bad).unwrap_err();
            assert!(text.contains(word), "{bad}: {text}");
        }
    }

    #[test]
    fn limits_of_aws_are_refused_before_aws_is_asked() {
        let settings = settings(&json!({"max_session": "2h"})).unwrap();
        let read = |extra: Value| {
            let mut parameters = json!({"role": ROLE});
            parameters.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            Parameters::read(&parameters, &settings)
        };
        let policy = |n: usize| {
            json!({"Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*", "Sid": "x".repeat(n)}]})
                .to_string()
        };
        let short = policy(0).len();
        let spaced = policy(2048 - short).replace(':', " : ");
        let fits = read(json!({"session_policy": spaced.replace("s3 : *", "s3:*")})).unwrap();
        assert_eq!(fits.session_policy.unwrap().len(), 2048, "space does not count: it is taken out");
        assert_eq!(fits.session, Ttl::seconds_or_one(7200));
        for (bad, word) in [
            (json!({"session_policy": policy(2049 - short)}), "2049 characters"),
            (json!({"session_policy": "{"}), "not JSON"),
            (json!({"session_policy": "{}"}), "Statement"),
            (json!({"session": "10m"}), "no shorter"),
            (json!({"session": "3h"}), "max_session"),
            (json!({"role": "arn:aws:iam::123456789012:role/other"}), "among the target's"),
            (json!({"policy_arns": ["arn:aws:iam::123456789012:role/x"]}), "not a policy"),
            (json!({"policy_arns": vec!["arn:aws:iam::aws:policy/X"; 11]}), "more than 10"),
            (json!({"session_tags": {"aws:x": "y"}}), "cannot be a key"),
            (json!({"session_tags": {"x": "y;z"}}), "value of `x`"),
            (json!({"colour": 1}), "colour"),
        ] {
            let text = read(bad.clone()).unwrap_err().to_string();
            assert!(text.contains(word), "{bad}: {text}");
        }
    }
}
