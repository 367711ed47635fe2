//! Starts the command, signals it, and reaps it.
//!
//! Enters: the command's name and arguments, signals, wait statuses. Leaves: a running process group, emissary's ends of its outputs, an exit code.
//! Refuses: a command that cannot be found or executed, in the words of Go's os/exec. Emissary is the subreaper or PID 1 of the container, so it
//! reaps orphans here too (execvp(3), kill(2), wait(2), prctl(2)).

use core::ffi::CStr;
use std::ffi::CString;
use std::os::fd::AsFd;

use emissary_core::buf::Writer;
use emissary_core::exit::Outcome;
use emissary_core::limits::PATH_BYTES;
use emissary_core::record::Usage;
use emissary_core::signal::Signal;
use rustix::fs::{Access, CWD};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::tee::{self, Source};
use super::terminal::{Foreground, Terminal};
use crate::os::signals::{self, Mask};
use crate::os::spawn::{self, Argv, Spawn};
use crate::os::{env, errno, fs, trace};
use crate::report::console::Console;
use crate::report::error::Error;

/// The search path if `PATH` is not set (the default of execvp(3)).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Attributes that we changed for ourselves. The command gets the original ones.
pub(crate) struct Inherited {
    pub(crate) mask: Mask,
    pub(crate) ignores_sigchld: bool,
    /// `None` if it could not be asked for.
    pub(crate) umask: Option<u32>,
    /// Descriptors past 2 were open when we started.
    pub(crate) has_descriptors: bool,
}

/// How the command is started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Its stdout and stderr are pipes.
    pub(crate) captures: bool,
    /// If our stdin is a terminal, the command gets that terminal, and not one of its own.
    pub(crate) shares_terminal: bool,
    /// It starts a session of its own.
    pub(crate) session: bool,
    /// It stays in our process group.
    pub(crate) stays_in_group: bool,
    /// It goes on if we are killed.
    pub(crate) outlives_us: bool,
    /// No signal is ignored or blocked in it.
    pub(crate) resets_signals: bool,
    /// A file that the kernel does not know as a program is a script for /bin/sh, as execvp(3) has it.
    pub(crate) runs_scripts: bool,
}

/// Formats `exec: "NAME": CAUSE`, as Go's os/exec does.
fn not_started(name: &[u8], cause: &[u8]) -> Error {
    Error::text(&[b"exec: \"", name, b"\": ", cause])
}

/// Finds a command as execvp(3) does. A name with a `/` is a path; any other name is searched for in `PATH`.
///
/// # Errors
/// No file of that name can be executed.
#[inline(never)]
pub(crate) fn find(name: &CStr) -> Result<CString, Error> {
    let bytes = name.to_bytes();
    if bytes.contains(&b'/') {
        return Ok(name.to_owned());
    }
    let path = env::var(c"PATH").map_or(DEFAULT_PATH, CStr::to_bytes);
    let mut denied = false;
    for dir in path.split(|&byte| byte == b':') {
        // An empty part of PATH means the working directory.
        let dir = if dir.is_empty() { b"." } else { dir };
        let mut room = [0; PATH_BYTES];
        let mut out = Writer::new(&mut room);
        out.bytes(dir).byte(b'/').bytes(bytes).byte(0);
        // A path that does not fit the buffer is too long for the kernel too.
        let Ok(Ok(candidate)) = out.finish().map(|path| CStr::from_bytes_with_nul(path)) else { continue };
        let is_file = fs::stat(candidate).is_ok_and(|stat| fs::is_regular(&stat));
        if is_file && !bytes.is_empty() {
            if fs::access(CWD, candidate, Access::EXEC_OK).is_ok() {
                return Ok(candidate.to_owned());
            }
            denied = true;
        }
    }
    let (cause, errno): (&[u8], _) =
        if denied { (b"permission denied", Errno::ACCESS) } else { (b"executable file not found in $PATH", Errno::NOENT) };
    Err(not_started(bytes, cause).with_errno(errno))
}

/// A running command, and our ends of its outputs.
pub(crate) struct Started {
    pub(crate) pid: Pid,
    /// The sources of stdout, of stderr, and of the command's terminal if neither of them is on it.
    pub(crate) outputs: [Option<Source>; 3],
    pub(crate) terminal: Option<Terminal>,
    /// Our own controlling terminal, if the command has no terminal of its own.
    pub(crate) foreground: Option<Foreground>,
}

/// Starts the command in its own process group.
///
/// With `captures`, its stdout and stderr are pipes. If our stdin is a terminal, the command gets a pseudo-terminal as its stdin; the pseudo-terminal
/// also replaces stdout and stderr, each of them if it is a terminal here.
///
/// # Errors
/// The words of Go's os/exec. A hint follows if the kernel's error is about the interpreter.
#[inline(never)]
pub(crate) fn spawn(console: Console, path: &CStr, argv: &Argv<'_>, manner: Manner, inherited: &Inherited) -> Result<Started, Error> {
    let own_outputs = [rustix::stdio::stdout(), rustix::stdio::stderr()];
    let has_terminal = rustix::termios::isatty(rustix::stdio::stdin());
    let on_terminal = has_terminal && !manner.shares_terminal;
    let shows_output = on_terminal && rustix::termios::isatty(own_outputs[0]);
    let terminal = match on_terminal.then(|| Terminal::open(shows_output)) {
        Some(Ok(terminal)) => Some(terminal),
        Some(Err(error)) => {
            console.warn(&[&error.text, b"; the command gets our own terminal"]);
            None
        }
        None => None,
    };
    let (mut outputs, mut sinks) = ([None, None, None], [None, None]);
    let mut reads_terminal = false;
    let mut uses_terminal = [false; 2];
    for at in 0..2 {
        uses_terminal[at] = terminal.is_some() && rustix::termios::isatty(own_outputs[at]);
        if let Some(terminal) = terminal.as_ref().filter(|_| uses_terminal[at]) {
            // Both outputs may be on the terminal. The first one reads it for both.
            if !reads_terminal {
                outputs[at] = Some(Source::Terminal(terminal.output()?));
                reads_terminal = true;
            }
        } else if manner.captures {
            let (source, sink) = tee::pipe()?;
            // A command that changes its user may still open /dev/stdout.
            fs::resemble(own_outputs[at], sink.as_fd());
            (outputs[at], sinks[at]) = (Some(Source::Pipe(source)), Some(sink));
        }
    }
    if let Some(terminal) = terminal.as_ref().filter(|_| !reads_terminal) {
        outputs[2] = Some(Source::Terminal(terminal.output()?));
    }
    let shares = terminal.is_none() && !manner.session && !manner.stays_in_group;
    let foreground = shares.then(|| Foreground::open(has_terminal)).flatten();
    let slave = terminal.as_ref().and_then(Terminal::slave);
    let end = |at: usize| if uses_terminal[at] { slave } else { sinks[at].as_ref().map(AsFd::as_fd) };
    let start = |path: &CStr, argv: &Argv<'_>| {
        spawn::spawn(&Spawn {
            path,
            argv,
            stdio: [slave, end(0), end(1)],
            terminal: terminal.is_some(),
            session: manner.session,
            stays_in_group: manner.stays_in_group,
            outlives_us: manner.outlives_us,
            resets_signals: manner.resets_signals,
            foreground: foreground.as_ref().and_then(Foreground::to_hand_over),
            mask: inherited.mask,
            ignores_sigchld: inherited.ignores_sigchld,
            umask: inherited.umask,
        })
    };
    let result = match start(path, argv) {
        Err(Errno::NOEXEC) if manner.runs_scripts => start(c"/bin/sh", &argv.for_shell(path)),
        other => other,
    };
    let pid = result.map_err(|errno| explain(path, errno))?;
    Ok(Started { pid, outputs, terminal, foreground })
}

#[inline(never)]
fn explain(path: &CStr, cause: Errno) -> Error {
    if cause == Errno::NOSYS {
        return Error::new("start", path.to_bytes(), cause);
    }
    let mut text = errno::cause(cause).to_ascii_lowercase();
    let exists = fs::stat(path).is_ok();
    let hint: &[u8] = match cause {
        Errno::NOENT if exists => b" (the file is there: its interpreter or its dynamic loader is not)",
        Errno::NOEXEC => b" (neither a program for this machine nor a script that begins with #!)",
        _ => b"",
    };
    text.extend_from_slice(hint);
    not_started(path.to_bytes(), &text).with_errno(cause)
}

/// Sends a signal to the command's process group. If the command has left that group, it gets the signal too. With `alone`, only the command gets it.
///
/// # Errors
/// The error of kill(2) for the command itself. The command is not reaped yet, so its process id is still its own. A missing group is no error.
pub(crate) fn forward(pid: Pid, signal: Signal, alone: bool) -> Result<(), Errno> {
    let raw = pid.as_raw_nonzero().get();
    let group_took = !alone && signals::kill(-raw, signal.number()).is_ok();
    // kill(2) succeeds for a group if we may signal any process in it. Signal 0 tests whether we may signal the command.
    signals::kill(raw, if group_took && signals::leads_its_group(raw) { 0 } else { signal.number() })
}

/// Sends a signal to what is left of the process group of a command that has ended.
pub(crate) fn forward_to_rest(pid: Pid, signal: Signal) {
    let _ = signals::kill(-pid.as_raw_nonzero().get(), signal.number());
}

/// Returns whether the command has ended and is not reaped yet.
pub(crate) fn has_ended(pid: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    matches!(rustix::process::waitid(WaitId::Pid(pid), options), Ok(Some(_)))
}

/// The state of the command after a round of reaping.
#[derive(Default)]
pub(crate) struct CommandState {
    /// How the command ended, if it has.
    pub(crate) ended: Option<Outcome>,
    /// The command left a core dump.
    pub(crate) dumped_core: bool,
    /// What the command used, if it has ended.
    pub(crate) usage: Usage,
    /// No child is left, and no descendant that would become one.
    pub(crate) is_childless: bool,
    /// The signal that stopped the command, if it is stopped.
    pub(crate) stopped: Option<Signal>,
}

/// Reaps every child that has ended, and detaches each child that made us its tracer. Returns the state of the command.
pub(crate) fn reap(command: Option<Pid>) -> CommandState {
    reap_with(command, &mut |_| {})
}

/// As [`reap`]. Hands the process id of each other process that was reaped to `other`.
pub(crate) fn reap_with(command: Option<Pid>, other: &mut dyn FnMut(Pid)) -> CommandState {
    let mut state = CommandState::default();
    loop {
        match spawn::reap() {
            Ok(Some((pid, status, usage))) => {
                let stopped = spawn::stopped_by(status).filter(|signal| !trace::let_go(pid, *signal));
                if Some(pid) == command {
                    state.ended = Some(Outcome::from_wait_status(status)).filter(|outcome| *outcome != Outcome::Alive);
                    state.dumped_core = status & 0x80 != 0 && matches!(state.ended, Some(Outcome::Killed(_)));
                    state.usage = usage;
                    state.stopped = stopped.and_then(|signal| Signal::new(u64::from(signal.unsigned_abs())));
                } else if stopped.is_none() {
                    other(pid);
                }
            }
            Err(Errno::INTR) => {}
            Ok(None) => return state,
            Err(errno) => {
                state.is_childless = errno == Errno::CHILD;
                return state;
            }
        }
    }
}
