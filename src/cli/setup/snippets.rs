//! What each program wants to read. Names come from a server: only plain ones get into a line that something runs.

use std::fmt::Write as _;

use super::{
    super::{exit::Failure, global::Cx, kube::VERSIONS, text::clean},
    Tool,
};

/// What goes into a file, and what to do with it afterwards.
pub struct Snippet {
    pub text: String,
    pub next: String,
}

/// What is known of the names, the host and the server.
pub struct Known<'a> {
    names: &'a [String],
    host: Option<&'a str>,
    /// `tidegate` and the flags without which another server would be asked.
    program: String,
    flags: Vec<String>,
}

/// A name that needs no quotes anywhere: letters, digits and a few marks that nothing gives a meaning to.
fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:/-".contains(&b);
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(plain)
}

/// The name as part of another one.
fn slug(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

impl<'a> Known<'a> {
    /// Refuses what would need quotes.
    pub fn new(names: &'a [String], host: Option<&'a str>, cx: &Cx) -> Result<Self, Failure> {
        let flags = cx.global.again();
        let odd =
            names.iter().map(String::as_str).chain(host).chain(flags.iter().map(|flag| flag.trim_start_matches('-')));
        if let Some(odd) = odd.filter(|name| !is_plain(name)).find(|name| Some(*name) != host || *name != "*") {
            return Err(Failure::usage(format!("`{}` cannot stand in a configuration", clean(odd))));
        }
        let program = std::iter::once("tidegate").chain(flags.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        Ok(Self { names, host, program, flags })
    }

    /// For that program.
    pub fn snippet(&self, tool: Tool) -> Result<Snippet, Failure> {
        match (tool, self.host) {
            (Tool::Aws, _) => Ok(self.aws()),
            (Tool::Kube, _) => Ok(self.kube()),
            (Tool::Psql, _) => Ok(self.psql()),
            (Tool::Git, Some(host)) => Ok(self.git(host, self.one()?)),
            (Tool::Ssh, Some(host)) => Ok(self.ssh(host, self.one()?)),
            (Tool::Git | Tool::Ssh, None) => Err(Failure::usage("--host is missing: which host is it for?")),
        }
    }

    /// One host has one credential.
    fn one(&self) -> Result<&str, Failure> {
        match self.names {
            [one] => Ok(one),
            many => Err(Failure::usage("one host has one credential")
                .next(format!("name one with --target: {}", many.join(", ")))),
        }
    }

    /// <https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-sourcing-external.html>
    fn aws(&self) -> Snippet {
        let mut text = String::new();
        for name in self.names {
            let _ = writeln!(text, "[profile tidegate-{}]", slug(name));
            let _ = writeln!(text, "credential_process = {} aws-credential-process --target {name}", self.program);
        }
        let first = self.names.first().map(|name| slug(name)).unwrap_or_default();
        Snippet { text, next: format!("try: aws --profile tidegate-{first} sts get-caller-identity") }
    }

    /// <https://kubernetes.io/docs/reference/config-api/client-authentication.v1/>
    fn kube(&self) -> Snippet {
        let [version, _] = VERSIONS;
        let mut text = "apiVersion: v1\nkind: Config\nusers:\n".to_owned();
        for name in self.names {
            let flags: String = self.flags.iter().flat_map(|flag| ["\"", flag, "\", "]).collect();
            let _ = write!(
                text,
                "- name: tidegate-{}\n  user:\n    exec:\n      apiVersion: {version}\n      command: tidegate\n      \
                 args: [{flags}\"kube-credential\", \"--target\", \"{name}\"]\n      interactiveMode: IfAvailable\n      \
                 installHint: tidegate is missing; it hands out access to this cluster\n",
                slug(name)
            );
        }
        let first = self.names.first().map(|name| slug(name)).unwrap_or_default();
        let next = format!(
            "next: export KUBECONFIG=~/.kube/config:~/.kube/tidegate.yaml; \
             kubectl config set-context --current --user=tidegate-{first}"
        );
        Snippet { text, next }
    }

    /// gitcredentials(7): an empty helper forgets those of other files for this host.
    fn git(&self, host: &str, name: &str) -> Snippet {
        let text = format!(
            "[credential \"https://{host}\"]\n\thelper =\n\thelper = \"!{} git-credential --target {name} --host {host}\"\n",
            self.program
        );
        Snippet { text, next: format!("try: git ls-remote https://{host}/REPOSITORY") }
    }

    /// `ssh_config(5)`. The last line lets what follows in the file hold for all hosts, as it did.
    fn ssh(&self, host: &str, name: &str) -> Snippet {
        let text = format!(
            "Match host {host} exec \"ssh-add -l 2>/dev/null | grep -q ' tg-' || {} -q creds {name} --format ssh-agent\"\n\
             Match all\n",
            self.program
        );
        Snippet { text, next: "it needs a running ssh-agent; without a live grant ssh goes on as before".to_owned() }
    }

    fn psql(&self) -> Snippet {
        let mut text = String::new();
        for name in self.names {
            let _ = writeln!(text, "alias psql-{}='{} psql {name} --'", slug(name), self.program);
        }
        let first = self.names.first().map(|name| slug(name)).unwrap_or_default();
        let next = format!("next: add `. ~/.config/tidegate/psql.sh` to your shell's profile; then: psql-{first}");
        Snippet { text, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_get_into_lines_that_are_run() {
        for good in ["db:orders", "prod-aws", "arn:aws:iam::1:role/x", "git.example.org"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", "-x", "a b", "a;rm -rf ~", "a'b", "a\"b", "$(x)", "a\nb", "a]b", "é"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
        assert_eq!(slug("aws:deploy/prod.eu"), "aws-deploy-prod.eu");
    }
}
