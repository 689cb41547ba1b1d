//! `tidegate kube-credential`: an exec plugin of kubectl and other Kubernetes clients (client.authentication.k8s.io).

use clap::Args;
use serde_json::Value;

use super::{
    aws_process::CopyArgs,
    exit::{Done, Failure},
    global::Cx,
    obtain,
    text::clean,
};
use crate::broker::view::GrantView;

/// What clients say of themselves and of the cluster.
const INFO: &str = "KUBERNETES_EXEC_INFO";
/// Versions of the answer that hold a token and its end alike; the first where the client says none.
pub const VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// Print a token for kubectl: `exec` with `command: tidegate` and `args: [kube-credential, --target, T]`
#[derive(Debug, Args)]
pub struct KubeArgs {
    /// Which copy of what.
    #[command(flatten)]
    pub copy: CopyArgs,
}

/// Run it. kubectl calls it at every command, so what it claimed is kept here.
pub async fn run(args: KubeArgs, cx: &Cx) -> Done {
    let version = version(std::env::var(INFO).ok().as_deref())?;
    let shape = version.replace('/', "-");
    let fits = |grant: &GrantView| match obtain::audience(grant) {
        Some(_) => Ok(()),
        None => Err(Failure::usage("that grant is no token, and a token is what a cluster takes")),
    };
    args.copy.print(&shape, cx, fits, |credential| credential.exec_credential(version)).await
}

/// The version that the client wants to be answered in.
fn version(info: Option<&str>) -> Result<&'static str, Failure> {
    let [newest, _] = VERSIONS;
    let Some(info) = info.filter(|text| !text.is_empty()) else { return Ok(newest) };
    let asked: Value = serde_json::from_str(info)
        .map_err(|e| Failure::usage(format!("${INFO} cannot be read: {}", clean(&e.to_string()))))?;
    let asked = asked.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    VERSIONS.into_iter().find(|known| *known == asked).ok_or_else(|| {
        Failure::usage(format!("the client wants to be answered in `{}`", clean(asked)))
            .next(format!("write `apiVersion: {newest}` under `exec` in the kubeconfig"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_answered_in_its_version() {
        assert_eq!(version(None).unwrap(), VERSIONS[0]);
        assert_eq!(version(Some("")).unwrap(), VERSIONS[0]);
        for known in VERSIONS {
            let info =
                serde_json::json!({"kind": "ExecCredential", "apiVersion": known, "spec": {"interactive": true}});
            assert_eq!(version(Some(&info.to_string())).unwrap(), known);
        }
        for bad in [r#"{"apiVersion":"client.authentication.k8s.io/v1alpha1"}"#, "{}", "no json"] {
            assert_eq!(version(Some(bad)).unwrap_err().exit, super::super::exit::Exit::Usage, "{bad}");
        }
    }
}
