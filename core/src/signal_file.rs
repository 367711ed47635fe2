//! The signal file of this container: when it is complete, when it is tried again, when its fault is worth a warning.
//!
//! Enters: what a look at the file gave, and what taking it away gave. Leaves: take it now, look again after some time, warn or not. A cause that lasts is
//! warned of once. A file that could not be read and was put back counts as a change of its folder, so it is not looked at before [`RETRY_DELAY`] has passed.

use crate::settled::{ReadWhen, Seen};
use crate::timers::{Duration, Instant, RETRY_DELAY};

/// Why the file could not be looked at or taken: the system's error number (errno(3)).
pub type Cause = i32;

/// What to do about the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing before this time has passed.
    After(Duration),
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
    /// Say why it could not be read.
    pub warns: bool,
}

/// The signal file, from look to look.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignalFile {
    is_closed: bool,
    /// The cause that was warned of and lasts.
    cause: Option<Cause>,
    not_before: Option<Instant>,
}

impl SignalFile {
    /// Its writer has closed it, or renamed it into place.
    pub const fn note_closed(&mut self) {
        self.is_closed = true;
    }

    /// What to do now.
    pub fn next(&mut self, now: Instant) -> Next {
        if let Some(left) = self.not_before.and_then(|at| at.since(now).left_after(Duration::ZERO)) {
            return Next::After(left);
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
            Look::Present { age_ms, is_empty } => match Seen::Age(age_ms).read_when_written(is_empty) {
                ReadWhen::Now => Outcome { takes: true, ..Outcome::default() },
                ReadWhen::Closed => Outcome::default(),
                ReadWhen::After(length) => Outcome { again_after: Some(length), ..Outcome::default() },
            },
            // Whatever the cause, the file is still there.
            Look::Failed(cause) => Outcome { again_after: Some(RETRY_DELAY), warns: self.is_new(cause), takes: false },
        }
    }

    /// Takes in what became of taking it at `now`.
    pub fn taken(&mut self, now: Instant, taken: Taken) -> Outcome {
        match taken {
            Taken::Absent => {
                self.cause = None;
                Outcome::default()
            }
            Taken::Contents => Outcome::default(),
            // The next file is another one.
            Taken::Lost => Outcome { warns: true, ..Outcome::default() },
            Taken::Failed(cause) => {
                self.not_before = Some(now.after(RETRY_DELAY));
                Outcome { again_after: Some(RETRY_DELAY), warns: self.is_new(cause), takes: false }
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

    const RETRIES: Outcome = Outcome { takes: false, again_after: Some(RETRY_DELAY), warns: false };
    const WARNS: Outcome = Outcome { warns: true, ..RETRIES };
    const NOTHING: Outcome = Outcome { takes: false, again_after: None, warns: false };

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
            (Look::Present { age_ms: 10, is_empty: false }, Outcome { again_after: Some(Duration::from_ms(90)), ..NOTHING }),
            (Look::Present { age_ms: 100, is_empty: false }, Outcome { takes: true, ..NOTHING }),
            (Look::Present { age_ms: 100, is_empty: true }, NOTHING),
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
        assert_eq!(file.next(at(1_030)), Next::After(Duration::from_ms(70)));
        assert_eq!(file.next(at(1_100)), Next::Take);
        assert_eq!(file.taken(at(1_100), Taken::Failed(5)), RETRIES);
        assert_eq!(file.next(at(1_200)), Next::Look);
        assert_eq!(file.taken(at(1_200), Taken::Contents), NOTHING);
        assert_eq!(file.taken(at(1_300), Taken::Absent), NOTHING);
    }
}
