//! The main role runs a container's command (docs/protocol.md, "Main"): prepare, wait, start, supervise, save, write the exit code.
//!
//! Enters: the command line, the environment, the template (a JSON document that names the outputs), signals, and files of the shared folder. Leaves: the
//! command's logs, its outputs and its exit code as files, and the same exit code as emissary's own status. Refuses: a shared folder that is missing, a
//! template that is not valid, and a command that cannot be found. Each of these ends the run with an exit code of emissary's own.
//!
//! `core::supervise::Machine` decides. This file owns every buffer: it does the machine's actions and reports events back.

use core::cell::OnceCell;
use core::ffi::CStr;
use std::ffi::CString;

use emissary_core::buf::Writer;
use emissary_core::exit::{self, Outcome as End};
use emissary_core::exit_file::Reading;
use emissary_core::json::Str;
use emissary_core::layout::{self, File, Kind};
use emissary_core::limits::{CONTAINER_NAME_BYTES, EXIT_CODE_FILE_BYTES, PATH_BYTES, SIGNAL_FILE_BYTES};
use emissary_core::log::Level;
use emissary_core::ready::{self, Readiness};
use emissary_core::signal::{Origin, Received, Signal};
use emissary_core::signal_file::{Look, Next, Outcome, SignalFile, Taken};
use emissary_core::supervise::{Action, Event, Gate, Machine, Plan, Setup};
use emissary_core::template::Template;
use emissary_core::timers::{Duration, Instant, LOOK_EVERY, SETTLE_TIME};
use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::Pid;

use super::request::{Common, Group, Peer, Personality, RunFlags, StartCodes};
use crate::os::signals::{self, Signals};
use crate::os::spawn::Argv;
use crate::os::{clock, descriptors, errno, fs, memory, terminal};
use crate::pod::container::{self, Container};
use crate::pod::environment::{self, is_true};
use crate::pod::folder::{self, Folder};
use crate::pod::own_exit_code::OwnExitCode;
use crate::pod::record::{self, Facts};
use crate::pod::shared::{Home, Shared};
use crate::pod::steps::{self, Standing};
use crate::pod::template::{self, Document, decoded, main_containers};
use crate::pod::watch::{Change, FileEvent, Watch};
use crate::process::argv;
use crate::process::child::{self, CommandState, Inherited, Manner};
use crate::process::events::PollSet;
use crate::process::tee::{Kept, Tee};
use crate::process::terminal::{Foreground, Terminal};
use crate::report::console::Console;
use crate::report::error::Error;
use crate::save::{input_links, outputs};

/// The kind of container.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A container with a template.
    Main,
    /// The server of an artifact plugin. It has no template, and only its signal file ends it.
    PluginSidecar,
}

/// Runs the command. Returns the status to exit with.
pub(crate) fn run(common: &Common<'_>, command: &[&CStr], role: Role) -> u8 {
    let umask = fs::set_umask(0);
    let mask = signals::block_all_signals();
    let has_descriptors = descriptors::occupy_standard();
    let console = common.console;
    // In the place of another init, we write nothing.
    let opened = if common.run.peer.is_some() { Ok(None) } else { Shared::open_if_any(&common.place) };
    let shared = match opened {
        Ok(shared) => shared,
        Err(error) => return refuse(common, &error),
    };
    let folder = match shared.as_ref().map(Shared::own).transpose() {
        Ok(folder) => folder,
        Err(error) => return refuse(common, &error),
    };
    let home = shared.as_ref().zip(folder.as_ref()).map(|(shared, folder)| Home { shared, folder });
    let inherited = Inherited {
        mask,
        ignores_sigchld: signals::take_sigchld(),
        // Argo's executor sets no umask for its command. Steps that share a volume under several user ids rely on that.
        umask: if common.personality == Personality::Argoexec { Some(0) } else { umask },
        has_descriptors,
    };
    let flags = &common.run;
    let exit_code = home.map(|home| OwnExitCode::prepare(console, home.folder));
    let mut ending = Ending { console, home, exit_code, flags, facts: Facts::new(command) };
    // Files of an earlier run must not let the next step start, nor release this one.
    if let Some(path) = flags.post_file {
        steps::clear(path);
    }
    if flags.pauses_on_failure {
        let Some(home) = home else {
            return ending.end(console.fatal(&Error::text(&[b"flag --pause-on-failure needs a shared folder"])), false);
        };
        home.folder.remove(layout::base_name(File::After));
    }
    match supervise(console, flags, home, &mut ending, command, role, &inherited) {
        Ok(status) => status,
        Err(error) => {
            ending.facts.message = error.text.clone();
            ending.end(console.fatal(&error), false)
        }
    }
}

/// Ends a run whose arguments are wrong, or whose folder cannot be used. Leaves an exit code and the file for the next step, as far as that is possible, because
/// others may wait for them.
pub(crate) fn refuse(common: &Common<'_>, error: &Error) -> u8 {
    let code = common.console.fatal(error);
    rustix::process::umask(Mode::empty());
    // Without a shared folder no container can wait for the code.
    let shared = Shared::open_if_any(&common.place).ok().flatten();
    let folder = shared.as_ref().and_then(|shared| shared.own().ok());
    let home = shared.as_ref().zip(folder.as_ref()).map(|(shared, folder)| Home { shared, folder });
    let exit_code = home.map(|home| OwnExitCode::prepare(common.console, home.folder));
    let facts = Facts { message: error.text.clone(), ..Facts::new(&[]) };
    Ending { console: common.console, home, exit_code, flags: &common.run, facts }.end(code, false)
}

/// What the end of a run needs.
struct Ending<'a> {
    console: Console,
    home: Option<Home<'a>>,
    exit_code: Option<OwnExitCode<'a>>,
    flags: &'a RunFlags<'a>,
    facts: Facts<'a>,
}

impl Ending<'_> {
    /// Writes the exit code and the file for the next step. Returns the status to exit with. `is_commands` says that the command has ended by itself with this
    /// code.
    fn end(&mut self, code: u8, is_commands: bool) -> u8 {
        let status_of = |code| if is_commands && self.flags.continues_on_error { 0 } else { self.flags.remaps.apply(code) };
        let mut code = code;
        // The exit code comes last, so that it can tell of a file that could not be made.
        if let Some(path) = self.flags.post_file
            && let Err(error) = steps::post(path, status_of(code) == 0)
        {
            self.facts.message = error.text.clone();
            let failure = self.console.fatal(&error);
            code = if code == 0 { failure } else { code };
        }
        let code = match (&mut self.exit_code, self.home) {
            (Some(exit_code), Some(home)) => {
                if let Err(error) = record::write(home, &self.facts, code) {
                    self.console.warn(&[&error.text]);
                }
                exit_code.write(self.console, home.shared, code)
            }
            _ => code,
        };
        status_of(code)
    }
}

/// tini's warning. Programs look for its middle.
const NO_REAPER: &[u8] =
    b"this process is neither PID 1 nor a child subreaper, so zombie reaping won't work; -s or TINI_SUBREAPER makes it one";

/// Feeds the machine until it is done, and writes the exit code.
///
/// # Errors
/// The signal descriptor cannot be made, or the argument file cannot be read.
fn supervise<'a>(
    console: Console,
    flags: &'a RunFlags<'_>,
    home: Option<Home<'a>>,
    ending: &mut Ending<'_>,
    command: &'a [&'a CStr],
    role: Role,
    inherited: &Inherited,
) -> Result<u8, Error> {
    // PID 1 gets orphans without this call. If the kernel refuses it, another process gets them.
    let own_pid = rustix::process::getpid();
    if own_pid != Pid::INIT {
        if !flags.is_no_subreaper {
            let _ = rustix::process::set_child_subreaper(Some(own_pid));
        } else if flags.peer == Some(Peer::Tini) && !matches!(rustix::process::child_subreaper(), Ok(Some(_))) {
            console.warn(&[NO_REAPER]);
        }
    }
    if let Some(signal) = flags.parent_death {
        signals::ask_for_parents_death(signal);
    }
    let signals = Signals::new().map_err(|errno| Error::new("make a", b"signal descriptor", errno))?;
    let is_peer = flags.peer.is_some();
    let added = argv::read(home.map(|home| home.folder), command.len(), is_peer)?;
    let argv = added.vector(command);
    let document = OnceCell::new();
    let mut found = CString::default();
    let mut run = Run {
        ending,
        console,
        flags,
        home,
        signals: &signals,
        watch: Watch::new(console),
        role,
        machine: Machine::new(Setup {
            waits_for_ready: !is_peer && is_true(c"ARGO_WAIT_FOR_READY"),
            pauses_before: !is_peer && is_true(c"ARGO_DEBUG_PAUSE_BEFORE"),
            pauses_after: !is_peer && is_true(c"ARGO_DEBUG_PAUSE_AFTER"),
            pauses_on_failure: flags.pauses_on_failure,
            waits_for_files: !flags.wait_files.is_empty() || flags.previous_marker.is_some(),
            waits_for_descendants: flags.waits_for_descendants,
            timeout: flags.timeout,
        }),
        template: None,
        tee: None,
        captures: false,
        terminal: None,
        foreground: None,
        child: None,
        group: None,
        command_name: command[0],
        refusal_is_reported: false,
        holds_stdin: true,
        holds_inherited: true,
        may_have_inherited: inherited.has_descriptors,
        is_draining: false,
        reap_is_due: false,
        began: clock::now(),
        signal_file: SignalFile::default(),
        marker_cause: None,
        own_watch: None,
        step_watches: Vec::new(),
        cancel_watch: None,
        is_cancelled: false,
        may_be_gone: false,
        is_watching: false,
        holds_code: true,
        dependencies: Vec::new(),
        mains: Vec::new(),
    };
    run.feed(Event::Begin);
    loop {
        while let Some(action) = run.machine.poll_action() {
            match action {
                Action::Await(gate) => run.begin_to_wait(gate),
                Action::Look => run.look(),
                Action::Watch => run.watch_own(),
                Action::Plan => match run.plan(&document) {
                    Ok(plan) => run.feed(Event::Planned(plan)),
                    Err(error) => run.fail(&error),
                },
                Action::Find => match child::find(command[0]) {
                    Ok(path) => {
                        found = path;
                        run.feed(Event::Found);
                    }
                    Err(error) => run.fail_to_start(error),
                },
                Action::Spawn => run.spawn(&found, &argv, inherited),
                Action::Forward(signal) => run.forward(signal),
                Action::Drain => run.drain(),
                Action::Abandon => run.tee.iter_mut().for_each(Tee::abandon),
                Action::Save => {
                    let outputs = &mut run.ending.facts.outputs;
                    let all = run.template.zip(home).is_none_or(|(template, home)| outputs::save(console, home.shared, &template, outputs));
                    run.feed(Event::Saved { all });
                }
                // The exit code is written before anything is closed: closing takes a while (see `timers::WATCH_DELAY`), and another container waits for
                // this file.
                Action::Finish(code) => {
                    let is_commands = run.conclude(code);
                    return Ok(run.ending.end(code, is_commands));
                }
            }
        }
        run.release();
        // A child is reaped only when no action is left. So every signal has been sent before the child's process id can be reused.
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

struct Run<'a, 'e, 'c> {
    ending: &'e mut Ending<'c>,
    console: Console,
    flags: &'a RunFlags<'a>,
    /// `None` for a plain init, which has no shared folder.
    home: Option<Home<'a>>,
    signals: &'a Signals,
    watch: Watch,
    role: Role,
    machine: Machine,
    template: Option<Template<'a>>,
    tee: Option<Tee<'a>>,
    captures: bool,
    terminal: Option<Terminal>,
    /// Our own controlling terminal, if the command has no terminal of its own.
    foreground: Option<Foreground>,
    child: Option<Pid>,
    /// The process group of the command, also after the command has ended.
    group: Option<Pid>,
    command_name: &'a CStr,
    /// We have reported that the command cannot be signalled.
    refusal_is_reported: bool,
    /// Descriptors that we got for the command are still open here: stdin, and those past 2.
    holds_stdin: bool,
    holds_inherited: bool,
    /// Descriptors past 2 that we got for the command are open, or may be open.
    may_have_inherited: bool,
    is_draining: bool,
    reap_is_due: bool,
    began: Instant,
    signal_file: SignalFile,
    /// The error number of the readiness marker that was reported last.
    marker_cause: Option<i32>,
    /// Number of the watch on our own folder.
    own_watch: Option<i32>,
    /// Numbers of the watches on folders of other steps' files.
    step_watches: Vec<i32>,
    /// Number of the watch on the folder of the cancel file.
    cancel_watch: Option<i32>,
    /// The cancel file has appeared.
    is_cancelled: bool,
    /// Our own folder may have been removed.
    may_be_gone: bool,
    /// We have begun to watch our own folder, or have tried to.
    is_watching: bool,
    /// The pages that the start has touched are still mapped.
    holds_code: bool,
    /// Containers that must succeed before our command starts.
    dependencies: Vec<Container>,
    /// For a sidecar: the containers after whose end the sidecar ends.
    mains: Vec<Container>,
}

impl<'a> Run<'a, '_, '_> {
    fn feed(&mut self, event: Event) {
        self.machine.handle(clock::now(), event);
    }

    /// Collects the last facts about a run that ends with this code. Returns whether the command ended by itself with it.
    fn conclude(&mut self, code: u8) -> bool {
        let (timed_out, is_cancelled) = (self.machine.has_timed_out(), self.is_cancelled);
        let why: &[u8] = if timed_out { b"the time limit ended the command" } else { b"the cancel file ended the run" };
        if timed_out || is_cancelled {
            let error = Error::text(&[why]);
            self.console.fatal(&error);
            self.ending.facts.message = error.text.clone();
        }
        let facts = &mut self.ending.facts;
        facts.attempts = self.machine.attempts();
        facts.timed_out = timed_out;
        facts.reason = match () {
            () if timed_out => "timeout",
            () if is_cancelled => "cancelled",
            () if facts.is_released => "released",
            () if facts.code == Some(0) && code == exit::FAILURE => "output lost",
            () if facts.code != Some(code) && code > 128 => "asked to end",
            () if facts.code != Some(code) => "not started",
            () if facts.signal.is_some() => "signal",
            () => "exited",
        };
        facts.code == Some(code) && !is_cancelled && !timed_out && !facts.is_released
    }

    /// Prints why the command cannot run, and ends the run.
    fn fail(&mut self, error: &Error) {
        self.ending.facts.message = error.text.clone();
        let code = self.console.fatal(error);
        self.feed(Event::Failed(code));
    }

    /// Ends the run because the command cannot be found or executed.
    fn fail_to_start(&mut self, mut error: Error) {
        error.status = match (self.flags.start_codes, error.errno) {
            (StartCodes::Own, _) => error.status,
            (StartCodes::Fixed(code), _) => code,
            (_, Some(Errno::NOENT)) => exit::NOT_FOUND,
            (StartCodes::Tini, errno) if errno != Some(Errno::ACCESS) => 1,
            _ => exit::NOT_EXECUTABLE,
        };
        let Some(peer) = self.flags.peer else { return self.fail(&error) };
        let mut cause = error.errno.map_or_else(|| error.text.clone(), errno::cause);
        cause[..1].make_ascii_uppercase();
        let name = self.command_name.to_bytes();
        let start: [&[u8]; 3] = match peer {
            Peer::Tini => [b"[FATAL tini (1)] exec ", name, b" failed: "],
            Peer::DumbInit => [b"[dumb-init] ", name, b": "],
            Peer::Catatonit => [b"ERROR (catatonit:1): failed to exec ", name, b": "],
        };
        self.console.verbatim(Level::Error, &[start[0], start[1], start[2], &cause, b"\n"]);
        self.feed(Event::Failed(error.status));
    }

    /// Prints a line about a signal, as dumb-init and tini do at their most verbose levels.
    fn trace(&self, before: &str, number: u64, after: &str) {
        if self.console.level != Level::Debug || self.flags.peer.is_none() {
            return;
        }
        let name: &str = if self.flags.peer == Some(Peer::DumbInit) { "[dumb-init] " } else { "[DEBUG init] " };
        let mut room = [0; 128];
        let mut line = Writer::new(&mut room);
        line.text(name).text(before).decimal(number).text(after).byte(b'\n');
        self.console.verbatim(Level::Debug, &[line.written()]);
    }

    /// Begins to watch our own folder, once.
    fn watch_own(&mut self) {
        if core::mem::replace(&mut self.is_watching, true) {
            return;
        }
        self.watch_own_folder();
        self.feed(Event::Watching);
        // The look at the start covers the first few hundred descriptors only. Now there is time to look for the others.
        self.may_have_inherited = true;
        self.report_missing_watch();
        // Files may have appeared before the watch began.
        self.feed(Event::Changed);
    }

    fn watch_own_folder(&mut self) {
        if let Some(Home { shared, .. }) = self.home {
            self.own_watch = container::watch_folder(shared, shared.layout.container, &mut self.watch, false);
            container::watch_parent(shared, &mut self.watch);
        }
        if let Some(path) = self.flags.cancel_file {
            self.cancel_watch = steps::watch(path, false, &mut self.watch);
        }
    }

    fn report_missing_watch(&mut self) {
        if self.watch.must_look() {
            self.feed(Event::CannotWatch);
        }
    }

    /// Opens other containers' folders and watches them.
    fn open_containers(&mut self, names: impl Iterator<Item = Str<'a>>) -> Result<Vec<Container>, Error> {
        let Some(Home { shared, .. }) = self.home else { return Ok(Vec::new()) };
        let opened = names
            .map(|name| {
                let mut room = [0; CONTAINER_NAME_BYTES];
                Container::open(shared, decoded(name, &mut room), &mut self.watch, false)
            })
            .collect();
        self.report_missing_watch();
        opened
    }

    /// Reads the template, and plans the run by it.
    #[inline(never)]
    fn plan(&mut self, document: &'a OnceCell<Document>) -> Result<Plan, Error> {
        let mut plan = Plan {
            has_dependencies: false,
            is_sidecar: false,
            saves_outputs: false,
            attempts: 1,
            retry_pause: Duration::ZERO,
            grace: self.flags.grace.unwrap_or_else(|| environment::grace(self.console)),
        };
        let Some(Home { shared, folder }) = self.home.filter(|_| self.role == Role::Main) else { return Ok(plan) };
        let is_flat = shared.layout.kind == Kind::Flat;
        let keep = |run: &mut Self| {
            run.captures = true;
            run.tee = Some(Tee::new(run.console, Some(folder), if is_flat { Kept::Flat } else { Kept::Pod }));
        };
        let Some(read) = template::read_if_any(shared)? else {
            if self.flags.keeps_logs.unwrap_or(is_flat) {
                keep(self);
            }
            return Ok(plan);
        };
        let template = template::parse(document.get_or_init(|| read))?;
        let name = shared.layout.container;
        let is_main = is_flat || name == b"main";
        if is_main && is_true(c"ARGO_WAIT_FOR_READY") {
            input_links::link(&template)?;
        }
        let captures = || is_flat || is_true(c"ARGO_INCLUDE_SCRIPT_OUTPUT") || template.archives_logs();
        if self.flags.keeps_logs.unwrap_or_else(captures) {
            keep(self);
        }
        if !is_flat {
            plan.has_dependencies = template.dependencies(name).next().is_some();
            plan.is_sidecar = template.is_sidecar(name);
        }
        let retry = template.retry();
        plan.saves_outputs = is_main && !self.flags.saves_nothing;
        plan.attempts = retry.attempts;
        plan.retry_pause = Duration::from_ms(retry.pause_ms);
        if plan.is_sidecar {
            plan.attempts = 1;
            self.mains = self.open_containers(main_containers(&template))?;
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
                if let Some(home) = self.home
                    && let Ok(path) = home.shared.path(File::Shared, &mut room)
                {
                    self.watch.add(path, false);
                }
                b"waiting until the supervisor is ready"
            }
            Gate::Dependencies => {
                if let Some((template, home)) = self.template.zip(self.home) {
                    match self.open_containers(template.dependencies(home.shared.layout.container)) {
                        Ok(dependencies) => self.dependencies = dependencies,
                        Err(error) => return self.fail(&error),
                    }
                }
                b"waiting for dependencies"
            }
            Gate::Files => b"waiting for files of other steps",
            Gate::Before => b"paused before the command; the file `before` releases it",
            Gate::After => b"paused after the command; the file `after` releases it",
            Gate::Retry => b"pausing before the next attempt",
        };
        self.console.info(&[what]);
        self.look();
    }

    #[inline(never)]
    fn spawn(&mut self, path: &CStr, argv: &Argv<'_>, inherited: &Inherited) {
        if self.take_cancel() {
            return self.feed(Event::Failed(exit::code_of_signal(Signal::TERM)));
        }
        // A terminal needs memory of its own, so the check is off for one.
        memory::command_runs(cfg!(feature = "strict-allocation") && !rustix::termios::isatty(rustix::stdio::stdin()));
        let is_peer = self.flags.peer.is_some();
        if self.flags.group == Group::Session && signals::give_up_terminal() {
            // The kernel names us as the sender of both, and signals from ourselves are not passed on.
            for signal in [Signal::HUP, Signal::CONT] {
                self.trace("Ignoring tty hand-off signal ", signal.number().into(), ".");
            }
        }
        let manner = Manner {
            captures: self.captures,
            shares_terminal: is_peer,
            session: self.flags.group == Group::Session,
            stays_in_group: self.flags.group == Group::Inherited,
            outlives_us: is_peer,
            resets_signals: self.flags.peer == Some(Peer::DumbInit),
            runs_scripts: is_peer,
        };
        match child::spawn(self.console, path, argv, manner, inherited) {
            Err(error) => {
                memory::command_runs(false);
                self.fail_to_start(error);
            }
            Ok(started) => {
                self.child = Some(started.pid);
                self.group = Some(started.pid);
                self.trace("Child spawned with PID ", u64::from(started.pid.as_raw_nonzero().get().unsigned_abs()), ".");
                if self.flags.peer == Some(Peer::DumbInit) {
                    // The folder that we started in may be unmounted while the command runs elsewhere.
                    let _ = rustix::process::chdir(c"/");
                }
                self.is_draining = false;
                if started.outputs.iter().any(Option::is_some) {
                    self.tee.get_or_insert_with(|| Tee::new(self.console, None, Kept::Nothing)).attach(started.outputs);
                }
                self.terminal = started.terminal;
                self.foreground = started.foreground;
                self.ending.facts.started.get_or_insert_with(record::now);
                self.feed(Event::Spawned);
                // Files may have appeared before we began to watch, or while the command was being started.
                self.look();
            }
        }
    }

    fn forward(&mut self, signal: Signal) {
        let Some(signal) = self.flags.rewrites.apply(signal) else {
            return self.trace("Not forwarding signal ", 0, " to children (ignored).");
        };
        self.trace("Forwarded signal ", signal.number().into(), " to children.");
        if self.child.is_none()
            && let Some(group) = self.group
        {
            child::forward_to_rest(group, signal);
        }
        if let Some(pid) = self.child
            && let Err(errno) = child::forward(pid, signal, self.flags.signals_child)
        {
            if !core::mem::replace(&mut self.refusal_is_reported, true) {
                self.console.error(&Error::new("signal", b"the command", errno));
            }
            if signal == Signal::KILL && rustix::process::getpid() == Pid::INIT {
                memory::command_runs(false);
                self.feed(Event::Unkillable);
            }
        }
    }

    /// Closes descriptors that only the command needs, once no further attempt needs them. The process at the other end then learns at once when the
    /// command closes its own.
    fn release(&mut self) {
        if self.machine.may_start() {
            return;
        }
        // If stdin is a terminal, we still read keys from it.
        if core::mem::take(&mut self.holds_stdin) && self.terminal.is_none() {
            descriptors::replace_stdin(self.home.map(|home| home.folder.as_fd()));
        }
        if self.may_have_inherited && core::mem::take(&mut self.holds_inherited) {
            descriptors::close_inherited();
        }
    }

    /// Handles a signal that we received. An artifact plugin's server ignores SIGTERM: Kubernetes sends SIGTERM to all containers of the pod at once,
    /// while the server is still needed. Its signal file ends it.
    fn receive(&mut self, received: Received) {
        let signal = received.signal;
        self.trace("Received signal ", signal.number().into(), ".");
        if self.flags.stops_with_command && matches!(signal, Signal::TSTP | Signal::TTIN | Signal::TTOU) {
            self.forward(signal);
            return signals::stop();
        }
        if received.is_suspension() {
            return self.suspend();
        }
        if signal == Signal::WINCH {
            self.terminal.iter().for_each(Terminal::resize);
            // The kernel itself tells the command about a new size of the command's own terminal. A command that has not started yet will ask for the
            // size.
            if received.origin == Origin::Kernel && (self.terminal.is_some() || self.child.is_none()) {
                return;
            }
        }
        if signal == Signal::TERM && self.role == Role::PluginSidecar {
            return;
        }
        self.resume(signal);
        // A signal that is dropped on its way to the command asks nothing of us, either.
        let is_ignored = received.is_ignored || self.flags.rewrites.apply(signal).is_none();
        self.feed(if is_ignored { Event::Ignored(signal) } else { Event::Signal(signal) });
    }

    /// Looks at the terminals again after SIGCONT. A shell that continues us may have changed which process group is in the foreground.
    fn resume(&mut self, signal: Signal) {
        if signal == Signal::CONT {
            self.terminal.iter_mut().for_each(Terminal::check_foreground);
            if let (Some(foreground), Some(pid)) = (&self.foreground, self.child) {
                foreground.hand_over(pid);
            }
        }
    }

    /// Stops the command, and then emissary itself, when our own terminal asks for that. Continues the command afterwards.
    fn suspend(&mut self) {
        self.forward(Signal::TSTP);
        if self.terminal.is_some() {
            terminal::restore();
        }
        signals::suspend();
        self.resume(Signal::CONT);
        self.forward(Signal::CONT);
    }

    fn reap(&mut self) {
        self.reap_is_due = false;
        let Some(pid) = self.child else {
            if self.reap_all(None).is_childless {
                self.feed(Event::Childless);
            }
            return;
        };
        // The process group's number stays the command's until the command is reaped.
        let asks_rest = self.flags.rewrites.apply(Signal::TERM).filter(|_| self.flags.terms_group);
        let has_ended = asks_rest.is_some() && child::has_ended(pid);
        if let Some(signal) = asks_rest.filter(|_| has_ended) {
            child::forward_to_rest(pid, signal);
            self.trace("Forwarded signal ", signal.number().into(), " to children.");
        }
        let reaped = self.reap_all(Some(pid));
        if let Some(ended) = reaped.ended {
            // The command has ended while others were reaped.
            if let Some(signal) = asks_rest.filter(|_| !has_ended) {
                child::forward_to_rest(pid, signal);
            }
            let code = ended.exit_code().unwrap_or(exit::FAILURE);
            memory::command_runs(false);
            memory::set_exit_code(if code == 0 { exit::FAILURE } else { code });
            self.child = None;
            let facts = &mut self.ending.facts;
            facts.code = Some(code);
            facts.finished = Some(record::now());
            (facts.usage, facts.dumped_core) = (reaped.usage, reaped.dumped_core);
            facts.signal = if let End::Killed(signal) = ended { Some(signal) } else { None };
            if let Some(foreground) = self.foreground.take() {
                foreground.take_back(pid);
            }
            let mut room = [0; 3];
            self.console.info(&[b"sub-process exited, exit code ", exit::digits(code, &mut room)]);
            self.feed(if let End::Killed(signal) = ended { Event::Killed(signal) } else { Event::Exited(code) });
            if reaped.is_childless {
                self.feed(Event::Childless);
            }
        } else if let (Some(signal), Some(foreground)) = (reaped.stopped, &self.foreground)
            && foreground.suspend(pid, signal)
        {
            self.forward(Signal::CONT);
        }
    }

    fn reap_all(&self, command: Option<Pid>) -> CommandState {
        child::reap_with(command, &mut |pid| {
            if self.flags.warns_of_reaped {
                let pid = Error::count(b"Reaped zombie process with pid=", pid.as_raw_nonzero().get().unsigned_abs().into(), b"");
                self.console.warn(&[&pid.text]);
            }
        })
    }

    fn drain(&mut self) {
        self.is_draining = true;
        self.terminal.iter_mut().for_each(Terminal::close_slave);
        self.tee.iter_mut().for_each(Tee::begin_drain);
    }

    /// Passes on the command's output and the keys that were typed.
    fn pump(&mut self) {
        if self.terminal.as_mut().is_some_and(Terminal::pump) {
            // Our own terminal was hung up, so we hang up the command's terminal. The kernel then sends SIGHUP to the command.
            self.tee.iter_mut().for_each(Tee::hang_up);
            self.terminal = None;
        }
        if let Some(tee) = &mut self.tee {
            let mut moved = tee.pump();
            // A terminal's output ends when a read finds nothing. No event reports that, so we read until then.
            while moved && self.is_draining {
                moved = tee.pump();
            }
            let (has_failed, has_progress) = (tee.take_copy_failed(), tee.take_progress());
            if has_failed {
                self.feed(Event::CopyFailed);
            }
            if has_progress && self.is_draining {
                self.feed(Event::PassedOn);
            }
        }
        if self.is_draining && self.tee.as_ref().is_none_or(Tee::is_drained) {
            self.is_draining = false;
            // Our own terminal gets its settings back before we print anything on it.
            self.terminal = None;
            self.tee.iter_mut().for_each(Tee::report_lost_bytes);
            if let Some(tee) = &mut self.tee {
                tee.close_copies();
                if tee.take_copy_failed() {
                    self.feed(Event::CopyFailed);
                }
            }
            self.feed(Event::Drained);
        }
    }

    /// Waits for the next event of any kind, and handles it.
    #[inline(never)]
    fn wait(&mut self) {
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
        let (now, deadline) = (clock::now(), self.machine.next_deadline());
        // The start is over, and the command runs on: from here on little of the code is needed.
        if self.is_watching && core::mem::take(&mut self.holds_code) {
            memory::unmap_code();
        }
        set.wait(now, deadline);
        // The machine's queue is bounded. Signals that do not fit stay in the kernel.
        while !self.machine.has_action()
            && let Some(received) = self.signals.next()
        {
            if received.signal == Signal::CHLD {
                if self.flags.peer == Some(Peer::Tini) {
                    self.trace("Received SIGCHLD, signal ", 17, "");
                }
                self.reap_is_due = true;
            } else {
                self.receive(received);
            }
        }
        self.feed(Event::Tick);
        let mut has_changed = false;
        self.watch.take(&mut |change| {
            // We open these files ourselves when we look, so an open is no reason to look again.
            has_changed |= !matches!(change, Change::ExitCode(_, FileEvent::Opened) | Change::Signal(_, FileEvent::Opened));
            match change {
                Change::Signal(watch, FileEvent::Complete) if Some(watch) == self.own_watch => self.signal_file.note_closed(),
                change @ (Change::Folders | Change::Gone(_) | Change::Deleted(_)) => {
                    self.may_be_gone = true;
                    self.dependencies.iter_mut().chain(&mut self.mains).for_each(|container| container.note(change));
                }
                change => self.dependencies.iter_mut().chain(&mut self.mains).for_each(|container| container.note(change)),
            }
        });
        if has_changed {
            self.feed(Event::Changed);
        }
    }

    /// Looks at the signal file. Takes it if it is complete.
    fn look_for_signal(&mut self) {
        let Some(Home { folder, .. }) = self.home else { return };
        let outcome = match self.signal_file.next(clock::now()) {
            Next::After(length) => Outcome { again_after: Some(length), ..Outcome::default() },
            Next::Take => Outcome { takes: true, ..Outcome::default() },
            Next::Look => {
                let (look, error) = match folder.age_ms(layout::base_name(File::Signal)) {
                    Ok(None) => (Look::Absent, None),
                    Ok(Some((age_ms, is_empty, version))) => (Look::Present { age_ms, is_empty, version }, None),
                    Err(error) => (Look::Failed(cause(&error)), Some(error)),
                };
                let outcome = self.signal_file.looked(look);
                self.follow_up(outcome, error.as_ref());
                outcome
            }
        };
        if let Some(length) = outcome.again_after {
            self.feed(Event::LookAfter(length));
        }
        if outcome.takes {
            self.take_signal(folder);
        }
    }

    /// Takes the signal file, which is complete, and obeys it.
    fn take_signal(&mut self, folder: &Folder) {
        let mut room = [0; SIGNAL_FILE_BYTES];
        let (taken, bytes, error) = match folder.take(layout::base_name(File::Signal), &mut room) {
            Ok(folder::Taken::Absent) => (Taken::Absent, None, None),
            Ok(folder::Taken::Away(bytes)) => (Taken::Contents, Some(bytes), None),
            Ok(folder::Taken::Stays(bytes, version, error)) => (Taken::Stays(cause(&error), version), bytes, Some(error)),
            Err(error) if error.errno.is_some_and(fs::is_passing) => (Taken::Failed(cause(&error)), None, Some(error)),
            Err(error) => (Taken::Lost, None, Some(error)),
        };
        let outcome = self.signal_file.taken(clock::now(), taken);
        if let Some(bytes) = bytes.filter(|_| outcome.obeys) {
            match Signal::parse(bytes) {
                Ok(signal) => {
                    self.resume(signal);
                    let is_dropped = self.flags.rewrites.apply(signal).is_none();
                    self.feed(if is_dropped { Event::Ignored(signal) } else { Event::Signal(signal) });
                }
                Err(cause) => {
                    let text = Error::because(&[b"signal file ignored: '", bytes, b"'"], &|out| cause.describe(out));
                    self.console.warn(&[&text.text]);
                }
            }
        }
        self.follow_up(outcome, error.as_ref());
    }

    fn follow_up(&mut self, outcome: Outcome, error: Option<&Error>) {
        if let Some(length) = outcome.again_after {
            self.feed(Event::LookAfter(length));
        }
        if let Some(error) = error.filter(|_| outcome.warns) {
            self.console.warn(&[&error.text]);
        }
    }

    /// Opens and watches our own folder again, if it was replaced by another one.
    fn reopen_own_folder_if_replaced(&mut self) {
        let Some(Home { shared, folder }) = self.home.filter(|_| self.may_be_gone) else { return };
        match shared.existing(shared.layout.container) {
            Some(now) if !now.is_same(folder) => {
                self.may_be_gone = !folder.replace_with(now);
                self.watch_own_folder();
            }
            // The files of a folder are removed before the folder. In the flat layout our folder is the volume itself, and no watch reports its
            // removal: if the lock file is missing, we keep looking.
            Some(_) => self.may_be_gone = shared.layout.kind == Kind::Flat && !folder.has(layout::base_name(File::Lock)),
            None => {}
        }
        if self.may_be_gone {
            // No watch reports that the folder is made again.
            self.feed(Event::LookAfter(LOOK_EVERY));
        }
    }

    /// Looks at the files that matter in this phase.
    fn look(&mut self) {
        self.reopen_own_folder_if_replaced();
        self.look_for_signal();
        self.look_for_cancel();
        match self.machine.gate() {
            Some(Gate::Ready) => self.look_for_readiness(),
            Some(Gate::Dependencies) => self.look_for_dependencies(),
            Some(gate @ (Gate::Before | Gate::After)) => {
                let file = layout::base_name(if gate == Gate::Before { File::Before } else { File::After });
                let Some(Home { folder, .. }) = self.home else { return self.feed(Event::Opened(gate)) };
                if folder.has(file) {
                    // The person who releases a pause after a failure may give another exit code. A shell makes the file before it writes to it.
                    if self.flags.pauses_on_failure
                        && let Ok(Some((age_ms @ 0.., true, _))) = folder.age_ms(file)
                        && let Some(left) = SETTLE_TIME.left_after(Duration::from_ms(age_ms.unsigned_abs()))
                    {
                        return self.feed(Event::LookAfter(left));
                    }
                    let mut room = [0; EXIT_CODE_FILE_BYTES];
                    if self.flags.pauses_on_failure
                        && let Ok(Some((bytes, _))) = folder.read(file, &mut room)
                        && let Ok(code) = exit::parse(bytes)
                    {
                        self.ending.facts.code = Some(code);
                        self.ending.facts.is_released = true;
                        self.feed(Event::Replaced(code));
                    }
                    self.feed(Event::Opened(gate));
                }
            }
            Some(Gate::Files) => self.look_for_files(),
            Some(Gate::Retry) | None => {}
        }
        if !self.mains.is_empty() && self.have_mains_ended() {
            self.feed(Event::MainsExited);
        }
    }

    /// Looks for the files of other steps.
    fn look_for_files(&mut self) {
        match steps::look(&self.flags.wait_files, self.flags.waits_for_content, self.flags.previous_marker) {
            Standing::Failed(error) => self.fail(&error),
            Standing::Ready => {
                // Nothing in these folders matters to a command that runs, and each change would wake us.
                for watch in core::mem::take(&mut self.step_watches) {
                    if Some(watch) == self.own_watch {
                        self.watch_own_folder();
                    } else if Some(watch) != self.cancel_watch && self.mains.is_empty() {
                        self.watch.remove(watch);
                    }
                }
                self.feed(Event::Opened(Gate::Files));
            }
            Standing::Waiting => {
                let mut is_watched = true;
                for path in self.flags.wait_files.iter().chain(&self.flags.previous_marker) {
                    match steps::watch(path, self.flags.waits_for_content, &mut self.watch) {
                        Some(watch) if self.step_watches.contains(&watch) => {}
                        Some(watch) => {
                            self.step_watches.push(watch);
                            // The file may have appeared just before the watch began.
                            self.feed(Event::Changed);
                        }
                        None => is_watched = false,
                    }
                }
                if !is_watched {
                    self.feed(Event::LookAfter(LOOK_EVERY));
                }
            }
        }
    }

    /// Looks for the file that ends the run.
    fn look_for_cancel(&mut self) {
        if self.take_cancel() {
            self.feed(Event::Cancelled);
        }
    }

    /// Returns whether the file that ends the run has appeared since the last look. Where its folder is missing, looks again soon.
    fn take_cancel(&mut self) -> bool {
        let Some(path) = self.flags.cancel_file.filter(|_| !self.is_cancelled && self.machine.can_be_cancelled()) else { return false };
        self.is_cancelled = fs::stat(path).is_ok();
        if !self.is_cancelled && self.is_watching {
            let watch = steps::watch(path, false, &mut self.watch);
            if watch.is_none() {
                self.feed(Event::LookAfter(LOOK_EVERY));
            } else if watch != self.cancel_watch {
                // The file may have appeared just before the watch began.
                self.cancel_watch = watch;
                self.feed(Event::Changed);
            }
        }
        self.is_cancelled
    }

    fn look_for_readiness(&mut self) {
        let mut room = [0; ready::MARKER_BYTES];
        let waited = clock::now().since(self.began);
        let Some(Home { shared, .. }) = self.home else { return self.feed(Event::Opened(Gate::Ready)) };
        let marker = shared.top().and_then(|top| top.read(layout::base_name(File::Status), &mut room));
        let (bytes, age) = match marker {
            Ok(Some((bytes, age_ms))) => (bytes, Duration::from_ms(u64::try_from(age_ms).unwrap_or(0))),
            Ok(None) => (&[][..], waited),
            Err(error) => {
                if self.marker_cause.replace(cause(&error)) != Some(cause(&error)) {
                    self.console.warn(&[&error.text]);
                }
                (&[][..], waited)
            }
        };
        match ready::parse(bytes, age) {
            Readiness::Ready => self.feed(Event::Opened(Gate::Ready)),
            Readiness::Failed(reason) => {
                self.fail(&Error::text(&[b"the supervisor failed: ", reason]).with_status(exit::NOT_READY));
            }
            Readiness::Dead => self.fail(&Error::text(&[b"the supervisor is dead: no sign of life for 30 s"]).with_status(exit::NOT_READY)),
            Readiness::Wait { left } => self.feed(Event::LookAfter(left)),
        }
    }

    fn look_for_dependencies(&mut self) {
        let Some(Home { shared, .. }) = self.home else { return };
        let mut dependencies = core::mem::take(&mut self.dependencies);
        let mut all = true;
        for dependency in &mut dependencies {
            match dependency.look(clock::now(), shared, &mut self.watch) {
                Ok(Reading::Code(0)) => continue,
                // Our command did not run. So the dependency's code is printed, but we end with a code of our own.
                Ok(Reading::Code(code)) => {
                    let mut digits = [0; 3];
                    let text = [b"dependency '", &dependency.name[..], b"' failed, exit code ", exit::digits(code, &mut digits)];
                    return self.fail(&Error::text(&text));
                }
                Ok(Reading::Killed) => {
                    return self.fail(&Error::text(&[b"dependency '", &dependency.name, b"' was killed and left no exit code"]));
                }
                Ok(Reading::LookAfter(length)) => self.feed(Event::LookAfter(length)),
                Ok(_) => {}
                Err(error) => return self.fail(&error),
            }
            all = false;
        }
        self.dependencies = dependencies;
        if all {
            self.feed(Event::Opened(Gate::Dependencies));
        }
    }

    /// Returns whether every main container has ended. A container whose exit-code file holds no exit code counts as ended, as it does for `wait`.
    fn have_mains_ended(&mut self) -> bool {
        let Some(Home { shared, .. }) = self.home else { return true };
        let mut mains = core::mem::take(&mut self.mains);
        let mut all = true;
        for main in &mut mains {
            match main.look(clock::now(), shared, &mut self.watch) {
                Ok(Reading::Code(_) | Reading::Killed) => {}
                Ok(reading) => {
                    all = false;
                    if let Reading::LookAfter(length) = reading {
                        self.feed(Event::LookAfter(length));
                    }
                }
                Err(error) => {
                    if main.is_first_report() {
                        self.console.warn(&[&error.text]);
                    }
                }
            }
        }
        self.mains = mains;
        all
    }
}

/// Returns the system's error number; 0 if there is none.
fn cause(error: &Error) -> i32 {
    error.errno.map_or(0, Errno::raw_os_error)
}
