//! The delegate role replaces this process by the full executor of Argo.
//!
//! Enters: the arguments of a subcommand that emissary does not have. Leaves: the other program in this process (execve(2)). Refuses: a program that
//! cannot be executed.

use core::ffi::CStr;

use crate::os::env;
use crate::os::spawn::{self, Argv};
use crate::report::console::Console;
use crate::report::error::Error;

/// Default path of the full executor. `EMISSARY_DELEGATE` overrides it.
const DELEGATE: &CStr = c"/bin/argoexec-full";

fn path() -> &'static CStr {
    env::var(c"EMISSARY_DELEGATE").unwrap_or(DELEGATE)
}

/// Returns whether the full executor exists.
pub(crate) fn exists() -> bool {
    rustix::fs::stat(path()).is_ok()
}

/// Executes the full executor. Returns only if that fails, with the status to exit with.
pub(crate) fn hand_over(console: Console, args: &[&CStr]) -> u8 {
    let mut argv = Argv::with_capacity(args.len());
    for arg in args {
        argv.push(arg);
    }
    let errno = spawn::execute(path(), &argv);
    console.fatal(&Error::new("hand over to the full executor", path().to_bytes(), errno))
}
