//! The signal file of this container: when it is complete, when it is tried again, when its fault is worth a warning.
//!
//! Enters: what a look at the file gave, and what taking it away gave. Leaves: take it now, look again after some time, warn or not. A cause that lasts is
//! warned of once. A file that could not be read and was put back counts as a change of its folder, so it is not looked at before [`RETRY`] has passed.
//! One that cannot be taken away (in a sticky folder, as another user) is obeyed where it is, once for each time that it is written.

use crate::settled::{ReadWhen, Seen};
use crate::timers::{Duration, Instant, RETRY};

/// Why the file could not be looked at or taken: the system's error number (errno(3)).
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
    /// Nothing before this time has passed.
    LaterBy(Duration),
    /// Ask how old it is, then [`SignalFile::looked`].
    Look,
    /// Take it, then [`SignalFile::taken`].
    Take,
}

/// What a look at the file gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// There is none.
    Absent,
    /// Milliseconds since the last write (negative for a time in the future), and whether it is empty.
    Present {
        /// Milliseconds.
        age_ms: i64,
        /// It has no contents.
        is_empty: bool,
        /// Which one it is.
        version: Version,
    },
    /// The system did not tell.
    Failed(Cause),
}

/// What taking the file away gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// There is none any more.
    Absent,
    /// Its contents.
    Contents,
    /// It cannot be taken away; it was read where it is, if it can be read.
    Stays(Cause, Version),
    /// It could not be read and is gone.
    Lost,
    /// It could not be taken or read and is where it was.
    Failed(Cause),
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Take the file now.
    pub takes: bool,
    /// Look again after this time although nothing changes.
    pub again_after: Option<Duration>,
    /// Say why it could not be read or taken away.
    pub warns: bool,
    /// Obey what it holds.
    pub obeys: bool,
}

/// The signal file, from look to look.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignalFile {
    is_closed: bool,
    /// The cause that was warned of and lasts.
    cause: Option<Cause>,
    not_before: Option<Instant>,
    /// The one that stays where it is and was obeyed.
    obeyed: Option<Version>,
}

impl SignalFile {
    /// Its writer has closed it, or renamed it into place.
    pub const fn note_closed(&mut self) {
        self.is_closed = true;
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Next {
        if let Some(left) = self.not_before.and_then(|at| at.since(now).left_after(Duration::ZERO)) {
            return Next::LaterBy(left);
        }
        if core::mem::take(&mut self.is_closed) { Next::Take } else { Next::Look }
    }

    /// Takes in a look.
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
            Look::Failed(cause) => Outcome { again_after: Some(RETRY), warns: self.is_new(cause), ..Outcome::default() },
        }
    }

    /// Takes in what became of taking it at `now`.
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
                self.not_before = Some(now.after(RETRY));
                Outcome { again_after: Some(RETRY), warns: self.is_new(cause), ..Outcome::default() }
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

    const RETRIES: Outcome = Outcome { again_after: Some(RETRY), ..NOTHING };
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
    fn one_that_was_closed_is_taken_without_a_look() {
        let mut file = SignalFile::default();
        assert_eq!(file.next(at(0)), Next::Look);
        file.note_closed();
        assert_eq!((file.next(at(0)), file.next(at(0))), (Next::Take, Next::Look));
    }

    #[test]
    fn one_that_was_there_settles() {
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
    fn a_cause_that_lasts_is_said_once() {
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
    fn one_that_was_put_back_is_left_alone_for_a_moment() {
        let mut file = SignalFile::default();
        assert_eq!(file.taken(at(1_000), Taken::Failed(5)), WARNS);
        // To put it back was a change.
        file.note_closed();
        assert_eq!(file.next(at(1_030)), Next::LaterBy(Duration::from_ms(70)));
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
