//! Signals: the mask that blocks them, the descriptor that reads them, and sending them (signal(7), signalfd(2), rt_sigtimedwait(2), kill(2)).
//!
//! Enters: signals that the kernel or other processes send to emissary. Leaves: each signal's number and origin, if emissary forwards the signal or must
//! react to it; signals sent to other processes. Refuses: to receive signals if the mask cannot be set.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::{c_int, c_long};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use emissary_core::signal::{Origin, Received, Signal};
use rustix::io::Errno;

use super::errno::{is_refusal, last_errno, refused};

/// A signal mask in the kernel's form: bit N-1 stands for signal N. The C library's own real-time signals are included.
#[derive(Clone, Copy)]
pub(crate) struct Mask(u64);

impl Mask {
    /// No signal is blocked.
    pub(super) const NONE: Self = Self(0);
}

/// The kernel or a sandbox refused to change the mask. Signals then end this process, or are never read.
static MASK_IS_REFUSED: AtomicBool = AtomicBool::new(false);

/// Replaces this thread's signal mask. Returns the previous mask.
pub(super) fn set_mask(mask: Mask) -> Mask {
    let mut old = 0_u64;
    // SAFETY: both pointers are to eight bytes, as the size says; the kernel's set is a 64-bit word on every Linux that we build for.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK as c_long, ptr::from_ref(&mask.0), ptr::from_mut(&mut old), 8 as c_long)
    };
    if result < 0 {
        MASK_IS_REFUSED.store(true, Ordering::Relaxed);
    }
    Mask(old)
}

/// Blocks every signal that can be blocked. Returns the previous mask.
pub(crate) fn block_all_signals() -> Mask {
    set_mask(Mask(u64::MAX))
}

/// Opens a descriptor that reads the signals that are sent to us. All of them are blocked.
fn signal_descriptor() -> Result<OwnedFd, Errno> {
    let mask = u64::MAX;
    let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
    // SAFETY: the pointer is to eight bytes, as the size says.
    let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1 as c_long, ptr::from_ref(&mask), 8 as c_long, flags as c_long) };
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets SIGCHLD to its default action. Returns whether SIGCHLD was ignored. If it stayed ignored, the kernel would reap ended children, and we would never
/// see their status.
pub(crate) fn take_sigchld() -> bool {
    // SAFETY: the default action runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_IGN }
}

/// Sends a signal. A negative `pid` names a process group, as in kill(2).
pub(crate) fn kill(pid: i32, signal: u8) -> Result<(), Errno> {
    // SAFETY: kill touches no memory.
    if unsafe { libc::kill(pid, c_int::from(signal)) } == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Returns whether a signal was ignored when this process started. We change the disposition of SIGCHLD alone, so the present disposition tells.
fn is_ignored(signal: Signal) -> bool {
    let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the pointer is to room for one record; the call changes no disposition.
    let asked = unsafe { libc::sigaction(c_int::from(signal.number()), ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeroes are a valid record: the default disposition.
    asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Asks the kernel for a signal when our parent ends (PR_SET_PDEATHSIG, prctl(2)).
pub(crate) fn ask_for_parents_death(signal: Signal) {
    // SAFETY: the call takes numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::from(signal.number())) };
}

/// Stops this process and its process group, as ^Z does, until another process continues them. If no process could continue them (an orphaned process group,
/// PID 1), the kernel does not stop them.
pub(crate) fn suspend() {
    let blocked = set_mask(Mask(!(1 << (Signal::TSTP.number() - 1))));
    let _ = kill(0, Signal::TSTP.number());
    set_mask(blocked);
}

/// Stops this process alone, until another process continues it. As PID 1, nothing happens (pid_namespaces(7)).
pub(crate) fn stop() {
    let _ = kill(rustix::process::getpid().as_raw_nonzero().get(), Signal::STOP.number());
}

/// Gives up our controlling terminal, if stdin is that terminal (ioctl_tty(2), TIOCNOTTY). Returns whether the kernel has sent us SIGHUP and SIGCONT for
/// it: it does so to a session leader.
pub(crate) fn give_up_terminal() -> bool {
    // SAFETY: the call takes numbers.
    let gave_up = unsafe { libc::ioctl(0, libc::TIOCNOTTY as _) } == 0;
    // SAFETY: the call touches no memory.
    let session = unsafe { libc::getsid(0) };
    gave_up && session == rustix::process::getpid().as_raw_nonzero().get()
}

/// Returns whether a process leads its process group, and `true` if a sandbox refuses to tell.
pub(crate) fn leads_its_group(pid: i32) -> bool {
    // SAFETY: the call touches no memory. For a group outside our PID namespace, the call returns 0.
    let group = unsafe { libc::getpgid(pid) };
    group == pid || group < 0
}

/// The receiving end of the signals that are sent to this process.
pub(crate) struct Signals {
    /// `None` if the kernel or a sandbox refuses signalfd(2). Then `next` asks the kernel for each signal.
    fd: Option<OwnedFd>,
    own_pid: u32,
}

impl Signals {
    /// Starts to receive signals. The caller has blocked all of them.
    ///
    /// # Errors
    /// The error number of signalfd(2), unless signalfd(2) is refused; `ENOSYS` if the signal mask could not be set.
    pub(crate) fn new() -> Result<Self, Errno> {
        if MASK_IS_REFUSED.load(Ordering::Relaxed) {
            return Err(refused(c"rt_sigprocmask", Errno::NOSYS));
        }
        let fd = match signal_descriptor() {
            Err(errno) if is_refusal(errno) => None,
            other => Some(other?),
        };
        Ok(Self { fd, own_pid: rustix::process::getpid().as_raw_nonzero().get().unsigned_abs() })
    }

    /// Returns the descriptor to poll. Without one, no event reports a signal, and the caller must ask for signals from time to time.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Returns the next pending signal that is SIGCHLD or that emissary forwards.
    pub(crate) fn next(&self) -> Option<Received> {
        loop {
            let (number, code, sender) = match &self.fd {
                Some(fd) => read_signal(fd)?,
                None => take_signal()?,
            };
            let origin = Origin::new(code, sender, self.own_pid);
            if let Some(signal) = Signal::new(u64::from(number))
                && (signal == Signal::CHLD || signal.is_forwarded(origin))
            {
                // Other signals need no answer, so we save the system call.
                let is_ignored = (signal.is_request_to_end() || signal == Signal::TSTP) && is_ignored(signal);
                return Some(Received { signal, origin, is_ignored });
            }
        }
    }
}

/// Reads a pending signal's number, code and sender from a signal descriptor.
fn read_signal(fd: &OwnedFd) -> Option<(u32, i32, u32)> {
    // struct signalfd_siginfo, signalfd(2): 128 bytes; ssi_signo at 0, ssi_code at 8, ssi_pid at 12.
    let mut record = [0; 128];
    loop {
        match rustix::io::read(fd, &mut record) {
            Ok(128) => {
                let word = |at: usize| u32::from_ne_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
                return Some((word(0), word(8).cast_signed(), word(12)));
            }
            Err(Errno::INTR) => {}
            _ => return None,
        }
    }
}

/// Takes a pending signal's number, code and sender without a descriptor (rt_sigtimedwait(2)).
#[cold]
#[inline(never)]
fn take_signal() -> Option<(u32, i32, u32)> {
    let mask = u64::MAX;
    let mut info = core::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // Seconds and nanoseconds. On every Linux that we build for, the system call with this number takes one word for each.
    let at_once: [c_long; 2] = [0; 2];
    // SAFETY: the pointers are to eight bytes, as the size says, to room for one record, and to a time.
    let number =
        unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, ptr::from_ref(&mask), info.as_mut_ptr(), ptr::from_ref(&at_once), 8 as c_long) };
    let number = u32::try_from(number).ok()?;
    // SAFETY: the kernel has filled the record.
    let info = unsafe { info.assume_init() };
    // SAFETY: a record without a sender has zero or another number here, and no code uses the number then.
    let sender = unsafe { info.si_pid() };
    Some((number, info.si_code, sender.cast_unsigned()))
}

/// If this process is the first of a PID namespace, lets a request to end (SIGTERM, SIGINT, SIGHUP, SIGQUIT) end this process and lets the kernel reap
/// orphans. The kernel does neither for a first process by default (pid_namespaces(7)). For roles without an event loop.
pub(crate) fn end_at_requests_as_first_process() {
    extern "C" fn end(signal: c_int) {
        // SAFETY: `_exit` is async-signal-safe and ends the process.
        unsafe { libc::_exit(128 + signal) }
    }
    if rustix::process::getpid() != rustix::process::Pid::INIT {
        return;
    }
    let handler: extern "C" fn(c_int) = end;
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        // SAFETY: the handler is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    // SAFETY: `SIG_IGN` runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}
