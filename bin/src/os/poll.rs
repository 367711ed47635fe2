//! Waiting until a descriptor is ready (ppoll(2), poll(2)).
//!
//! Enters: descriptors with the events to wait for, and a maximum time. Leaves: how many are ready, and the events of each. Refuses: what the kernel refuses.
//! If a sandbox refuses ppoll(2), poll(2) does the same.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::c_int;

use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;

use super::errno::{is_refusal, last_errno, refused};

/// Waits until a descriptor is ready or the time has passed. Returns how many descriptors are ready.
///
/// # Errors
/// The error number that the kernel gives.
#[inline(never)]
pub(crate) fn poll(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<usize, Errno> {
    match rustix::event::poll(fds, timeout) {
        Err(errno) if is_refusal(errno) => older(fds, timeout),
        other => other,
    }
}

#[cold]
fn older(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> Result<usize, Errno> {
    #[allow(clippy::useless_conversion, reason = "the types differ between targets")]
    let timeout_ms = timeout.map_or(-1, |timeout| {
        let ms = timeout.tv_sec.saturating_mul(1_000).saturating_add(i64::from(timeout.tv_nsec) / 1_000_000);
        c_int::try_from(ms).unwrap_or(c_int::MAX)
    });
    // SAFETY: the slice has as many entries as the call is told; rustix's entry has the C library's layout.
    let ready = unsafe { libc::poll(fds.as_mut_ptr().cast(), fds.len() as libc::nfds_t, timeout_ms) };
    usize::try_from(ready).map_err(|_| refused(c"ppoll", last_errno()))
}
