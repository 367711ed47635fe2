//! The settings of the terminal on our stdin, and the process group in its foreground (termios(3), tcgetpgrp(3), ioctl_tty(2)).
//!
//! Enters: the settings that the terminal has at the start. Leaves: the same settings, put back at every end of the process. Refuses: to change a terminal
//! that another process group is using.
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

// SAFETY: one thread writes the settings before `IS_KEPT` is set, while no other thread runs. After that, all threads only read.
unsafe impl Sync for Settings {}

static SETTINGS: Settings = Settings(UnsafeCell::new(None));
static IS_KEPT: AtomicBool = AtomicBool::new(false);

/// Returns the settings that the terminal had when we first used it.
pub(crate) fn kept() -> Option<&'static Termios> {
    if !IS_KEPT.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: no code writes the settings once `IS_KEPT` is set.
    unsafe { &*SETTINGS.0.get() }.as_ref()
}

/// Keeps the settings, unless some are kept already.
pub(crate) fn keep(settings: &Termios) {
    if !IS_KEPT.load(Ordering::Acquire) {
        // SAFETY: no code reads the settings before `IS_KEPT` is set, and one thread alone runs while a command is started or runs.
        unsafe { *SETTINGS.0.get() = Some(settings.clone()) };
        IS_KEPT.store(true, Ordering::Release);
    }
}

/// Opens the command's end of a pseudo-terminal (ioctl(2) `TIOCGPTPEER`, or its path below /dev/pts).
///
/// # Errors
/// The error number that the kernel gives.
pub(crate) fn peer(master: BorrowedFd<'_>, flags: OpenptFlags) -> Result<OwnedFd, Errno> {
    rustix::pty::ioctl_tiocgptpeer(master, flags).or_else(|errno| {
        let mut number: libc::c_uint = 0;
        // SAFETY: the kernel writes a number to the pointer (ioctl_tty(2)).
        if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as _, &raw mut number) } < 0 {
            return Err(errno);
        }
        let mut path = [0; 24];
        Writer::new(&mut path).text("/dev/pts/").decimal(number.into());
        let path = CStr::from_bytes_until_nul(&path).unwrap_or_default();
        super::fs::open_at(CWD, path, OFlags::RDWR | OFlags::NOCTTY, 0)
    })
}

/// Returns our process group, or `None` if the group is outside our PID namespace.
pub(crate) fn own_group() -> Option<Pid> {
    // SAFETY: the call touches no memory.
    Pid::from_raw(unsafe { libc::getpgrp() })
}

/// Returns whether our process group may change a terminal and read from it: the group is in the terminal's foreground, or the terminal is not our
/// controlling one.
pub(crate) fn is_ours(terminal: impl AsFd) -> bool {
    rustix::termios::tcgetpgrp(terminal).map_or(true, |group| Some(group) == own_group())
}

/// Puts the kept settings back on the terminal on our stdin, if our process group may change it.
pub(crate) fn restore() {
    let stdin = rustix::stdio::stdin();
    if let Some(settings) = kept().filter(|_| is_ours(stdin)) {
        let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, settings);
    }
}
