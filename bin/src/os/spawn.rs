//! Starting a command, and becoming another program (clone(2), execve(2)).
//!
//! Enters: an executable, its arguments, its descriptors. Leaves: the process id of a command that runs. Refuses: what execve(2) refuses, by its error number.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::{CStr, c_char, c_int, c_void};
use core::marker::PhantomData;
use core::ptr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::io::Errno;
use rustix::process::Pid;

use super::errno::last_errno;
use super::signals::{Mask, set_mask};

/// An argument vector: borrowed strings, and the null pointer that ends it.
pub(crate) struct Argv<'a> {
    pointers: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> Argv<'a> {
    /// No arguments yet, room for `count`.
    pub(crate) fn with_capacity(count: usize) -> Self {
        let mut pointers = Vec::with_capacity(count.saturating_add(1));
        pointers.push(ptr::null());
        Self { pointers, strings: PhantomData }
    }

    /// Appends one.
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
    /// Its arguments, its own name first.
    pub(crate) argv: &'a Argv<'a>,
    /// What becomes its stdin, stdout and stderr; `None` leaves ours.
    pub(crate) stdio: [Option<BorrowedFd<'a>>; 3],
    /// Its stdin is a terminal that becomes the controlling one of a session of its own.
    pub(crate) terminal: bool,
    /// Where there is no such terminal: ours, in whose foreground it starts.
    pub(crate) foreground: Option<BorrowedFd<'a>>,
    /// The signal mask it starts with.
    pub(crate) mask: Mask,
    /// SIGCHLD is ignored.
    pub(crate) ignores_sigchld: bool,
    /// The file mode creation mask it starts with.
    pub(crate) umask: u32,
}

/// What the child's side needs. It lives on the parent's stack, which waits until the child has called execve or ended.
struct Child {
    path: *const c_char,
    argv: *const *const c_char,
    stdio: [RawFd; 3],
    terminal: bool,
    foreground: RawFd,
    names: [Option<Naming>; NAMING.len()],
    mask: Mask,
    ignores_sigchld: bool,
    umask: libc::mode_t,
    parent: libc::pid_t,
    report: RawFd,
}

/// Bytes of the stack on which the child runs until execve. It makes system calls and nothing deep.
const CHILD_STACK_BYTES: usize = 4 * 1024;

#[repr(align(16))]
struct ChildStack(#[allow(dead_code, reason = "only its address is used")] [core::mem::MaybeUninit<u8>; CHILD_STACK_BYTES]);

/// Starts a command in a process group (or session) of its own, which dies with us. Returns once it runs.
///
/// The child shares our memory until execve, as with vfork(2): nothing is copied, however large we are.
///
/// # Errors
/// What execve(2) or a step before it gave, or what pipe(2) or clone(2) gave.
#[inline(never)]
pub(crate) fn spawn(spawn: &Spawn<'_>) -> Result<Pid, Errno> {
    // Its write end closes at execve; until then it carries the error number, on systems that emulate vfork too.
    let (failed, report) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut child = Child {
        path: spawn.path.as_ptr(),
        argv: spawn.argv.pointers.as_ptr(),
        stdio: spawn.stdio.map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd())),
        terminal: spawn.terminal,
        foreground: spawn.foreground.map_or(-1, |fd| fd.as_raw_fd()),
        names: NAMING.map(Naming::of_us),
        mask: spawn.mask,
        ignores_sigchld: spawn.ignores_sigchld,
        umask: spawn.umask as libc::mode_t,
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        report: report.as_raw_fd(),
    };
    let mut stack = core::mem::MaybeUninit::<ChildStack>::uninit();
    // SAFETY: one past the end of the stack, whose type is aligned to 16.
    let top = unsafe { stack.as_mut_ptr().add(1) };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: with CLONE_VFORK this thread waits until the child has replaced its memory or ended, so `child` and `stack` outlive it; all
    // signals are blocked, so no handler runs on either side.
    let pid = unsafe { libc::clone(run_child, top.cast(), flags, ptr::from_mut(&mut child).cast()) };
    for naming in child.names.iter().flatten() {
        naming.put_back();
    }
    if pid < 0 {
        return Err(last_errno());
    }
    drop(report);
    let pid = Pid::from_raw(pid).ok_or(Errno::CHILD)?;
    let mut errno = [0; 4];
    loop {
        match rustix::io::read(&failed, &mut errno) {
            Ok(4) => {
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                return Err(Errno::from_raw_os_error(c_int::from_ne_bytes(errno)));
            }
            Err(Errno::INTR) => {}
            _ => return Ok(pid),
        }
    }
}

/// The child's side, from clone to execve. Async-signal-safe throughout: system calls only, no allocation, no lock.
extern "C" fn run_child(child: *mut c_void) -> c_int {
    let child = child.cast::<Child>();
    // SAFETY: the parent passes a pointer to its `Child` and waits.
    let child = unsafe { &mut *child };
    for naming in child.names.iter_mut().flatten() {
        naming.name_caller();
    }
    let errno = exec_child(child).raw_os_error().to_ne_bytes();
    // SAFETY: four bytes to a descriptor of ours; where that fails the parent reads nothing and reaps status 127.
    unsafe { libc::write(child.report, errno.as_ptr().cast(), errno.len()) };
    // SAFETY: ends this process without running what the parent has registered.
    unsafe { libc::_exit(127) }
}

fn check(result: c_int) -> Result<(), Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

fn exec_child(child: &Child) -> Errno {
    prepare_child(child).map_or_else(
        |errno| errno,
        |()| {
            // SAFETY: the parent passes a NUL-terminated path and a vector that ends with a null pointer; `environ` is the C library's.
            unsafe { libc::execve(child.path, child.argv, environ.cast_const()) };
            last_errno()
        },
    )
}

fn prepare_child(child: &Child) -> Result<(), Errno> {
    if child.terminal {
        // SAFETY: touches no memory.
        check(unsafe { libc::setsid() })?;
        // SAFETY: makes the terminal on the given descriptor the controlling one; takes a number.
        check(unsafe { libc::ioctl(child.stdio[0], libc::TIOCSCTTY as _, 0) })?;
    } else {
        // SAFETY: touches no memory.
        check(unsafe { libc::setpgid(0, 0) })?;
        if child.foreground >= 0 {
            // Before it can read from it. That is allowed from the background, too, while SIGTTOU is blocked, as every signal is.
            // SAFETY: touches no memory.
            let group = unsafe { libc::getpid() };
            // SAFETY: takes numbers.
            unsafe { libc::tcsetpgrp(child.foreground, group) };
        }
    }
    // SAFETY: takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    // SAFETY: touches no memory.
    let parent = unsafe { libc::getppid() };
    // A child that is the first of a PID namespace sees none.
    if parent != child.parent && parent != 0 {
        // The parent died before the line above: nobody is left to report to.
        // SAFETY: ends this process.
        unsafe { libc::_exit(127) };
    }
    for (target, &source) in (0..).zip(&child.stdio) {
        if source >= 0 {
            // SAFETY: takes numbers; descriptors 0 to 2 are always open (see `events`), so `source` is another one.
            check(unsafe { libc::dup2(source, target) })?;
        }
    }
    if child.ignores_sigchld {
        // SAFETY: runs no code of ours.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
    // SAFETY: takes a number.
    unsafe { libc::umask(child.umask) };
    set_mask(child.mask);
    Ok(())
}

unsafe extern "C" {
    static environ: *mut *const c_char;
}

/// Variables that name the one process for which something is meant, by its id or, with `true`, by the number of its process descriptor's file
/// (sd_listen_fds(3), sd_watchdog_enabled(3)).
const NAMING: [(&[u8], bool); 3] = [(b"LISTEN_PID=", false), (b"WATCHDOG_PID=", false), (b"LISTEN_PIDFDID=", true)];

/// Bytes of the longest of them: its name, the digits of a number, a NUL.
const NAMING_BYTES: usize = 15 + 20 + 1;

/// A variable that names us, and is to name the command.
struct Naming {
    /// Where the environment points to it.
    slot: *mut *const c_char,
    original: *const c_char,
    changed: [u8; NAMING_BYTES],
    name_bytes: usize,
    by_descriptor: bool,
}

impl Naming {
    /// The variable of this name, if it names us.
    #[inline(never)]
    fn of_us((name, by_descriptor): (&[u8], bool)) -> Option<Self> {
        // SAFETY: the C library's; nobody else changes the environment.
        let mut slot = unsafe { environ };
        loop {
            // SAFETY: the environment ends with a null pointer, at which this stops.
            let original = unsafe { slot.read() };
            if original.is_null() {
                return None;
            }
            // SAFETY: each of its pointers is to a NUL-terminated string.
            let variable = unsafe { CStr::from_ptr(original) }.to_bytes();
            if let Some(value) = variable.strip_prefix(name) {
                let names_us = emissary_core::exit::parse_decimal(value).is_some_and(|value| Some(value) == caller(by_descriptor));
                let mut changed = [0; NAMING_BYTES];
                changed[..name.len()].copy_from_slice(name);
                return names_us.then_some(Self { slot, original, changed, name_bytes: name.len(), by_descriptor });
            }
            // SAFETY: this was not the last.
            slot = unsafe { slot.add(1) };
        }
    }

    /// Makes it name the process that calls this. Async-signal-safe.
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
            // SAFETY: an element of the environment, which nobody else uses meanwhile; the string ends with a zero of its array.
            unsafe { self.slot.write(self.changed.as_ptr().cast()) };
        }
    }

    /// Makes the environment ours again.
    fn put_back(&self) {
        // SAFETY: the element that was there before.
        unsafe { self.slot.write(self.original) };
    }
}

/// The number of the process that calls this. Async-signal-safe.
#[inline(never)]
fn caller(by_descriptor: bool) -> Option<u64> {
    let pid = rustix::process::getpid();
    if !by_descriptor {
        return Some(u64::from(pid.as_raw_nonzero().get().unsigned_abs()));
    }
    let descriptor = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    #[allow(clippy::useless_conversion, reason = "the types differ between targets")]
    rustix::fs::fstat(descriptor).ok().map(|stat| stat.st_ino.into())
}

/// Replaces this process. Returns only what went wrong.
pub(crate) fn execute(path: &CStr, argv: &Argv<'_>) -> Errno {
    // SAFETY: `Argv` ends with a null pointer and holds NUL-terminated strings; `environ` is the C library's.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), environ.cast_const()) };
    last_errno()
}
