//! The roles `kill` and `signal`: a signal to a process, or into a container's signal file.

use core::ffi::CStr;

use emissary_core::exit;
use emissary_core::layout::{self, File};
use emissary_core::signal::Signal;
use rustix::fs::Mode;

use crate::args::Common;
use crate::error::Error;
use crate::files::{self, Folder, Shared};
use crate::sys;

/// Sends a signal to a process. PID 1 takes only what it asks for, and never SIGKILL or SIGSTOP from inside its namespace
/// (pid_namespaces(7)); what it does not take goes to its command, through the signal file.
#[inline(never)]
pub(crate) fn kill(common: &Common<'_>, signal: Signal, pid: i32) -> u8 {
    let is_protected = pid == 1 && matches!(signal, Signal::KILL | Signal::STOP);
    // Folders that are made on the way are everybody's.
    rustix::process::umask(Mode::empty());
    let result = match sys::kill(pid, signal.number()) {
        Ok(()) if !is_protected => Ok(()),
        Err(errno) if pid != 1 => {
            let mut digits = [0; 10];
            let mut out = emissary_core::buf::Writer::new(&mut digits);
            out.decimal(u64::from(pid.unsigned_abs()));
            Err(Error::new("signal process", out.written(), errno))
        }
        // Taken from PID 1 itself, or refused because it runs as another user.
        Ok(()) | Err(_) => Shared::open(common).and_then(|shared| leave(&shared.own()?, signal)),
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            common.console.error(&error);
            exit::FAILURE
        }
    }
}

/// Leaves a signal for a container.
#[inline(never)]
pub(crate) fn signal(common: &Common<'_>, signal: Signal, container: Option<&CStr>) -> u8 {
    rustix::process::umask(Mode::empty());
    let result = container.map_or(Ok(()), |name| files::check_name(name.to_bytes())).and_then(|()| {
        let shared = Shared::open(common)?;
        let folder = match container {
            Some(name) => shared.container(name.to_bytes())?,
            None => shared.own()?,
        };
        leave(&folder, signal)
    });
    match result {
        Ok(()) => 0,
        Err(error) => {
            common.console.error(&error);
            exit::FAILURE
        }
    }
}

/// Writes a signal file.
///
/// # Errors
/// A file that cannot be written, by its path.
pub(crate) fn leave(folder: &Folder, signal: Signal) -> Result<(), Error> {
    let mut room = [0; 3];
    folder.write(layout::base_name(File::Signal), exit::digits(signal.number(), &mut room), 0o666)
}
