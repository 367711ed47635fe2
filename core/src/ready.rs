//! The readiness marker: the file `status` of a pod without an init container (docs/protocol.md, "Main", step 3).
//!
//! In such a pod a container called the supervisor fetches the input artifacts. It writes the marker, and rewrites it every few seconds while it works.
//!
//! Enters: the marker's bytes and their age. Leaves: whether the container starts, waits or gives up. Refuses: nothing. A marker in an unknown form
//! means «not ready», and its age decides.

use crate::timers::{Duration, STALE_AFTER};

/// Bytes that the caller reads of the marker: the first line, and as much of the reason as fits on a log line.
pub const MARKER_BYTES: usize = 4096;

/// What a marker means for the container that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness<'a> {
    /// The inputs are ready: go on.
    Ready,
    /// The supervisor has failed: give up. The marker gives this reason, which may be empty.
    Failed(&'a [u8]),
    /// Not ready: look again when the marker changes, and no later than after `left`.
    Wait {
        /// Time until the marker counts as stale.
        left: Duration,
    },
    /// The supervisor has not written for [`STALE_AFTER`]: give up.
    Dead,
}

/// Parses the marker's bytes. `age` is the time since the supervisor last wrote them. Without a marker, `bytes` is empty and `age` is the time since
/// the container began to wait.
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
