//! Threads that end with the process (pthread_create(3)).
//!
//! Enters: a function. Leaves: a thread that runs it. Refuses: a thread that the kernel or a sandbox has no room or no call for.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::c_void;
use core::ptr;

use rustix::io::Errno;

use super::errno::last_errno;

/// Starts a thread that runs `work`. `work` does not return; the end of the process ends the thread. The thread inherits our signal mask, which blocks every
/// signal.
///
/// # Errors
/// The error number of pthread_create(3), such as `EAGAIN` at a limit; that of mprotect(2), if a sandbox refuses mprotect(2).
pub(crate) fn start_thread(work: fn()) -> Result<(), Errno> {
    extern "C" fn run(work: *mut c_void) -> *mut c_void {
        // SAFETY: the only caller is `start_thread`, which passes a `fn()`.
        let work = unsafe { core::mem::transmute::<*mut c_void, fn()>(work) };
        work();
        ptr::null_mut()
    }
    // musl takes ENOSYS from mprotect(2) for success, and the thread would have no stack. So we try mprotect(2) first.
    // SAFETY: the length is 0, so the call changes no page.
    if unsafe { libc::mprotect(ptr::null_mut(), 0, libc::PROT_READ) } < 0 {
        return Err(last_errno());
    }
    let mut thread = core::mem::MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: pthread_create writes `thread` on success; a null pointer means the default attributes.
    match unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), run, work as *mut c_void) } {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}
