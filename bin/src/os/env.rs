//! The environment of this process and the path of its executable (environ(7), getenv(3), getauxval(3)).
//!
//! Enters: a variable's name. Leaves: its value, or the path. Refuses: nothing; what is missing is `None`.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::{CStr, c_char};
use core::ptr;

/// Returns the value of an environment variable. The value lives as long as the process, because emissary never changes its environment except while it
/// starts the command (see `spawn`).
pub(crate) fn var(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: `name` is NUL-terminated; no thread changes the environment.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv returns a pointer to a NUL-terminated string of the environment.
    Some(unsafe { CStr::from_ptr(value) })
}

/// Hands each variable to `each`: its name and its value.
pub(crate) fn each(each: &mut dyn FnMut(&'static [u8], &'static CStr)) {
    // SAFETY: the C library owns `environ`, and no thread changes the environment.
    let mut slot = unsafe { environ };
    if slot.is_null() {
        return;
    }
    loop {
        // SAFETY: the environment ends with a null pointer, and the loop stops there.
        let variable = unsafe { slot.read() };
        if variable.is_null() {
            return;
        }
        // SAFETY: each pointer of the environment is to a NUL-terminated string.
        let variable = unsafe { CStr::from_ptr(variable) }.to_bytes_with_nul();
        if let Some(at) = variable.iter().position(|&byte| byte == b'=')
            && let Ok(value) = CStr::from_bytes_with_nul(&variable[at + 1..])
        {
            each(&variable[..at], value);
        }
        // SAFETY: this element was not the null pointer, so another follows.
        slot = unsafe { slot.add(1) };
    }
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Returns the path that execve(2) started our executable from. For a system without /proc.
pub(crate) fn executable_path() -> Option<&'static CStr> {
    // SAFETY: getauxval reads the process's own vector.
    let at = unsafe { libc::getauxval(libc::AT_EXECFN) };
    if at == 0 {
        return None;
    }
    // SAFETY: AT_EXECFN is the address of a NUL-terminated string that lives as long as the process (getauxval(3)).
    Some(unsafe { CStr::from_ptr(ptr::with_exposed_provenance(usize::try_from(at).ok()?)) })
}
