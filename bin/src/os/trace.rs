//! Processes that made their parent trace them (ptrace(2), `PTRACE_TRACEME`). If emissary is the parent, the kernel stops such a process at its next signal
//! until emissary lets the process go on.
//!
//! Enters: a stopped child and the signal that stopped it. Leaves: the child, running again. Refuses: a child that we do not trace; that child stays stopped.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ptr;

use rustix::process::Pid;

/// Detaches from a process that we trace and that stopped before it took a signal. The process then takes the signal. Returns whether we traced the process.
pub(crate) fn let_go(pid: Pid, signal: c_int) -> bool {
    let pid = pid.as_raw_nonzero().get();
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the pointer is to room for one record; the kernel refuses a process that we do not trace.
    let asked = unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO, pid, ptr::null_mut::<libc::c_void>(), info.as_mut_ptr()) };
    // SAFETY: the kernel has filled the record, or the record is all zeroes.
    let info = unsafe { info.assume_init() };
    // At execve, the kernel stops a traced process by a SIGTRAP whose sender is the process itself. That SIGTRAP would end the process, so we drop it.
    // SAFETY: the code `SI_USER` says that kill(2) sent the signal, and a record of kill(2) has the sender's process id.
    let is_execve = asked == 0 && signal == libc::SIGTRAP && info.si_code == libc::SI_USER && unsafe { info.si_pid() } == pid;
    let signal = if is_execve { 0 } else { signal };
    // SAFETY: the call uses no address; the last argument is a number in the form of a pointer.
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
