//! The supervisor of the command that a container runs: a state machine without IO, clock or process ids (docs/protocol.md, "Main"). It waits for the inputs,
//! starts the command, delivers signals to it, repeats it if the template asks for that, and has its outputs saved.
//!
//! Enters: what happened ([`Event`]) and the time. Leaves: what the caller must do ([`Action`]); the caller drains the actions after each event. Refuses:
//! nothing. An event that does not belong to the current phase changes nothing.
//!
//! ```text
//!            Begin                    Planned                 Found                Spawned         Exited
//!   Idle ──▶ (ready?) ──▶ Planning ──▶ (dependencies?) ──▶ Finding ──▶ (before?) ──▶ Starting ──▶ Running ──▶ Draining
//!                                                                                      ▲                         │ Drained
//!                                                                                      └── (retry pause?) ◀──────┤
//!                                                             Done ◀── Saving ◀── (after?) ◀─────────────────────┘
//! ```
//!
//! Between the dependencies and Finding, the machine may also wait for files of other steps. Between Running and Draining, it may linger until the descendants
//! of the command have ended, too.
//!
//! These invariants hold for every order of events; the fuzz target `supervisor` asserts them. One command runs at a time. No signal goes to a command that
//! was reaped. There is exactly one [`Action::Finish`]. After a command's end there is always a next action.

use heapless::Deque;

use crate::exit;
use crate::limits;
use crate::signal::{Pending, Signal};
use crate::timers::{Duration, Instant, LOOK_EVERY, ReaderTime, Timers, WATCH_DELAY};

/// A condition that the machine waits for. The caller checks it whenever the shared folder changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// The supervisor of a pod without an init container reports that the inputs are ready ([`crate::ready`]).
    Ready,
    /// Every dependency has an exit code.
    Dependencies,
    /// The files of other steps exist that the command line names.
    Files,
    /// A person releases the pause before the command.
    Before,
    /// The pause between two attempts is over. The machine opens this gate itself, by its timer.
    Retry,
    /// A person releases the pause after the command.
    After,
}

/// Settings that the caller knows before it reads the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Setup {
    /// Wait for the readiness marker.
    pub waits_for_ready: bool,
    /// Pause before the command.
    pub pauses_before: bool,
    /// Pause after the command.
    pub pauses_after: bool,
    /// Pause after the command if its exit code is not 0.
    pub pauses_on_failure: bool,
    /// Wait for files of other steps before the command.
    pub waits_for_files: bool,
    /// After the command's end, wait until its descendants have ended, too.
    pub waits_for_descendants: bool,
    /// End the command after this time, counted from the first attempt's start.
    pub timeout: Option<Duration>,
}

/// Settings that the caller takes from the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// This container waits for the exit codes of other containers.
    pub has_dependencies: bool,
    /// This container is a sidecar: it ends after the main containers.
    pub is_sidecar: bool,
    /// This container saves outputs.
    pub saves_outputs: bool,
    /// Total number of attempts. 0 counts as 1.
    pub attempts: u32,
    /// Time between two attempts.
    pub retry_pause: Duration,
    /// Time between a request to end and the SIGKILL after it. For a sidecar, emissary sends this SIGKILL; the system sends it to the whole pod.
    pub grace: Duration,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The run begins.
    Begin,
    /// A gate's condition holds.
    Opened(Gate),
    /// The caller has read the template.
    Planned(Plan),
    /// The caller has found the command's file.
    Found,
    /// The command runs.
    Spawned,
    /// A step failed without which the command cannot run. The run ends with this exit code.
    Failed(u8),
    /// The command exited with this status.
    Exited(u8),
    /// This signal ended the command.
    Killed(u8),
    /// The command's descendants have ended, too.
    Childless,
    /// The end of the run was asked for by a file: like SIGTERM, with SIGKILL after the grace period.
    Cancelled,
    /// The person who releases the pause after the command gives this exit code in the place of the command's.
    Replaced(u8),
    /// All output of the command is in the captured copies and, unless their readers were abandoned, on our own stdout and stderr.
    Drained,
    /// A reader of our own stdout or stderr has taken something.
    PassedOn,
    /// A captured copy could not be written.
    CopyFailed,
    /// The caller has tried to save every output.
    Saved {
        /// The caller has saved every output that exists.
        all: bool,
    },
    /// A signal for the command: we received it and forward it ([`Signal::is_forwarded`]), or the signal file named it.
    Signal(Signal),
    /// A signal for the command that was ignored when emissary started. The signal is no request to end.
    Ignored(Signal),
    /// The kernel refused to send SIGKILL to the command. Emissary is PID 1, so its end ends the command.
    Unkillable,
    /// All main containers have ended. Only a sidecar needs this event.
    MainsExited,
    /// Something changed in a watched folder.
    Changed,
    /// The machine must look at files again after this time, even if nothing changes.
    LookAfter(Duration),
    /// The caller watches the container's own folder.
    Watching,
    /// The caller cannot watch a folder, so changes in it go unseen.
    CannotWatch,
    /// Time has passed. The machine handles the timers that are due.
    Tick,
}

/// What the caller must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Check a gate's condition, now and at each change, until it holds: [`Event::Opened`].
    Await(Gate),
    /// Look at the signal file, and check the condition of the current gate.
    Look,
    /// Begin to watch the container's own folder: [`Event::Watching`].
    Watch,
    /// Read the template, and link the input artifacts if there was a readiness marker: [`Event::Planned`] or [`Event::Failed`].
    Plan,
    /// Find the command's file: [`Event::Found`] or [`Event::Failed`].
    Find,
    /// Start the command: [`Event::Spawned`] or [`Event::Failed`].
    Spawn,
    /// Send a signal to the command's process group.
    Forward(Signal),
    /// Read all that the command has written until now, then [`Event::Drained`].
    Drain,
    /// Stop passing on output that the readers of our own stdout and stderr have not taken. The captured copies are still completed.
    Abandon,
    /// Save the outputs: [`Event::Saved`].
    Save,
    /// Write the exit code to its file, and exit with the same code. This is the last action.
    Finish(u8),
}

/// The timer of the current phase: the pause before the next attempt, a sidecar's grace period, or the time limit for readers of our output.
const PHASE: usize = 0;
/// The timer for the next look at files if nothing changes.
const LOOK: usize = 1;
/// The timer for the start of the watch of the container's own folder.
const WATCH: usize = 2;
/// The time limit of the command.
const LIMIT: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Waiting(Gate),
    Planning,
    Finding,
    Starting,
    Running,
    /// The command has ended, and its descendants have not.
    Lingering,
    Draining,
    Saving,
    Done,
}

/// The state machine. Feed it with [`Machine::handle`], then drain [`Machine::poll_action`].
#[derive(Debug)]
pub struct Machine {
    setup: Setup,
    plan: Plan,
    phase: Phase,
    actions: Deque<Action, { limits::ACTIONS }>,
    /// Signals that arrived before the command ran.
    pending: Pending,
    attempts_left: u32,
    /// The exit code of the last attempt.
    code: u8,
    /// The command was asked to end, or will be. There is no further attempt.
    is_ending: bool,
    mains_exited: bool,
    copy_failed: bool,
    has_run: bool,
    is_watching: bool,
    /// The machine looks at folders every [`LOOK_EVERY`], because changes go unseen.
    polls: bool,
    /// The time limit has ended the command.
    timed_out: bool,
    timers: Timers<4>,
    /// The time limit for the readers of our own stdout and stderr.
    reader: ReaderTime,
}

impl Machine {
    /// A run that has not begun.
    #[must_use]
    pub const fn new(setup: Setup) -> Self {
        let plan = Plan {
            has_dependencies: false,
            is_sidecar: false,
            saves_outputs: false,
            attempts: 1,
            retry_pause: Duration::ZERO,
            grace: Duration::ZERO,
        };
        Self {
            setup,
            plan,
            phase: Phase::Idle,
            actions: Deque::new(),
            pending: Pending::NONE,
            attempts_left: 0,
            code: exit::FAILURE,
            is_ending: false,
            mains_exited: false,
            copy_failed: false,
            has_run: false,
            is_watching: false,
            polls: false,
            timed_out: false,
            timers: Timers::NONE,
            reader: ReaderTime::NONE,
        }
    }

    /// Returns the next action; `None` when all are drained.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Whether [`Machine::poll_action`] has an action.
    #[must_use]
    pub fn has_action(&self) -> bool {
        !self.actions.is_empty()
    }

    /// The latest time at which the caller must send [`Event::Tick`]; `None` if no timer runs.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// The gate that the machine waits for, if any.
    #[must_use]
    pub const fn gate(&self) -> Option<Gate> {
        match self.phase {
            Phase::Waiting(gate) => Some(gate),
            _ => None,
        }
    }

    /// Whether the machine may still start the command, now or in a further attempt. As long as it may, the caller keeps the descriptors that emissary received
    /// for the command.
    #[must_use]
    pub const fn may_start(&self) -> bool {
        match self.phase {
            Phase::Running | Phase::Lingering | Phase::Draining => self.attempts_left > 0 && !self.is_ending,
            Phase::Waiting(Gate::After) | Phase::Saving | Phase::Done => false,
            _ => true,
        }
    }

    /// Whether the time limit has ended the command.
    #[must_use]
    pub const fn has_timed_out(&self) -> bool {
        self.timed_out
    }

    /// Whether a request to end can still reach the command or prevent it.
    #[must_use]
    pub const fn can_be_cancelled(&self) -> bool {
        !matches!(self.phase, Phase::Draining | Phase::Waiting(Gate::After) | Phase::Saving | Phase::Done)
    }

    /// Number of attempts that have been started.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        if self.has_run { self.plan.attempts.max(1).saturating_sub(self.attempts_left) } else { 0 }
    }

    /// Handles what happened at `now`.
    pub fn handle(&mut self, now: Instant, event: Event) {
        match event {
            Event::Begin if self.phase == Phase::Idle => {
                if self.setup.waits_for_ready {
                    self.wait(Gate::Ready);
                } else {
                    self.go(Phase::Planning, Action::Plan);
                }
            }
            Event::Opened(gate) if self.phase == Phase::Waiting(gate) && gate != Gate::Retry => self.pass(gate),
            Event::Planned(plan) if self.phase == Phase::Planning => {
                self.plan = plan;
                self.attempts_left = plan.attempts.max(1);
                if plan.has_dependencies {
                    self.wait(Gate::Dependencies);
                } else {
                    self.pass(Gate::Dependencies);
                }
            }
            Event::Found if self.phase == Phase::Finding => {
                if self.setup.pauses_before {
                    self.wait(Gate::Before);
                } else {
                    self.pass(Gate::Before);
                }
            }
            Event::Spawned if self.phase == Phase::Starting => self.run(now),
            Event::Failed(code) => self.fail(code),
            Event::Exited(code) if self.phase == Phase::Running => self.exited(now, code),
            Event::Killed(signal) if self.phase == Phase::Running => {
                let code = if self.timed_out { 0 } else { 128_u8.saturating_add(signal) };
                self.exited(now, code);
            }
            Event::Childless if self.phase == Phase::Lingering => self.drain(now),
            Event::Cancelled => self.cancel(now),
            Event::Replaced(code) if self.phase == Phase::Waiting(Gate::After) => self.code = code,
            // The command stays, so its descendants are not waited for.
            Event::Unkillable if self.phase == Phase::Running => {
                self.ask_to_end(now);
                self.code = exit::code_of_signal(Signal::KILL);
                self.drain(now);
            }
            Event::Drained if self.phase == Phase::Draining => {
                self.timers.clear(PHASE);
                self.after_attempt(now);
            }
            Event::PassedOn if self.phase == Phase::Draining => {
                self.reader.took(now);
                self.wait_for_reader();
            }
            Event::CopyFailed => self.copy_failed = true,
            Event::Saved { all } if self.phase == Phase::Saving => self.finish(all),
            Event::Signal(signal) => self.signal(now, signal, signal.is_request_to_end()),
            Event::Ignored(signal) => self.signal(now, signal, false),
            Event::MainsExited if self.plan.is_sidecar && !self.mains_exited => {
                self.mains_exited = true;
                if self.phase == Phase::Running {
                    self.end(now);
                }
            }
            Event::Changed => self.look(now),
            Event::LookAfter(length) => self.timers.set_at_latest(LOOK, now.after(length)),
            Event::Watching => {
                self.is_watching = true;
                self.timers.clear(WATCH);
            }
            Event::CannotWatch => {
                self.polls = true;
                self.timers.set_at_latest(LOOK, now.after(LOOK_EVERY));
            }
            Event::Tick => self.tick(now),
            _ => {}
        }
    }

    /// Adds an action. The queue has room ([`limits::ACTIONS`]): only the command's start adds one action for each pending signal, and the caller drains
    /// the actions after a few events.
    fn push(&mut self, action: Action) {
        let _ = self.actions.push_back(action);
    }

    fn go(&mut self, phase: Phase, action: Action) {
        self.phase = phase;
        self.push(action);
    }

    fn wait(&mut self, gate: Gate) {
        self.go(Phase::Waiting(gate), Action::Await(gate));
    }

    /// Enters the phase that follows a gate.
    fn pass(&mut self, gate: Gate) {
        match gate {
            Gate::Ready => self.go(Phase::Planning, Action::Plan),
            Gate::Dependencies if self.setup.waits_for_files => self.wait(Gate::Files),
            Gate::Dependencies | Gate::Files => self.go(Phase::Finding, Action::Find),
            Gate::Before | Gate::Retry => self.go(Phase::Starting, Action::Spawn),
            Gate::After => self.save(),
        }
    }

    fn run(&mut self, now: Instant) {
        self.phase = Phase::Running;
        if let Some(timeout) = self.setup.timeout.filter(|_| !self.has_run) {
            self.timers.set(LIMIT, now.after(timeout));
        }
        self.has_run = true;
        if !self.is_watching {
            self.timers.set(WATCH, now.after(WATCH_DELAY));
        }
        self.attempts_left = self.attempts_left.saturating_sub(1);
        for signal in self.pending.take() {
            self.push(Action::Forward(signal));
        }
        if self.mains_exited {
            self.end(now);
        }
    }

    fn look(&mut self, now: Instant) {
        if self.phase == Phase::Done {
            return;
        }
        self.timers.clear(LOOK);
        if self.polls {
            self.timers.set(LOOK, now.after(LOOK_EVERY));
        }
        self.push(Action::Look);
    }

    /// Ends a command that runs: SIGTERM now, SIGKILL after the grace period.
    fn end(&mut self, now: Instant) {
        self.ask_to_end(now);
        self.push(Action::Forward(Signal::TERM));
        self.timers.set(PHASE, now.after(self.plan.grace));
    }

    fn ask_to_end(&mut self, now: Instant) {
        self.is_ending = true;
        self.reader.ask(now, self.plan.grace);
    }

    fn cancel(&mut self, now: Instant) {
        match self.phase {
            Phase::Running | Phase::Lingering => self.end(now),
            _ => self.signal(now, Signal::TERM, true),
        }
    }

    /// Handles the end of the command. It also handles a command that emissary gives up.
    fn exited(&mut self, now: Instant, code: u8) {
        // After the time limit, a status that the command chose itself says more than our own, unless it claims success.
        self.code = if self.timed_out && code == 0 { exit::TIMED_OUT } else { code };
        if self.setup.waits_for_descendants {
            self.phase = Phase::Lingering;
        } else {
            self.drain(now);
        }
    }

    fn drain(&mut self, now: Instant) {
        self.reader.took(now);
        self.reader.last_began(now, self.plan.grace);
        self.wait_for_reader();
        self.go(Phase::Draining, Action::Drain);
    }

    /// Sets the timer for the readers of our own stdout and stderr, or clears it.
    fn wait_for_reader(&mut self) {
        self.timers.clear(PHASE);
        if let Some(deadline) = self.reader.deadline() {
            self.timers.set(PHASE, deadline);
        }
    }

    /// Handles a signal for the command. `asks` means that the signal asks for the end of the current phase.
    fn signal(&mut self, now: Instant, signal: Signal, asks: bool) {
        match self.phase {
            Phase::Running | Phase::Lingering => {
                if asks {
                    self.ask_to_end(now);
                }
                self.push(Action::Forward(signal));
                if self.phase == Phase::Lingering && signal == Signal::KILL {
                    self.drain(now);
                }
            }
            // The command has ended, and emissary has not yet taken all of its output.
            Phase::Draining if asks => {
                self.ask_to_end(now);
                self.wait_for_reader();
            }
            // The request ends the pause. The command's exit code does not change.
            Phase::Waiting(Gate::After) if asks => self.save(),
            Phase::Waiting(gate) if asks => {
                let code = exit::code_of_signal(signal);
                // The command has run before this pause, so its outputs are saved.
                if gate == Gate::Retry {
                    self.code = code;
                    self.is_ending = true;
                    self.after_last_attempt();
                } else {
                    self.fail(code);
                }
            }
            Phase::Idle
            | Phase::Planning
            | Phase::Finding
            | Phase::Starting
            | Phase::Waiting(Gate::Ready | Gate::Dependencies | Gate::Files | Gate::Before | Gate::Retry) => {
                if asks {
                    self.ask_to_end(now);
                }
                self.pending.push(signal);
            }
            Phase::Draining | Phase::Waiting(Gate::After) | Phase::Saving | Phase::Done => {}
        }
    }

    fn tick(&mut self, now: Instant) {
        if self.timers.take_due(WATCH, now) && self.phase != Phase::Done {
            self.push(Action::Watch);
        }
        if self.timers.take_due(LOOK, now) {
            self.look(now);
        }
        if self.timers.take_due(LIMIT, now) {
            self.expire(now);
        }
        if !self.timers.take_due(PHASE, now) {
            return;
        }
        match self.phase {
            Phase::Waiting(Gate::Retry) => self.pass(Gate::Retry),
            Phase::Running => self.push(Action::Forward(Signal::KILL)),
            // A descendant outside the command's process group stays alive. The end of this container ends it.
            Phase::Lingering => {
                self.push(Action::Forward(Signal::KILL));
                self.drain(now);
            }
            Phase::Draining => self.push(Action::Abandon),
            _ => {}
        }
    }

    /// Handles the end of the time limit.
    fn expire(&mut self, now: Instant) {
        match self.phase {
            Phase::Running => {
                self.timed_out = true;
                self.end(now);
            }
            Phase::Lingering => {
                self.timed_out = true;
                self.code = if self.code == 0 { exit::TIMED_OUT } else { self.code };
                self.end(now);
            }
            // There is no time for another attempt, nor for a reader that takes nothing.
            Phase::Draining => {
                self.timed_out |= self.code != 0 && self.attempts_left > 0 && !self.is_ending;
                self.ask_to_end(now);
                self.wait_for_reader();
            }
            // The caller starts the next attempt just now.
            Phase::Starting => self.timers.set(LIMIT, now),
            Phase::Waiting(Gate::Retry) => {
                self.timed_out = true;
                self.is_ending = true;
                self.code = exit::TIMED_OUT;
                self.after_last_attempt();
            }
            _ => {}
        }
    }

    fn after_attempt(&mut self, now: Instant) {
        if self.code == 0 || self.attempts_left == 0 || self.is_ending {
            self.after_last_attempt();
        } else if self.plan.retry_pause == Duration::ZERO {
            self.pass(Gate::Retry);
        } else {
            self.timers.set(PHASE, now.after(self.plan.retry_pause));
            self.wait(Gate::Retry);
        }
    }

    fn after_last_attempt(&mut self) {
        self.timers.clear(PHASE);
        let pauses = self.setup.pauses_after || self.setup.pauses_on_failure && self.code != 0;
        if pauses && !self.is_ending {
            self.wait(Gate::After);
        } else {
            self.save();
        }
    }

    fn save(&mut self) {
        if self.plan.saves_outputs {
            self.go(Phase::Saving, Action::Save);
        } else {
            self.finish(true);
        }
    }

    /// Ends the run with the command's exit code; with [`exit::FAILURE`] if that code is 0 and output was lost.
    fn finish(&mut self, all_saved: bool) {
        let lost = !all_saved || self.copy_failed;
        let code = if self.code == 0 && lost { exit::FAILURE } else { self.code };
        self.go(Phase::Done, Action::Finish(code));
    }

    /// Ends a run because a step before the command failed. It never abandons a command that runs, nor its outputs.
    fn fail(&mut self, code: u8) {
        match self.phase {
            Phase::Running | Phase::Lingering | Phase::Draining | Phase::Saving | Phase::Done | Phase::Waiting(Gate::After) => {}
            // An earlier attempt has run, so its outputs are saved.
            Phase::Starting if self.has_run => {
                self.pending = Pending::NONE;
                self.code = code;
                self.after_last_attempt();
            }
            Phase::Idle | Phase::Planning | Phase::Finding | Phase::Starting | Phase::Waiting(_) => {
                self.timers.clear(PHASE);
                self.go(Phase::Done, Action::Finish(code));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const PLAN: Plan = Plan {
        has_dependencies: false,
        is_sidecar: false,
        saves_outputs: true,
        attempts: 1,
        retry_pause: Duration::ZERO,
        grace: Duration::from_s(30),
    };
    const SIDECAR: Plan = Plan { is_sidecar: true, saves_outputs: false, grace: Duration::from_s(1), ..PLAN };

    /// Feeds rows of time and event, and compares the actions of each row.
    fn play(setup: Setup, rows: &[(u64, Event, &[Action])]) -> Machine {
        let mut machine = Machine::new(setup);
        // Without this, the timer for the watch would run in every row.
        machine.handle(Instant::default(), E::Watching);
        for (at, (now_ms, event, want)) in rows.iter().enumerate() {
            machine.handle(Instant::from_ms(*now_ms), *event);
            let actions: Vec<Action> = core::iter::from_fn(|| machine.poll_action()).collect();
            assert_eq!(actions, *want, "row {at}: {event:?}");
        }
        machine
    }

    use Action as A;
    use Event as E;

    const fn usr1() -> Signal {
        match Signal::new(10) {
            Some(signal) => signal,
            None => Signal::TERM,
        }
    }

    #[test]
    fn a_plain_run() {
        play(
            Setup::default(),
            &[
                (0, E::Begin, &[A::Plan]),
                (0, E::Planned(PLAN), &[A::Find]),
                (0, E::Found, &[A::Spawn]),
                (0, E::Spawned, &[]),
                (9, E::Exited(3), &[A::Drain]),
                (9, E::Drained, &[A::Save]),
                (9, E::Saved { all: true }, &[A::Finish(3)]),
                (9, E::Exited(0), &[]),
                (9, E::Signal(Signal::TERM), &[]),
                (9, E::Failed(64), &[]),
            ],
        );
    }

    /// The rows from the beginning to a command that runs.
    const STARTED: [(u64, Event, &[Action]); 4] =
        [(0, E::Begin, &[A::Plan]), (0, E::Planned(PLAN), &[A::Find]), (0, E::Found, &[A::Spawn]), (0, E::Spawned, &[])];

    /// Plays these rows behind [`STARTED`].
    fn play_started(setup: Setup, rows: &[(u64, Event, &[Action])]) -> Machine {
        play(setup, &[&STARTED[..], rows].concat())
    }

    #[test]
    fn a_time_limit_ends_the_command() {
        let setup = Setup { timeout: Some(Duration::from_ms(100)), ..Setup::default() };
        let term: (u64, Event, &[Action]) = (100, E::Tick, &[A::Forward(Signal::TERM)]);
        for (end, code) in [(E::Killed(15), 124), (E::Exited(0), 124), (E::Exited(7), 7)] {
            let machine = play_started(
                setup,
                &[
                    (99, E::Tick, &[]),
                    term,
                    (150, end, &[A::Drain]),
                    (150, E::Drained, &[A::Save]),
                    (150, E::Saved { all: true }, &[A::Finish(code)]),
                ],
            );
            assert!(machine.has_timed_out() && machine.attempts() == 1);
        }
        // SIGKILL follows after the grace period, and a signal that comes in time changes nothing.
        play_started(setup, &[term, (30_099, E::Tick, &[]), (30_100, E::Tick, &[A::Forward(Signal::KILL)])]);
        let machine = play_started(setup, &[(50, E::Killed(9), &[A::Drain]), (50, E::Drained, &[A::Save]), (200, E::Tick, &[])]);
        assert!(!machine.has_timed_out());
    }

    #[test]
    fn descendants_are_waited_for() {
        let setup = Setup { waits_for_descendants: true, ..Setup::default() };
        let ended: (u64, Event, &[Action]) = (1, E::Exited(3), &[]);
        play_started(
            setup,
            &[ended, (2, E::Signal(usr1()), &[A::Forward(usr1())]), (3, E::Childless, &[A::Drain]), (3, E::Drained, &[A::Save])],
        );
        // After SIGKILL, nothing is waited for.
        play_started(setup, &[ended, (2, E::Signal(Signal::KILL), &[A::Forward(Signal::KILL), A::Drain]), (3, E::Childless, &[])]);
        play_started(
            setup,
            &[ended, (2, E::Cancelled, &[A::Forward(Signal::TERM)]), (30_002, E::Tick, &[A::Forward(Signal::KILL), A::Drain])],
        );
        play_started(
            setup,
            &[(1, E::Unkillable, &[A::Drain]), (1, E::Drained, &[A::Save]), (1, E::Saved { all: true }, &[A::Finish(137)])],
        );
    }

    #[test]
    fn files_of_other_steps_and_a_pause_after_a_failure() {
        let setup = Setup { waits_for_files: true, pauses_on_failure: true, ..Setup::default() };
        let start: [(u64, Event, &[Action]); 5] = [
            (0, E::Begin, &[A::Plan]),
            (0, E::Planned(PLAN), &[A::Await(Gate::Files)]),
            (5, E::Opened(Gate::Files), &[A::Find]),
            (5, E::Found, &[A::Spawn]),
            (5, E::Spawned, &[]),
        ];
        let pause: [(u64, Event, &[Action]); 4] = [
            (6, E::Exited(3), &[A::Drain]),
            (6, E::Drained, &[A::Await(Gate::After)]),
            (7, E::Replaced(9), &[]),
            (7, E::Opened(Gate::After), &[A::Save]),
        ];
        play(setup, &[&start[..], &pause, &[(7, E::Saved { all: true }, &[A::Finish(9)])]].concat());
        play(setup, &[&start[..], &[(6, E::Exited(0), &[A::Drain]), (6, E::Drained, &[A::Save])]].concat());
        play(setup, &[&start[..2], &[(1, E::Cancelled, &[A::Finish(143)])]].concat());
    }

    #[test]
    fn signals_before_during_and_after_the_command() {
        play(
            Setup::default(),
            &[
                (0, E::Begin, &[A::Plan]),
                (0, E::Signal(Signal::TERM), &[]),
                (0, E::Planned(PLAN), &[A::Find]),
                (0, E::Signal(usr1()), &[]),
                (0, E::Found, &[A::Spawn]),
                (0, E::Spawned, &[A::Forward(Signal::TERM), A::Forward(usr1())]),
                (1, E::Signal(Signal::STOP), &[A::Forward(Signal::STOP)]),
                (1, E::Signal(Signal::CONT), &[A::Forward(Signal::CONT)]),
                (2, E::Exited(143), &[A::Drain]),
                (2, E::Signal(usr1()), &[]),
                (2, E::Signal(Signal::TERM), &[]),
                (2, E::Drained, &[A::Save]),
                (2, E::Signal(Signal::TERM), &[]),
                (2, E::Saved { all: true }, &[A::Finish(143)]),
            ],
        );
    }

    #[test]
    fn all_64_signals_can_be_pending_before_the_start() {
        let mut machine =
            play(Setup::default(), &[(0, E::Begin, &[A::Plan]), (0, E::Planned(PLAN), &[A::Find]), (0, E::Found, &[A::Spawn])]);
        for number in 1..=64 {
            machine.handle(Instant::default(), E::Signal(Signal::new(number).unwrap()));
        }
        machine.handle(Instant::default(), E::Spawned);
        assert_eq!(core::iter::from_fn(|| machine.poll_action()).count(), 64);
    }

    /// Plays a run up to the end of its command, with output that no reader has taken yet. Then plays the rows of `then`.
    fn draining(asked_at: Option<u64>, ended_at: u64, then: &[(u64, Event, &[Action])]) -> Machine {
        let mut rows: Vec<(u64, Event, &[Action])> =
            [(0, E::Begin, &[A::Plan][..]), (0, E::Planned(PLAN), &[A::Find]), (0, E::Found, &[A::Spawn]), (0, E::Spawned, &[])].into();
        rows.extend(asked_at.map(|at| (at, E::Signal(Signal::TERM), &[A::Forward(Signal::TERM)][..])));
        rows.push((ended_at, E::Exited(143), &[A::Drain]));
        rows.extend(then);
        play(Setup::default(), &rows)
    }

    #[test]
    fn after_a_request_to_end_a_reader_that_takes_nothing_has_a_deadline() {
        draining(
            Some(1),
            2,
            &[(5_001, E::Tick, &[]), (5_002, E::Tick, &[A::Abandon]), (5_002, E::Tick, &[]), (5_002, E::Drained, &[A::Save])],
        );
    }

    #[test]
    fn a_second_request_does_not_give_up_a_reader_that_reads() {
        draining(
            Some(0),
            100,
            &[
                (150, E::Signal(Signal::TERM), &[]),
                (150, E::Tick, &[]),
                (5_000, E::PassedOn, &[]),
                (5_100, E::Tick, &[]),
                (5_200, E::Signal(Signal::TERM), &[]),
                (9_999, E::PassedOn, &[]),
                (14_998, E::Tick, &[]),
                (14_999, E::Tick, &[A::Abandon]),
            ],
        );
        // The limit is three quarters of the grace period.
        draining(
            Some(0),
            100,
            &[
                (5_000, E::PassedOn, &[]),
                (10_000, E::PassedOn, &[]),
                (15_000, E::PassedOn, &[]),
                (20_000, E::PassedOn, &[]),
                (22_499, E::Tick, &[]),
                (22_500, E::Tick, &[A::Abandon]),
            ],
        );
    }

    #[test]
    fn without_a_request_a_reader_has_all_the_time() {
        let machine = draining(None, 100, &[(u64::MAX, E::Tick, &[])]);
        assert_eq!(machine.next_deadline(), None);
        // The reader has taken nothing for long when the request comes.
        draining(None, 100, &[(9_000, E::Signal(usr1()), &[]), (9_000, E::Signal(Signal::TERM), &[]), (9_000, E::Tick, &[A::Abandon])]);
        let machine = draining(None, 100, &[(8_000, E::PassedOn, &[]), (9_000, E::Signal(Signal::TERM), &[])]);
        assert_eq!(machine.next_deadline(), Some(Instant::from_ms(13_000)));
    }

    #[test]
    fn gates_open_in_order() {
        let setup = Setup { waits_for_ready: true, pauses_before: true, pauses_after: true, ..Setup::default() };
        let plan = Plan { has_dependencies: true, ..PLAN };
        play(
            setup,
            &[
                (0, E::Begin, &[A::Await(Gate::Ready)]),
                (0, E::Opened(Gate::Before), &[]),
                (1, E::Opened(Gate::Ready), &[A::Plan]),
                (1, E::Planned(plan), &[A::Await(Gate::Dependencies)]),
                (2, E::Opened(Gate::Dependencies), &[A::Find]),
                (2, E::Found, &[A::Await(Gate::Before)]),
                (2, E::Signal(usr1()), &[]),
                (3, E::Opened(Gate::Before), &[A::Spawn]),
                (3, E::Spawned, &[A::Forward(usr1())]),
                (4, E::Exited(0), &[A::Drain]),
                (4, E::Drained, &[A::Await(Gate::After)]),
                (4, E::Signal(usr1()), &[]),
                (5, E::Opened(Gate::After), &[A::Save]),
                (5, E::Saved { all: true }, &[A::Finish(0)]),
            ],
        );
    }

    #[test]
    fn a_request_to_end_ends_the_wait_at_each_gate() {
        let dependencies = Plan { has_dependencies: true, ..PLAN };
        play(
            Setup { waits_for_ready: true, ..Setup::default() },
            &[(0, E::Begin, &[A::Await(Gate::Ready)]), (0, E::Signal(Signal::INT), &[A::Finish(130)])],
        );
        play(
            Setup::default(),
            &[
                (0, E::Begin, &[A::Plan]),
                (0, E::Planned(dependencies), &[A::Await(Gate::Dependencies)]),
                (0, E::Signal(Signal::TERM), &[A::Finish(143)]),
                (0, E::Opened(Gate::Dependencies), &[]),
            ],
        );
        play(
            Setup { pauses_after: true, ..Setup::default() },
            &[
                (0, E::Begin, &[A::Plan]),
                (0, E::Planned(PLAN), &[A::Find]),
                (0, E::Found, &[A::Spawn]),
                (0, E::Spawned, &[]),
                (0, E::Exited(5), &[A::Drain]),
                (0, E::Drained, &[A::Await(Gate::After)]),
                (0, E::Signal(Signal::TERM), &[A::Save]),
                (0, E::Saved { all: true }, &[A::Finish(5)]),
            ],
        );
    }

    #[test]
    fn a_failed_step_gives_the_exit_code() {
        let dependencies = Plan { has_dependencies: true, ..PLAN };
        play(
            Setup::default(),
            &[
                (0, E::Begin, &[A::Plan]),
                (0, E::Planned(dependencies), &[A::Await(Gate::Dependencies)]),
                (0, E::Failed(3), &[A::Finish(3)]),
                (0, E::Failed(4), &[]),
            ],
        );
        play(Setup::default(), &[(0, E::Begin, &[A::Plan]), (0, E::Planned(PLAN), &[A::Find]), (0, E::Failed(64), &[A::Finish(64)])]);
    }

    #[test]
    fn retries_pause_and_stop_at_success_or_at_a_request_to_end() {
        let plan = Plan { attempts: 3, retry_pause: Duration::from_ms(100), ..PLAN };
        let start: [(u64, Event, &[Action]); 6] = [
            (0, E::Begin, &[A::Plan]),
            (0, E::Planned(plan), &[A::Find]),
            (0, E::Found, &[A::Spawn]),
            (0, E::Spawned, &[]),
            (5, E::Exited(1), &[A::Drain]),
            (5, E::Drained, &[A::Await(Gate::Retry)]),
        ];
        let then = |more: &[(u64, Event, &'static [Action])]| {
            let rows: Vec<_> = start.iter().copied().chain(more.iter().copied()).collect();
            play(Setup::default(), &rows)
        };
        then(&[
            (6, E::Opened(Gate::Retry), &[]),
            (104, E::Tick, &[]),
            (105, E::Tick, &[A::Spawn]),
            (105, E::Spawned, &[]),
            (106, E::Exited(0), &[A::Drain]),
            (106, E::Drained, &[A::Save]),
            (106, E::Saved { all: true }, &[A::Finish(0)]),
        ]);
        then(&[(6, E::Signal(Signal::TERM), &[A::Save]), (7, E::Saved { all: true }, &[A::Finish(143)])]);
        // If an attempt cannot start, the outputs of the attempt before it are saved all the same.
        then(&[(105, E::Tick, &[A::Spawn]), (105, E::Failed(64), &[A::Save]), (106, E::Saved { all: true }, &[A::Finish(64)])]);
        // A failed start does not forget a request to end: there is no pause after the command.
        let pausing = Setup { pauses_after: true, ..Setup::default() };
        let rows = start.iter().copied().chain([
            (105, E::Tick, &[A::Spawn] as &[Action]),
            (105, E::Signal(Signal::TERM), &[]),
            (105, E::Failed(64), &[A::Save]),
        ]);
        play(pausing, &rows.collect::<Vec<_>>());
        then(&[
            (105, E::Tick, &[A::Spawn]),
            (105, E::Spawned, &[]),
            (106, E::Signal(Signal::TERM), &[A::Forward(Signal::TERM)]),
            (107, E::Exited(143), &[A::Drain]),
            (107, E::Drained, &[A::Save]),
        ]);
        then(&[
            (105, E::Tick, &[A::Spawn]),
            (105, E::Spawned, &[]),
            (106, E::Exited(2), &[A::Drain]),
            (106, E::Drained, &[A::Await(Gate::Retry)]),
            (206, E::Tick, &[A::Spawn]),
            (206, E::Spawned, &[]),
            (207, E::Exited(4), &[A::Drain]),
            (207, E::Drained, &[A::Save]),
            (207, E::Saved { all: true }, &[A::Finish(4)]),
        ]);
    }

    #[test]
    fn zero_attempts_count_as_one_and_a_zero_pause_is_skipped() {
        play(
            Setup::default(),
            &[
                (0, E::Begin, &[A::Plan]),
                (0, E::Planned(Plan { attempts: 0, saves_outputs: false, ..PLAN }), &[A::Find]),
                (0, E::Found, &[A::Spawn]),
                (0, E::Spawned, &[]),
                (0, E::Exited(2), &[A::Drain]),
                (0, E::Drained, &[A::Finish(2)]),
            ],
        );
        play(
            Setup::default(),
            &[
                (0, E::Begin, &[A::Plan]),
                (0, E::Planned(Plan { attempts: 2, ..PLAN }), &[A::Find]),
                (0, E::Found, &[A::Spawn]),
                (0, E::Spawned, &[]),
                (0, E::Exited(2), &[A::Drain]),
                (0, E::Drained, &[A::Spawn]),
            ],
        );
    }

    #[test]
    fn a_sidecar_ends_after_the_main_containers() {
        let start: [(u64, Event, &[Action]); 4] =
            [(0, E::Begin, &[A::Plan]), (0, E::Planned(SIDECAR), &[A::Find]), (0, E::Found, &[A::Spawn]), (0, E::Spawned, &[])];
        let rows: Vec<(u64, Event, &[Action])> = start
            .into_iter()
            .chain([
                (50, E::MainsExited, &[A::Forward(Signal::TERM)][..]),
                (60, E::MainsExited, &[]),
                (1_049, E::Tick, &[]),
                (1_050, E::Tick, &[A::Forward(Signal::KILL)]),
                (1_051, E::Exited(137), &[A::Drain]),
                (1_051, E::Drained, &[A::Finish(137)]),
            ])
            .collect();
        let machine = play(Setup::default(), &rows);
        assert_eq!(machine.next_deadline(), None);
        // The main containers have ended before the sidecar's command starts.
        play(
            Setup::default(),
            &[
                (0, E::Begin, &[A::Plan]),
                (0, E::Planned(SIDECAR), &[A::Find]),
                (0, E::MainsExited, &[]),
                (0, E::Found, &[A::Spawn]),
                (0, E::Spawned, &[A::Forward(Signal::TERM)]),
            ],
        );
        // A main container ignores the event.
        play(Setup::default(), &[(0, E::Begin, &[A::Plan]), (0, E::Planned(PLAN), &[A::Find]), (0, E::MainsExited, &[])]);
    }

    #[test]
    fn a_signal_that_was_ignored_at_our_start_is_no_request_to_end() {
        let plan = Plan { has_dependencies: true, attempts: 2, ..PLAN };
        let setup = Setup { pauses_before: true, pauses_after: true, ..Setup::default() };
        let hup = E::Ignored(Signal::HUP);
        let rows: [(u64, Event, &[Action]); 16] = [
            (0, E::Begin, &[A::Plan]),
            (0, hup, &[]),
            (0, E::Planned(plan), &[A::Await(Gate::Dependencies)]),
            (0, hup, &[]),
            (0, E::Opened(Gate::Dependencies), &[A::Find]),
            (0, E::Found, &[A::Await(Gate::Before)]),
            (0, E::Opened(Gate::Before), &[A::Spawn]),
            // The command gets the signal and decides for itself.
            (0, E::Spawned, &[A::Forward(Signal::HUP)]),
            (1, hup, &[A::Forward(Signal::HUP)]),
            (2, E::Exited(1), &[A::Drain]),
            (2, hup, &[]),
            (2, E::Drained, &[A::Spawn]),
            (2, E::Spawned, &[]),
            (3, E::Exited(1), &[A::Drain]),
            (3, E::Drained, &[A::Await(Gate::After)]),
            (3, hup, &[]),
        ];
        play(setup, &rows);
    }

    #[test]
    fn a_command_that_we_may_not_kill_ends_the_run_with_137() {
        let plan = Plan { attempts: 3, ..PLAN };
        let machine = play(
            Setup { pauses_after: true, ..Setup::default() },
            &[
                (0, E::Begin, &[A::Plan]),
                (0, E::Unkillable, &[]),
                (0, E::Planned(plan), &[A::Find]),
                (0, E::Found, &[A::Spawn]),
                (0, E::Spawned, &[]),
                (1, E::Unkillable, &[A::Drain]),
                (1, E::Unkillable, &[]),
                (1, E::Exited(0), &[]),
                (1, E::Drained, &[A::Save]),
                (1, E::Saved { all: true }, &[A::Finish(137)]),
            ],
        );
        assert_eq!(machine.next_deadline(), None);
    }

    #[test]
    fn the_command_may_start_until_its_last_attempt_runs() {
        let mut machine = Machine::new(Setup::default());
        let mut after = |event| {
            machine.handle(Instant::default(), event);
            while machine.poll_action().is_some() {}
            machine.may_start()
        };
        let events = [E::Begin, E::Planned(Plan { attempts: 2, ..PLAN }), E::Found, E::Spawned, E::Exited(1), E::Drained];
        assert_eq!(events.map(&mut after), [true; 6]);
        assert_eq!([E::Spawned, E::Exited(1), E::Drained, E::Saved { all: true }].map(&mut after), [false; 4]);
        let mut machine = Machine::new(Setup::default());
        for event in [E::Begin, E::Planned(Plan { attempts: 2, ..PLAN }), E::Found, E::Spawned, E::Signal(Signal::TERM)] {
            machine.handle(Instant::default(), event);
        }
        assert!(!machine.may_start());
    }

    #[test]
    fn the_watch_starts_late_and_looks_follow_changes_and_timers() {
        let at = Instant::from_ms;
        let mut machine = Machine::new(Setup::default());
        let mut handle = |now_ms, event| -> (Vec<Action>, Option<Instant>) {
            machine.handle(at(now_ms), event);
            (core::iter::from_fn(|| machine.poll_action()).collect(), machine.next_deadline())
        };
        for event in [E::Begin, E::Planned(PLAN), E::Found] {
            assert_eq!(handle(0, event).1, None, "nothing is watched before the command runs: {event:?}");
        }
        assert_eq!(handle(5, E::Spawned), (Vec::new(), Some(at(25))));
        assert_eq!(handle(24, E::Tick), (Vec::new(), Some(at(25))));
        assert_eq!(handle(25, E::Tick), ([A::Watch].into(), None));
        assert_eq!(handle(26, E::Watching), (Vec::new(), None));
        assert_eq!(handle(30, E::Changed), ([A::Look].into(), None));
        assert_eq!(handle(40, E::LookAfter(Duration::from_ms(50))), (Vec::new(), Some(at(90))));
        assert_eq!(handle(45, E::LookAfter(Duration::from_ms(60))), (Vec::new(), Some(at(90))));
        assert_eq!(handle(90, E::Tick), ([A::Look].into(), None));
        // From here on, changes go unseen.
        assert_eq!(handle(100, E::CannotWatch), (Vec::new(), Some(at(200))));
        assert_eq!(handle(200, E::Tick), ([A::Look].into(), Some(at(300))));
        assert_eq!(handle(210, E::Changed), ([A::Look].into(), Some(at(310))));
        assert_eq!(handle(300, E::Exited(0)).0, [A::Drain]);
        assert_eq!(handle(310, E::Tick).0, [A::Look]);
        assert_eq!((handle(310, E::Drained).0, handle(310, E::Saved { all: true }).0), ([A::Save].into(), [A::Finish(0)].into()));
        assert_eq!(handle(9_999, E::Tick).0, []);
    }

    #[test]
    fn a_watch_before_the_start_needs_no_timer() {
        let mut machine = Machine::new(Setup { pauses_before: true, ..Setup::default() });
        for event in [E::Begin, E::Planned(PLAN), E::Found, E::Watching, E::Opened(Gate::Before), E::Spawned] {
            machine.handle(Instant::default(), event);
        }
        assert_eq!(machine.next_deadline(), None);
    }

    #[test]
    fn lost_output_gives_64_unless_the_command_failed() {
        for (code, copy_failed, all, want) in [(0, false, false, 64), (0, true, true, 64), (7, true, false, 7), (0, false, true, 0)] {
            let mut machine = play(
                Setup::default(),
                &[(0, E::Begin, &[A::Plan]), (0, E::Planned(PLAN), &[A::Find]), (0, E::Found, &[A::Spawn]), (0, E::Spawned, &[])],
            );
            if copy_failed {
                machine.handle(Instant::default(), E::CopyFailed);
            }
            for event in [E::Exited(code), E::Drained, E::Saved { all }] {
                machine.handle(Instant::default(), event);
            }
            assert_eq!(core::iter::from_fn(|| machine.poll_action()).last(), Some(A::Finish(want)));
        }
    }
}
