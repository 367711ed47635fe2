//! The file descriptors that emissary inherits from the program that started it (poll(2), proc_pid_fd(5)).
//!
//! Enters: the open descriptors of this process. Leaves: descriptors 0 to 2 open, and inherited ones closed on request. Refuses: nothing; a descriptor that
//! cannot be handled stays as it is.
//!
//! Every descriptor that emissary opens closes at execve. So a descriptor that stays open at execve belongs to the command.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::CStr;
use core::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::fs::{CWD, OFlags, RawDir};
use rustix::io::FdFlags;

use super::fs::open_at;

/// How many descriptors one poll(2) asks about.
const ASKED: usize = 256;

/// Asks the kernel whether each of the first descriptors is open. Returns whether the kernel answered: poll(2) refuses more entries than the limit of open
/// descriptors.
fn ask(fds: &mut [libc::pollfd]) -> bool {
    for (number, entry) in (0..).zip(&mut *fds) {
        entry.fd = number;
    }
    // SAFETY: the slice has as many entries as the call is told.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, 0) >= 0 }
}

const fn is_open(entry: &libc::pollfd) -> bool {
    entry.revents & libc::POLLNVAL == 0
}

/// Opens descriptors 0 to 2 if they are closed, so that no file of ours gets one of these numbers. The fillers close at execve: the command finds a
/// descriptor closed if we found it closed. Returns whether descriptors past 2 are open, and `true` if the kernel does not tell.
pub(crate) fn occupy_standard() -> bool {
    let mut fds = [const { libc::pollfd { fd: 0, events: 0, revents: 0 } }; ASKED];
    let knows = ask(&mut fds);
    if !knows {
        ask(&mut fds[..3]);
    }
    for entry in &fds[..3] {
        if !is_open(entry)
            // The kernel gives the lowest free number, which is this entry's. A path descriptor needs no device, and every read and write of it fails.
            && let Ok(filler) = open_at(CWD, c"/", OFlags::PATH, 0)
        {
            core::mem::forget(filler);
        }
    }
    !knows || fds[3..].iter().any(is_open)
}

/// Takes a descriptor that we got for our messages. From here on the descriptor closes at execve, so that the command does not get it. Returns whether it is open.
pub(crate) fn take_for_messages(number: RawFd) -> bool {
    number <= 2 || rustix::io::fcntl_setfd(own(number), FdFlags::CLOEXEC).is_ok()
}

/// Returns a descriptor that stays open as long as this process: 0 to 2, or one that [`take_for_messages`] has taken.
pub(crate) fn own(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: no code of ours closes such a descriptor. Each use of a number that is not open gives an error.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Replaces our stdin by a descriptor that cannot be read: the given one, or else one of the root folder.
pub(crate) fn replace_stdin(filler: Option<BorrowedFd<'_>>) {
    if let Some(filler) = filler {
        let _ = rustix::stdio::dup2_stdin(filler);
    } else if let Ok(filler) = open_at(CWD, c"/", OFlags::PATH, 0) {
        let _ = rustix::stdio::dup2_stdin(filler);
    }
}

/// Closes every descriptor past 2 that does not close at execve.
#[inline(never)]
pub(crate) fn close_inherited() {
    let Ok(folder) = open_at(CWD, c"/proc/self/fd", OFlags::RDONLY | OFlags::DIRECTORY, 0) else {
        // Without /proc, we close the descriptors that `occupy_standard` asked about.
        for number in 3..ASKED {
            close_unless_ours(number as RawFd);
        }
        return;
    };
    let mut room = [const { MaybeUninit::uninit() }; 1024];
    let mut entries = RawDir::new(&folder, &mut room);
    while let Some(Ok(entry)) = entries.next() {
        if let Some(number) = number(entry.file_name()) {
            close_unless_ours(number);
        }
    }
}

fn number(name: &CStr) -> Option<RawFd> {
    emissary_core::exit::parse_decimal(name.to_bytes()).and_then(|number| RawFd::try_from(number).ok())
}

fn close_unless_ours(fd: RawFd) {
    if fd > 2 {
        // SAFETY: fcntl(2) only reads the flags, and gives an error if the descriptor is not open.
        let flags = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) });
        if flags.is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)) {
            // SAFETY: every descriptor of ours closes at execve. This one does not, so no code of ours uses it.
            unsafe { rustix::io::close(fd) };
        }
    }
}
