//! Error numbers of the C library and their texts (errno(3), strerror(3)).
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::{CStr, c_char};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use rustix::io::Errno;

/// The name of the system call that was refused last.
static REFUSED: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Whether an error may mean that the kernel, or the filter of a sandbox, does not know the call: an old libseccomp answers `EPERM` instead of `ENOSYS`.
pub(crate) const fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::PERM)
}

/// Keeps the name of a call that nothing stands in for, where the error means that it was refused. For calls that give `EPERM` for no other reason: the
/// result is `ENOSYS` for both.
#[cold]
#[inline(never)]
pub(crate) fn refused(call: &'static CStr, errno: Errno) -> Errno {
    noted(call, if is_refusal(errno) { Errno::NOSYS } else { errno })
}

/// Keeps the name of a call, where `ENOSYS` says that it was refused. For calls that give `EPERM` for other reasons too.
#[cold]
#[inline(never)]
pub(crate) fn noted(call: &'static CStr, errno: Errno) -> Errno {
    if errno == Errno::NOSYS {
        REFUSED.store(call.as_ptr().cast_mut(), Ordering::Relaxed);
    }
    errno
}

/// What an error number means, in a clause that begins with a small letter; of a call that was refused, its name.
#[cold]
#[inline(never)]
pub(crate) fn cause(errno: Errno) -> Vec<u8> {
    let call = REFUSED.load(Ordering::Relaxed);
    if errno == Errno::NOSYS && !call.is_null() {
        // SAFETY: only `noted` writes it, which takes strings that live as long as the process.
        let call = unsafe { CStr::from_ptr(call) };
        return [b"the kernel or a sandbox refuses the call ", call.to_bytes()].concat();
    }
    let mut text = error_text(errno).to_vec();
    if let Some(first) = text.first_mut() {
        first.make_ascii_lowercase();
    }
    text
}

/// The C library's text for an error number, such as `No such file or directory`.
fn error_text(errno: Errno) -> &'static [u8] {
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
