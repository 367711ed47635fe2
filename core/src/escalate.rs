//! How the wait side ends a pod that takes too long: SIGTERM, after the grace period SIGKILL, after another one it gives up.
//!
//! Enters: the time, and whether somebody asked for the end. Leaves: the next [`Step`], each exactly once.

use crate::signal::Signal;
use crate::timers::{Duration, Instant, MIN_WAIT_AFTER_KILL, MIN_WAIT_WITHOUT_EMISSARY};

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Leave this signal for every main container that has not ended.
    SendSignal(Signal),
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

/// How long the last wait is for what is still to come: another grace period, at least [`MIN_WAIT_AFTER_KILL`].
#[must_use]
pub fn wait_after_kill(grace: Duration) -> Duration {
    grace.max(MIN_WAIT_AFTER_KILL)
}

/// A deadline, and how far it has led.
#[derive(Debug)]
pub struct Escalation {
    stage: Stage,
    next: Option<Instant>,
    grace: Duration,
}

impl Escalation {
    /// `deadline` on the clock of the other calls; `None` for no deadline.
    #[must_use]
    pub const fn new(deadline: Option<Instant>, grace: Duration) -> Self {
        Self { stage: Stage::Patient, next: deadline, grace }
    }

    /// When to call [`Escalation::tick`] at the latest.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Somebody asks for the end: as if the deadline were now. A second request changes nothing.
    pub const fn request(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Patient) {
            self.next = Some(now);
        }
    }

    /// The step that is due at `now`, if any. Where `any_runs`, the last wait is long enough to save outputs; else it is a grace period.
    pub fn tick(&mut self, now: Instant, any_runs: bool) -> Option<Step> {
        if self.next.is_none_or(|next| now < next) {
            return None;
        }
        let (stage, step, wait) = match self.stage {
            Stage::Patient => (Stage::Terminated, Step::SendSignal(Signal::TERM), Some(self.grace)),
            Stage::Terminated => (
                Stage::Killed,
                Step::SendSignal(Signal::KILL),
                Some(if any_runs { wait_after_kill(self.grace) } else { self.grace.max(MIN_WAIT_WITHOUT_EMISSARY) }),
            ),
            Stage::Killed => (Stage::GivenUp, Step::GiveUp, None),
            Stage::GivenUp => return None,
        };
        self.stage = stage;
        self.next = wait.map(|wait| now.after(wait));
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Instant {
        Instant::from_ms(milliseconds)
    }

    #[test]
    fn each_step_once_and_in_order() {
        let mut escalation = Escalation::new(Some(at(500)), Duration::from_ms(300));
        for (now_ms, want) in [
            (0, None),
            (499, None),
            (500, Some(Step::SendSignal(Signal::TERM))),
            (500, None),
            (799, None),
            (900, Some(Step::SendSignal(Signal::KILL))),
            (10_899, None),
            (10_900, Some(Step::GiveUp)),
            (u64::MAX, None),
        ] {
            assert_eq!(escalation.tick(at(now_ms), true), want, "{now_ms}");
        }
        assert_eq!(escalation.next_deadline(), None);
    }

    #[test]
    fn a_request_is_a_deadline_and_a_second_one_nothing() {
        let mut escalation = Escalation::new(None, Duration::from_s(20));
        assert_eq!(escalation.tick(at(u64::MAX), true), None);
        escalation.request(at(7));
        assert_eq!(escalation.tick(at(7), true), Some(Step::SendSignal(Signal::TERM)));
        escalation.request(at(8));
        assert_eq!(escalation.tick(at(8), true), None);
        assert_eq!(escalation.tick(at(20_007), true), Some(Step::SendSignal(Signal::KILL)));
        assert_eq!(escalation.next_deadline(), Some(at(40_007)));
    }
}
