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
            while taken.len() - before < most
                && let Some(next) = queue.front()
            {
                if next.answer.is_closed() {
                    // Whoever wanted it is gone, and nothing of it was written.
                    queue.pop_front();
                    continue;
                }
                let mine: Vec<String> = next.change.conditional_rows().collect();
                if next.alone || mine.iter().any(|row| rows.contains(row)) {
                    return taken;
                }
                rows.extend(mine);
                taken.extend(queue.pop_front());
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
