//! What the pod's environment variables say.

use core::ffi::CStr;

use emissary_core::exit;
use emissary_core::timers::{DEFAULT_GRACE, Duration};

use crate::os::env;
use crate::report::console::Console;

/// Whether a variable is exactly `true`.
pub(crate) fn is_true(name: &CStr) -> bool {
    env::var(name) == Some(c"true")
}

/// Time between SIGTERM and SIGKILL. A value that is none is said.
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
