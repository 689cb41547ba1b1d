//! Which changes go into the next commit: people's first, and workers' beside them, so that a mass expiry never stands
//! before a person.

use std::collections::{BTreeSet, VecDeque};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    StoreError,
    change::{Change, Written},
};

/// Changes of one kind in one commit.
const TOGETHER: usize = 64;
/// Workers' changes in a commit that people wait for, or that people come upon: small, so that it is soon over.
const BESIDE_PEOPLE: usize = 16;
/// For so many commits after a person's change the next one is expected.
const EXPECTED: u32 = 32;

/// For whom a change is made: people's go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    People,
    Workers,
}

/// A change that waits for the committer.
pub(super) struct Pending {
    pub(super) change: Change,
    pub(super) answer: oneshot::Sender<Result<Written, StoreError>>,
    pub(super) lane: Lane,
    /// It was in a statement that failed: the next try is its own.
    pub(super) alone: bool,
    pub(super) _room: OwnedSemaphorePermit,
}

impl Pending {
    pub(super) fn answer(self, outcome: Result<Written, StoreError>) {
        let _ = self.answer.send(outcome);
    }
}

/// Changes that wait for the committer of one writer.
#[derive(Default)]
pub(super) struct Queue {
    people: VecDeque<Pending>,
    workers: VecDeque<Pending>,
    /// Commits for which people's changes are still expected.
    expected: u32,
}

impl Queue {
    pub(super) fn of(&mut self, lane: Lane) -> &mut VecDeque<Pending> {
        match lane {
            Lane::People => &mut self.people,
            Lane::Workers => &mut self.workers,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.people.is_empty() && self.workers.is_empty()
    }

    /// Somebody is here: what workers do at a time is small for a while.
    pub(super) fn expect_people(&mut self) {
        self.expected = EXPECTED;
    }

    /// Do people wait, or have they just been here?
    pub(super) fn expects_people(&self) -> bool {
        self.expected > 0 || !self.people.is_empty()
    }

    /// What goes into the next commit.
    pub(super) fn take(&mut self) -> Vec<Pending> {
        // What must be on its own goes first, so that nothing starves it.
        for queue in [&mut self.people, &mut self.workers] {
            if queue.front().is_some_and(|next| next.alone) {
                return queue.pop_front().into_iter().collect();
            }
        }
        let mut taken: Vec<Pending> = Vec::new();
        let mut rows = BTreeSet::new();
        self.expected = if self.people.is_empty() { self.expected.saturating_sub(1) } else { EXPECTED };
        let beside = if self.expected == 0 { TOGETHER } else { BESIDE_PEOPLE };
        for (queue, most) in [(&mut self.people, TOGETHER), (&mut self.workers, beside)] {
            let before = taken.len();
            // Those that must not go with one that does: they keep their order, and hold up nobody else.
            let mut passed: Vec<Pending> = Vec::new();
            while taken.len() - before < most && passed.len() < most {
                let Some(next) = queue.pop_front() else { break };
                if next.answer.is_closed() {
                    // Whoever wanted it is gone, and nothing of it was written.
                    continue;
                }
                if next.alone {
                    queue.push_front(next);
                    break;
                }
                let mine: Vec<String> = next.change.conditional_rows().collect();
                let clashes = mine.iter().any(|row| rows.contains(row));
                rows.extend(mine);
                if clashes { &mut passed } else { &mut taken }.push(next);
            }
            for pending in passed.into_iter().rev() {
                queue.push_front(pending);
            }
        }
        taken
    }

    /// Back to where they were.
    pub(super) fn put_back(&mut self, batch: Vec<Pending>) {
        for pending in batch.into_iter().rev() {
            self.of(pending.lane).push_front(pending);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use ulid::Ulid;

    use super::*;
    use crate::{
        domain::{grant::GrantState, id::GrantId, time::Timestamp},
        store::{Ended, NewClaim},
    };

    type Answers = Vec<oneshot::Receiver<Result<Written, StoreError>>>;

    /// Whoever waits, and what for: changes of these grants, each by its number.
    fn queue_of(people: &[u8], workers: &[u8]) -> (Queue, Answers) {
        let room = Arc::new(Semaphore::new(1000));
        let mut queue = Queue::default();
        let mut answers = Vec::new();
        for (lane, numbers) in [(Lane::People, people), (Lane::Workers, workers)] {
            for number in numbers {
                let (answer, outcome) = oneshot::channel();
                let room = Arc::clone(&room).try_acquire_owned().unwrap();
                let change = change_of(*number, lane);
                queue.of(lane).push_back(Pending { change, answer, lane, alone: false, _room: room });
                answers.push(outcome);
            }
        }
        (queue, answers)
    }

    fn change_of(number: u8, lane: Lane) -> Change {
        let grant = GrantId::new(Ulid::from_parts(0, number.into()));
        let at = Timestamp::default();
        if lane == Lane::Workers {
            let ended = Ended { grant, epoch: 1, state: GrantState::Ended, evidence: serde_json::json!({}), at };
            return Change { ended: Some(ended), ..Change::default() };
        }
        let claim = NewClaim { grant, number: 1, at, expires_at: at };
        let event = serde_json::from_value(serde_json::json!({
            "id": format!("evt_{}", Ulid::nil()), "at": at, "action": "credential.claimed", "actor": null, "via": "test",
            "subject": null, "request": null, "grant": grant, "target": null,
            "correlation": format!("cor_{}", Ulid::nil()), "details": {},
        }))
        .unwrap();
        Change { claim: Some((claim, event)), ..Change::default() }
    }

    fn grants(taken: &[Pending]) -> Vec<u128> {
        let of = |p: &Pending| p.change.conditional_rows().next().unwrap().parse::<GrantId>().unwrap();
        taken.iter().map(|p| of(p).ulid().random()).collect()
    }

    #[test]
    fn two_that_clash_go_one_after_the_other_and_hold_up_nobody() {
        let (mut queue, _answers) = queue_of(&[1, 1, 1, 2], &[3, 4]);
        assert_eq!(grants(&queue.take()), [1, 2, 3, 4], "the second claim waits, workers do not");
        assert_eq!(grants(&queue.take()), [1]);
        assert_eq!(grants(&queue.take()), [1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn workers_take_little_while_people_are_here() {
        let all: Vec<u8> = (0..40).collect();
        let (mut queue, _answers) = queue_of(&[], &all);
        queue.expect_people();
        assert_eq!(queue.take().len(), BESIDE_PEOPLE);
        for _ in 0..EXPECTED {
            let _ = queue.take();
        }
        let (mut alone, _more) = queue_of(&[], &all);
        assert_eq!(alone.take().len(), all.len(), "nobody was here");
        assert!(!queue.expects_people());
    }

    #[test]
    fn what_nobody_waits_for_is_not_written() {
        let (mut queue, mut answers) = queue_of(&[1, 2], &[]);
        drop(answers.remove(0));
        assert_eq!(grants(&queue.take()), [2]);
    }
}
