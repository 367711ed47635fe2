//! The signal file of this container: when it is complete, when to retry, and when to warn (docs/protocol.md, "Main", step 10).
//!
//! Enters: what a look at the file gave ([`Look`]), and what became of taking it away ([`Taken`]). Leaves: take the file, look again later, or warn
//! ([`Next`], [`Outcome`]). Refuses: nothing; [`crate::signal`] parses the contents.
//!
//! A lasting cause is warned of once. A caller that cannot read the file puts it back. That changes the folder, so the caller would look again at once;
//! [`RETRY_DELAY`] keeps it from doing so.
//! A file that cannot be taken away (in a sticky folder, as another user) is obeyed in place, once each time that it is written.

use crate::settled::{ReadWhen, Seen};
use crate::timers::{Duration, Instant, RETRY_DELAY};

/// Why a look at the file, or taking it, failed: the system's error number (errno(3)).
pub type Cause = i32;

/// What tells one file from another under the same name, and one writing of it from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The inode's number.
    pub inode: u64,
    /// The last write: seconds and nanoseconds (stat(2)).
    pub written: (i64, i64),
}

/// What to do about the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait for this time, then ask again.
    After(Duration),
    /// Look at the file's age and size, then call [`SignalFile::looked`].
    Look,
    /// Take the file away and read it, then call [`SignalFile::taken`].
    Take,
}

/// What the caller found when it looked at the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// There is no file.
    Absent,
    /// There is a file.
    Present {
        /// Milliseconds since the last write; negative if the file's time is in the future.
        age_ms: i64,
        /// The file has no contents.
        is_empty: bool,
        /// Which one it is.
        version: Version,
    },
    /// The system call failed.
    Failed(Cause),
}

/// What became of taking the file away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The file was gone.
    Absent,
    /// The caller has taken the file and read its contents.
    Contents,
    /// It cannot be taken away; it was read where it is, if it can be read.
    Stays(Cause, Version),
    /// It could not be read and is gone.
    Lost,
    /// The caller could not take the file or could not read it. The file is where it was.
    Failed(Cause),
}

/// What follows from a look, or from taking the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Take the file now.
    pub takes: bool,
    /// Look again after this time, even if nothing changes.
    pub again_after: Option<Duration>,
    /// Say why it could not be read or taken away.
    pub warns: bool,
    /// Obey what it holds.
    pub obeys: bool,
}

/// The state of the signal file between two looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignalFile {
    /// The writer has closed the file since the last look.
    is_closed: bool,
    /// The cause of the last failure, which the caller has warned of.
    cause: Option<Cause>,
    /// The caller leaves the file alone until then.
    not_before: Option<Instant>,
    /// The one that stays where it is and was obeyed.
    obeyed: Option<Version>,
}

impl SignalFile {
    /// Records that the writer has closed the file, or renamed it into place.
    pub const fn note_closed(&mut self) {
        self.is_closed = true;
    }

    /// Returns what to do at `now`. Clears the record of a close.
    pub fn next(&mut self, now: Instant) -> Next {
        if let Some(left) = self.not_before.and_then(|at| at.since(now).left_after(Duration::ZERO)) {
            return Next::After(left);
        }
        if core::mem::take(&mut self.is_closed) { Next::Take } else { Next::Look }
    }

    /// Handles the result of a look.
    pub fn looked(&mut self, look: Look) -> Outcome {
        match look {
            Look::Absent => {
                self.cause = None;
                Outcome::default()
            }
            Look::Present { version, .. } if self.obeyed == Some(version) => Outcome::default(),
            Look::Present { age_ms, is_empty, .. } => match Seen::Age(age_ms).read_when_written(is_empty) {
                ReadWhen::Now => Outcome { takes: true, ..Outcome::default() },
                ReadWhen::Closed => Outcome::default(),
                ReadWhen::After(length) => Outcome { again_after: Some(length), ..Outcome::default() },
            },
            // Whatever the cause, the file is still there.
            Look::Failed(cause) => Outcome { again_after: Some(RETRY_DELAY), warns: self.is_new(cause), ..Outcome::default() },
        }
    }

    /// Handles the result of taking the file at `now`.
    pub fn taken(&mut self, now: Instant, taken: Taken) -> Outcome {
        match taken {
            Taken::Absent => {
                self.cause = None;
                Outcome::default()
            }
            Taken::Contents => Outcome { obeys: true, ..Outcome::default() },
            Taken::Stays(cause, version) => {
                let is_other = self.obeyed.replace(version) != Some(version);
                Outcome { obeys: is_other, warns: self.is_new(cause), ..Outcome::default() }
            }
            // The next file is another one.
            Taken::Lost => Outcome { warns: true, ..Outcome::default() },
            Taken::Failed(cause) => {
                self.not_before = Some(now.after(RETRY_DELAY));
                Outcome { again_after: Some(RETRY_DELAY), warns: self.is_new(cause), ..Outcome::default() }
            }
        }
    }

    fn is_new(&mut self, cause: Cause) -> bool {
        self.cause.replace(cause) != Some(cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRIES: Outcome = Outcome { again_after: Some(RETRY_DELAY), ..NOTHING };
    const WARNS: Outcome = Outcome { warns: true, ..RETRIES };
    const NOTHING: Outcome = Outcome { takes: false, again_after: None, warns: false, obeys: false };
    const OBEYS: Outcome = Outcome { obeys: true, ..NOTHING };

    const fn version(inode: u64, nanoseconds: i64) -> Version {
        Version { inode, written: (7, nanoseconds) }
    }

    const fn present(age_ms: i64, is_empty: bool) -> Look {
        Look::Present { age_ms, is_empty, version: version(1, 0) }
    }

    const fn at(milliseconds: u64) -> Instant {
        Instant::from_ms(milliseconds)
    }

    #[test]
    fn a_closed_file_is_taken_without_a_look() {
        let mut file = SignalFile::default();
        assert_eq!(file.next(at(0)), Next::Look);
        file.note_closed();
        assert_eq!((file.next(at(0)), file.next(at(0))), (Next::Take, Next::Look));
    }

    #[test]
    fn a_file_that_exists_before_is_taken_once_settled() {
        let mut file = SignalFile::default();
        for (look, want) in [
            (Look::Absent, NOTHING),
            (present(10, false), Outcome { again_after: Some(Duration::from_ms(90)), ..NOTHING }),
            (present(100, false), Outcome { takes: true, ..NOTHING }),
            (present(100, true), NOTHING),
        ] {
            assert_eq!(file.looked(look), want, "{look:?}");
        }
    }

    #[test]
    fn a_lasting_cause_is_warned_of_once() {
        let mut file = SignalFile::default();
        assert_eq!((file.looked(Look::Failed(5)), file.looked(Look::Failed(5)), file.looked(Look::Failed(12))), (WARNS, RETRIES, WARNS));
        assert_eq!(file.looked(Look::Absent), NOTHING);
        assert_eq!(file.looked(Look::Failed(12)), WARNS);
        assert_eq!(
            (file.taken(at(0), Taken::Lost), file.taken(at(0), Taken::Lost)),
            (Outcome { again_after: None, ..WARNS }, Outcome { again_after: None, ..WARNS })
        );
    }

    #[test]
    fn a_file_that_was_put_back_is_left_alone_for_the_retry_delay() {
        let mut file = SignalFile::default();
        assert_eq!(file.taken(at(1_000), Taken::Failed(5)), WARNS);
        // Putting the file back changed the folder.
        file.note_closed();
        assert_eq!(file.next(at(1_030)), Next::After(Duration::from_ms(70)));
        assert_eq!(file.next(at(1_100)), Next::Take);
        assert_eq!(file.taken(at(1_100), Taken::Failed(5)), RETRIES);
        assert_eq!(file.next(at(1_200)), Next::Look);
        assert_eq!(file.taken(at(1_200), Taken::Contents), OBEYS);
        assert_eq!(file.taken(at(1_300), Taken::Absent), NOTHING);
    }

    #[test]
    fn one_that_stays_is_obeyed_once_for_each_time_that_it_is_written() {
        let mut file = SignalFile::default();
        let first = Outcome { obeys: true, warns: true, ..NOTHING };
        assert_eq!(file.taken(at(0), Taken::Stays(1, version(1, 0))), first);
        // It is looked at again and again; or its folder has another name for it, and it counts as closed.
        assert_eq!((file.looked(present(100, false)), file.taken(at(0), Taken::Stays(1, version(1, 0)))), (NOTHING, NOTHING));
        for other in [version(1, 5), version(2, 5)] {
            let look = Look::Present { age_ms: 100, is_empty: false, version: other };
            assert_eq!(file.looked(look), Outcome { takes: true, ..NOTHING });
            assert_eq!((file.taken(at(0), Taken::Stays(1, other)), file.looked(look)), (OBEYS, NOTHING));
        }
        // Another cause is another warning.
        assert_eq!(file.taken(at(0), Taken::Stays(13, version(2, 5))), Outcome { warns: true, ..NOTHING });
    }
}
