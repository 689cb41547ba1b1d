//! The one suite that every connector passes against its real target.
//!
//! A connector's tests implement [`Harness`] for their target and call [`run`]. The suite never panics: it answers
//! with the first promise that was [`Broken`]. It is compiled for tests only and never touches a target by itself:
//! everything that is peculiar to a target is in the harness.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::fakes::FakeLedger;
use crate::{
    domain::{grant::Intent, id::GrantId, secret::Minted, time::Timestamp},
    ports::connector::{Connector, Wish},
};

mod cases;

/// What the suite does to a target to see how the connector takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The target is not there: connections are refused, files cannot be written.
    Down,
    /// The target accepts calls and never answers.
    Hangs,
    /// The target says that every change was made, and makes none.
    Lies,
    /// The target does what it is told, and its answers are lost.
    LosesAnswers,
    /// The target takes its time, and does all that it says.
    Slow,
}

/// A target under test. Methods with a default are for targets that have the thing in question.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new connector, as after a restart: nothing of an earlier one is kept but the target, the keys and the ledger.
    async fn connector(&self) -> Result<Arc<dyn Connector>, String>;

    /// What the suite records of grants and claims, as the broker would. The connector reads it, if it reads a ledger.
    fn ledger(&self) -> &FakeLedger;

    /// Name of the target in the configuration.
    fn target(&self) -> &str;

    /// A wish that the connector accepts. Every call is for the same holder and parameters; only the grant differs.
    fn wish(&self, grant: GrantId) -> Wish;

    /// A new grant id.
    fn grant(&self) -> GrantId;

    /// Now, by the connector's and the target's clock.
    fn now(&self) -> Timestamp;

    /// Let time pass until `at`: sleep, or move the manual clock.
    async fn pass_until(&self, at: Timestamp);

    /// Does the access work at the target right now? `minted` is `None` where the target mints no secret.
    async fn works(&self, intent: &Intent, minted: Option<&Minted>) -> Result<bool, String>;

    /// Does a later claim end the copy of an earlier one?
    fn second_claim_ends_first(&self) -> bool {
        true
    }

    /// Can the target list what bears our mark?
    fn lists(&self) -> bool {
        true
    }

    /// Is the access the holder's, so that two grants of one holder open the same thing and the last one out ends it?
    fn shares_access(&self) -> bool {
        false
    }

    /// Open a session with the access and keep it. Only asked if the connector says that it cuts sessions.
    async fn hold_session(&self, _intent: &Intent, _minted: Option<&Minted>) -> Result<(), String> {
        Err("the harness cannot hold a session, and the connector says that it cuts them".into())
    }

    /// Is the session that was kept still alive? It is closed after this call.
    async fn session_alive(&self) -> Result<bool, String> {
        Err("the harness holds no session".into())
    }

    /// Make an object with this very name that is not ours; `false` if the target has no such thing.
    async fn plant_foreign(&self, _object: &str) -> Result<bool, String> {
        Ok(false)
    }

    /// Is the planted object as it was?
    async fn foreign_intact(&self, _object: &str) -> Result<bool, String> {
        Ok(true)
    }

    /// Take the planted object away.
    async fn remove_foreign(&self, _object: &str) -> Result<(), String> {
        Ok(())
    }

    /// The broker's own secrets at the target: what none of its words may show.
    fn own_secrets(&self) -> Vec<String> {
        Vec::new()
    }

    /// Bring trouble on the target; `false` if this target cannot have it.
    async fn trouble(&self, _trouble: Trouble) -> Result<bool, String> {
        Ok(false)
    }

    /// End the trouble.
    async fn heal(&self) -> Result<(), String> {
        Ok(())
    }

    /// How long one call of the connector may take at a hanging target.
    fn patience(&self) -> Duration {
        Duration::from_secs(20)
    }

    /// Access long enough for a test.
    fn long(&self) -> Duration {
        Duration::from_mins(10)
    }

    /// Access short enough to wait for its end.
    fn short(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// How much later than its end the target may still let somebody in.
    fn slack(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// A promise that a connector did not keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{case}: {what}")]
pub struct Broken {
    /// Name of the case.
    pub case: &'static str,
    /// What was expected and what was seen.
    pub what: String,
}

/// The names of all cases, in the order in which [`run`] plays them.
pub const CASES: &[&str] = &[
    "describes_and_checks_itself",
    "prepare_changes_nothing",
    "activate_twice_is_once",
    "mint_twice_leaves_one",
    "verify_sees_before_and_after",
    "revoke_twice_is_once",
    "revoke_of_the_unknown_is_done",
    "a_crash_after_the_call_is_cleaned_by_name",
    "overlapping_grants_end_apart",
    "an_extension_moves_the_end",
    "sweep_finds_ours_and_only_ours",
    "a_foreign_object_is_left_alone",
    "secrets_never_show",
    "open_sessions_are_cut",
    "a_target_in_trouble_is_not_believed",
    "a_lie_is_not_believed",
    "a_lost_answer_is_made_good",
    "a_slow_target_is_waited_for",
    "the_end_comes_with_the_broker_dead",
];

/// Play every case; the first broken promise is the answer.
pub async fn run(harness: &dyn Harness) -> Result<(), Broken> {
    for case in CASES {
        run_case(harness, case).await?;
    }
    Ok(())
}

/// Play one case of [`CASES`].
pub async fn run_case(harness: &dyn Harness, case: &'static str) -> Result<(), Broken> {
    let played = match case {
        "describes_and_checks_itself" => cases::describes_and_checks_itself(harness).await,
        "prepare_changes_nothing" => cases::prepare_changes_nothing(harness).await,
        "activate_twice_is_once" => cases::activate_twice_is_once(harness).await,
        "mint_twice_leaves_one" => cases::mint_twice_leaves_one(harness).await,
        "verify_sees_before_and_after" => cases::verify_sees_before_and_after(harness).await,
        "revoke_twice_is_once" => cases::revoke_twice_is_once(harness).await,
        "revoke_of_the_unknown_is_done" => cases::revoke_of_the_unknown_is_done(harness).await,
        "a_crash_after_the_call_is_cleaned_by_name" => cases::a_crash_is_cleaned_by_name(harness).await,
        "overlapping_grants_end_apart" => cases::overlapping_grants_end_apart(harness).await,
        "an_extension_moves_the_end" => cases::an_extension_moves_the_end(harness).await,
        "sweep_finds_ours_and_only_ours" => cases::sweep_finds_ours_and_only_ours(harness).await,
        "a_foreign_object_is_left_alone" => cases::a_foreign_object_is_left_alone(harness).await,
        "secrets_never_show" => cases::secrets_never_show(harness).await,
        "open_sessions_are_cut" => cases::open_sessions_are_cut(harness).await,
        "a_target_in_trouble_is_not_believed" => cases::trouble_is_not_believed(harness).await,
        "a_lie_is_not_believed" => cases::a_lie_is_not_believed(harness).await,
        "a_lost_answer_is_made_good" => cases::a_lost_answer_is_made_good(harness).await,
        "a_slow_target_is_waited_for" => cases::a_slow_target_is_waited_for(harness).await,
        "the_end_comes_with_the_broker_dead" => cases::the_end_comes_by_itself(harness).await,
        _ => Err("there is no case of that name".into()),
    };
    played.map_err(|what| Broken { case, what })
}
