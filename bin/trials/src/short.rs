//! `short`: runs a program and shortens one of its system calls: the kernel is asked for fewer bytes than the program wanted. `faults` uses it.
//!
//! strace can make a call fail or fake its result. Here the kernel carries the call out and returns what it really did. ptrace(2) follows the main
//! thread alone. A system call changes no register but that of its result, so the tracer puts the program's own count back when the call returns.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
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
    /// Half of them, rounded up.
    Half,
}

impl Share {
    /// Its name on the command line.
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

/// Runs the program to its end and returns its exit code. Creates the file `mark` once it has shortened the call.
pub(crate) fn short(name: &str, nth: usize, share: Share, mark: &Path, program: &[OsString]) -> Result<ExitCode> {
    let (number, argument) = call(name).with_context(|| format!("{name} has no argument that counts bytes"))?;
    // The shell stops itself. Once it is traced it goes on and becomes the program. (`PTRACE_TRACEME` would need code between fork and exec.)
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).args(program);
    let pid = Pid::from_raw(i32::try_from(shell.spawn().context("cannot start sh")?.id())?);
    ensure!(matches!(waitpid(pid, Some(WaitPidFlag::WUNTRACED))?, WaitStatus::Stopped(..)), "sh has not stopped");
    ptrace::seize(pid, Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC)?;
    kill(pid, Signal::SIGCONT)?;
    let (mut is_program, mut is_inside, mut count) = (false, false, 0);
    let mut to_restore = None;
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
                    if called == number && *asked > 1 && may_be_short(pid, &mut registers) {
                        count += 1;
                        if count == nth {
                            let (_, asked) = registers_of(&mut registers, argument);
                            to_restore = Some(*asked);
                            *asked = share.of(*asked);
                            ptrace::setregs(pid, registers)?;
                            std::fs::write(mark, "")?;
                        }
                    }
                } else if let Some(asked) = to_restore.take() {
                    let mut registers = ptrace::getregs(pid)?;
                    *registers_of(&mut registers, argument).1 = asked;
                    ptrace::setregs(pid, registers)?;
                }
            }
            WaitStatus::Stopped(_, sent) => signal = Some(sent),
            _ => {}
        }
        ptrace::syscall(pid, signal)?;
    }
}

/// The number of the call and one of its arguments. The registers are those at the entry of the call.
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

/// Whether the descriptor gives parts of what is asked for. A signalfd(2) and an inotify(7) descriptor give whole records, and refuse a read that has
/// no room for one.
fn may_be_short(pid: Pid, registers: &mut libc::user_regs_struct) -> bool {
    let descriptor = *registers_of(registers, 0).1;
    std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).is_ok_and(|target| !target.to_string_lossy().starts_with("anon_inode:"))
}
