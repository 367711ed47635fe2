//! The main role, from top to bottom: prepare, wait, start, supervise, save, write the exit code.
//!
//! The machine of core decides; this file looks, starts, reads and writes, and reports back. It owns every buffer.

use core::cell::OnceCell;
use core::ffi::CStr;
use std::ffi::CString;

use emissary_core::exit::{self, Reading};
use emissary_core::json::Str;
use emissary_core::layout::{self, File, Kind};
use emissary_core::limits::{CONTAINER_NAME_BYTES, PATH_BYTES, SIGNAL_FILE_BYTES};
use emissary_core::ready::{self, Readiness};
use emissary_core::signal::Signal;
use emissary_core::supervise::{Action, Event, Gate, Machine, Plan, Setup};
use emissary_core::template::Template;
use emissary_core::trust::{Trust, When};
use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::Pid;

use super::request::{Common, Personality};
use crate::os::signals::{self, Signals};
use crate::os::spawn::Argv;
use crate::os::{clock, fs, memory};
use crate::pod::environment::{grace_ms, is_true};
use crate::pod::exit_codes::{ExitCodes, RETRY_MS};
use crate::pod::folder::Folder;
use crate::pod::shared::Shared;
use crate::pod::template::{self, decoded, main_containers};
use crate::pod::watch::Watch;
use crate::process::argv;
use crate::process::child::{self, Inherited};
use crate::process::events::PollSet;
use crate::process::tee::{Kept, Tee};
use crate::process::terminal::Terminal;
use crate::report::console::Console;
use crate::report::error::Error;
use crate::save::{input_links, outputs};

/// Milliseconds for which our own folder is not watched: to close an inotify descriptor that watches something takes the kernel up to ten milliseconds (it
/// waits for a grace period of its own), which a command that is done by then need not pay for.
const UNWATCHED_MS: u64 = 20;

/// What kind of container this is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// One with a template.
    Main,
    /// An artifact plugin's server, which has none and is ended through its signal file alone.
    PluginSidecar,
}

/// Runs the command; gives the status to exit with.
pub(crate) fn run(common: &Common<'_>, command: &[&CStr], role: Role) -> u8 {
    let umask = rustix::process::umask(Mode::empty()).as_raw_mode();
    let inherited = Inherited {
        mask: signals::block_all_signals(),
        ignores_sigchld: signals::take_sigchld(),
        // Argo's executor leaves its command with none, and steps that share a volume under several uids rely on it.
        umask: if common.personality == Personality::Argoexec { 0 } else { umask },
    };
    fs::occupy_standard_descriptors();
    let console = common.console;
    let shared = match Shared::open(&common.place) {
        Ok(shared) => shared,
        Err(error) => return console.fatal(&error),
    };
    let folder = match shared.own() {
        Ok(folder) => folder,
        Err(error) => return console.fatal(&error),
    };
    memory::leave_in(folder.as_fd());
    supervise(console, &shared, &folder, command, role, &inherited).unwrap_or_else(|error| leave(console, &folder, console.fatal(&error)))
}

/// Ends a run whose arguments are wrong: somebody may wait for its exit code.
pub(crate) fn refuse(common: &Common<'_>, error: &Error) -> u8 {
    let code = common.console.fatal(error);
    rustix::process::umask(Mode::empty());
    // Where there is no folder to leave it in, there is nobody to find it.
    match Shared::open(&common.place).and_then(|shared| shared.own()) {
        Ok(folder) => leave(common.console, &folder, code),
        Err(_) => code,
    }
}

/// Writes the exit code; gives the status to exit with, which is the same.
fn leave(console: Console, folder: &Folder, code: u8) -> u8 {
    let mut room = [0; 3];
    match folder.write(layout::base_name(File::ExitCode), exit::digits(code, &mut room), 0o644) {
        Ok(()) => code,
        Err(error) => {
            // Better none than that of an earlier run.
            folder.remove(layout::base_name(File::ExitCode));
            let status = console.fatal(&error);
            if code == 0 { status } else { code }
        }
    }
}

/// Feeds the machine until it is done, and leaves the exit code.
///
/// # Errors
/// What keeps the machine from being fed at all.
fn supervise(
    console: Console,
    shared: &Shared<'_>,
    folder: &Folder,
    command: &[&CStr],
    role: Role,
    inherited: &Inherited,
) -> Result<u8, Error> {
    // As PID 1 orphans come to us anyway. Where this is refused they go elsewhere.
    let own_pid = rustix::process::getpid();
    if own_pid != Pid::INIT {
        let _ = rustix::process::set_child_subreaper(Some(own_pid));
    }
    let signals = Signals::new().map_err(|errno| Error::new("make a", b"signal descriptor", errno))?;
    let added = argv::read(folder, command.len())?;
    let argv = added.vector(command);
    let document = OnceCell::new();
    let began_ms = clock::monotonic_ms();
    let mut found = CString::default();
    let mut run = Run {
        console,
        shared,
        folder,
        signals: &signals,
        watch: Watch::new(console),
        role,
        machine: Machine::new(Setup {
            waits_for_ready: is_true(c"ARGO_WAIT_FOR_READY"),
            pauses_before: is_true(c"ARGO_DEBUG_PAUSE_BEFORE"),
            pauses_after: is_true(c"ARGO_DEBUG_PAUSE_AFTER"),
        }),
        template: None,
        tee: None,
        captures: false,
        terminal: None,
        child: None,
        is_draining: false,
        reap_is_due: false,
        began_ms,
        unread: None,
        signal_at_ms: 0,
        own_watch: None,
        watch_at_ms: Some(began_ms.saturating_add(UNWATCHED_MS)),
        look_at_ms: None,
        exit_codes: ExitCodes::default(),
    };
    run.tell(Event::Begin);
    loop {
        while let Some(action) = run.machine.poll_action() {
            match action {
                Action::Await(gate) => run.begin_to_wait(gate),
                Action::Plan => match run.plan(&document) {
                    Ok(plan) => run.tell(Event::Planned(plan)),
                    Err(error) => run.fail(&error),
                },
                Action::Find => match child::find(command[0]) {
                    Ok(path) => {
                        found = path;
                        run.tell(Event::Found);
                    }
                    Err(error) => run.fail(&error),
                },
                Action::Spawn => run.spawn(&found, &argv, inherited),
                Action::Forward(signal) => run.forward(signal),
                Action::Drain => run.drain(),
                Action::Abandon => run.tee.iter_mut().for_each(Tee::abandon),
                Action::Save => {
                    let all = run.template.is_none_or(|template| outputs::save(console, shared, &template));
                    run.tell(Event::Saved { all });
                }
                // With everything still open, which takes a while to close (see `UNWATCHED_MS`): somebody waits for this file.
                Action::Finish(code) => return Ok(leave(console, folder, code)),
            }
        }
        // Only now, so that no signal is still on its way to a process id that is free again.
        if run.reap_is_due {
            run.reap();
        } else {
            run.pump();
            if !run.machine.has_action() {
                run.wait();
            }
        }
    }
}

struct Run<'a> {
    console: Console,
    shared: &'a Shared<'a>,
    folder: &'a Folder,
    signals: &'a Signals,
    watch: Watch,
    role: Role,
    machine: Machine,
    template: Option<Template<'a>>,
    tee: Option<Tee<'a>>,
    captures: bool,
    terminal: Option<Terminal>,
    child: Option<Pid>,
    is_draining: bool,
    reap_is_due: bool,
    began_ms: u64,
    /// Why the signal file could not be read, where it was tried last.
    unread: Option<Errno>,
    /// When to look for it again, where it could not be read.
    signal_at_ms: u64,
    own_watch: Option<i32>,
    /// When to begin to watch our own folder, where that is still to come.
    watch_at_ms: Option<u64>,
    /// When to look at files again although nothing changed.
    look_at_ms: Option<u64>,
    exit_codes: ExitCodes,
}

impl<'a> Run<'a> {
    fn tell(&mut self, event: Event) {
        self.machine.handle(clock::monotonic_ms(), event);
    }

    /// Says why the command cannot run, and ends.
    fn fail(&mut self, error: &Error) {
        let code = self.console.fatal(error);
        self.tell(Event::Failed(code));
    }

    /// Watches a container's folder, which is there; the number of the watch.
    fn watch(&mut self, container: &[u8]) -> Option<i32> {
        let mut room = [0; PATH_BYTES];
        let path = self.shared.layout_of(container).path(File::Container, &mut room).ok()?;
        self.watch.add(path, false)
    }

    /// Begins to watch our own folder, unless that was done.
    fn watch_own(&mut self) {
        if self.watch_at_ms.take().is_some() {
            self.own_watch = self.watch(self.shared.layout.container);
            self.look_again_in(0);
        }
    }

    /// Makes the folders of other containers, where they are missing, and watches them.
    fn watch_others(&mut self, mut names: impl Iterator<Item = Str<'a>>) -> Result<(), Error> {
        names.try_for_each(|name| {
            let mut room = [0; CONTAINER_NAME_BYTES];
            let name = decoded(name, &mut room);
            self.shared.container(name)?;
            self.watch(name);
            Ok(())
        })
    }

    /// Reads the template; what it asks for.
    #[inline(never)]
    fn plan(&mut self, document: &'a OnceCell<Vec<u8>>) -> Result<Plan, Error> {
        let mut plan =
            Plan { has_dependencies: false, is_sidecar: false, saves_outputs: false, attempts: 1, retry_pause_ms: 0, grace_ms: grace_ms() };
        if self.role == Role::PluginSidecar {
            return Ok(plan);
        }
        let bytes = template::read(self.shared)?;
        let template = template::parse(document.get_or_init(|| bytes))?;
        let is_flat = self.shared.layout.kind == Kind::Flat;
        let name = self.shared.layout.container;
        let is_main = is_flat || name == b"main";
        if is_main && is_true(c"ARGO_WAIT_FOR_READY") {
            input_links::link(&template)?;
        }
        if is_flat || is_true(c"ARGO_INCLUDE_SCRIPT_OUTPUT") || template.archives_logs() {
            self.captures = true;
            self.tee = Some(Tee::new(self.console, self.folder, if is_flat { Kept::Flat } else { Kept::Pod }));
        }
        if !is_flat {
            plan.has_dependencies = template.dependencies(name).next().is_some();
            plan.is_sidecar = template.is_sidecar(name);
        }
        let retry = template.retry();
        plan.saves_outputs = is_main;
        plan.attempts = retry.attempts;
        plan.retry_pause_ms = retry.pause_ms;
        if plan.is_sidecar {
            plan.attempts = 1;
            self.watch_others(main_containers(&template))?;
        }
        self.template = Some(template);
        Ok(plan)
    }

    #[inline(never)]
    fn begin_to_wait(&mut self, gate: Gate) {
        self.watch_own();
        let what: &[u8] = match gate {
            Gate::Ready => {
                let mut room = [0; PATH_BYTES];
                if let Ok(path) = self.shared.path(File::Shared, &mut room) {
                    self.watch.add(path, false);
                }
                b"waiting until the supervisor is ready"
            }
            Gate::Dependencies => {
                if let Some(template) = self.template
                    && let Err(error) = self.watch_others(template.dependencies(self.shared.layout.container))
                {
                    return self.fail(&error);
                }
                b"waiting for dependencies"
            }
            Gate::Before => b"paused before the command; the file `before` releases it",
            Gate::After => b"paused after the command; the file `after` releases it",
            Gate::Retry => b"pausing before the next attempt",
        };
        self.console.info(&[what]);
        self.look();
    }

    #[inline(never)]
    fn spawn(&mut self, path: &CStr, argv: &Argv<'_>, inherited: &Inherited) {
        // A terminal takes memory of its own.
        memory::command_runs(cfg!(feature = "strict-allocation") && !rustix::termios::isatty(rustix::stdio::stdin()));
        match child::spawn(self.console, path, argv, self.captures, inherited) {
            Err(error) => {
                memory::command_runs(false);
                self.fail(&error);
            }
            Ok(started) => {
                self.child = Some(started.pid);
                self.is_draining = false;
                if started.outputs.iter().any(Option::is_some) {
                    self.tee.get_or_insert_with(|| Tee::new(self.console, self.folder, Kept::Nothing)).attach(started.outputs);
                }
                self.terminal = started.terminal;
                self.tell(Event::Spawned);
                // What was there before we began to watch, and what came while the command was being started.
                self.look();
            }
        }
    }

    fn forward(&mut self, signal: Signal) {
        if let Some(pid) = self.child
            && let Err(errno) = child::forward(pid, signal)
        {
            self.console.error(&Error::new("signal", b"the command's process group", errno));
        }
    }

    /// A signal for the command. An artifact plugin's server ends through its signal file alone: its pod sends SIGTERM to all containers at
    /// once, and the server is still needed then.
    fn signal(&mut self, signal: Signal, is_from_file: bool) {
        match &self.terminal {
            // The kernel tells the command, once its own terminal has the new size.
            Some(terminal) if signal == Signal::WINCH && !is_from_file => return terminal.resize(),
            Some(terminal) if signal == Signal::CONT => terminal.make_raw(),
            _ => {}
        }
        if self.role == Role::Main || is_from_file || signal != Signal::TERM {
            self.tell(Event::Signal(signal));
        }
    }

    fn reap(&mut self) {
        self.reap_is_due = false;
        if let Some(code) = child::reap(self.child) {
            memory::command_runs(false);
            memory::leave_code(if code == 0 { exit::FAILURE } else { code });
            self.child = None;
            let mut room = [0; 3];
            self.console.info(&[b"sub-process exited, exit code ", exit::digits(code, &mut room)]);
            self.tell(Event::Exited(code));
        }
    }

    fn drain(&mut self) {
        self.is_draining = true;
        self.terminal.iter_mut().for_each(Terminal::let_go);
        self.tee.iter_mut().for_each(Tee::begin_drain);
    }

    /// Moves what the command has written.
    fn pump(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.pump();
        }
        if let Some(tee) = &mut self.tee {
            let mut moved = tee.pump();
            // The end of a terminal's output is that nothing more is there, which no event tells.
            while moved && self.is_draining {
                moved = tee.pump();
            }
            if tee.takes_failure() {
                self.tell(Event::CopyFailed);
            }
        }
        if self.is_draining && self.tee.as_ref().is_none_or(Tee::is_drained) {
            self.is_draining = false;
            // Ours has its settings back before anything else is said on it.
            self.terminal = None;
            self.tell(Event::Drained);
        }
    }

    /// Waits for the next event of any kind and takes it in.
    #[inline(never)]
    fn wait(&mut self) {
        let now_ms = clock::monotonic_ms();
        let times = [self.machine.deadline_ms(), self.look_at_ms, self.watch.look_at_ms(now_ms), self.watch_at_ms];
        let mut set = PollSet::new(self.signals);
        if let Some(fd) = self.watch.as_fd() {
            set.push(fd, PollFlags::IN);
        }
        if let Some(tee) = &self.tee {
            tee.poll_for(&mut set);
        }
        if let Some(terminal) = &self.terminal {
            terminal.poll_for(&mut set);
        }
        set.wait(now_ms, times.into_iter().flatten().min());
        // The machine's queue is bounded, the kernel keeps the rest.
        while !self.machine.has_action()
            && let Some(signal) = self.signals.next()
        {
            if signal == Signal::CHLD {
                self.reap_is_due = true;
            } else {
                self.signal(signal, false);
            }
        }
        self.tell(Event::Tick);
        if self.watch_at_ms.is_some_and(|at| at <= clock::monotonic_ms()) {
            self.watch_own();
        }
        let change = self.watch.take();
        if change.is_some() || self.look_at_ms.is_some_and(|at| at <= clock::monotonic_ms()) {
            self.exit_codes.note(change.unwrap_or_default());
            self.look();
        }
    }

    /// Whether a signal file is there and complete.
    fn has_signal(&mut self) -> bool {
        // To put back one that could not be read is a change, too.
        let left_ms = self.signal_at_ms.saturating_sub(clock::monotonic_ms());
        if left_ms > 0 {
            self.look_again_in(left_ms);
            return false;
        }
        if self.exit_codes.closed.takes_signal(self.own_watch) {
            return true;
        }
        match self.folder.age_ms(layout::base_name(File::Signal)) {
            Ok(None) => self.unread = None,
            Ok(Some((age_ms, is_empty))) => match Trust::Age(age_ms).when_written(is_empty) {
                When::Now => return true,
                When::Later => {}
                When::LaterBy(milliseconds) => self.look_again_in(milliseconds),
            },
            Err(error) => {
                // Not even looked at: whatever the cause, it is still there.
                self.look_again_in(RETRY_MS);
                self.cannot_read_signal(&error, error.errno);
            }
        }
        false
    }

    /// Takes the signal file, which is complete.
    fn take_signal(&mut self) {
        let mut room = [0; SIGNAL_FILE_BYTES];
        match self.folder.take(layout::base_name(File::Signal), &mut room) {
            Ok(None) => self.unread = None,
            Ok(Some(bytes)) => match Signal::parse(bytes) {
                Ok(signal) => self.signal(signal, true),
                Err(cause) => {
                    self.console.warn(&[&Error::because(&[b"signal file ignored: '", bytes, b"'"], &|out| cause.describe(out)).text])
                }
            },
            Err(error) => {
                let lasting = error.errno.filter(|&errno| fs::is_passing(errno));
                if lasting.is_some() {
                    self.signal_at_ms = clock::monotonic_ms().saturating_add(RETRY_MS);
                    self.look_again_in(RETRY_MS);
                }
                self.cannot_read_signal(&error, lasting);
            }
        }
    }

    /// Says why: once for as long as it lasts. What does not last was taken away, and the next is another.
    fn cannot_read_signal(&mut self, error: &Error, lasting: Option<Errno>) {
        if lasting.is_none() || core::mem::replace(&mut self.unread, lasting) != lasting {
            self.console.warn(&[&error.text]);
        }
    }

    /// Looks at the files that matter in this phase.
    fn look(&mut self) {
        self.look_at_ms = None;
        if self.has_signal() {
            self.take_signal();
        }
        match self.machine.gate() {
            Some(Gate::Ready) => self.look_for_readiness(),
            Some(Gate::Dependencies) => self.look_for_dependencies(),
            Some(gate @ (Gate::Before | Gate::After)) => {
                let file = if gate == Gate::Before { File::Before } else { File::After };
                if self.folder.has(layout::base_name(file)) {
                    self.tell(Event::Opened(gate));
                }
            }
            Some(Gate::Retry) | None => {}
        }
        if let Some(template) = self.template
            && self.shared.layout.kind == Kind::Pod
            && template.is_sidecar(self.shared.layout.container)
            && main_containers(&template).all(|name| self.has_ended(name))
        {
            self.tell(Event::MainsExited);
        }
    }

    fn look_for_readiness(&mut self) {
        let mut room = [0; ready::MARKER_BYTES];
        let waited_ms = clock::monotonic_ms().saturating_sub(self.began_ms);
        let marker = self.shared.top().and_then(|top| top.read(layout::base_name(File::Status), &mut room));
        let (bytes, age_ms) = match marker {
            Ok(Some((bytes, age_ms))) => (bytes, u64::try_from(age_ms).unwrap_or(0)),
            Ok(None) => (&[][..], waited_ms),
            Err(error) => {
                self.console.warn(&[&error.text]);
                (&[][..], waited_ms)
            }
        };
        match ready::parse(bytes, age_ms) {
            Readiness::Ready => self.tell(Event::Opened(Gate::Ready)),
            Readiness::Failed(reason) => {
                self.fail(&Error::text(&[b"the supervisor failed: ", reason]).with_status(exit::NOT_READY));
            }
            Readiness::Dead => self.fail(&Error::text(&[b"the supervisor is dead: no sign of life for 30 s"]).with_status(exit::NOT_READY)),
            Readiness::Wait { left_ms } => self.look_again_in(left_ms),
        }
    }

    fn look_for_dependencies(&mut self) {
        let Some(template) = self.template else { return };
        let mut all = true;
        for name in template.dependencies(self.shared.layout.container) {
            match self.exit_code_of(name) {
                Ok(Some(0)) => {}
                Ok(None) => all = false,
                Ok(Some(code)) => {
                    let (mut room, mut digits) = ([0; CONTAINER_NAME_BYTES], [0; 3]);
                    let name = decoded(name, &mut room);
                    let text = [b"dependency '", name, b"' failed, exit code ", exit::digits(code, &mut digits)];
                    return self.fail(&Error::text(&text).with_status(code));
                }
                Err(error) => return self.fail(&error),
            }
        }
        if all {
            self.tell(Event::Opened(Gate::Dependencies));
        }
    }

    /// A container's exit code; `None` while there is none that is complete.
    fn exit_code_of(&mut self, name: Str<'_>) -> Result<Option<u8>, Error> {
        let mut room = [0; CONTAINER_NAME_BYTES];
        let name = decoded(name, &mut room);
        let shared = self.shared;
        let reading = shared.container(name).and_then(|folder| {
            // The watch that is there already, by its number.
            let watched = self.watch(name).filter(|_| !self.watch.must_look());
            self.exit_codes.read(&folder, watched)
        });
        match self.exit_codes.bear(name, reading)? {
            Reading::Code(code) => return Ok(Some(code)),
            Reading::LaterBy(milliseconds) => self.look_again_in(milliseconds),
            Reading::Later => {}
        }
        Ok(None)
    }

    /// Whether a main container has ended. What holds no exit code has ended all the same, as for the wait side.
    fn has_ended(&mut self, name: Str<'_>) -> bool {
        match self.exit_code_of(name) {
            Ok(code) => code.is_some(),
            Err(error) => {
                let mut room = [0; CONTAINER_NAME_BYTES];
                let failing = self.exit_codes.failing(decoded(name, &mut room));
                if failing.is_some_and(|failing| !core::mem::replace(&mut failing.is_said, true)) {
                    self.console.warn(&[&error.text]);
                }
                true
            }
        }
    }

    fn look_again_in(&mut self, milliseconds: u64) {
        let at = clock::monotonic_ms().saturating_add(milliseconds);
        self.look_at_ms = Some(self.look_at_ms.map_or(at, |now| now.min(at)));
    }
}
