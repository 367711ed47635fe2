//! The kill role sends a signal to a process (docs/protocol.md, "Kill and signal"; kill(2)).
//!
//! Enters: a signal and a process id. Leaves: the signal, or a signal file if the process is PID 1 and cannot take the signal. Refuses: a process
//! that does not exist or belongs to another user.

use emissary_core::exit;
use emissary_core::signal::Signal;
use rustix::fs::Mode;

use super::request::Common;
use crate::os::signals;
use crate::pod::shared::Shared;
use crate::pod::signal_file;
use crate::report::error::Error;

/// Sends a signal to a process.
///
/// The kernel gives PID 1 only signals that it asked for, and never SIGKILL or SIGSTOP from inside its namespace (pid_namespaces(7)). Such a signal
/// goes to the command of PID 1 through the signal file.
#[inline(never)]
pub(crate) fn kill(common: &Common<'_>, signal: Signal, pid: i32) -> u8 {
    let is_protected = pid == 1 && matches!(signal, Signal::KILL | Signal::STOP);
    // Other users' containers write to the folders that we make, so no umask applies.
    signals::end_at_requests_as_first_process();
    rustix::process::umask(Mode::empty());
    let result = match signals::kill(pid, signal.number()) {
        Ok(()) if !is_protected => Ok(()),
        Err(errno) if pid != 1 => {
            let mut digits = [0; 10];
            let mut out = emissary_core::buf::Writer::new(&mut digits);
            out.decimal(u64::from(pid.unsigned_abs()));
            Err(Error::new("signal process", out.written(), errno))
        }
        // PID 1 never takes this signal, or it runs as another user.
        Ok(()) | Err(_) => Shared::open(&common.place).and_then(|shared| signal_file::write(&shared.own()?, signal)),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            common.console.error(&error);
            exit::FAILURE
        }
    }
}
