//! Settings of a target, parameters of an entitlement, and which IAM user a holder is.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    connectors::aws::{Arn, Broker},
    domain::catalog::TargetConfig,
    ports::connector::BadParameters,
};

/// The `settings` of a target of kind `aws_iam_group`: groups of one account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// ARNs of the groups that entitlements may name, all of one account.
    pub groups: Vec<String>,
    /// How the broker comes in.
    #[serde(default)]
    pub broker: Broker,
    /// IAM users of holders that are called otherwise than they are here, by the holder's name.
    #[serde(default)]
    pub users: BTreeMap<String, String>,
    /// For how long after its change a membership may not be heard of everywhere.
    #[serde(default = "Settings::default_propagation")]
    pub propagation_seconds: u32,
    /// Seconds between the two looks that prove that somebody is out.
    #[serde(default = "Settings::default_between")]
    pub between_looks_seconds: u32,
}

impl Settings {
    const fn default_propagation() -> u32 {
        300
    }

    const fn default_between() -> u32 {
        2
    }

    /// Read and check; the groups as what they are.
    pub fn read(config: &TargetConfig) -> Result<(Self, Vec<Arn>), String> {
        let it: Self =
            serde_json::from_value(Value::Object(config.settings.clone())).map_err(|e| format!("settings: {e}"))?;
        let groups = it.groups.iter().map(|text| match text.parse::<Arn>() {
            Ok(arn) if arn.kind() != "group" => Err(format!("settings: groups: `{arn}` is not a group")),
            other => other.map_err(|e| format!("settings: groups: {e}")),
        });
        let groups: Vec<Arn> = groups.collect::<Result<_, _>>()?;
        let Some(first) = groups.first() else { return Err("settings: `groups` names no group".into()) };
        let place = |arn: &Arn| (arn.partition().to_owned(), arn.account().to_owned());
        if let Some(other) = groups.iter().find(|g| place(g) != place(first)) {
            return Err(format!("settings: groups: `{other}` is in another account than `{first}`: make two targets"));
        }
        it.broker.checked()?;
        if let Some((name, user)) = it.users.iter().find(|(_, user)| !is_user(user)) {
            return Err(format!(
                "settings: users: `{}`, for `{name}`, is not the name of an IAM user",
                user.escape_debug()
            ));
        }
        if it.between_looks_seconds.saturating_mul(2) >= config.timeout_seconds.max(1) && it.between_looks_seconds > 0 {
            return Err(
                "settings: `between_looks_seconds` must be less than half the target's `timeout_seconds`".into()
            );
        }
        Ok((it, groups))
    }

    /// The IAM user that a holder is.
    pub fn user_of(&self, holder: &str) -> Result<String, String> {
        let user = self.users.get(holder).map_or(holder, String::as_str);
        if is_user(user) {
            return Ok(user.to_owned());
        }
        Err(format!(
            "`{}` cannot be the name of an IAM user: say which one it is in the target's `users`",
            holder.escape_debug()
        ))
    }
}

fn is_user(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    (1..=64).contains(&name.len()) && name.bytes().all(fits)
}

/// The `parameters` of an entitlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The group.
    pub group: Arn,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    group: String,
}

impl Parameters {
    /// Read and check an entitlement's parameters.
    pub fn read(parameters: &Value, settings: &Settings) -> Result<Self, BadParameters> {
        let raw: Raw = crate::connectors::parameters(parameters)?;
        if !settings.groups.contains(&raw.group) {
            let text = format!("parameters: group: `{}` is not among the target's `groups`", raw.group.escape_debug());
            return Err(BadParameters(text));
        }
        Ok(Self { group: raw.group.parse().map_err(BadParameters)? })
    }
}

/// What the broker must be allowed to do, as a policy.
pub(super) fn rights(groups: &[Arn]) -> String {
    let users = groups.first().map(|g| format!("arn:{}:iam::{}:user/*", g.partition(), g.account()));
    let groups: Vec<&str> = groups.iter().map(Arn::as_str).collect();
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "Membership",
                "Effect": "Allow",
                "Action": ["iam:GetGroup", "iam:AddUserToGroup", "iam:RemoveUserFromGroup"],
                "Resource": groups,
            },
            {
                "Sid": "ReadBack",
                "Effect": "Allow",
                "Action": ["iam:ListGroupsForUser", "iam:GetUser"],
                "Resource": users,
            },
            { "Sid": "FindWhatWasRenamed", "Effect": "Allow", "Action": "iam:ListGroups", "Resource": "*" },
        ],
    });
    serde_json::to_string_pretty(&policy).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_refused_with_the_field_and_the_reason() {
        let read = |extra: Value| {
            let mut settings = json!({"groups": ["arn:aws:iam::123456789012:group/admins"]});
            settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            let config = json!({"id": "t", "kind": "aws_iam_group", "settings": settings});
            Settings::read(&serde_json::from_value(config).unwrap()).map(|(it, _)| it)
        };
        let it = read(json!({"users": {"ana": "a.lee@example.org"}})).unwrap();
        assert_eq!(it.user_of("ana").unwrap(), "a.lee@example.org");
        assert_eq!(it.user_of("ben").unwrap(), "ben");
        assert!(it.user_of("a b").unwrap_err().contains("`users`"));
        assert!(Parameters::read(&json!({"group": "arn:aws:iam::123456789012:group/x"}), &it).is_err());
        for (bad, word) in [
            (json!({"groups": []}), "names no group"),
            (json!({"groups": ["arn:aws:iam::123456789012:role/x"]}), "not a group"),
            (json!({"users": {"ana": "a b"}}), "users"),
            (json!({"between_looks_seconds": 9}), "between_looks_seconds"),
            (json!({"colour": 1}), "colour"),
        ] {
            let text = read(bad.clone()).unwrap_err();
            assert!(text.contains(word), "{bad}: {text}");
        }
    }
}
