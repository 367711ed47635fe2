//! The wait side: until every main container has an exit code and its logs are copied, or nobody answers any more.
//!
//! Enters: what happened ([`Event`]) and the time. Leaves: what to do ([`Action`]), to be drained after each event. Refuses nothing.
//!
//! ```text
//!   Waiting ── all ended, or given up ──▶ Copying ── nothing left, no time left, or no reader ──▶ Done
//!      │ deadline, or asked to end: SIGTERM; a grace period later: SIGKILL; the last wait later: given up
//! ```

use crate::escalate::{self, Escalation, Step};
use crate::signal::Signal;
use crate::timers::{Duration, Instant, LOOK_EVERY, Timers};

/// How far the logs are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// Everything that is there.
    All,
    /// There is more; other events have their turn first.
    More,
    /// The reader takes no more now.
    Blocked,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The exit codes were looked at.
    Looked {
        /// Every main container has one.
        all_ended: bool,
        /// Of those that have none, at least one has an emissary that runs.
        any_runs: bool,
        /// One of them is to be looked at again after this time although nothing changes.
        again_after: Option<Duration>,
    },
    /// A folder cannot be watched, so that changes go unseen.
    CannotWatch,
    /// Logs were copied.
    Copied(Copied),
    /// A signal asks for the end.
    EndRequested,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Leave this signal for every main container that has no exit code.
    SendSignal(Signal),
    /// From now on, the logs end where they end now.
    EndLogs,
    /// Give up the readers of our own output.
    DropReaders,
    /// Say that the logs are cut.
    WarnLogsCut,
    /// Report. The last action.
    Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    /// Until when logs are copied, where there is a deadline.
    Copying(Option<Instant>),
    Done,
}

/// The one timer beside the escalation's: when exit codes are looked at again although nothing changed.
const LOOK: usize = 0;

/// Actions of one event at most.
const ACTIONS: usize = 4;

/// The state machine. Feed it with [`Machine::handle`], then drain [`Machine::poll_action`].
#[derive(Debug)]
pub struct Machine {
    escalation: Escalation,
    phase: Phase,
    /// Nobody answers: the report is made without those that are missing.
    given_up: bool,
    /// A deadline holds for the logs, too.
    has_deadline: bool,
    grace: Duration,
    /// There is more to copy at once.
    has_more: bool,
    /// Folders are looked at every so often, since changes go unseen.
    polls: bool,
    timers: Timers<1>,
    actions: heapless::Deque<Action, ACTIONS>,
}

impl Machine {
    /// `deadline` is on the clock of the other calls; `None` for no deadline. `grace` lies between SIGTERM and SIGKILL.
    #[must_use]
    pub const fn new(deadline: Option<Instant>, grace: Duration) -> Self {
        Self {
            escalation: Escalation::new(deadline, grace),
            phase: Phase::Waiting,
            given_up: false,
            has_deadline: deadline.is_some(),
            grace,
            has_more: false,
            polls: false,
            timers: Timers::NONE,
            actions: heapless::Deque::new(),
        }
    }

    /// The next action, until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether containers without an exit code are waited for no longer.
    #[must_use]
    pub const fn has_given_up(&self) -> bool {
        self.given_up
    }

    /// When to come back at the latest. `now` where there is more to copy.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let own = match self.phase {
            Phase::Waiting => self.escalation.next_deadline(),
            Phase::Copying(until) => until,
            Phase::Done => None,
        };
        if self.has_more { Some(now) } else { [own, self.timers.next_deadline()].into_iter().flatten().min() }
    }

    /// Takes in what happened at `now`.
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Looked { all_ended, any_runs, again_after } => {
                self.timers.clear(LOOK);
                if self.phase != Phase::Waiting {
                    return;
                }
                if !all_ended {
                    match self.escalation.tick(now, any_runs) {
                        Some(Step::SendSignal(signal)) => self.push(Action::SendSignal(signal)),
                        Some(Step::GiveUp) => self.given_up = true,
                        None => {}
                    }
                }
                if all_ended || self.given_up {
                    // What the logs hold by now is still copied, and for that, too, there is a time.
                    self.phase = Phase::Copying(self.has_deadline.then(|| now.after(escalate::wait_after_kill(self.grace))));
                    self.push(Action::EndLogs);
                } else if let Some(length) = [again_after, self.polls.then_some(LOOK_EVERY)].into_iter().flatten().min() {
                    self.timers.set(LOOK, now.after(length));
                }
            }
            Event::CannotWatch => self.polls = true,
            Event::Copied(copied) => self.copied(now, copied),
            Event::EndRequested => match self.phase {
                Phase::Waiting => self.escalation.request(now),
                // Only a reader of our output is waited for.
                Phase::Copying(_) => self.push(Action::DropReaders),
                Phase::Done => {}
            },
        }
    }

    fn copied(&mut self, now: Instant, copied: Copied) {
        self.has_more = copied == Copied::More;
        let Phase::Copying(until) = self.phase else { return };
        let is_late = until.is_some_and(|until| until <= now);
        match copied {
            Copied::All => {}
            // Nobody answers, and nobody reads.
            Copied::Blocked if self.given_up => {}
            Copied::Blocked | Copied::More if is_late => self.push(Action::WarnLogsCut),
            Copied::Blocked | Copied::More => return,
        }
        self.phase = Phase::Done;
        self.push(Action::Report);
    }

    fn push(&mut self, action: Action) {
        // No event makes more than two, and the caller drains after each.
        let _ = self.actions.push_back(action);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action as A;
    use Copied as C;
    use Event as E;
    use std::vec::Vec;

    const GRACE: Duration = Duration::from_s(20);
    const OPEN: Event = E::Looked { all_ended: false, any_runs: true, again_after: None };
    const ENDED: Event = E::Looked { all_ended: true, any_runs: false, again_after: None };

    fn play(deadline_ms: Option<u64>, rows: &[(u64, Event, &[Action])]) -> Machine {
        let mut machine = Machine::new(deadline_ms.map(Instant::from_ms), GRACE);
        for (row, (now_ms, event, want)) in rows.iter().enumerate() {
            machine.handle(Instant::from_ms(*now_ms), *event);
            let actions: Vec<Action> = core::iter::from_fn(|| machine.poll_action()).collect();
            assert_eq!(actions, *want, "row {row}: {event:?}");
        }
        machine
    }

    #[test]
    fn all_end_and_all_is_copied() {
        let machine = play(
            None,
            &[
                (0, OPEN, &[]),
                (0, E::Copied(C::All), &[]),
                (9, OPEN, &[]),
                (9, ENDED, &[A::EndLogs]),
                (9, E::Copied(C::More), &[]),
                (9, ENDED, &[]),
                (9, E::Copied(C::Blocked), &[]),
                (u64::MAX, ENDED, &[]),
                (u64::MAX, E::Copied(C::All), &[A::Report]),
                (u64::MAX, E::EndRequested, &[]),
            ],
        );
        assert!(!machine.has_given_up());
    }

    #[test]
    fn past_a_deadline_each_step_once() {
        let rows: [(u64, Event, &[Action]); 7] = [
            (499, OPEN, &[]),
            (500, OPEN, &[A::SendSignal(Signal::TERM)]),
            (500, OPEN, &[]),
            (20_500, OPEN, &[A::SendSignal(Signal::KILL)]),
            (40_499, OPEN, &[]),
            (40_500, OPEN, &[A::EndLogs]),
            (40_500, E::Copied(C::Blocked), &[A::Report]),
        ];
        assert!(play(Some(500), &rows).has_given_up());
    }

    #[test]
    fn where_nobody_runs_nobody_is_waited_for_long() {
        let nobody = E::Looked { all_ended: false, any_runs: false, again_after: None };
        let mut machine = Machine::new(Some(Instant::from_ms(300)), Duration::from_ms(300));
        for (now_ms, has_given_up) in [(300, false), (600, false), (899, false), (900, true)] {
            machine.handle(Instant::from_ms(now_ms), nobody);
            assert_eq!(machine.has_given_up(), has_given_up, "{now_ms}");
        }
    }

    #[test]
    fn a_request_is_a_deadline_for_containers_and_gives_up_readers_afterwards() {
        let rows: [(u64, Event, &[Action]); 6] = [
            (7, E::EndRequested, &[]),
            (7, OPEN, &[A::SendSignal(Signal::TERM)]),
            (8, E::EndRequested, &[]),
            (9, ENDED, &[A::EndLogs]),
            (10, E::EndRequested, &[A::DropReaders]),
            (10, E::Copied(C::All), &[A::Report]),
        ];
        play(None, &rows);
    }

    #[test]
    fn under_a_deadline_logs_have_a_time_too() {
        let rows: [(u64, Event, &[Action]); 4] = [
            (100, ENDED, &[A::EndLogs]),
            (20_099, E::Copied(C::Blocked), &[]),
            (20_100, E::Copied(C::More), &[A::WarnLogsCut, A::Report]),
            (20_101, E::Copied(C::All), &[]),
        ];
        let machine = play(Some(50_000), &rows[..2]);
        assert_eq!(machine.next_deadline(Instant::from_ms(20_099)), Some(Instant::from_ms(20_100)));
        play(Some(50_000), &rows[..3]);
    }

    #[test]
    fn when_to_come_back() {
        let at = Instant::from_ms;
        let mut machine = Machine::new(Some(at(500)), GRACE);
        assert_eq!(machine.next_deadline(at(0)), Some(at(500)));
        machine.handle(at(1), E::Copied(C::More));
        assert_eq!(machine.next_deadline(at(1)), Some(at(1)));
        machine.handle(at(2), E::Copied(C::All));
        machine.handle(at(500), OPEN);
        assert_eq!(machine.next_deadline(at(500)), Some(at(20_500)));
        let soon = E::Looked { all_ended: false, any_runs: true, again_after: Some(Duration::from_ms(70)) };
        machine.handle(at(600), soon);
        assert_eq!(machine.next_deadline(at(600)), Some(at(670)));
        machine.handle(at(670), OPEN);
        assert_eq!(machine.next_deadline(at(670)), Some(at(20_500)));
        machine.handle(at(700), E::CannotWatch);
        machine.handle(at(700), OPEN);
        assert_eq!(machine.next_deadline(at(700)), Some(at(800)));
        machine.handle(at(800), soon);
        assert_eq!(machine.next_deadline(at(800)), Some(at(870)));
        machine.handle(at(801), ENDED);
        assert_eq!(machine.next_deadline(at(801)), Some(at(20_801)));
    }
}
