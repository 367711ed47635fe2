//! Error numbers of the C library and their texts (errno(3), strerror(3)).
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::CStr;

use rustix::io::Errno;

/// The C library's text for an error number, such as `No such file or directory`.
pub(crate) fn error_text(errno: Errno) -> &'static [u8] {
    // SAFETY: strerror takes any number.
    let text = unsafe { libc::strerror(errno.raw_os_error()) };
    if text.is_null() {
        return b"unknown error";
    }
    // SAFETY: strerror gives a NUL-terminated string; only one thread calls it, and musl's are static.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// The error number that the last failed call of the C library left.
pub(super) fn last_errno() -> Errno {
    // SAFETY: the address of this thread's error number is always valid.
    let at = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    Errno::from_raw_os_error(unsafe { at.read() })
}
