//! The delegate role: the rest of Argo's executor is another program, which this process becomes.

use core::ffi::CStr;

use crate::os::env;
use crate::os::spawn::{self, Argv};
use crate::report::console::Console;
use crate::report::error::Error;

/// Where the full executor is, unless `EMISSARY_DELEGATE` says otherwise.
const DELEGATE: &CStr = c"/bin/argoexec-full";

fn path() -> &'static CStr {
    env::var(c"EMISSARY_DELEGATE").unwrap_or(DELEGATE)
}

/// Whether the full executor is there.
pub(crate) fn exists() -> bool {
    rustix::fs::stat(path()).is_ok()
}

/// Becomes the full executor; returns only where that fails, with the status to exit with.
pub(crate) fn hand_over(console: Console, args: &[&CStr]) -> u8 {
    let mut argv = Argv::with_capacity(args.len());
    for arg in args {
        argv.push(arg);
    }
    let errno = spawn::execute(path(), &argv);
    console.fatal(&Error::new("hand over to the full executor", path().to_bytes(), errno))
}
