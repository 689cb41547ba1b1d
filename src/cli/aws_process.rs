//! `tidegate aws-credential-process`: the `credential_process` of the AWS command line and SDKs.

use clap::Args;

use super::{
    credential::Credential,
    exit::{Done, Exit},
    global::Cx,
    kept, obtain,
    request::Wish,
};

/// Print keys for the AWS command line and SDKs: `credential_process = tidegate aws-credential-process --target T`
#[derive(Debug, Args)]
pub struct AwsProcessArgs {
    /// Which copy of what.
    #[command(flatten)]
    pub copy: CopyArgs,
}

/// Which credential a helper hands out, and how it comes by it.
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// The target, entitlement or grant
    #[arg(long, value_name = "TARGET")]
    pub target: String,
    /// What to ask for if there is no live grant; nothing is asked for without --reason
    #[command(flatten)]
    pub wish: Wish,
    /// Do not ask for access, even with --reason
    #[arg(long)]
    pub no_request: bool,
    /// Claim anew each time, and keep nothing: in $XDG_RUNTIME_DIR, or without it under $XDG_STATE_HOME (~/.local/state)
    #[arg(long)]
    pub no_cache: bool,
    /// Show the secret even if a terminal is looking
    #[arg(long)]
    pub reveal: bool,
}

impl CopyArgs {
    /// Hand the copy out in one shape.
    pub async fn print(
        &self,
        shape: &str,
        cx: &Cx,
        render: impl Fn(&Credential) -> Result<String, super::exit::Failure>,
    ) -> Done {
        obtain::not_for_eyes(cx, self.reveal)?;
        let text = obtain::within(cx, async {
            let wish = (!self.no_request).then_some(&self.wish);
            let grant = obtain::grant(&self.target, wish, cx).await?;
            kept::claimed(&grant, shape, !self.no_cache, cx, render).await
        });
        let text = text.await?;
        cx.ui.raw(text.as_bytes())?;
        Ok(Exit::Ok)
    }
}

/// Run it. They call it at every command and keep nothing, so what it claimed is kept here.
pub async fn run(args: AwsProcessArgs, cx: &Cx) -> Done {
    args.copy.print("aws", cx, Credential::aws_process).await
}
