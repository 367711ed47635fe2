//! Signals: the mask, the descriptor that reads them, sending them (signal(7), signalfd(2), kill(2)).
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::{c_int, c_long};
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use emissary_core::signal::{Origin, Received, Signal};
use rustix::io::Errno;

use super::errno::{is_refusal, last_errno, refused};

/// A signal mask as the kernel has it: bit N-1 for signal N, the real-time signals of the C library included.
#[derive(Clone, Copy)]
pub(crate) struct Mask(u64);

/// The mask could not be changed: signals go unseen, or end us.
static MASK_IS_REFUSED: AtomicBool = AtomicBool::new(false);

/// Replaces the signal mask of this thread, and gives the mask from before.
pub(super) fn set_mask(mask: Mask) -> Mask {
    let mut old = 0_u64;
    // SAFETY: both pointers are to eight bytes, as the size says; the kernel's set is a 64-bit word on every Linux we build for.
    let result = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK as c_long, ptr::from_ref(&mask.0), ptr::from_mut(&mut old), 8 as c_long)
    };
    if result < 0 {
        MASK_IS_REFUSED.store(true, Ordering::Relaxed);
    }
    Mask(old)
}

/// Blocks every signal that can be blocked, and gives the mask from before.
pub(crate) fn block_all_signals() -> Mask {
    set_mask(Mask(u64::MAX))
}

/// A descriptor that reads the signals which are sent to us, all of which are blocked.
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

/// Sets SIGCHLD to its default action, without which ended children vanish unseen; says whether it was ignored.
pub(crate) fn take_sigchld() -> bool {
    // SAFETY: the default action runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_IGN }
}

/// Sends a signal; a negative `pid` means the process group, as in kill(2).
pub(crate) fn kill(pid: i32, signal: u8) -> Result<(), Errno> {
    // SAFETY: kill touches no memory.
    if unsafe { libc::kill(pid, c_int::from(signal)) } == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Whether a signal was ignored when we were started: we change the disposition of SIGCHLD alone.
fn is_ignored(signal: Signal) -> bool {
    let mut action = core::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the pointer is to room for one; nothing is changed.
    let asked = unsafe { libc::sigaction(c_int::from(signal.number()), ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroes are a disposition, too: the default one.
    asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Stops this process and those of its group, as ^Z does, until somebody continues them. Where nobody could, the kernel stops none (an orphaned process
/// group, PID 1).
pub(crate) fn suspend() {
    let blocked = set_mask(Mask(!(1 << (Signal::TSTP.number() - 1))));
    let _ = kill(0, Signal::TSTP.number());
    set_mask(blocked);
}

/// Whether a process leads the process group that it is in; also where a sandbox refuses to tell.
pub(crate) fn leads_its_group(pid: i32) -> bool {
    // SAFETY: touches no memory. A group outside our PID namespace is 0.
    let group = unsafe { libc::getpgid(pid) };
    group == pid || group < 0
}

/// Signals that were sent to us.
pub(crate) struct Signals {
    /// `None` where the kernel or a sandbox refuses signalfd(2): they are asked for instead.
    fd: Option<OwnedFd>,
    own_pid: u32,
}

impl Signals {
    /// Starts to receive them; they are all blocked already.
    ///
    /// # Errors
    /// What signalfd(2) says, unless it is refused; a signal mask that could not be set.
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

    /// The descriptor to poll. Where there is none, nothing tells of a signal: they are to be looked for.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// The next one that is waiting and is either to be forwarded or SIGCHLD.
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
                // Asked only of those for which it matters.
                let is_ignored = (signal.is_request_to_end() || signal == Signal::TSTP) && is_ignored(signal);
                return Some(Received { signal, origin, is_ignored });
            }
        }
    }
}

/// A waiting signal's number, code and sender, read from a signal descriptor.
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

/// The same without a descriptor (rt_sigtimedwait(2)).
#[cold]
#[inline(never)]
fn take_signal() -> Option<(u32, i32, u32)> {
    let mask = u64::MAX;
    let mut info = core::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // Seconds and nanoseconds, each a word, as the call of this number has them on every Linux we build for.
    let at_once: [c_long; 2] = [0; 2];
    // SAFETY: the pointers are to eight bytes, as the size says, to room for one record, and to a time.
    let number =
        unsafe { libc::syscall(libc::SYS_rt_sigtimedwait, ptr::from_ref(&mask), info.as_mut_ptr(), ptr::from_ref(&at_once), 8 as c_long) };
    let number = u32::try_from(number).ok()?;
    // SAFETY: the kernel has filled it.
    let info = unsafe { info.assume_init() };
    // SAFETY: of a signal that names no sender this is zero or another number, which nobody asks for.
    let sender = unsafe { info.si_pid() };
    Some((number, info.si_code, sender.cast_unsigned()))
}

/// As the first process of a PID namespace, lets requests to end do so, and lets the kernel reap orphans: the kernel ignores both otherwise
/// (pid_namespaces(7)). For roles that have no loop of their own.
pub(crate) fn end_at_requests_as_first_process() {
    extern "C" fn end(signal: c_int) {
        // SAFETY: async-signal-safe; ends the process.
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
    // SAFETY: runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}
