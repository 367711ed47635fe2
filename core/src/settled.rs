//! When a small file that another process writes is complete: an exit code or a signal.
//!
//! Enters: what was seen of the file's writer ([`Seen`]). Leaves: when to read the file ([`ReadWhen`]). Refuses: nothing. The rules are those of
//! docs/protocol.md, "Main", step 10:
//!
//! - A file that a process renames into place is complete at once.
//! - A file that a process writes in place is complete when its writer closes it.
//! - If nobody watched for the close, the file is complete when nobody has written to it for [`SETTLE_TIME`].
//! - A close can go unseen although the folder is watched. So the file is complete after [`ABANDONED_WRITE_AFTER`] without a write, too.
//! - A time stamp more than [`CLOCK_AHEAD`] in the future says nothing about the last write, and would say nothing for as long. It counts as old.

use crate::timers::{ABANDONED_WRITE_AFTER, CLOCK_AHEAD, Duration, SETTLE_TIME};

/// What was seen of a file's writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The writer has closed the file, or renamed it into place.
    Closed,
    /// The file appeared while its folder was watched, and no close of it was seen since. Milliseconds since the last write; negative if the file's time
    /// is in the future.
    Open(i64),
    /// The file may be older than the watch of its folder. Milliseconds since the last write; negative if the file's time is in the future.
    Age(i64),
}

/// When to read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadWhen {
    /// The file is complete.
    Now,
    /// The file is complete when its writer closes it.
    Closed,
    /// The file may be complete after this time: look again then.
    After(Duration),
}

const SETTLED_MS: i64 = SETTLE_TIME.as_ms().cast_signed();
const AHEAD_MS: i64 = CLOCK_AHEAD.as_ms().cast_signed().wrapping_neg();

const ABANDONED_MS: i64 = ABANDONED_WRITE_AFTER.as_ms().cast_signed();

const fn after(length_ms: i64, age_ms: i64) -> ReadWhen {
    ReadWhen::After(Duration::from_ms(length_ms.saturating_sub(age_ms).unsigned_abs()))
}

impl Seen {
    /// When to read the file, empty or not.
    #[must_use]
    pub const fn read_when(self) -> ReadWhen {
        match self {
            Self::Closed => ReadWhen::Now,
            Self::Open(age_ms @ AHEAD_MS..ABANDONED_MS) => after(ABANDONED_MS, age_ms),
            Self::Age(age_ms @ AHEAD_MS..SETTLED_MS) => after(SETTLED_MS, age_ms),
            Self::Open(_) | Self::Age(_) => ReadWhen::Now,
        }
    }

    /// When to read a file that must have contents. An empty file waits for its writer, unless the writer has closed it empty.
    #[must_use]
    pub const fn read_when_written(self, is_empty: bool) -> ReadWhen {
        match (self.read_when(), self) {
            (ReadWhen::Now, Self::Open(_) | Self::Age(_)) if is_empty => ReadWhen::Closed,
            (when, _) => when,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_a_file_is_complete() {
        let after = |milliseconds| ReadWhen::After(Duration::from_ms(milliseconds));
        for (seen, when, when_empty) in [
            (Seen::Closed, ReadWhen::Now, ReadWhen::Now),
            (Seen::Open(0), after(3_000), after(3_000)),
            (Seen::Open(2_999), after(1), after(1)),
            (Seen::Open(3_000), ReadWhen::Now, ReadWhen::Closed),
            (Seen::Age(0), after(100), after(100)),
            (Seen::Age(99), after(1), after(1)),
            (Seen::Age(100), ReadWhen::Now, ReadWhen::Closed),
            (Seen::Age(i64::MAX), ReadWhen::Now, ReadWhen::Closed),
            (Seen::Age(-1), after(101), after(101)),
            (Seen::Age(-1_000), after(1_100), after(1_100)),
            (Seen::Age(-1_001), ReadWhen::Now, ReadWhen::Closed),
            (Seen::Age(i64::MIN), ReadWhen::Now, ReadWhen::Closed),
        ] {
            assert_eq!(
                (seen.read_when(), seen.read_when_written(false), seen.read_when_written(true)),
                (when, when, when_empty),
                "{seen:?}"
            );
        }
    }
}
