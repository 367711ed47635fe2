//! When a small file that somebody else writes is complete.
//!
//! Enters: what was seen of its writer. Leaves: read it now, later, or after some milliseconds. A file that is renamed into place is complete at once; one
//! that is written in place is when its writer closes it, or, where that was not seen, when it has been left alone for [`SETTLED_MS`]. A time in the future says
//! nothing, and would go on saying it: more than a second ahead it counts as long ago.

/// Milliseconds after its last write when a file whose writer was not watched counts as complete.
pub const SETTLED_MS: i64 = 100;

/// Milliseconds that a volume's clock may be ahead of ours: a file from that future has just been written.
const AHEAD_MS: i64 = -1_000;

/// What is known of a file's writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It was seen to close the file, or to rename it into place.
    Closed,
    /// It has not been seen to, and would have been: the file came after we began to look.
    Open,
    /// The file may have been there before we began to look: milliseconds since the last write, negative where the file's time is in the future.
    Age(i64),
}

/// When to read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It is complete.
    Now,
    /// When its writer closes it.
    Later,
    /// Look again after so many milliseconds.
    LaterBy(u64),
}

impl Trust {
    /// When a file is complete.
    #[must_use]
    pub const fn when(self) -> When {
        match self {
            Self::Closed => When::Now,
            Self::Open => When::Later,
            Self::Age(age_ms @ AHEAD_MS..SETTLED_MS) => When::LaterBy(SETTLED_MS.saturating_sub(age_ms).unsigned_abs()),
            Self::Age(_) => When::Now,
        }
    }

    /// The same where a file that has no contents is still to be written, unless it was closed so.
    #[must_use]
    pub const fn when_written(self, is_empty: bool) -> When {
        match (self.when(), self) {
            (When::Now, Self::Open | Self::Age(_)) if is_empty => When::Later,
            (when, _) => when,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_it_is_complete() {
        for (trust, when, when_empty) in [
            (Trust::Closed, When::Now, When::Now),
            (Trust::Open, When::Later, When::Later),
            (Trust::Age(0), When::LaterBy(100), When::LaterBy(100)),
            (Trust::Age(99), When::LaterBy(1), When::LaterBy(1)),
            (Trust::Age(100), When::Now, When::Later),
            (Trust::Age(i64::MAX), When::Now, When::Later),
            (Trust::Age(-1), When::LaterBy(101), When::LaterBy(101)),
            (Trust::Age(-1_000), When::LaterBy(1_100), When::LaterBy(1_100)),
            (Trust::Age(-1_001), When::Now, When::Later),
            (Trust::Age(i64::MIN), When::Now, When::Later),
        ] {
            assert_eq!((trust.when(), trust.when_written(false), trust.when_written(true)), (when, when, when_empty), "{trust:?}");
        }
    }
}
