//! When a small file that another process writes is complete.
//!
//! Enters: what was seen of its writer. Leaves: read it now, later, or after some time. A file that is renamed into place is complete at once. One that is
//! written in place is complete when its writer closes it, or, where the closing was not watched, when nobody has written to it for [`SETTLE_TIME`]. A closing that
//! was watched for may have gone unseen all the same: after [`ABANDONED_WRITE_AFTER`] without a write the file counts as complete. A time that
//! lies more than [`CLOCK_AHEAD`] in the future says nothing and would go on saying nothing: it counts as long ago.

use crate::timers::{ABANDONED_WRITE_AFTER, CLOCK_AHEAD, Duration, SETTLE_TIME};

/// What is known of a file's writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The writer was seen to close the file, or to rename it into place.
    Closed,
    /// The file appeared while its folder was watched, and its writer has not closed it yet: milliseconds since the last write, negative where the file's time
    /// is in the future.
    Open(i64),
    /// The file may have been there before the folder was watched: milliseconds since the last write, negative where the file's time is in the future.
    Age(i64),
}

/// When to read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadWhen {
    /// It is complete.
    Now,
    /// When its writer closes it.
    Closed,
    /// Look again after this time.
    After(Duration),
}

const SETTLED_MS: i64 = SETTLE_TIME.as_ms().cast_signed();
const AHEAD_MS: i64 = CLOCK_AHEAD.as_ms().cast_signed().wrapping_neg();

const ABANDONED_MS: i64 = ABANDONED_WRITE_AFTER.as_ms().cast_signed();

const fn after(length_ms: i64, age_ms: i64) -> ReadWhen {
    ReadWhen::After(Duration::from_ms(length_ms.saturating_sub(age_ms).unsigned_abs()))
}

impl Seen {
    /// When the file is complete.
    #[must_use]
    pub const fn read_when(self) -> ReadWhen {
        match self {
            Self::Closed => ReadWhen::Now,
            Self::Open(age_ms @ AHEAD_MS..ABANDONED_MS) => after(ABANDONED_MS, age_ms),
            Self::Age(age_ms @ AHEAD_MS..SETTLED_MS) => after(SETTLED_MS, age_ms),
            Self::Open(_) | Self::Age(_) => ReadWhen::Now,
        }
    }

    /// The same for a file that may be empty: an empty file is still to be written, unless its writer closed it so.
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
    fn when_it_is_complete() {
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
