//! The C library's entry into the program: `main` and its arguments (C11, 5.1.2.2.1).
//!
//! Enters: `argc` and `argv`. Leaves: the arguments as strings, and `main`'s result as the exit status. Refuses: nothing.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::{CStr, c_char, c_int};

/// Defines the C library's `main`, which calls `start` with the arguments. The Rust runtime does not run: it would ignore SIGPIPE and install signal
/// handlers, and the command would inherit the ignored signal.
macro_rules! c_main {
    ($start:path) => {
        #[cfg(not(test))]
        #[allow(unsafe_code, reason = "the C library calls this name")]
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: core::ffi::c_int, argv: *const *const core::ffi::c_char) -> core::ffi::c_int {
            // SAFETY: the C library passes `argc` pointers to strings (C11, 5.1.2.2.1).
            let arguments = unsafe { $crate::os::entry::arguments(argc, argv) };
            core::ffi::c_int::from($start(&arguments))
        }
    };
}
pub(crate) use c_main;

/// Returns the arguments as strings that live as long as the process.
///
/// # Safety
/// `argv` holds `argc` pointers to NUL-terminated strings that live as long as the process.
pub(crate) unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<&'static CStr> {
    let count = usize::try_from(argc).unwrap_or(0);
    let mut args = Vec::with_capacity(count);
    for at in 0..count {
        // SAFETY: `argv` holds `argc` pointers, as the caller promises.
        let arg = unsafe { argv.add(at) };
        // SAFETY: `arg` is one of those pointers.
        let arg = unsafe { arg.read() };
        // SAFETY: each is a string that lives as long as the process, as the caller promises.
        args.push(unsafe { CStr::from_ptr(arg) });
    }
    args
}
