//! What both AWS connectors look at when they are asked whether they can work.

use super::{Account, ApiError, Caller};
use crate::ports::connector::{Fault, Finding};

/// One finding; the fix is for when it is wrong.
pub fn finding(name: &str, ok: bool, detail: String, fix: String) -> Finding {
    Finding { name: name.to_owned(), ok, detail, fix: (!ok).then_some(fix) }
}

/// Who the broker is, and whether it is in the account that its target is in; `None` if AWS cannot be asked.
pub async fn look_at_caller(account: &Account, of: &str, findings: &mut Vec<Finding>) -> Option<Caller> {
    const TITLE: &str = "the broker is known to AWS";
    match account.caller().await {
        Ok(caller) => {
            let fix = format!("give the broker credentials of account {of}: no other may change IAM there");
            let detail = format!("{} in account {}", caller.arn, caller.account);
            findings.push(finding(TITLE, caller.account == of, detail, fix));
            Some(caller)
        }
        Err(e) => {
            let fix = "check `settings.broker` of the target, and that STS can be reached from here";
            findings.push(finding(TITLE, false, e.to_string(), fix.into()));
            None
        }
    }
}

/// What a call that cannot have an effect says of a right: AWS looks at rights first, so any answer that comes after
/// that is as good as yes.
pub fn judged(right: &str, answer: Result<(), ApiError>) -> Result<(bool, String), Fault> {
    match answer {
        Err(e) if e.code.is_empty() || e.is_busy() || e.is_about_credentials() => Err(e.into()),
        // Whatever it is called: who may not is told 403.
        Err(e) if e.status == 403 => Ok((false, format!("{}: {}", e.code, e.message))),
        _ => Ok((true, format!("{right} is allowed"))),
    }
}
