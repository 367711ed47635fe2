//! Error numbers of the C library and their texts (errno(3), strerror(3)).
//!
//! Enters: the error number of a failed call, and the call's name. Leaves: the text for a message. Refuses: nothing; an unknown number has a text too.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::{CStr, c_char};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use rustix::io::Errno;

/// Name of the system call that the kernel or a sandbox refused last.
static REFUSED: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Returns whether an error may mean that the kernel or a sandbox's filter does not know the call. An old libseccomp answers `EPERM` instead of `ENOSYS`.
pub(crate) const fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::PERM)
}

/// Keeps the call's name if the error means that the call was refused, and then returns `ENOSYS`. For calls that have no substitute and that give `EPERM` for
/// no other reason.
#[cold]
#[inline(never)]
pub(crate) fn refused(call: &'static CStr, errno: Errno) -> Errno {
    noted(call, if is_refusal(errno) { Errno::NOSYS } else { errno })
}

/// Keeps the call's name if the error is `ENOSYS`. Returns the error unchanged. For calls that give `EPERM` for other reasons too.
#[cold]
#[inline(never)]
pub(crate) fn noted(call: &'static CStr, errno: Errno) -> Errno {
    if errno == Errno::NOSYS {
        REFUSED.store(call.as_ptr().cast_mut(), Ordering::Relaxed);
    }
    errno
}

/// Returns the text of an error number as a clause that begins with a small letter. For a refused call, the clause has the call's name.
#[cold]
#[inline(never)]
pub(crate) fn cause(errno: Errno) -> Vec<u8> {
    let call = REFUSED.load(Ordering::Relaxed);
    if errno == Errno::NOSYS && !call.is_null() {
        // SAFETY: only `noted` writes `REFUSED`, and `noted` takes strings that live as long as the process.
        let call = unsafe { CStr::from_ptr(call) };
        return [b"the kernel or a sandbox refuses the call ", call.to_bytes()].concat();
    }
    let mut text = error_text(errno).to_vec();
    if let Some(first) = text.first_mut() {
        first.make_ascii_lowercase();
    }
    text
}

/// Returns the C library's text for an error number, such as `No such file or directory`.
fn error_text(errno: Errno) -> &'static [u8] {
    // SAFETY: strerror takes any number.
    let text = unsafe { libc::strerror(errno.raw_os_error()) };
    if text.is_null() {
        return b"unknown error";
    }
    // SAFETY: strerror returns a NUL-terminated string. musl's strings are static, and only one thread calls strerror.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

/// Returns the error number that the last failed call of the C library set.
pub(super) fn last_errno() -> Errno {
    // SAFETY: the address of this thread's error number is always valid.
    let at = unsafe { libc::__errno_location() };
    // SAFETY: `at` is that address.
    Errno::from_raw_os_error(unsafe { at.read() })
}
