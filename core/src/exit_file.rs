//! Another container's exit-code file: when it is complete, and what to do while nobody can read it (docs/protocol.md, "Main", step 6, and "Wait").
//!
//! Enters: what a look at the file and at the container's lock gave ([`Look`]), and which events of its writer were seen. Leaves: the exit code, or when to
//! look again ([`Reading`]). Refuses: a complete file that holds no exit code, and a file that stays unreadable. If the cause may pass, the machine retries for
//! [`UNREADABLE_LIMIT`]: otherwise a container that has succeeded would count as a container without an exit code.
//!
//! A file appears in one of two ways. A writer creates it, opens it, writes and closes it; then the close completes it. Or a process renames or links a
//! complete file into place. A link is a creation that no open follows.

use crate::exit::{self, ExitCodeError};
use crate::settled::{ReadWhen, Seen};
use crate::timers::{Duration, Instant, RETRY_DELAY, UNREADABLE_LIMIT};

/// What the caller found when it looked for the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look<'a> {
    /// There is no file. The container's emissary runs, or has not started yet.
    Absent,
    /// There is no file, and the container's emissary is dead: it had started, and the kernel has released its lock.
    Abandoned,
    /// The start of the file, and milliseconds since the last write to it; negative if the file's time is in the future.
    Bytes(&'a [u8], i64),
    /// The system refuses to read the file.
    Unreadable {
        /// The cause is the state of the machine, not the file. A later attempt may succeed.
        may_pass: bool,
    },
}

/// What follows from a look at the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The container's exit code.
    Code(u8),
    /// There is no complete file yet: look again when the folder changes.
    NotYet,
    /// There is no complete file yet: look again when the folder changes, and no later than after this time.
    LookAfter(Duration),
    /// The file is unreadable, and the cause is permanent or has lasted for [`UNREADABLE_LIMIT`].
    Unreadable,
    /// The file is complete and holds no exit code.
    Malformed,
    /// The container's emissary was killed before it wrote an exit code.
    Killed,
}

/// One container's exit-code file, from the first look to the code.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExitFile {
    /// The writer has closed the file, or renamed it into place.
    is_closed: bool,
    /// When the file was created, if no process has opened it since.
    created: Option<Instant>,
    /// The file was absent while its folder was watched, so the close of a later writer will be seen.
    was_absent: bool,
    /// The first of the failed attempts to read the file that no success has followed.
    unreadable_since: Option<Instant>,
    /// The caller has reported that something is wrong with the file.
    is_reported: bool,
}

impl ExitFile {
    /// Records that a writer has closed the file, or that a process has renamed it into place.
    pub const fn note_closed(&mut self) {
        self.is_closed = true;
    }

    /// Records that the file was created at `now`: by a writer that opens it next, or as a link to a complete file.
    pub const fn note_created(&mut self, now: Instant) {
        self.created = Some(now);
    }

    /// Time for which the caller must not open the file; `None` if it may open the file now. If a writer created the file, its open follows at once. An open
    /// of our own within that time would look like the writer's.
    #[must_use]
    pub fn wait_before_opening(&self, now: Instant) -> Option<Duration> {
        if self.is_closed { None } else { RETRY_DELAY.left_after(now.since(self.created?)) }
    }

    /// Records that a process has opened the file.
    pub const fn note_opened(&mut self) {
        self.created = None;
    }

    /// Records that the kernel has dropped events. The writer's close may be among them, so the file's age decides from now on.
    pub const fn note_overflow(&mut self) {
        self.was_absent = false;
        self.created = None;
    }

    /// Handles a look at `now`. `is_watched` says that the caller sees every close in the folder.
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
            // A file that was created, and that no process has opened since, is a link to a complete file.
            true if self.is_closed || self.created.is_some() => Seen::Closed,
            true if self.was_absent => Seen::Open(age_ms),
            _ => Seen::Age(age_ms),
        };
        let reading = match (seen.read_when(), exit::parse(bytes)) {
            (ReadWhen::Closed, _) => Reading::NotYet,
            (ReadWhen::After(length), _) => Reading::LookAfter(length),
            (ReadWhen::Now, Ok(code)) => Reading::Code(code),
            // The writer has created the file and closed it empty. It will open it again, write, and close it once more.
            (ReadWhen::Now, Err(ExitCodeError::Empty)) => {
                self.was_absent |= core::mem::take(&mut self.is_closed);
                self.created = None;
                Reading::NotYet
            }
            // The caller may ask again, and gets the same answer each time.
            (ReadWhen::Now, Err(ExitCodeError::Malformed)) => return Reading::Malformed,
        };
        self.unreadable_since = None;
        reading
    }

    /// Returns whether the caller has not yet reported what is wrong with the file. Counts it as reported.
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

    /// Feeds rows of time, `is_watched` and look, and compares each reading.
    fn play(file: &mut ExitFile, rows: &[(u64, bool, Look<'_>, Reading)]) {
        for (row, (now_ms, is_watched, look, want)) in rows.iter().enumerate() {
            assert_eq!(file.handle(at(*now_ms), *is_watched, *look), *want, "row {row}: {look:?}");
        }
    }

    #[test]
    fn a_file_older_than_the_watch_is_complete_once_settled() {
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
    fn a_file_that_appears_is_complete_when_its_writer_closes_it() {
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet), (1, true, Look::Bytes(b"1", 500), by(2_500))]);
        // Without a watch the close went unseen, so the age decides.
        play(&mut file, &[(2, false, Look::Bytes(b"1", 0), by(100)), (2, false, Look::Bytes(b"1", 100), Reading::Code(1))]);
        file.note_closed();
        play(&mut file, &[(3, true, Look::Bytes(b"12", 0), Reading::Code(12)), (4, false, Look::Bytes(b"12", 0), by(100))]);
        play(&mut file, &[(6, true, Look::Bytes(b"x", 0), Reading::Malformed)]);
    }

    #[test]
    fn a_file_closed_empty_waits_for_its_contents() {
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet)]);
        file.note_created(at(1));
        file.note_opened();
        file.note_closed();
        play(&mut file, &[(1, true, Look::Bytes(b"", 0), Reading::NotYet)]);
        file.note_opened();
        // The writer has written the first digit of three.
        play(&mut file, &[(2, true, Look::Bytes(b"1", 0), by(3_000)), (900, true, Look::Bytes(b"1", 800), by(2_200))]);
        file.note_closed();
        play(&mut file, &[(901, true, Look::Bytes(b"137", 1), Reading::Code(137))]);
    }

    #[test]
    fn a_file_linked_into_place_is_complete() {
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet)]);
        file.note_created(at(10));
        assert_eq!((file.wait_before_opening(at(30)), file.wait_before_opening(at(110))), (Some(Duration::from_ms(80)), None));
        play(&mut file, &[(110, true, Look::Bytes(b"9", 0), Reading::Code(9))]);
        // A file that a process opens after its creation is written in place.
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet)]);
        file.note_created(at(10));
        file.note_opened();
        assert_eq!(file.wait_before_opening(at(30)), None);
        play(&mut file, &[(500, true, Look::Bytes(b"9", 400), by(2_600)), (3_100, true, Look::Bytes(b"9", 3_000), Reading::Code(9))]);
    }

    #[test]
    fn the_wait_ends_when_the_containers_emissary_was_killed() {
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet), (1, true, Look::Abandoned, Reading::Killed)]);
    }

    #[test]
    fn after_dropped_events_the_age_decides() {
        let mut file = ExitFile::default();
        play(&mut file, &[(0, true, Look::Absent, Reading::NotYet)]);
        file.note_overflow();
        play(&mut file, &[(1, true, Look::Bytes(b"7", 10), by(90)), (2, true, Look::Bytes(b"7", 100), Reading::Code(7))]);
    }

    #[test]
    fn an_unreadable_file_is_retried_until_the_limit() {
        let mut file = ExitFile::default();
        let passing = Look::Unreadable { may_pass: true };
        play(&mut file, &[(10, true, passing, by(100)), (5_009, true, passing, by(100)), (5_010, true, passing, Reading::Unreadable)]);
        // A look that succeeds restarts the limit.
        play(&mut file, &[(5_011, true, Look::Absent, Reading::NotYet), (5_012, true, passing, by(100))]);
        play(&mut file, &[(5_013, true, Look::Unreadable { may_pass: false }, Reading::Unreadable)]);
        assert!(file.is_first_report() && !file.is_first_report());
    }
}
