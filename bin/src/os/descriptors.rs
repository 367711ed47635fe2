//! The descriptors that we were started with (poll(2), proc_pid_fd(5)).
//!
//! Ours close at execve, every one. What does not is the command's.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::CStr;
use core::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::fs::{CWD, OFlags, RawDir};
use rustix::io::FdFlags;

use super::fs::open_at;

/// Descriptors that are asked for at once.
const ASKED: usize = 256;

/// Asks for each of the first descriptors whether it is open. Says whether so many can be asked for: no more than the limit of descriptors.
fn ask(fds: &mut [libc::pollfd]) -> bool {
    for (number, entry) in (0..).zip(&mut *fds) {
        entry.fd = number;
    }
    // SAFETY: there are so many entries.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, 0) >= 0 }
}

const fn is_open(entry: &libc::pollfd) -> bool {
    entry.revents & libc::POLLNVAL == 0
}

/// Makes sure that descriptors 0 to 2 are taken, so that nothing we open gets one of them. What fills a gap closes at execve: the
/// command finds closed what we found closed. Says whether there are others: `true` also where that is not known.
pub(crate) fn occupy_standard() -> bool {
    let mut fds = [const { libc::pollfd { fd: 0, events: 0, revents: 0 } }; ASKED];
    let knows = ask(&mut fds);
    if !knows {
        ask(&mut fds[..3]);
    }
    for entry in &fds[..3] {
        if !is_open(entry)
            // The lowest free number is this one. A path descriptor needs no device, and fails at every read and write.
            && let Ok(filler) = open_at(CWD, c"/", OFlags::PATH, 0)
        {
            core::mem::forget(filler);
        }
    }
    !knows || fds[3..].iter().any(is_open)
}

/// Puts another descriptor, of which nothing can be read, in the place of our stdin.
pub(crate) fn replace_stdin(filler: BorrowedFd<'_>) {
    let _ = rustix::stdio::dup2_stdin(filler);
}

/// Closes every descriptor past 2 that does not close at execve.
#[inline(never)]
pub(crate) fn close_inherited() {
    let Ok(folder) = open_at(CWD, c"/proc/self/fd", OFlags::RDONLY | OFlags::DIRECTORY, 0) else {
        // Those that were asked for at the start.
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
        // SAFETY: only asked about, and one that is not open is an error.
        let flags = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) });
        if flags.is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)) {
            // SAFETY: every descriptor of ours closes at execve, so nothing here uses this one.
            unsafe { rustix::io::close(fd) };
        }
    }
}
