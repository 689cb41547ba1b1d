//! What there is to do beside a running `tidegate dev`: be somebody else, let the workload ask, see what comes next.
//!
//! Whoever tries things out has the token of one of the seeded people in a file; those of the others lie beside it.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{
    exit::{Done, Exit, Failure},
    global::{Cx, Global},
    output::Ui,
    private_file::{TempDir, write_new},
    request::{self, RequestArgs, Wish},
    text::{clean, shell_word},
    token,
};
use crate::domain::time::Ttl;

/// The seeded workload.
const WORKLOAD: &str = "deploy-bot";

const NEXT: &str = "\
ask for something that people decide    tidegate request tokens:orders-admin --reason '...' --for 30m -y
be ben, and approve it                  eval \"$(tidegate dev as ben)\"; tidegate ls approvals
let the workload ask                    tidegate dev agent
click instead of typing                 tidegate dev --fake-slack; the portal is at the server's address
see the whole story, checked            tidegate dev --tour
take the proof away                     eval \"$(tidegate dev as eve)\"; tidegate audit export --out log.jsonl
connect Okta or Entra ID                docs/scim.md, docs/guides/
connect a real Slack                    tidegate slack manifest; docs/guides/slack.md
give access to a real system            docs/connectors/; examples/; tidegate dev --config FILE
let kubectl, git, aws, psql ask         tidegate setup kube|git|aws|ssh|psql
run it for others                       docs/operations.md";

/// Beside a server that `tidegate dev` started
#[derive(Debug, Clone, Subcommand)]
pub enum DevAction {
    /// Be somebody else of the seeded people, in this shell: eval "$(tidegate dev as ben)"
    As {
        /// ana, ben or eve
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Let the seeded workload ask for something, as an agent would
    Agent {
        /// What it asks for
        #[arg(value_name = "ENTITLEMENT", default_value = "tokens:orders-read")]
        entitlement: String,
        /// For how long
        #[arg(long = "for", value_name = "DURATION")]
        duration: Option<Ttl>,
    },
    /// Show what to try next
    Next,
}

/// Run it.
pub async fn run(action: DevAction, cx: &Cx) -> Done {
    match action {
        DevAction::As { name } => {
            let file = token_of(&name, cx)?;
            let file = file.display().to_string();
            let line = format!("export TIDEGATE_SERVER={} TIDEGATE_TOKEN_FILE={}", cx.global.server, shell_word(&file));
            cx.ui.show(&json!({"server": cx.global.server, "token_file": file}), || line)?;
        }
        DevAction::Agent { entitlement, duration } => {
            let secret = token_of(WORKLOAD, cx)?;
            let id = std::fs::read_to_string(secret.with_extension("id"))
                .map_err(|e| Failure::local(format!("the id of {WORKLOAD} cannot be read: {e}")))?;
            let token = token::workload_token(id.trim(), &secret, cx).await?;
            let dir = TempDir::new()?;
            let file = dir.path().join("token");
            write_new(&file, token.expose().as_bytes())
                .map_err(|e| Failure::local(format!("the token of {WORKLOAD} could not be kept: {e}")))?;
            let global = Global { token_file: Some(file), ..cx.global.clone() };
            let agent = Cx::new(global, Ui::system(cx.global.style()));
            cx.ui.note(&format!("{WORKLOAD} asks for {}", clean(&entitlement)));
            let reason = Some("deploy the release that was approved".to_owned());
            return request::run(
                RequestArgs {
                    entitlements: vec![entitlement],
                    wish: Wish { duration, reason, ticket: None },
                    yes: true,
                    ..RequestArgs::default()
                },
                &agent,
            )
            .await;
        }
        DevAction::Next => cx.ui.data(NEXT)?,
    }
    Ok(Exit::Ok)
}

/// The file with the token of one of the seeded, beside the one that is in use.
fn token_of(name: &str, cx: &Cx) -> Result<PathBuf, Failure> {
    let unknown = || {
        Failure::usage("it is not known where `tidegate dev` keeps its tokens")
            .next("set TIDEGATE_TOKEN_FILE to one of the files that it names when it starts")
    };
    let mine = cx.global.token_file.as_ref().and_then(|file| std::path::absolute(file).ok()).ok_or_else(unknown)?;
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let file = mine.with_file_name(format!("{name}.token"));
    if !plain || !file.exists() {
        let what = format!("there is no token of `{}` beside {}", clean(name), mine.display());
        return Err(Failure::new(Exit::NotFound, what));
    }
    Ok(file)
}
