//! Threads that end with the process (pthread_create(3)).
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::c_void;
use core::ptr;

use rustix::io::Errno;

use super::errno::last_errno;

/// Starts a thread that runs `work`, which does not end: the process's end ends it. It has our signal mask, under which every signal is blocked.
///
/// # Errors
/// What pthread_create(3) gives: `EAGAIN` at a limit.
pub(crate) fn start_thread(work: fn()) -> Result<(), Errno> {
    extern "C" fn run(work: *mut c_void) -> *mut c_void {
        // SAFETY: the only caller is `start_thread`, which passes a `fn()`.
        let work = unsafe { core::mem::transmute::<*mut c_void, fn()>(work) };
        work();
        ptr::null_mut()
    }
    // musl takes an ENOSYS for success, and the thread would have no stack (mprotect(2)).
    // SAFETY: no byte is protected.
    if unsafe { libc::mprotect(ptr::null_mut(), 0, libc::PROT_READ) } < 0 {
        return Err(last_errno());
    }
    let mut thread = core::mem::MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: `thread` is written on success; no attributes are the default ones.
    match unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), run, work as *mut c_void) } {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}
