//! The trials' own tracers, `short` and `late`: they run a program and change one of its system calls, although the kernel carries the call out (ptrace(2)).
//! `faults` uses them.
//!
//! Enters: the call's name and number, the change, and the program's words. Leaves: the program's exit code, and a line in a file for each changed call.
//! Refuses: a call or an error that it does not know, and a program that a signal ends.
//!
//! strace can make a call fail or fake its result, but then it skips the call. `short` asks the kernel for fewer bytes than the program wanted. A system call
//! changes no register but that of its result, so the tracer restores the program's own count when the call returns. `late` replaces the result by an error
//! after the kernel has closed the descriptor, as network and quota file systems do at close(2). Both follow the main thread alone.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc::{self, c_int, c_long};
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Whether this file knows the registers of this architecture.
pub(crate) const IS_POSSIBLE: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// How many of the wanted bytes the call asks for.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
pub(crate) enum Share {
    /// One byte.
    One,
    /// Half of the wanted bytes, rounded up.
    Half,
}

impl Share {
    /// The share's name on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Half => "half",
        }
    }

    fn of(self, asked: u64) -> u64 {
        match self {
            Self::One => asked.min(1),
            Self::Half => asked.div_ceil(2),
        }
    }
}

/// The number of a call, and the index of the argument that counts bytes. `None` for a call without such an argument.
pub(crate) fn call(name: &str) -> Option<(c_long, usize)> {
    match name {
        "read" => Some((libc::SYS_read, 2)),
        "write" => Some((libc::SYS_write, 2)),
        "pread64" => Some((libc::SYS_pread64, 2)),
        "pwrite64" => Some((libc::SYS_pwrite64, 2)),
        "copy_file_range" => Some((libc::SYS_copy_file_range, 4)),
        "sendfile" => Some((libc::SYS_sendfile, 3)),
        _ => None,
    }
}

/// What happens to the chosen call.
pub(crate) enum Change {
    /// The kernel carries the call out for fewer bytes.
    Short(Share),
    /// The kernel carries the call out, and the call returns this error.
    Late(Errno),
}

/// The number of a call that `late` can change. The call's first argument is a descriptor.
fn late_call(name: &str) -> Result<c_long> {
    match name {
        "close" => Ok(libc::SYS_close),
        "write" => Ok(libc::SYS_write),
        _ => bail!("`late` does not know the call {name}"),
    }
}

/// The error with this name.
pub(crate) fn error(name: &str) -> Result<Errno> {
    match name {
        "EINTR" => Ok(Errno::EINTR),
        "EIO" => Ok(Errno::EIO),
        "EDQUOT" => Ok(Errno::EDQUOT),
        _ => bail!("`late` does not know the error {name}"),
    }
}

/// Runs the program to its end and returns its exit code. Changes the call number `nth` of this name; 0 means every such call. Appends a line to the file
/// `mark` for each changed call. For `late`, the line is the path of the regular file that the descriptor writes to, or empty.
pub(crate) fn change(name: &str, nth: usize, change: &Change, mark: &Path, program: &[OsString]) -> Result<ExitCode> {
    let (number, argument) = match change {
        Change::Short(_) => call(name).with_context(|| format!("{name} has no argument that counts bytes"))?,
        Change::Late(_) => (late_call(name)?, 0),
    };
    let mut marks = std::fs::File::options().append(true).create(true).open(mark)?;
    // The shell stops itself. The tracer attaches to it, and the shell goes on and becomes the program. (`PTRACE_TRACEME` would need code between fork and
    // exec.)
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).args(program);
    let pid = Pid::from_raw(i32::try_from(shell.spawn().context("cannot start sh")?.id())?);
    ensure!(matches!(waitpid(pid, Some(WaitPidFlag::WUNTRACED))?, WaitStatus::Stopped(..)), "sh has not stopped");
    ptrace::seize(pid, Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC)?;
    kill(pid, Signal::SIGCONT)?;
    let (mut is_program, mut is_inside, mut count) = (false, false, 0);
    // The value to put back into the program's register when the call returns, and the error to return.
    let (mut to_restore, mut to_return) = (None, None);
    loop {
        let status = waitpid(pid, Some(WaitPidFlag::__WALL))?;
        let mut signal = None;
        match status {
            WaitStatus::Exited(_, code) => return Ok(ExitCode::from(u8::try_from(code)?)),
            WaitStatus::Signaled(_, signal, _) => bail!("{signal} has ended the program"),
            // The next stop is the exit of `execve` itself.
            WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_EXEC as c_int => (is_program, is_inside) = (true, true),
            WaitStatus::PtraceSyscall(_) if is_program => {
                is_inside = !is_inside;
                if is_inside {
                    let mut registers = ptrace::getregs(pid)?;
                    let (called, asked) = registers_of(&mut registers, argument);
                    let (is_called, asked) = (called == number, *asked);
                    match change {
                        Change::Short(share) if is_called && asked > 1 && may_be_short(pid, &mut registers) => {
                            count += 1;
                            if count == nth || nth == 0 {
                                to_restore = Some(asked);
                                *registers_of(&mut registers, argument).1 = share.of(asked);
                                ptrace::setregs(pid, registers)?;
                                writeln!(marks)?;
                            }
                        }
                        Change::Late(errno) if is_called => {
                            count += 1;
                            if count == nth || nth == 0 {
                                to_return = Some(*errno);
                                writeln!(marks, "{}", written_file(pid, asked).unwrap_or_default())?;
                            }
                        }
                        _ => {}
                    }
                } else if let Some(asked) = to_restore.take() {
                    let mut registers = ptrace::getregs(pid)?;
                    *registers_of(&mut registers, argument).1 = asked;
                    ptrace::setregs(pid, registers)?;
                } else if let Some(errno) = to_return.take() {
                    let mut registers = ptrace::getregs(pid)?;
                    *result_of(&mut registers) = i64::from(errno as i32).wrapping_neg().cast_unsigned();
                    ptrace::setregs(pid, registers)?;
                }
            }
            WaitStatus::Stopped(_, sent) => signal = Some(sent),
            _ => {}
        }
        ptrace::syscall(pid, signal)?;
    }
}

/// The path of the regular file that a descriptor of the program writes to; `None` for any other descriptor.
fn written_file(pid: Pid, descriptor: u64) -> Option<String> {
    let path = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
    let facts = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).ok()?;
    let flags = facts.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = c_int::from_str_radix(flags.trim(), 8).ok()?;
    let writes = flags & libc::O_ACCMODE != libc::O_RDONLY && flags & libc::O_PATH == 0;
    (writes && std::fs::metadata(&path).is_ok_and(|facts| facts.is_file())).then(|| path.display().to_string())
}

/// The register that holds the result of a call when it returns.
#[cfg(target_arch = "x86_64")]
const fn result_of(registers: &mut libc::user_regs_struct) -> &mut u64 {
    &mut registers.rax
}

#[cfg(target_arch = "aarch64")]
const fn result_of(registers: &mut libc::user_regs_struct) -> &mut u64 {
    &mut registers.regs[0]
}

/// The number of the call, and the argument with this index. The registers are those at the entry of the call.
#[cfg(target_arch = "x86_64")]
fn registers_of(registers: &mut libc::user_regs_struct, argument: usize) -> (c_long, &mut u64) {
    let number = registers.orig_rax.cast_signed();
    let places = [&mut registers.rdi, &mut registers.rsi, &mut registers.rdx, &mut registers.r10, &mut registers.r8];
    (number, places.into_iter().nth(argument).expect("one of five"))
}

#[cfg(target_arch = "aarch64")]
fn registers_of(registers: &mut libc::user_regs_struct, argument: usize) -> (c_long, &mut u64) {
    (registers.regs[8].cast_signed(), &mut registers.regs[argument])
}

/// Whether a read of the descriptor may return fewer bytes than it asks for. A signalfd(2) or inotify(7) descriptor returns whole records, and refuses a read
/// without room for one.
fn may_be_short(pid: Pid, registers: &mut libc::user_regs_struct) -> bool {
    let descriptor = *registers_of(registers, 0).1;
    std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).is_ok_and(|target| !target.to_string_lossy().starts_with("anon_inode:"))
}
