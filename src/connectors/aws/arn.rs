//! Names of things in AWS: `arn:<partition>:iam::<account>:<type>/<path><name>`.

use std::{fmt, str::FromStr};

/// An IAM role, user, group or policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arn {
    text: String,
    partition: String,
    account: String,
    kind: String,
    path: String,
    name: String,
}

impl Arn {
    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// Twelve digits.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// `role`, `group`, `policy`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// `/`, `/teams/`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The name without its path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Arn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{}` is not like arn:aws:iam::123456789012:role/name", text.escape_debug());
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return Err(bad()) };
        let (kind, rest) = resource.split_once('/').ok_or_else(bad)?;
        let (path, name) = rest.rsplit_once('/').map_or((String::new(), rest), |(p, n)| (format!("{p}/"), n));
        let number = |b: &str| b.len() == 12 && b.bytes().all(|b| b.is_ascii_digit());
        let word = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
        let fits = matches!(*partition, "aws" | "aws-cn" | "aws-us-gov")
            && (number(account) || (*account == "aws" && kind == "policy"))
            && (1..=128).contains(&name.len())
            && name.bytes().all(word)
            && path.len() <= 512
            && path.bytes().all(|b| b == b'/' || word(b));
        if !fits {
            return Err(bad());
        }
        Ok(Self {
            text: text.to_owned(),
            partition: (*partition).to_owned(),
            account: (*account).to_owned(),
            kind: kind.to_owned(),
            path: format!("/{path}"),
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_nonsense_is_not() {
        let it: Arn = "arn:aws-cn:iam::123456789012:role/ops/night/deploy".parse().unwrap();
        assert_eq!((it.partition(), it.account(), it.kind()), ("aws-cn", "123456789012", "role"));
        assert_eq!((it.path(), it.name()), ("/ops/night/", "deploy"));
        assert_eq!("arn:aws:iam::123456789012:role/x".parse::<Arn>().unwrap().path(), "/");
        assert!("arn:aws:iam::aws:policy/ReadOnlyAccess".parse::<Arn>().is_ok());
        for bad in [
            "",
            "deploy",
            "arn:aws:iam::123:role/x",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:s3:::bucket/x",
            "arn:aws:iam::123456789012:role/a b",
            "arn:aws:iam::aws:role/x",
            "arn:other:iam::123456789012:role/x",
        ] {
            assert!(bad.parse::<Arn>().is_err(), "{bad}");
        }
    }
}
