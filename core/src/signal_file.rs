//! The signal file of a container. Another container writes a signal to this file, and emissary delivers that signal to the command (docs/protocol.md,
//! "Main", step 10).
//!
//! This machine decides when the file is complete, when to try again, and when to warn. Enters: what a look at the file found ([`Look`]), and how the attempt
//! to take the file away ended ([`Taken`]). Leaves: take the file, look again later, or warn ([`Next`], [`Outcome`]). Refuses: nothing; [`crate::signal`]
//! parses the contents.
//!
//! Each lasting cause gives one warning. A caller that cannot read the file puts the file back. That changes the folder, and the change would make the caller
//! look again at once; [`RETRY_DELAY`] prevents this. Emissary may be unable to take a file away, for example another user's file in a sticky folder. It then
//! obeys the file in place, once for each time that a process writes the file.

use crate::settled::{ReadWhen, Seen};
use crate::timers::{Duration, Instant, RETRY_DELAY};

/// Why a look at the file, or an attempt to take it, failed: the error number of the system call (errno(3)).
pub type Cause = i32;

/// Identifies one file among several of the same name, and one write to a file among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The inode number.
    pub inode: u64,
    /// The time of the last write: seconds and nanoseconds (stat(2)).
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
        /// The file is empty.
        is_empty: bool,
        /// Identifies the file and its last write.
        version: Version,
    },
    /// The system call failed.
    Failed(Cause),
}

/// How the attempt to take the file away ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// The file was gone.
    Absent,
    /// The caller has taken the file and read its contents.
    Contents,
    /// The caller cannot take the file away. The caller has read the file in place, if the file can be read.
    Stays(Cause, Version),
    /// The caller could not read the file, and the file is gone.
    Lost,
    /// The caller could not take the file or could not read it. The file is still in its place.
    Failed(Cause),
}

/// What the caller must do after a look, or after an attempt to take the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Take the file now.
    pub takes: bool,
    /// Look again after this time, even if nothing changes.
    pub again_after: Option<Duration>,
    /// Warn that the file could not be read or taken away.
    pub warns: bool,
    /// Obey the contents of the file.
    pub obeys: bool,
}

/// The state of the signal file between two looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignalFile {
    /// The writer has closed the file since the last look.
    is_closed: bool,
    /// The cause of the last failure. The caller has warned of this cause.
    cause: Option<Cause>,
    /// The caller leaves the file alone until this time.
    not_before: Option<Instant>,
    /// The file that cannot be taken away and that emissary has obeyed.
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
            // The file is still there, whatever the cause.
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
            // The caller has lost this file, so a failure of the next file needs a warning of its own.
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
        // The caller has put the file back, which changes the folder.
        file.note_closed();
        assert_eq!(file.next(at(1_030)), Next::After(Duration::from_ms(70)));
        assert_eq!(file.next(at(1_100)), Next::Take);
        assert_eq!(file.taken(at(1_100), Taken::Failed(5)), RETRIES);
        assert_eq!(file.next(at(1_200)), Next::Look);
        assert_eq!(file.taken(at(1_200), Taken::Contents), OBEYS);
        assert_eq!(file.taken(at(1_300), Taken::Absent), NOTHING);
    }

    #[test]
    fn a_file_that_stays_is_obeyed_once_for_each_write() {
        let mut file = SignalFile::default();
        let first = Outcome { obeys: true, warns: true, ..NOTHING };
        assert_eq!(file.taken(at(0), Taken::Stays(1, version(1, 0))), first);
        // The caller looks at the file again and again. Or the file gets another name in its folder, which counts as a close.
        assert_eq!((file.looked(present(100, false)), file.taken(at(0), Taken::Stays(1, version(1, 0)))), (NOTHING, NOTHING));
        for other in [version(1, 5), version(2, 5)] {
            let look = Look::Present { age_ms: 100, is_empty: false, version: other };
            assert_eq!(file.looked(look), Outcome { takes: true, ..NOTHING });
            assert_eq!((file.taken(at(0), Taken::Stays(1, other)), file.looked(look)), (OBEYS, NOTHING));
        }
        // Another cause gives another warning.
        assert_eq!(file.taken(at(0), Taken::Stays(13, version(2, 5))), Outcome { warns: true, ..NOTHING });
    }
}
