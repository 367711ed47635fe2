//! The readiness marker of pods without an init container (docs/protocol.md, "Main", step 3).
//!
//! Enters: the bytes of `status` and how old they are. Leaves: whether to go on, to wait, or to give up. Refuses: nothing; a marker of
//! unknown form is one that is not ready, and its age decides.

/// A marker that is older is a supervisor that is dead. It is rewritten every 5 s while the supervisor works.
pub const STALE_AFTER_MS: u64 = 30_000;

/// Bytes of the marker that are read: the first line, and as much of a reason as a log line takes.
pub const MARKER_BYTES: usize = 4096;

/// What a marker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness<'a> {
    /// Go on.
    Ready,
    /// Give up, for this reason.
    Failed(&'a [u8]),
    /// Look again at a change, and in this many milliseconds at the latest.
    Wait {
        /// Milliseconds until the marker counts as stale.
        left_ms: u64,
    },
    /// No sign of life for [`STALE_AFTER_MS`].
    Dead,
}

/// What the marker's bytes mean. `age_ms` is the time since it was written; without a marker, the bytes are empty and it is the time
/// since we began to wait.
#[must_use]
pub fn parse(bytes: &[u8], age_ms: u64) -> Readiness<'_> {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (first, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    match first.trim_ascii() {
        b"READY" => Readiness::Ready,
        b"FAILED" => Readiness::Failed(rest.trim_ascii()),
        _ => match STALE_AFTER_MS.checked_sub(age_ms) {
            Some(left_ms) if left_ms > 0 => Readiness::Wait { left_ms },
            _ => Readiness::Dead,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers() {
        for (bytes, age_ms, want) in [
            (&b"READY\n"[..], 0, Readiness::Ready),
            (b"READY", u64::MAX, Readiness::Ready),
            (b"FAILED\nno such bucket\n", 0, Readiness::Failed(b"no such bucket")),
            (b"FAILED", 0, Readiness::Failed(b"")),
            (b"RUNNING\n", 0, Readiness::Wait { left_ms: 30_000 }),
            (b"RUNNING\n", 29_999, Readiness::Wait { left_ms: 1 }),
            (b"RUNNING\n", 30_000, Readiness::Dead),
            (b"RUN", 10, Readiness::Wait { left_ms: 29_990 }),
            (b"", 0, Readiness::Wait { left_ms: 30_000 }),
            (b"", 30_000, Readiness::Dead),
            (b"READYNESS\n", 30_001, Readiness::Dead),
        ] {
            assert_eq!(parse(bytes, age_ms), want);
        }
    }
}
