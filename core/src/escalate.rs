//! How the wait container ends the main containers of a pod that takes too long (docs/protocol.md, "Wait").
//!
//! It sends SIGTERM, after the grace period SIGKILL, and after one more wait it gives up.
//!
//! Enters: the time, whether a signal asked for the end, and whether any emissary runs. Leaves: the next [`Step`], each exactly once. Refuses: nothing; a
//! second request to end changes nothing.

use crate::signal::Signal;
use crate::timers::{Duration, Instant, MIN_WAIT_AFTER_KILL, MIN_WAIT_WITHOUT_EMISSARY};

/// What the wait container does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send this signal to every main container that has no exit code, by its signal file.
    SendSignal(Signal),
    /// Main containers do not answer: report without their exit codes.
    GiveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Patient,
    Terminated,
    Killed,
    GivenUp,
}

/// Time that main containers get after SIGKILL to save their outputs: another grace period, at least [`MIN_WAIT_AFTER_KILL`].
#[must_use]
pub fn wait_after_kill(grace: Duration) -> Duration {
    grace.max(MIN_WAIT_AFTER_KILL)
}

/// A deadline and the steps that follow it.
#[derive(Debug)]
pub struct Escalation {
    stage: Stage,
    next: Option<Instant>,
    grace: Duration,
}

impl Escalation {
    /// An escalation that begins at `deadline`, on the clock of the other calls; `None` for no deadline. `grace` is the time between SIGTERM and SIGKILL.
    #[must_use]
    pub const fn new(deadline: Option<Instant>, grace: Duration) -> Self {
        Self { stage: Stage::Patient, next: deadline, grace }
    }

    /// The latest time at which the caller must call [`Escalation::tick`].
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Moves the deadline to `now`, because a signal asks for the end. After the first step a request changes nothing.
    pub const fn request(&mut self, now: Instant) {
        if matches!(self.stage, Stage::Patient) {
            self.next = Some(now);
        }
    }

    /// Returns the step that is due at `now`, if any. `any_runs` says that the emissary of a main container still runs. Then the wait after SIGKILL is long
    /// enough to save outputs ([`wait_after_kill`]). Otherwise it is a grace period, at least [`MIN_WAIT_WITHOUT_EMISSARY`].
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
    fn each_step_happens_once_and_in_order() {
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
    fn a_request_acts_as_a_deadline_and_a_second_request_changes_nothing() {
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
