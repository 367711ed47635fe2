//! Starting a command as a child, becoming another program, and reaping children (clone(2), execve(2), wait(2)).
//!
//! Enters: an executable, its arguments, its descriptors. Leaves: the process id of a command that runs, later its exit status. Refuses: what execve(2)
//! refuses, by its error number.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::{CStr, c_char, c_int, c_void};
use core::marker::PhantomData;
use core::ptr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use emissary_core::record::Usage;
use rustix::io::Errno;
use rustix::process::Pid;

use super::errno::{is_refusal, last_errno, noted, refused};
use super::signals::{Mask, set_mask};

/// An argument vector: borrowed strings, and the null pointer that ends the vector.
pub(crate) struct Argv<'a> {
    pointers: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> Argv<'a> {
    /// Makes an empty vector with room for `count` arguments.
    pub(crate) fn with_capacity(count: usize) -> Self {
        let mut pointers = Vec::with_capacity(count.saturating_add(1));
        pointers.push(ptr::null());
        Self { pointers, strings: PhantomData }
    }

    /// Returns the vector that has /bin/sh run a script with these arguments.
    #[cold]
    pub(crate) fn for_shell(&self, script: &'a CStr) -> Self {
        let mut pointers = vec![c"/bin/sh".as_ptr(), script.as_ptr()];
        pointers.extend(self.pointers.iter().skip(1));
        Self { pointers, strings: PhantomData }
    }

    /// Appends an argument.
    pub(crate) fn push(&mut self, arg: &'a CStr) {
        let end = self.pointers.len() - 1;
        self.pointers[end] = arg.as_ptr();
        self.pointers.push(ptr::null());
    }
}

/// How to start a command.
pub(crate) struct Spawn<'a> {
    /// The executable.
    pub(crate) path: &'a CStr,
    /// Its arguments. The first is the name that the command was called by.
    pub(crate) argv: &'a Argv<'a>,
    /// The command's stdin, stdout and stderr. `None` means that the command inherits ours.
    pub(crate) stdio: [Option<BorrowedFd<'a>>; 3],
    /// The command's stdin is a terminal of its own. The terminal becomes the controlling terminal of a new session.
    pub(crate) terminal: bool,
    /// The command starts a session of its own, even without a terminal of its own. If stdin is a terminal that no session has, the new session gets it.
    pub(crate) session: bool,
    /// The command stays in our process group, if it starts no session.
    pub(crate) stays_in_group: bool,
    /// The command goes on if we are killed.
    pub(crate) outlives_us: bool,
    /// Every signal has its default action in the command, even if it is ignored here.
    pub(crate) resets_signals: bool,
    /// Our own terminal, if `terminal` is false and the command starts in our terminal's foreground.
    pub(crate) foreground: Option<BorrowedFd<'a>>,
    /// The command's signal mask.
    pub(crate) mask: Mask,
    /// The command starts with SIGCHLD ignored.
    pub(crate) ignores_sigchld: bool,
    /// The command's file mode creation mask. `None` means that the command inherits ours.
    pub(crate) umask: Option<u32>,
}

/// The data that the child reads before execve. It lies on the parent's stack: the parent waits until the child has called execve or ended.
struct Child {
    path: *const c_char,
    argv: *const *const c_char,
    stdio: [RawFd; 3],
    terminal: bool,
    session: bool,
    stays_in_group: bool,
    outlives_us: bool,
    resets_signals: bool,
    foreground: RawFd,
    names: [Option<Naming>; NAMING.len()],
    mask: Mask,
    ignores_sigchld: bool,
    umask: Option<libc::mode_t>,
    parent: libc::pid_t,
    report: RawFd,
}

/// Bytes of the child's stack until execve. The child makes system calls and no deep calls.
const CHILD_STACK_BYTES: usize = 4 * 1024;

#[repr(align(16))]
struct ChildStack(#[allow(dead_code, reason = "only its address is used")] [core::mem::MaybeUninit<u8>; CHILD_STACK_BYTES]);

/// Starts a command in a process group (or session) of its own. Returns once the command runs. The kernel kills the command when emissary dies.
///
/// The child shares our memory until execve, as with vfork(2). So the kernel copies no memory, however much we use.
///
/// # Errors
/// The error number of execve(2) or of a step before it, of pipe(2) or of clone(2). `ENOSYS` for a refused call that has no substitute;
/// [`super::errno::cause`] names that call.
#[inline(never)]
pub(crate) fn spawn(spawn: &Spawn<'_>) -> Result<Pid, Errno> {
    // The pipe's write end closes at execve. Before that, the pipe carries the error number, also on systems that emulate vfork(2).
    let (failed, report) = super::fs::pipe()?;
    let mut child = Child {
        path: spawn.path.as_ptr(),
        argv: spawn.argv.pointers.as_ptr(),
        stdio: spawn.stdio.map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd())),
        terminal: spawn.terminal,
        session: spawn.session,
        stays_in_group: spawn.stays_in_group,
        outlives_us: spawn.outlives_us,
        resets_signals: spawn.resets_signals,
        foreground: spawn.foreground.map_or(-1, |fd| fd.as_raw_fd()),
        names: NAMING.map(Naming::of_us),
        mask: spawn.mask,
        ignores_sigchld: spawn.ignores_sigchld,
        umask: spawn.umask.map(|umask| umask as libc::mode_t),
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        report: report.as_raw_fd(),
    };
    let mut stack = core::mem::MaybeUninit::<ChildStack>::uninit();
    // SAFETY: the pointer is one past the end of the stack, whose type is aligned to 16.
    let top = unsafe { stack.as_mut_ptr().add(1) };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: with CLONE_VFORK, this thread waits until the child has replaced its memory or ended, so `child` and `stack` outlive the child; all signals are
    // blocked, so no handler runs in either process.
    let pid = unsafe { libc::clone(run_child, top.cast(), flags, ptr::from_mut(&mut child).cast()) };
    let pid = if pid < 0 && is_refusal(last_errno()) { fork(&mut child) } else { pid };
    for naming in child.names.iter().flatten() {
        naming.put_back();
    }
    if pid < 0 {
        return Err(refused(c"clone", last_errno()));
    }
    drop(report);
    let pid = Pid::from_raw(pid).ok_or(Errno::CHILD)?;
    // The error number, and the step that gave it.
    let mut report = [0; 5];
    loop {
        match rustix::io::read(&failed, &mut report) {
            Ok(5) => {
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                let [errno @ .., step] = report;
                let errno = Errno::from_raw_os_error(c_int::from_ne_bytes(errno));
                return Err(if step == EXECVE { noted(c"execve", errno) } else { refused(c"dup2", errno) });
            }
            Err(Errno::INTR) => {}
            _ => return Ok(pid),
        }
    }
}

/// Starts the child by fork(2), for a sandbox that refuses shared memory. The kernel copies our memory, and the child changes its own copy.
#[cold]
#[inline(never)]
fn fork(child: &mut Child) -> libc::pid_t {
    // The C library's fork makes further system calls, so we make the system call ourselves.
    #[cfg(any(target_arch = "aarch64", target_arch = "riscv64"))]
    // SAFETY: the child shares no memory, makes async-signal-safe calls alone, and does not return.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD as libc::c_long, 0_usize, 0_usize, 0_usize, 0_usize) };
    #[cfg(not(any(target_arch = "aarch64", target_arch = "riscv64")))]
    // SAFETY: the child makes async-signal-safe calls alone, and does not return.
    let pid = unsafe { libc::syscall(libc::SYS_fork) };
    let pid = pid as libc::pid_t;
    if pid == 0 {
        run_child(ptr::from_mut(child).cast());
    }
    pid
}

/// The child's steps that can fail.
const DUP2: u8 = 1;
const EXECVE: u8 = 2;

/// What the child does from clone to execve. Async-signal-safe throughout: system calls alone, no allocation, no lock.
extern "C" fn run_child(child: *mut c_void) -> c_int {
    let child = child.cast::<Child>();
    // SAFETY: the parent passes a pointer to its `Child` and waits.
    let child = unsafe { &mut *child };
    for naming in child.names.iter_mut().flatten() {
        naming.name_caller();
    }
    let (errno, step) = exec_child(child);
    let [a, b, c, d] = errno.raw_os_error().to_ne_bytes();
    let report = [a, b, c, d, step];
    // SAFETY: the pointer and the length are those of `report`. If the write fails, the parent reads nothing and reaps status 127.
    unsafe { libc::write(child.report, report.as_ptr().cast(), report.len()) };
    // SAFETY: the call ends this process and runs none of the parent's exit handlers.
    unsafe { libc::_exit(127) }
}

fn check(result: c_int) -> Result<(), Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Ignores a refusal of the kernel or a sandbox: the command then runs without that step.
fn if_allowed(result: c_int) -> Result<(), Errno> {
    match check(result) {
        Err(errno) if is_refusal(errno) => Ok(()),
        other => other,
    }
}

/// Makes descriptor `target` refer to the open file of `source` (dup2(2), dup3(2), or fcntl(2) `F_DUPFD`, which takes the lowest free number).
fn put_in_place(source: RawFd, target: RawFd) -> Result<(), Errno> {
    // SAFETY: the call takes numbers; descriptors 0 to 2 are always open (see `descriptors::occupy_standard`), so `source` is another one.
    let mut result = check(unsafe { libc::dup2(source, target) });
    if result.is_err_and(is_refusal) {
        // SAFETY: as above.
        result = check(unsafe { libc::dup3(source, target, 0) });
    }
    if result.is_err_and(is_refusal) {
        // SAFETY: the child owns its stdin, stdout and stderr, and replaces this one at once.
        unsafe { libc::close(target) };
        // SAFETY: the call takes numbers.
        result = check(unsafe { libc::fcntl(source, libc::F_DUPFD, target) });
    }
    result
}

fn exec_child(child: &Child) -> (Errno, u8) {
    prepare_child(child).map_or_else(
        |errno| (errno, DUP2),
        |()| {
            // SAFETY: the parent passes a NUL-terminated path and a vector that ends with a null pointer; the C library owns `environ`.
            unsafe { libc::execve(child.path, child.argv, environ.cast_const()) };
            (last_errno(), EXECVE)
        },
    )
}

fn prepare_child(child: &Child) -> Result<(), Errno> {
    if child.terminal {
        // SAFETY: the call touches no memory.
        if_allowed(unsafe { libc::setsid() })?;
        // SAFETY: the call takes numbers. It makes the terminal on the descriptor the controlling one.
        if_allowed(unsafe { libc::ioctl(child.stdio[0], libc::TIOCSCTTY as _, 0) })?;
    } else if child.session {
        // SAFETY: the call touches no memory.
        if_allowed(unsafe { libc::setsid() })?;
        // Without a terminal on stdin, or with that of another session, the command has none.
        // SAFETY: the call takes numbers.
        unsafe { libc::ioctl(0, libc::TIOCSCTTY as _, 0) };
    } else if !child.stays_in_group {
        // SAFETY: the call touches no memory.
        if_allowed(unsafe { libc::setpgid(0, 0) })?;
        if child.foreground >= 0 {
            // The command needs the foreground before it reads from the terminal. A process in the background may take the foreground while it blocks
            // SIGTTOU, and the child blocks every signal.
            // SAFETY: the call touches no memory.
            let group = unsafe { libc::getpid() };
            // SAFETY: the call takes numbers.
            unsafe { libc::tcsetpgrp(child.foreground, group) };
        }
    }
    if !child.outlives_us {
        die_with_parent(child.parent)?;
    }
    for (target, &source) in (0..).zip(&child.stdio) {
        if source >= 0 {
            put_in_place(source, target)?;
        }
    }
    if child.resets_signals {
        for signal in 1..=31 {
            // SAFETY: the default action runs no code of ours. The call fails for SIGKILL and SIGSTOP.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    } else if child.ignores_sigchld {
        // SAFETY: `SIG_IGN` runs no code of ours.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
    if let Some(umask) = child.umask {
        // SAFETY: the call takes a number.
        unsafe { libc::umask(umask) };
    }
    set_mask(if child.resets_signals { Mask::NONE } else { child.mask });
    Ok(())
}

/// Asks the kernel to kill this child when the parent dies.
fn die_with_parent(expected: libc::pid_t) -> Result<(), Errno> {
    // SAFETY: the call takes numbers.
    if_allowed(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    // SAFETY: the call touches no memory.
    let parent = unsafe { libc::getppid() };
    // The first process of a PID namespace sees no parent. If a sandbox refuses either call, that call's number is negative.
    if parent != expected && parent > 0 && expected > 0 {
        // The parent died before prctl(2) took effect, so no process waits for this child.
        // SAFETY: the call ends this process.
        unsafe { libc::_exit(127) };
    }
    Ok(())
}

unsafe extern "C" {
    static environ: *mut *const c_char;
}

/// Variables in which systemd names the one process that it addresses: by the process id or, with `true`, by the inode number of the process's pidfd
/// (sd_listen_fds(3), sd_watchdog_enabled(3)).
const NAMING: [(&[u8], bool); 3] = [(b"LISTEN_PID=", false), (b"WATCHDOG_PID=", false), (b"LISTEN_PIDFDID=", true)];

/// Bytes of the longest such variable: its name, the digits of a number, a NUL.
const NAMING_BYTES: usize = 15 + 20 + 1;

/// A variable that names emissary and must name the command instead.
struct Naming {
    /// The element of the environment that points to the variable.
    slot: *mut *const c_char,
    original: *const c_char,
    changed: [u8; NAMING_BYTES],
    name_bytes: usize,
    by_descriptor: bool,
}

impl Naming {
    /// Returns the variable of this name, if its value names us.
    #[inline(never)]
    fn of_us((name, by_descriptor): (&[u8], bool)) -> Option<Self> {
        // SAFETY: the C library owns `environ`, and no other thread changes the environment.
        let mut slot = unsafe { environ };
        loop {
            // SAFETY: the environment ends with a null pointer, and the loop stops there.
            let original = unsafe { slot.read() };
            if original.is_null() {
                return None;
            }
            // SAFETY: each pointer of the environment is to a NUL-terminated string.
            let variable = unsafe { CStr::from_ptr(original) }.to_bytes();
            if let Some(value) = variable.strip_prefix(name) {
                let names_us = emissary_core::exit::parse_decimal(value).is_some_and(|value| Some(value) == caller(by_descriptor));
                let mut changed = [0; NAMING_BYTES];
                changed[..name.len()].copy_from_slice(name);
                return names_us.then_some(Self { slot, original, changed, name_bytes: name.len(), by_descriptor });
            }
            // SAFETY: this element was not the null pointer, so another follows.
            slot = unsafe { slot.add(1) };
        }
    }

    /// Makes the variable name the calling process. Async-signal-safe.
    fn name_caller(&mut self) {
        let Some(mut left) = caller(self.by_descriptor) else { return };
        let (mut digits, mut first) = ([0; 20], 20);
        while left > 0 && first > 0 {
            first -= 1;
            digits[first] = b'0' + (left % 10) as u8;
            left /= 10;
        }
        let digits = &digits[first..];
        if let Some(room) = self.changed[self.name_bytes..].get_mut(..digits.len()) {
            room.copy_from_slice(digits);
            // SAFETY: `slot` is an element of the environment, and no other code uses the environment meanwhile; `changed` ends with a zero.
            unsafe { self.slot.write(self.changed.as_ptr().cast()) };
        }
    }

    /// Puts the variable's original value back.
    fn put_back(&self) {
        // SAFETY: `slot` is an element of the environment, and `original` was its value.
        unsafe { self.slot.write(self.original) };
    }
}

/// Returns the calling process's number: its process id, or the inode number of its pidfd. Async-signal-safe.
#[inline(never)]
fn caller(by_descriptor: bool) -> Option<u64> {
    let pid = rustix::process::getpid();
    if !by_descriptor {
        return Some(u64::from(pid.as_raw_nonzero().get().unsigned_abs()));
    }
    let descriptor = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    #[allow(clippy::useless_conversion, reason = "the types differ between targets")]
    super::fs::fstat(descriptor).ok().map(|stat| stat.st_ino.into())
}

/// Returns a child that has ended or stopped, with its status in wait(2)'s form (wait4(2), or waitid(2)). Returns `None` if no child has done either.
///
/// # Errors
/// The error number that the kernel gives, such as `ECHILD` if this process has no child.
#[inline(never)]
pub(crate) fn reap() -> Result<Option<(Pid, c_int, Usage)>, Errno> {
    let mut status = 0;
    let mut usage = core::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointers are to a number and to room for one record.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG | libc::WUNTRACED, usage.as_mut_ptr()) };
    if pid < 0 && is_refusal(last_errno()) {
        return reap_by_waitid();
    }
    check(pid)?;
    // SAFETY: all zeroes are a valid record, and the kernel has written into it or left it alone.
    let usage = unsafe { usage.assume_init() };
    let us = |time: libc::timeval| (time.tv_sec as u64).saturating_mul(1_000_000).saturating_add(time.tv_usec as u64);
    let usage = Usage {
        // In kilobytes (getrusage(2)).
        max_rss_bytes: (usage.ru_maxrss as u64).saturating_mul(1024),
        user_us: us(usage.ru_utime),
        system_us: us(usage.ru_stime),
        minor_faults: usage.ru_minflt as u64,
        major_faults: usage.ru_majflt as u64,
        blocks_in: usage.ru_inblock as u64,
        blocks_out: usage.ru_oublock as u64,
        voluntary_switches: usage.ru_nvcsw as u64,
        involuntary_switches: usage.ru_nivcsw as u64,
    };
    Ok(Pid::from_raw(pid).map(|pid| (pid, status, usage)))
}

/// Returns the signal that stopped a child, if the status is that of a stopped child.
pub(crate) fn stopped_by(status: c_int) -> Option<c_int> {
    libc::WIFSTOPPED(status).then_some(libc::WSTOPSIG(status))
}

#[cold]
fn reap_by_waitid() -> Result<Option<(Pid, c_int, Usage)>, Errno> {
    let mut info = core::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the pointer is to room for one record.
    check(unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), libc::WEXITED | libc::WSTOPPED | libc::WNOHANG) })?;
    // SAFETY: the kernel has filled the record, or the record is all zeroes.
    let info = unsafe { info.assume_init() };
    // SAFETY: a record about a child has both fields; without a child, both are zero.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let value = unsafe { info.si_status() };
    let status = match info.si_code {
        libc::CLD_EXITED => value << 8,
        libc::CLD_KILLED | libc::CLD_DUMPED => value,
        _ => value << 8 | 0x7f,
    };
    // waitid(2) of the C library tells nothing of the usage.
    Ok(Pid::from_raw(pid).map(|pid| (pid, status, Usage::default())))
}

/// Replaces this process by another program. Returns only if that fails.
pub(crate) fn execute(path: &CStr, argv: &Argv<'_>) -> Errno {
    // SAFETY: `Argv` ends with a null pointer and holds NUL-terminated strings; the C library owns `environ`.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), environ.cast_const()) };
    last_errno()
}
