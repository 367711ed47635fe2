//! The state machine of the wait container, which runs beside the main containers of a pod. It waits until every main container has an exit code, and until the
//! logs are copied (docs/protocol.md, "Wait").
//!
//! Enters: what happened ([`Event`]) and the time. Leaves: what the caller must do ([`Action`]); the caller drains the actions after each event. Refuses:
//! nothing. An event that does not belong to the current phase changes nothing.
//!
//! ```text
//!   Waiting ── all have ended, or given up ──▶ Copying ── all copied, no time left, or no reader ──▶ Done
//!      │ at the deadline or a request to end: SIGTERM; a grace period later: SIGKILL; after the last wait: given up
//! ```

use crate::escalate::{self, Escalation, Step};
use crate::signal::Signal;
use crate::timers::{Duration, Instant, LOOK_EVERY, ReaderTime, Timers};

/// How much of the logs the caller has copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// The caller has copied everything in the logs.
    All,
    /// The logs hold more. The caller handles other events before it copies more.
    More,
    /// The reader of our output accepts no more for now.
    Blocked,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The caller has looked at the exit codes.
    Looked {
        /// Every main container has an exit code.
        all_ended: bool,
        /// The emissary of at least one container without an exit code runs.
        any_runs: bool,
        /// The caller must look again after this time, even if nothing changes.
        again_after: Option<Duration>,
    },
    /// A folder cannot be watched, so changes in it go unseen.
    CannotWatch,
    /// A reader of our own output has taken something.
    PassedOn,
    /// The caller has copied logs.
    Copied(Copied),
    /// A signal asks the wait container to end.
    EndRequested,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send this signal to every main container that has no exit code, by its signal file.
    SendSignal(Signal),
    /// Take the current ends of the logs as final.
    EndLogs,
    /// Warn that the logs are cut.
    WarnLogsCut,
    /// Print the report. This is the last action.
    Report,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    /// The time at which copying stops, if there is a deadline.
    Copying(Option<Instant>),
    Done,
}

/// The timer for the next look at the exit codes if nothing changes. The escalation has a timer of its own.
const LOOK: usize = 0;

/// Capacity of the action queue. One event causes at most two actions.
const ACTIONS: usize = 4;

/// The state machine. Feed it with [`Machine::handle`], then drain [`Machine::poll_action`].
#[derive(Debug)]
pub struct Machine {
    escalation: Escalation,
    phase: Phase,
    /// The machine no longer waits for main containers without an exit code. The report lacks their exit codes.
    given_up: bool,
    /// The wait has a deadline, so copying the logs has one, too.
    has_deadline: bool,
    grace: Duration,
    /// The logs hold more to copy now.
    has_more: bool,
    /// The caller looks at folders every [`LOOK_EVERY`], because changes go unseen.
    polls: bool,
    timers: Timers<1>,
    /// The time limit for the reader of our own output.
    reader: ReaderTime,
    actions: heapless::Deque<Action, ACTIONS>,
}

impl Machine {
    /// A wait that has not begun. `deadline` is on the clock of the other calls; `None` means no deadline. `grace` is the time between SIGTERM and SIGKILL.
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
            reader: ReaderTime::NONE,
            actions: heapless::Deque::new(),
        }
    }

    /// Returns the next action; `None` when all are drained.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether the machine no longer waits for containers without an exit code.
    #[must_use]
    pub const fn has_given_up(&self) -> bool {
        self.given_up
    }

    /// The time limit for the reader of the report. The caller asks for it when the report is due.
    pub fn reader(&mut self, now: Instant) -> ReaderTime {
        if self.given_up {
            self.reader.ask(now, escalate::wait_after_kill(self.grace));
        }
        self.reader.last_began(now, escalate::wait_after_kill(self.grace));
        self.reader
    }

    /// The time at which copying stops, even if the logs hold more. `until` is the limit from the wait's own deadline.
    fn copying_deadline(&self, until: Option<Instant>) -> Option<Instant> {
        // If the main containers did not answer, the machine waits for the reader of our output only while the reader takes something.
        let reader = if self.given_up { Some(self.reader.idle_at()) } else { self.reader.deadline() };
        [until, reader].into_iter().flatten().min()
    }

    /// The latest time at which the caller must handle the next event. It is `now` if the logs hold more to copy.
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let own = match self.phase {
            Phase::Waiting => self.escalation.next_deadline(),
            Phase::Copying(until) => self.copying_deadline(until),
            Phase::Done => None,
        };
        if self.has_more { Some(now) } else { [own, self.timers.next_deadline()].into_iter().flatten().min() }
    }

    /// Handles what happened at `now`.
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
                    // The caller still copies what the logs hold now. A deadline limits the time for that, too.
                    let length = escalate::wait_after_kill(self.grace);
                    self.phase = Phase::Copying(self.has_deadline.then(|| now.after(length)));
                    self.reader.last_began(now, length);
                    self.push(Action::EndLogs);
                } else if let Some(length) = [again_after, self.polls.then_some(LOOK_EVERY)].into_iter().flatten().min() {
                    self.timers.set(LOOK, now.after(length));
                }
            }
            Event::CannotWatch => self.polls = true,
            Event::PassedOn => self.reader.took(now),
            Event::Copied(copied) => self.copied(now, copied),
            Event::EndRequested => {
                if self.phase == Phase::Waiting {
                    self.escalation.request(now);
                }
                self.reader.ask(now, escalate::wait_after_kill(self.grace));
            }
        }
    }

    fn copied(&mut self, now: Instant, copied: Copied) {
        self.has_more = copied == Copied::More;
        let Phase::Copying(until) = self.phase else { return };
        let is_late = self.copying_deadline(until).is_some_and(|until| until <= now);
        match copied {
            Copied::All => {}
            Copied::Blocked | Copied::More if is_late => self.push(Action::WarnLogsCut),
            Copied::Blocked | Copied::More => return,
        }
        self.phase = Phase::Done;
        self.push(Action::Report);
    }

    fn push(&mut self, action: Action) {
        // The queue has room: one event causes at most two actions, and the caller drains the actions after each event.
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
    fn the_report_follows_all_exit_codes_and_all_logs() {
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
    fn after_a_deadline_each_step_happens_once() {
        let rows: [(u64, Event, &[Action]); 7] = [
            (499, OPEN, &[]),
            (500, OPEN, &[A::SendSignal(Signal::TERM)]),
            (500, OPEN, &[]),
            (20_500, OPEN, &[A::SendSignal(Signal::KILL)]),
            (40_499, OPEN, &[]),
            (40_500, OPEN, &[A::EndLogs]),
            (40_500, E::Copied(C::Blocked), &[A::WarnLogsCut, A::Report]),
        ];
        assert!(play(Some(500), &rows).has_given_up());
    }

    #[test]
    fn without_a_running_emissary_the_last_wait_is_short() {
        let none_runs = E::Looked { all_ended: false, any_runs: false, again_after: None };
        let mut machine = Machine::new(Some(Instant::from_ms(300)), Duration::from_ms(300));
        for (now_ms, has_given_up) in [(300, false), (600, false), (899, false), (900, true)] {
            machine.handle(Instant::from_ms(now_ms), none_runs);
            assert_eq!(machine.has_given_up(), has_given_up, "{now_ms}");
        }
    }

    #[test]
    fn a_request_is_a_deadline_for_containers_and_for_a_reader_that_takes_nothing() {
        let rows: [(u64, Event, &[Action]); 11] = [
            (7, E::EndRequested, &[]),
            (7, OPEN, &[A::SendSignal(Signal::TERM)]),
            (8, E::EndRequested, &[]),
            (9, ENDED, &[A::EndLogs]),
            (10, E::EndRequested, &[]),
            (10, E::Copied(C::Blocked), &[]),
            (4_000, E::PassedOn, &[]),
            (4_000, E::EndRequested, &[]),
            (8_999, E::Copied(C::Blocked), &[]),
            (9_000, E::Copied(C::Blocked), &[A::WarnLogsCut, A::Report]),
            (9_000, E::Copied(C::All), &[]),
        ];
        play(None, &rows);
    }

    #[test]
    fn without_answers_the_machine_waits_for_a_reader_that_reads() {
        let rows: [(u64, Event, &[Action]); 8] = [
            (500, OPEN, &[A::SendSignal(Signal::TERM)]),
            (20_500, OPEN, &[A::SendSignal(Signal::KILL)]),
            (40_000, E::PassedOn, &[]),
            (40_500, OPEN, &[A::EndLogs]),
            (40_500, E::Copied(C::Blocked), &[]),
            (44_000, E::PassedOn, &[]),
            (48_999, E::Copied(C::Blocked), &[]),
            (49_000, E::Copied(C::Blocked), &[A::WarnLogsCut, A::Report]),
        ];
        let mut machine = play(Some(500), &rows[..7]);
        assert_eq!(machine.next_deadline(Instant::from_ms(48_999)), Some(Instant::from_ms(49_000)));
        assert_eq!(machine.reader(Instant::from_ms(48_999)).deadline(), Some(Instant::from_ms(49_000)));
        play(Some(500), &rows);
    }

    #[test]
    fn nobody_asks_and_the_reader_of_the_report_has_all_the_time() {
        let mut machine = play(Some(90_000), &[(100, ENDED, &[A::EndLogs]), (100, E::Copied(C::All), &[A::Report])]);
        assert_eq!(machine.reader(Instant::from_ms(100)).deadline(), None);
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
    fn the_next_deadline_is_the_earliest_timer() {
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
