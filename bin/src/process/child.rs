//! The command: finding it, starting it, signalling its process group, reaping it and every orphan.

use core::ffi::CStr;
use std::ffi::CString;
use std::os::fd::AsFd;

use emissary_core::buf::Writer;
use emissary_core::exit::Outcome;
use emissary_core::limits::PATH_BYTES;
use emissary_core::signal::Signal;
use rustix::fs::{Access, CWD};
use rustix::io::Errno;
use rustix::process::Pid;

use super::tee::{self, Source};
use super::terminal::{Foreground, Terminal};
use crate::os::signals::{self, Mask};
use crate::os::spawn::{self, Argv, Spawn};
use crate::os::{env, errno, fs, trace};
use crate::report::console::Console;
use crate::report::error::Error;

/// Where commands are looked for where `PATH` is not set (the default of execvp(3)).
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// What a command inherits that we changed for ourselves.
pub(crate) struct Inherited {
    pub(crate) mask: Mask,
    pub(crate) ignores_sigchld: bool,
    /// `None` where it could not be asked for.
    pub(crate) umask: Option<u32>,
    /// Descriptors past 2 were open when we were started.
    pub(crate) has_descriptors: bool,
}

/// `exec: "NAME": CAUSE`, as Go's os/exec words it.
fn not_started(name: &[u8], cause: &[u8]) -> Error {
    Error::text(&[b"exec: \"", name, b"\": ", cause])
}

/// Finds a command as execvp(3) does: as given if it holds a `/`, else through `PATH`.
///
/// # Errors
/// Nothing there that can be executed.
#[inline(never)]
pub(crate) fn find(name: &CStr) -> Result<CString, Error> {
    let bytes = name.to_bytes();
    if bytes.contains(&b'/') {
        return Ok(name.to_owned());
    }
    let path = env::var(c"PATH").map_or(DEFAULT_PATH, CStr::to_bytes);
    let mut denied = false;
    for dir in path.split(|&byte| byte == b':') {
        // An empty part of PATH is the working directory.
        let dir = if dir.is_empty() { b"." } else { dir };
        let mut room = [0; PATH_BYTES];
        let mut out = Writer::new(&mut room);
        out.bytes(dir).byte(b'/').bytes(bytes).byte(0);
        // What does not fit cannot be opened either.
        let Ok(Ok(candidate)) = out.finish().map(|path| CStr::from_bytes_with_nul(path)) else { continue };
        let is_file = fs::stat(candidate).is_ok_and(|stat| fs::is_regular(&stat));
        if is_file && !bytes.is_empty() {
            if fs::access(CWD, candidate, Access::EXEC_OK).is_ok() {
                return Ok(candidate.to_owned());
            }
            denied = true;
        }
    }
    Err(not_started(bytes, if denied { b"permission denied" } else { b"executable file not found in $PATH" }))
}

/// A running command and our ends of its outputs.
pub(crate) struct Started {
    pub(crate) pid: Pid,
    /// Of stdout, of stderr, and of a terminal on which neither of them is.
    pub(crate) outputs: [Option<Source>; 3],
    pub(crate) terminal: Option<Terminal>,
    /// Where it has no terminal of its own: ours.
    pub(crate) foreground: Option<Foreground>,
}

/// Starts the command in a process group of its own; `capture` puts pipes before its stdout and stderr, and a stdin that is a terminal one of its
/// own before stdin and before each of the others that is a terminal too.
///
/// # Errors
/// In the words of Go's os/exec, with a hint where the kernel's error is about the interpreter.
#[inline(never)]
pub(crate) fn spawn(console: Console, path: &CStr, argv: &Argv<'_>, capture: bool, inherited: &Inherited) -> Result<Started, Error> {
    let ours = [rustix::stdio::stdout(), rustix::stdio::stderr()];
    let on_terminal = rustix::termios::isatty(rustix::stdio::stdin());
    let shows_output = on_terminal && rustix::termios::isatty(ours[0]);
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
        uses_terminal[at] = terminal.is_some() && rustix::termios::isatty(ours[at]);
        if let Some(terminal) = terminal.as_ref().filter(|_| uses_terminal[at]) {
            // Both may be on it: it is read once, for the first.
            if !reads_terminal {
                outputs[at] = Some(Source::Terminal(terminal.output()?));
                reads_terminal = true;
            }
        } else if capture {
            let (source, sink) = tee::pipe()?;
            // A command that becomes another user may open /dev/stdout.
            fs::resemble(ours[at], sink.as_fd());
            (outputs[at], sinks[at]) = (Some(Source::Pipe(source)), Some(sink));
        }
    }
    if let Some(terminal) = terminal.as_ref().filter(|_| !reads_terminal) {
        outputs[2] = Some(Source::Terminal(terminal.output()?));
    }
    let foreground = terminal.is_none().then(|| Foreground::open(on_terminal)).flatten();
    let slave = terminal.as_ref().and_then(Terminal::slave);
    let end = |at: usize| if uses_terminal[at] { slave } else { sinks[at].as_ref().map(AsFd::as_fd) };
    let result = spawn::spawn(&Spawn {
        path,
        argv,
        stdio: [slave, end(0), end(1)],
        terminal: terminal.is_some(),
        foreground: foreground.as_ref().and_then(Foreground::to_hand_over),
        mask: inherited.mask,
        ignores_sigchld: inherited.ignores_sigchld,
        umask: inherited.umask,
    });
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

/// Delivers a signal to the command's process group, and to the command itself where it has left that.
///
/// # Errors
/// What kill(2) says of the command, which has not been reaped and so is there. That its group is gone is none.
pub(crate) fn forward(pid: Pid, signal: Signal) -> Result<(), Errno> {
    let raw = pid.as_raw_nonzero().get();
    let group_took = signals::kill(-raw, signal.number()).is_ok();
    // A group takes a signal if one process of it may be sent one: 0 asks about this one.
    signals::kill(raw, if group_took && signals::leads_its_group(raw) { 0 } else { signal.number() })
}

/// What became of the command.
#[derive(Default)]
pub(crate) struct Reaped {
    /// Its exit code, if it has ended.
    pub(crate) code: Option<u8>,
    /// The signal that stopped it.
    pub(crate) stopped: Option<Signal>,
}

/// Reaps every child that has ended, lets go of those that made us their tracer, and says what became of the command.
pub(crate) fn reap(command: Option<Pid>) -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        match spawn::reap() {
            Ok(Some((pid, status))) => {
                let stopped = spawn::stopped_by(status).filter(|signal| !trace::let_go(pid, *signal));
                if Some(pid) == command {
                    reaped.code = Outcome::from_wait_status(status).exit_code();
                    reaped.stopped = stopped.and_then(|signal| Signal::new(u64::from(signal.unsigned_abs())));
                }
            }
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return reaped,
        }
    }
}
