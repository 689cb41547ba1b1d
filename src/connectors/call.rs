//! One call to a target, given up after the target's time-out.

use std::{future::Future, time::Duration};

use crate::{domain::catalog::TargetConfig, ports::connector::Fault};

/// How long a call to this target may take.
pub fn limit(config: &TargetConfig) -> Duration {
    Duration::from_secs(u64::from(config.timeout_seconds.max(1)))
}

/// The answer of a call, or [`Fault::Unavailable`] once `limit` has passed.
pub async fn within<T, E: Into<Fault>>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Fault::Unavailable(format!("{what} did not answer within {} s", limit.as_secs()))),
    }
}
