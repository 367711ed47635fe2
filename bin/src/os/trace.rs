//! Processes that made us their tracer (ptrace(2), `PTRACE_TRACEME`).
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ptr;

use rustix::process::Pid;

/// Lets go of a process that has stopped before it takes a signal, because it made us its tracer; it takes the signal. Says whether that was so: any other
/// process that has stopped stays as it is.
pub(crate) fn let_go(pid: Pid, signal: c_int) -> bool {
    let pid = pid.as_raw_nonzero().get();
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the pointer is to room for one record; the kernel refuses a process that is not ours to trace.
    let asked = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, pid, ptr::null_mut::<libc::c_void>(), info.as_mut_ptr()) };
    // SAFETY: the kernel has filled it, or it is zeroes.
    let info = unsafe { info.assume_init() };
    // The kernel's own stop at execve is a SIGTRAP that comes from nobody but the process itself; it would end it.
    // SAFETY: a signal that was sent by kill(2), which the code 0 says, names its sender.
    let is_execve = asked == 0 && signal == libc::SIGTRAP && info.si_code == libc::SI_USER && unsafe { info.si_pid() } == pid;
    let signal = if is_execve { 0 } else { signal };
    // SAFETY: no address is used; the last argument is a number in the place of a pointer.
    let detached = unsafe {
        libc::ptrace(
            libc::PTRACE_DETACH,
            pid,
            ptr::null_mut::<libc::c_void>(),
            ptr::without_provenance_mut::<libc::c_void>(signal.unsigned_abs() as usize),
        )
    };
    detached == 0
}
