//! Waiting for descriptors (ppoll(2), poll(2)).
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::c_int;

use rustix::event::{PollFd, Timespec};
use rustix::io::Errno;

use super::errno::{is_refusal, last_errno, refused};

/// Waits until a descriptor is ready or the time has passed; gives how many are ready.
///
/// # Errors
/// What the system says.
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
    // SAFETY: there are so many entries; rustix's has the fields of the C library's, in its layout.
    let ready = unsafe { libc::poll(fds.as_mut_ptr().cast(), fds.len() as libc::nfds_t, timeout_ms) };
    usize::try_from(ready).map_err(|_| refused(c"ppoll", last_errno()))
}
