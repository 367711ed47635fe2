//! The settings of the terminal on our stdin, kept where every end of the process finds them (termios(3), tcgetpgrp(3)).
#![allow(unsafe_code, reason = "the edge to the kernel and the C library, and a static that is written once")]

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use emissary_core::buf::Writer;
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios};

struct Settings(UnsafeCell<Option<Termios>>);

// SAFETY: it is written before `IS_KEPT` is set, by the one thread that there is then, and only read afterwards.
unsafe impl Sync for Settings {}

static SETTINGS: Settings = Settings(UnsafeCell::new(None));
static IS_KEPT: AtomicBool = AtomicBool::new(false);

/// The settings that it had when it was first ours.
pub(crate) fn kept() -> Option<&'static Termios> {
    if !IS_KEPT.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: nobody writes any more.
    unsafe { &*SETTINGS.0.get() }.as_ref()
}

/// Keeps these, unless others are kept.
pub(crate) fn keep(settings: &Termios) {
    if !IS_KEPT.load(Ordering::Acquire) {
        // SAFETY: nobody reads yet, and there is one thread while a command is started or runs.
        unsafe { *SETTINGS.0.get() = Some(settings.clone()) };
        IS_KEPT.store(true, Ordering::Release);
    }
}

/// The other end of a pseudo-terminal (ioctl(2) `TIOCGPTPEER`, else by its path below /dev/pts).
///
/// # Errors
/// What the system says.
pub(crate) fn peer(master: BorrowedFd<'_>, flags: OpenptFlags) -> Result<OwnedFd, Errno> {
    rustix::pty::ioctl_tiocgptpeer(master, flags).or_else(|errno| {
        let mut number: libc::c_uint = 0;
        // SAFETY: the kernel writes a number there (ioctl_tty(2)).
        if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as _, &raw mut number) } < 0 {
            return Err(errno);
        }
        let mut path = [0; 24];
        Writer::new(&mut path).text("/dev/pts/").decimal(number.into());
        let path = CStr::from_bytes_until_nul(&path).unwrap_or_default();
        super::fs::open_at(CWD, path, OFlags::RDWR | OFlags::NOCTTY, 0)
    })
}

/// Our process group; `None` where it is not of our PID namespace.
pub(crate) fn own_group() -> Option<Pid> {
    // SAFETY: touches no memory.
    Pid::from_raw(unsafe { libc::getpgrp() })
}

/// Whether our process group may change a terminal and read from it: it is in its foreground, or the terminal does not control us.
pub(crate) fn is_ours(terminal: impl AsFd) -> bool {
    rustix::termios::tcgetpgrp(terminal).map_or(true, |group| Some(group) == own_group())
}

/// Gives the terminal on our stdin the settings back that it had, where it is ours.
pub(crate) fn restore() {
    let stdin = rustix::stdio::stdin();
    if let Some(settings) = kept().filter(|_| is_ours(stdin)) {
        let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, settings);
    }
}
