//! What the pod's environment variables say.

use core::ffi::CStr;

use emissary_core::exit;
use emissary_core::timers::{DEFAULT_GRACE, Duration};

use crate::os::env;

/// Whether a variable is exactly `true`.
pub(crate) fn is_true(name: &CStr) -> bool {
    env::var(name) == Some(c"true")
}

/// Time between SIGTERM and SIGKILL.
pub(crate) fn grace() -> Duration {
    let text = env::var(c"ARGO_TERMINATION_GRACE_PERIOD_SECONDS").map(CStr::to_bytes);
    text.and_then(|text| exit::parse_decimal(text.trim_ascii())).map_or(DEFAULT_GRACE, Duration::from_s)
}
