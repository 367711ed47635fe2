//! Settings in environment variables of the pod: the group of containers that share one volume (docs/protocol.md, "Main").
//!
//! Enters: a variable's name. Leaves: a flag, or the time between SIGTERM and SIGKILL. Refuses: a time that is not a whole number of seconds; a warning names
//! it, and the default applies.

use core::ffi::CStr;

use emissary_core::exit;
use emissary_core::timers::{DEFAULT_GRACE, Duration};

use crate::os::env;
use crate::report::console::Console;

/// Returns whether a variable is exactly `true`.
pub(crate) fn is_true(name: &CStr) -> bool {
    env::var(name) == Some(c"true")
}

/// Returns the time between SIGTERM and SIGKILL. Prints a warning if the variable holds no such time.
pub(crate) fn grace(console: Console) -> Duration {
    let Some(text) = env::var(c"ARGO_TERMINATION_GRACE_PERIOD_SECONDS").map(CStr::to_bytes).filter(|text| !text.is_empty()) else {
        return DEFAULT_GRACE;
    };
    exit::parse_decimal(text.trim_ascii()).map_or_else(
        || {
            console.warn(&[b"ARGO_TERMINATION_GRACE_PERIOD_SECONDS: '", text, b"' is not a whole number of seconds: 30 are taken"]);
            DEFAULT_GRACE
        },
        Duration::from_s,
    )
}
