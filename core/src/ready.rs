//! The readiness marker of pods without an init container (docs/protocol.md, "Main", step 3).
//!
//! Enters: the bytes of `status` and how old they are. Leaves: whether to go on, to wait, or to give up. Refuses: nothing; a marker of
//! unknown form is one that is not ready, and its age decides.

use crate::timers::{Duration, STALE_AFTER};

/// Bytes of the marker that are read: the first line, and as much of a reason as a log line takes.
pub const MARKER_BYTES: usize = 4096;

/// What a marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness<'a> {
    /// Go on.
    Ready,
    /// Give up, for this reason.
    Failed(&'a [u8]),
    /// Look again at a change, and after this time at the latest.
    Wait {
        /// Time until the marker counts as stale.
        left: Duration,
    },
    /// No sign of life for [`STALE_AFTER`].
    Dead,
}

/// What the marker's bytes mean. `age` is the time since it was written; without a marker, the bytes are empty and it is the time
/// since we began to wait.
#[must_use]
pub fn parse(bytes: &[u8], age: Duration) -> Readiness<'_> {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (first, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    match first.trim_ascii() {
        b"READY" => Readiness::Ready,
        b"FAILED" => Readiness::Failed(rest.trim_ascii()),
        _ => STALE_AFTER.left_after(age).map_or(Readiness::Dead, |left| Readiness::Wait { left }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers() {
        let wait = |left_ms| Readiness::Wait { left: Duration::from_ms(left_ms) };
        for (bytes, age_ms, want) in [
            (&b"READY\n"[..], 0, Readiness::Ready),
            (b"READY", u64::MAX, Readiness::Ready),
            (b"FAILED\nno such bucket\n", 0, Readiness::Failed(b"no such bucket")),
            (b"FAILED", 0, Readiness::Failed(b"")),
            (b"RUNNING\n", 0, wait(30_000)),
            (b"RUNNING\n", 29_999, wait(1)),
            (b"RUNNING\n", 30_000, Readiness::Dead),
            (b"RUN", 10, wait(29_990)),
            (b"", 0, wait(30_000)),
            (b"", 30_000, Readiness::Dead),
            (b"READYNESS\n", 30_001, Readiness::Dead),
        ] {
            assert_eq!(parse(bytes, Duration::from_ms(age_ms)), want);
        }
    }
}
