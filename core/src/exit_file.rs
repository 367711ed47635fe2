//! An exit-code file that another container writes: when it is complete, and what to do while it cannot be read.
//!
//! Enters: what a look at the file and at its container's lock gave, and what was seen of its writer. Leaves: the code, or when to look again. Refuses: a
//! complete file that holds no exit code, and a file that stays unreadable. A cause that may pass is borne for [`UNREADABLE_LIMIT`]: a container that has ended well
//! must not be taken for one that left no code.
//!
//! A file that appears is written in place, by a writer that opens and closes it; or it is renamed or linked into place, and is then complete at once. A link
//! shows by a creation that no opening follows.

use crate::exit::{self, ExitCodeError};
use crate::settled::{ReadWhen, Seen};
use crate::timers::{Duration, Instant, RETRY_DELAY, UNREADABLE_LIMIT};

/// What a look at the file gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look<'a> {
    /// There is no file, and the container's emissary runs, or has not begun yet.
    Absent,
    /// There is no file, although the container's emissary has begun: the kernel has released its lock, so it was killed.
    Abandoned,
    /// The start of the file, and milliseconds since the last write to it (negative for a time in the future).
    Bytes(&'a [u8], i64),
    /// The file cannot be read.
    Unreadable {
        /// The cause lies in the machine's state and not in the file, so that a later attempt may succeed.
        may_pass: bool,
    },
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The container's exit code.
    Code(u8),
    /// Not there yet: look again at a change.
    NotYet,
    /// Look again after this time, too.
    LookAfter(Duration),
    /// The file cannot be read, and the cause stays.
    Unreadable,
    /// The file is complete and holds no exit code.
    Malformed,
    /// The container's emissary was killed and has left no exit code.
    Killed,
}

/// One container's exit-code file, from the first look to the code.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExitFile {
    /// Its writer was seen to close it.
    is_closed: bool,
    /// It was created, and no opening of it was seen since.
    created: Option<Instant>,
    /// It was not there at a look while its folder was watched: its writer's closing will be seen.
    was_absent: bool,
    unreadable_since: Option<Instant>,
    is_reported: bool,
}

impl ExitFile {
    /// Its writer has closed it, or renamed it into place.
    pub const fn note_closed(&mut self) {
        self.is_closed = true;
    }

    /// It was created at `now`: by a writer that opens it, or as a link to a file that is complete.
    pub const fn note_created(&mut self, now: Instant) {
        self.created = Some(now);
    }

    /// How long the file is to be left alone: an opening follows a creation at once, if at all, and our own would be taken for one.
    #[must_use]
    pub fn wait_before_opening(&self, now: Instant) -> Option<Duration> {
        if self.is_closed { None } else { RETRY_DELAY.left_after(now.since(self.created?)) }
    }

    /// A process has opened it.
    pub const fn note_opened(&mut self) {
        self.created = None;
    }

    /// Events were lost: the writer's closing may be among them, so the file's age decides.
    pub const fn note_overflow(&mut self) {
        self.was_absent = false;
        self.created = None;
    }

    /// Takes in a look at `now`. `is_watched` says that no closing in the folder goes unseen.
    pub fn handle(&mut self, now: Instant, is_watched: bool, look: Look<'_>) -> Reading {
        let (bytes, age_ms) = match look {
            Look::Unreadable { may_pass } => return self.handle_unreadable(now, may_pass),
            Look::Absent => {
                self.unreadable_since = None;
                self.was_absent |= is_watched;
                return Reading::NotYet;
            }
            Look::Abandoned => return Reading::Killed,
            Look::Bytes(bytes, age_ms) => (bytes, age_ms),
        };
        let seen = match is_watched {
            // A file that was created and not opened since is a link to one that is complete.
            true if self.is_closed || self.created.is_some() => Seen::Closed,
            true if self.was_absent => Seen::Open(age_ms),
            _ => Seen::Age(age_ms),
        };
        let reading = match (seen.read_when(), exit::parse(bytes)) {
            (ReadWhen::Closed, _) => Reading::NotYet,
            (ReadWhen::After(length), _) => Reading::LookAfter(length),
            (ReadWhen::Now, Ok(code)) => Reading::Code(code),
            // Its writer has made it, and is still to write to it: it will be closed once more.
            (ReadWhen::Now, Err(ExitCodeError::Empty)) => {
                self.was_absent |= core::mem::take(&mut self.is_closed);
                self.created = None;
                Reading::NotYet
            }
            // It is read again as long as somebody asks, and is wrong each time.
            (ReadWhen::Now, Err(ExitCodeError::Malformed)) => return Reading::Malformed,
        };
        self.unreadable_since = None;
        reading
    }

    /// Returns whether this is the first report of what is wrong with the file.
    pub const fn is_first_report(&mut self) -> bool {
        !core::mem::replace(&mut self.is_reported, true)
    }

    fn handle_unreadable(&mut self, now: Instant, may_pass: bool) -> Reading {
        let since = *self.unreadable_since.get_or_insert(now);
        if may_pass && now < since.after(UNREADABLE_LIMIT) { Reading::LookAfter(RETRY_DELAY) } else { Reading::Unreadable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(milliseconds: u64) -> Instant {
        Instant::from_ms(milliseconds)
    }

    const fn by(milliseconds: u64) -> Reading {
        Reading::LookAfter(Duration::from_ms(milliseconds))
    }

    /// Feeds rows of time, watched or not, and a look; compares what follows.
    fn play(file: &mut ExitFile, rows: &[(u64, bool, Look<'_>, Reading)]) {
        for (row, (now_ms, is_watched, look, want)) in rows.iter().enumerate() {
            assert_eq!(file.handle(at(*now_ms), *is_watched, *look), *want, "row {row}: {look:?}");
        }
    }

    #[test]
    fn one_that_was_there_before_settles() {
        let rows = [
            (0, true, Look::Bytes(b"1", 0), by(100)),
            (1, true, Look::Bytes(b"1", 99), by(1)),
            (2, true, Look::Bytes(b"", 100), Reading::NotYet),
            (3, true, Look::Bytes(b"x", 0), by(100)),
            (4, true, Look::Bytes(b"1", 100), Reading::Code(1)),
            (5, true, Look::Bytes(b"1", -3_600_000), Reading::Code(1)),
            (6, true, Look::Bytes(b"x", 100), Reading::Malformed),
        ];
        play(&mut ExitFile::default(), &rows);
    }

    #[test]
    fn one_that_appears_is_complete_when_it_is_closed() {
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet), (1, true, Look::Bytes(b"1", 500), by(2_500))]);
        // Nobody saw a closing where nothing is watched.
        play(&mut file, &[(2, false, Look::Bytes(b"1", 0), by(100)), (2, false, Look::Bytes(b"1", 100), Reading::Code(1))]);
        file.note_closed();
        play(&mut file, &[(3, true, Look::Bytes(b"12", 0), Reading::Code(12)), (4, false, Look::Bytes(b"12", 0), by(100))]);
        play(&mut file, &[(6, true, Look::Bytes(b"x", 0), Reading::Malformed)]);
    }

    #[test]
    fn one_that_is_closed_empty_is_still_to_be_written() {
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet)]);
        file.note_created(at(1));
        file.note_opened();
        file.note_closed();
        play(&mut file, &[(1, true, Look::Bytes(b"", 0), Reading::NotYet)]);
        file.note_opened();
        // Half of what its writer writes.
        play(&mut file, &[(2, true, Look::Bytes(b"1", 0), by(3_000)), (900, true, Look::Bytes(b"1", 800), by(2_200))]);
        file.note_closed();
        play(&mut file, &[(901, true, Look::Bytes(b"137", 1), Reading::Code(137))]);
    }

    #[test]
    fn one_that_is_linked_into_place_is_complete() {
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet)]);
        file.note_created(at(10));
        assert_eq!((file.wait_before_opening(at(30)), file.wait_before_opening(at(110))), (Some(Duration::from_ms(80)), None));
        play(&mut file, &[(110, true, Look::Bytes(b"9", 0), Reading::Code(9))]);
        // One that is opened is written in place.
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet)]);
        file.note_created(at(10));
        file.note_opened();
        assert_eq!(file.wait_before_opening(at(30)), None);
        play(&mut file, &[(500, true, Look::Bytes(b"9", 400), by(2_600)), (3_100, true, Look::Bytes(b"9", 3_000), Reading::Code(9))]);
    }

    #[test]
    fn one_whose_container_was_killed_is_waited_for_no_longer() {
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet), (1, true, Look::Abandoned, Reading::Killed)]);
    }

    #[test]
    fn after_lost_events_the_age_decides() {
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet)]);
        file.note_overflow();
        play(&mut file, &[(1, true, Look::Bytes(b"7", 10), by(90)), (2, true, Look::Bytes(b"7", 100), Reading::Code(7))]);
    }

    #[test]
    fn one_that_cannot_be_read_is_borne_for_a_while() {
        let mut file = ExitFile::default();
        let passing = Look::Unreadable { may_pass: true };
        play(&mut file, &[(10, true, passing, by(100)), (5_009, true, passing, by(100)), (5_010, true, passing, Reading::Unreadable)]);
        // A look that succeeds begins anew.
        play(&mut file, &[(5_011, true, Look::Absent, Reading::NotYet), (5_012, true, passing, by(100))]);
        play(&mut file, &[(5_013, true, Look::Unreadable { may_pass: false }, Reading::Unreadable)]);
        assert!(file.is_first_report() && !file.is_first_report());
    }
}
