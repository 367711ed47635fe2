//! The process's environment and its own executable (environ(7), getauxval(3)).
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::CStr;
use core::ptr;

/// The value of an environment variable. It lives as long as the process, which never changes its environment.
pub(crate) fn var(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: `name` is NUL-terminated; no thread changes the environment.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv gives a NUL-terminated string of the environment.
    Some(unsafe { CStr::from_ptr(value) })
}

/// Where the kernel says that our own executable was started from, for a system without /proc.
pub(crate) fn executable_path() -> Option<&'static CStr> {
    // SAFETY: getauxval reads the process's own vector.
    let at = unsafe { libc::getauxval(libc::AT_EXECFN) };
    if at == 0 {
        return None;
    }
    // SAFETY: AT_EXECFN is the address of a NUL-terminated string that lives as long as the process (getauxval(3)).
    Some(unsafe { CStr::from_ptr(ptr::with_exposed_provenance(usize::try_from(at).ok()?)) })
}
