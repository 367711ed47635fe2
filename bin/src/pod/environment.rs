//! What the pod's environment variables say.

use core::ffi::CStr;

use emissary_core::exit;

use crate::os::env;

/// Seconds between a SIGTERM and the SIGKILL after it where nothing else is said: Kubernetes' default.
const DEFAULT_GRACE_S: u64 = 30;

/// Whether a variable is exactly `true`.
pub(crate) fn is_true(name: &CStr) -> bool {
    env::var(name) == Some(c"true")
}

/// Milliseconds between SIGTERM and SIGKILL.
pub(crate) fn grace_ms() -> u64 {
    let text = env::var(c"ARGO_TERMINATION_GRACE_PERIOD_SECONDS").map(CStr::to_bytes);
    text.and_then(|text| exit::parse_decimal(text.trim_ascii())).unwrap_or(DEFAULT_GRACE_S).saturating_mul(1_000)
}
