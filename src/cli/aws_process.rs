//! `tidegate aws-credential-process`: the `credential_process` of the AWS command line and SDKs.

use clap::Args;

use super::{
    credential::Credential,
    exit::{Done, Exit, Failure},
    global::Cx,
    kept, obtain,
    request::Wish,
};
use crate::broker::view::GrantView;

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
    ///
    /// A grant that cannot have that shape is refused before anything is claimed: claims are few.
    pub async fn print(
        &self,
        shape: &str,
        cx: &Cx,
        fits: impl Fn(&GrantView) -> Result<(), Failure>,
        render: impl Fn(&Credential) -> Result<String, Failure>,
    ) -> Done {
        obtain::not_for_eyes(cx, self.reveal)?;
        let text = obtain::within(cx, async {
            let wish = (!self.no_request).then_some(&self.wish);
            let grant = obtain::grant(&self.target, wish, cx).await?;
            fits(&grant)?;
            kept::claimed(&grant, shape, !self.no_cache, cx, render).await
        });
        let text = text.await?;
        cx.ui.raw(text.as_bytes())?;
        Ok(Exit::Ok)
    }
}

/// Run it. They call it at every command and keep nothing, so what it claimed is kept here.
pub async fn run(args: AwsProcessArgs, cx: &Cx) -> Done {
    let fits = |grant: &GrantView| {
        let session = grant.applied.as_ref().and_then(|applied| applied.report.get("source_identity"));
        if session.is_some() { Ok(()) } else { Err(Failure::usage("that grant is no session of an AWS role")) }
    };
    args.copy.print("aws", cx, fits, Credential::aws_process).await
}
