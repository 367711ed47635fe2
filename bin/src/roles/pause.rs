//! The pause role keeps a pod's namespaces, as `catatonit -P` does: it runs no command, reaps orphans, and ends at SIGINT or SIGTERM.
//!
//! Enters: signals. Leaves: exit status 0. Refuses: nothing; other signals have no effect.

use crate::os::signals::{self, Signals};
use crate::os::{clock, descriptors};
use crate::process::child;
use crate::process::events::PollSet;
use crate::report::console::Console;
use crate::report::error::Error;
use emissary_core::signal::Signal;
use rustix::process::Pid;

/// Waits for SIGINT or SIGTERM. Returns the status to exit with.
#[cold]
pub(crate) fn pause(console: Console) -> u8 {
    signals::block_all_signals();
    descriptors::occupy_standard();
    descriptors::close_inherited();
    signals::take_sigchld();
    let own_pid = rustix::process::getpid();
    if own_pid != Pid::INIT {
        let _ = rustix::process::set_child_subreaper(Some(own_pid));
    }
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(errno) => return console.fatal(&Error::new("make a", b"signal descriptor", errno)),
    };
    loop {
        child::reap(None);
        PollSet::new(&signals).wait(clock::now(), None);
        while let Some(received) = signals.next() {
            if matches!(received.signal, Signal::INT | Signal::TERM) {
                return 0;
            }
        }
    }
}
