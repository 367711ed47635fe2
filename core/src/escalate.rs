//! How the wait side ends a pod that takes too long: SIGTERM, after the grace period SIGKILL, after another one it gives up.
//!
//! Enters: the time, and whether somebody asked for the end. Leaves: the next [`Step`], each exactly once.

use crate::signal::Signal;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Leave this signal for every main container that has not ended.
    Leave(Signal),
    /// Nobody answers: report without them.
    GiveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Patient,
    Terminated,
    Killed,
    GivenUp,
}

/// The least milliseconds of a last wait: a container has them after SIGKILL to save its outputs and write its exit code.
const LEAST_LAST_WAIT_MS: u64 = 10_000;

/// Milliseconds of the last wait for what is still to come: another grace period, ten seconds at least.
#[must_use]
pub fn last_wait_ms(grace_ms: u64) -> u64 {
    grace_ms.max(LEAST_LAST_WAIT_MS)
}

/// A deadline, and how far it has led.
#[derive(Debug)]
pub struct Escalation {
    stage: Stage,
    next_ms: Option<u64>,
    grace_ms: u64,
}

impl Escalation {
    /// `deadline_ms` on the clock of the other calls; `None` for no deadline.
    #[must_use]
    pub const fn new(deadline_ms: Option<u64>, grace_ms: u64) -> Self {
        Self { stage: Stage::Patient, next_ms: deadline_ms, grace_ms }
    }

    /// When to call [`Escalation::tick`] at the latest.
    #[must_use]
    pub const fn next_ms(&self) -> Option<u64> {
        self.next_ms
    }

    /// Somebody asks for the end: as if the deadline were now. A second request changes nothing.
    pub const fn request(&mut self, now_ms: u64) {
        if matches!(self.stage, Stage::Patient) {
            self.next_ms = Some(now_ms);
        }
    }

    /// The step that is due at `now_ms`, if any.
    pub fn tick(&mut self, now_ms: u64) -> Option<Step> {
        if self.next_ms.is_none_or(|next| now_ms < next) {
            return None;
        }
        let (stage, step, wait_ms) = match self.stage {
            Stage::Patient => (Stage::Terminated, Step::Leave(Signal::TERM), Some(self.grace_ms)),
            Stage::Terminated => (Stage::Killed, Step::Leave(Signal::KILL), Some(last_wait_ms(self.grace_ms))),
            Stage::Killed => (Stage::GivenUp, Step::GiveUp, None),
            Stage::GivenUp => return None,
        };
        self.stage = stage;
        self.next_ms = wait_ms.map(|wait_ms| now_ms.saturating_add(wait_ms));
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_once_and_in_order() {
        let mut escalation = Escalation::new(Some(500), 300);
        for (now_ms, want) in [
            (0, None),
            (499, None),
            (500, Some(Step::Leave(Signal::TERM))),
            (500, None),
            (799, None),
            (900, Some(Step::Leave(Signal::KILL))),
            (10_899, None),
            (10_900, Some(Step::GiveUp)),
            (u64::MAX, None),
        ] {
            assert_eq!(escalation.tick(now_ms), want, "{now_ms}");
        }
        assert_eq!(escalation.next_ms(), None);
    }

    #[test]
    fn a_request_is_a_deadline_and_a_second_one_nothing() {
        let mut escalation = Escalation::new(None, 20_000);
        assert_eq!(escalation.tick(u64::MAX), None);
        escalation.request(7);
        assert_eq!(escalation.tick(7), Some(Step::Leave(Signal::TERM)));
        escalation.request(8);
        assert_eq!(escalation.tick(8), None);
        assert_eq!(escalation.tick(20_007), Some(Step::Leave(Signal::KILL)));
        assert_eq!(escalation.next_ms(), Some(40_007));
    }
}
