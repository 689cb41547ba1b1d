//! Is AWS there, and are the broker's rights enough? Calls that are refused before they have an effect, and one session
//! that is denied everything. Changes nothing.

use super::{
    Arn,
    config::{LONGEST_CHAINED, Settings},
};
use crate::{
    connectors::aws::{Account, finding, judged, look_at_caller},
    domain::time::Ttl,
    ports::connector::{Fault, Finding},
};

/// A session that may do nothing.
const NOTHING: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;
/// Name of a policy that never exists.
const PROBE: &str = "tidegate-check";

pub(super) async fn check(account: &Account, roles: &[Arn], settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    let of = roles.first().map(Arn::account).unwrap_or_default();
    let Some(caller) = look_at_caller(account, of, &mut findings).await else { return findings };
    if caller.is_in_a_role() && !settings.chained {
        findings.push(finding(
            "sessions may last as long as configured",
            settings.max_session <= LONGEST_CHAINED,
            format!("the broker is in a role itself: AWS ends a chained session after {LONGEST_CHAINED}"),
            format!("set `max_session` to {LONGEST_CHAINED} or less and `chained = true`, or give the broker a user"),
        ));
    }
    for role in roles {
        match look_at(account, role, settings).await {
            Ok(found) => findings.extend(found),
            Err(e) => findings.push(finding(&format!("role {}", role.name()), false, e.to_string(), rights(roles))),
        }
    }
    findings
}

async fn look_at(account: &Account, role: &Arn, settings: &Settings) -> Result<Vec<Finding>, Fault> {
    let name = role.name();
    let Some(facts) = account.role(name).await? else {
        let fix = format!("make the role, or take {role} out of `roles`");
        return Ok(vec![finding(&format!("role {name}"), false, "there is no such role".into(), fix)]);
    };
    let most = Ttl::seconds_or_one(facts.max_session);
    let mut findings = vec![finding(
        &format!("role {name} lets sessions last"),
        most >= settings.max_session,
        format!("{most}; entitlements may ask for {}", settings.max_session),
        format!("aws iam update-role --role-name {name} --max-session-duration {}", settings.max_session.seconds()),
    )];
    account.role_policies(name).await?;
    // AWS looks at rights before it looks at the document, or whether the policy is there.
    let put = account.put_role_policy(name, PROBE, "{}").await;
    let delete = account.delete_role_policy(name, PROBE).await;
    let read = account.role_policy(name, PROBE).await.map(drop);
    for (right, answer) in [("iam:PutRolePolicy", put), ("iam:DeleteRolePolicy", delete), ("iam:GetRolePolicy", read)] {
        let (ok, detail) = judged(right, answer)?;
        findings.push(finding(&format!("may deny on {name}: {right}"), ok, detail, rights(std::slice::from_ref(role))));
    }
    let assumed = account
        .assume_role(|call| {
            call.role_arn(role.as_str())
                .role_session_name(PROBE)
                .source_identity(PROBE)
                .duration_seconds(900)
                .policy(NOTHING)
        })
        .await
        .map(drop);
    let (ok, detail) = judged("sts:AssumeRole", assumed)?;
    let fix = format!(
        "in the trust policy of {name}, allow the broker sts:AssumeRole, sts:SetSourceIdentity and sts:TagSession"
    );
    findings.push(finding(&format!("may open sessions of {name}: sts:AssumeRole"), ok, detail, fix));
    Ok(findings)
}

fn rights(roles: &[Arn]) -> String {
    format!("attach to the broker: {}", super::config::rights(roles))
}
