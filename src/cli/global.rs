//! Flags that every command takes, and where the token comes from. A secret is never taken from an argument.

use std::{io::Read as _, path::PathBuf, sync::OnceLock, time::Duration};

use clap::Args;

use super::{
    client::Client,
    exit::{Exit, Failure},
    output::{Style, Ui},
};
use crate::domain::{secret::Secret, time::Ttl};

/// Where `tidegate dev` listens.
const SERVER: &str = "http://127.0.0.1:8420";
/// A token file longer than this is not one.
const MAX_TOKEN: u64 = 64 << 10;
/// Seconds that a call may take unless `--timeout` says otherwise.
const CALL_SECONDS: u32 = 30;

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The server to talk to
    #[arg(
        long,
        global = true,
        env = "TIDEGATE_SERVER",
        hide_env_values = true,
        value_name = "URL",
        default_value = SERVER
    )]
    pub server: String,
    /// Take server and token file from this profile of ~/.config/tidegate/profiles.toml
    #[arg(long, global = true, env = "TIDEGATE_PROFILE", hide_env_values = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// Read the token from this file (else from $TIDEGATE_TOKEN)
    #[arg(long, global = true, env = "TIDEGATE_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Read the token from standard input
    #[arg(long, global = true)]
    pub token_stdin: bool,
    /// Print JSON on stdout; with =a,b only these fields
    #[arg(
        long,
        global = true,
        value_name = "FIELDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub json: Option<String>,
    /// Print no messages but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Never ask; fail and name the flag that is missing
    #[arg(long, global = true)]
    pub no_input: bool,
    /// Print no colours (also NO_COLOR and TERM=dumb)
    #[arg(long, global = true)]
    pub no_color: bool,
    /// How long a call may take (30s if not given), and how long waiting may last
    #[arg(long, global = true, value_name = "DURATION")]
    pub timeout: Option<Ttl>,
}

impl Global {
    /// What they say about output.
    pub fn style(&self) -> Style {
        let fields =
            |text: &String| text.split(',').map(str::trim).filter(|f| !f.is_empty()).map(str::to_owned).collect();
        Style {
            json: self.json.as_ref().map(fields),
            quiet: self.quiet,
            no_input: self.no_input,
            no_color: self.no_color,
        }
    }

    /// The flags by which a program that is called elsewhere finds the same server.
    pub fn again(&self) -> Vec<String> {
        match &self.profile {
            Some(name) => vec!["--profile".to_owned(), name.clone()],
            None if self.server == SERVER => Vec::new(),
            None => vec!["--server".to_owned(), self.server.clone()],
        }
    }

    /// How long one call may take.
    pub fn call_timeout(&self) -> Duration {
        self.timeout.unwrap_or(Ttl::seconds_or_one(CALL_SECONDS)).as_std()
    }
}

/// What a command that talks to the server is given.
pub struct Cx {
    /// Where output goes.
    pub ui: Ui,
    /// The flags.
    pub global: Global,
    client: OnceLock<Client>,
}

impl Cx {
    /// From the flags. Reads no token yet.
    pub fn new(global: Global, ui: Ui) -> Self {
        Self { ui, global, client: OnceLock::new() }
    }

    /// The client, with the token if there is one. Reads the token at the first call.
    pub fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let token = self.token()?;
        let client = Client::new(&self.global.server, token, self.global.call_timeout())?;
        Ok(self.client.get_or_init(|| client))
    }

    /// A client that carries no token at all.
    pub fn anonymous(&self) -> Result<Client, Failure> {
        Client::new(&self.global.server, None, self.global.call_timeout())
    }

    /// A client that carries no token at all, for this server in place of the usual one.
    pub fn anonymous_to(&self, server: Option<&str>) -> Result<Client, Failure> {
        Client::new(server.unwrap_or(&self.global.server), None, self.global.call_timeout())
    }

    /// The token that `login` keeps for the server.
    fn kept(&self) -> Result<Option<Secret>, Failure> {
        let file = self.global.server.trim().parse().ok().and_then(|url| super::login::token_file(&url));
        match file.map(|file| (std::fs::read_to_string(&file), file)) {
            Some((Ok(text), file)) => token_of(text, &file.display().to_string()).map(Some),
            _ => Ok(None),
        }
    }

    fn token(&self) -> Result<Option<Secret>, Failure> {
        if self.global.token_stdin {
            let mut text = String::new();
            std::io::stdin()
                .take(MAX_TOKEN)
                .read_to_string(&mut text)
                .map_err(|e| Failure::local(format!("the token could not be read from stdin: {e}")))?;
            return token_of(text, "stdin").map(Some);
        }
        if let Some(path) = &self.global.token_file {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|e| {
                Failure::new(Exit::Login, format!("the token file {name} could not be read: {e}"))
                    .next("make one with `tidegate token mint --out FILE`, or give another with --token-file")
            })?;
            if let Some(mode) = open_to_others(path) {
                self.ui.note(&format!(
                    "warning: {name} can be read by others (mode {mode:o}); run: chmod 600 {}",
                    super::text::shell_word(&name)
                ));
            }
            return token_of(text, &name).map(Some);
        }
        match std::env::var("TIDEGATE_TOKEN") {
            Ok(text) if !text.trim().is_empty() => token_of(text, "$TIDEGATE_TOKEN").map(Some),
            _ => self.kept(),
        }
    }
}

fn token_of(text: String, source: &str) -> Result<Secret, Failure> {
    // Wiped when dropped, as is the trimmed copy.
    let text = Secret::new(text);
    let token = text.expose().trim();
    if token.is_empty() || token.chars().any(|c| !c.is_ascii_graphic()) {
        return Err(Failure::new(Exit::Login, format!("there is no token in {source}"))
            .next("it must hold one token and nothing else"));
    }
    Ok(Secret::new(token.to_owned()))
}

/// The mode of a file that others than its owner can read or write.
pub fn open_to_others(path: &std::path::Path) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let mode = meta.mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word() {
        assert_eq!(token_of("  abc\n".into(), "x").unwrap().expose(), "abc");
        for bad in ["", " \n", "a b", "a\x1bb", "é"] {
            assert_eq!(token_of(bad.into(), "x").err().unwrap().exit, Exit::Login, "{bad:?}");
        }
    }

    #[test]
    fn files_open_to_others_are_noticed() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(open_to_others(file.path()), None);
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(open_to_others(file.path()), Some(0o644));
    }
}
