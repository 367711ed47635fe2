//! Another container of the pod, the group of containers that share one volume. This process waits for that container's exit code (docs/protocol.md,
//! "Files").
//!
//! Enters: changes from the watch, and the time. Leaves: the container's exit code, or when to look again. Refuses: an exit-code file that stays
//! unreadable, or that is complete and holds no exit code. `core::exit_file` decides when the file is complete.

use emissary_core::exit::{self, ExitCodeError};
use emissary_core::exit_file::{ExitFile, Look, Reading};
use emissary_core::layout::{self, File, Kind};
use emissary_core::limits::{EXIT_CODE_FILE_BYTES, PATH_BYTES};
use emissary_core::signal::Signal;
use emissary_core::timers::{Instant, LOOK_EVERY};

use super::folder::{Folder, LockState};
use super::shared::Shared;
use super::watch::{Change, FileEvent, Watch};
use crate::os::{clock, fs};
use crate::report::error::Error;

/// A container that we expect to end.
pub(crate) struct Container {
    pub(crate) name: Vec<u8>,
    pub(crate) folder: Folder,
    /// A write to a file in the folder counts as a change.
    growth: bool,
    /// Number of the watch on the folder, if there is one.
    watch: Option<i32>,
    /// The folder may have been removed.
    may_be_gone: bool,
    /// The folder changed after the last look.
    is_due: bool,
    /// Time of the next look, if no change is reported before.
    again_at: Option<Instant>,
    file: ExitFile,
    /// The container's exit code, once it is known.
    pub(crate) code: Option<u8>,
    /// The container's emissary was killed and wrote no exit code. `code` is then that of SIGKILL.
    pub(crate) was_killed: bool,
    /// The container's exit-code file holds no exit code, or cannot be read. `code` stands for that.
    pub(crate) is_unread: bool,
    /// At the last look the container had no exit code, and its emissary was running.
    pub(crate) emissary_runs: bool,
}

impl Container {
    /// Opens a container's folder, makes it if it is missing, and watches it. With `growth`, a write to a file in it counts as a change too.
    ///
    /// # Errors
    /// The folder cannot be made or opened. The message has its path.
    pub(crate) fn open(shared: &Shared<'_>, name: &[u8], watch: &mut Watch, growth: bool) -> Result<Self, Error> {
        let folder = shared.container(name)?;
        let number = watch_folder(shared, name, watch, growth);
        watch_parent(shared, watch);
        Ok(Self {
            name: name.to_vec(),
            folder,
            growth,
            watch: number,
            may_be_gone: false,
            is_due: true,
            again_at: None,
            file: ExitFile::default(),
            code: None,
            was_killed: false,
            is_unread: false,
            emissary_runs: false,
        })
    }

    /// Handles a change in a watched folder.
    pub(crate) fn note(&mut self, change: Change) {
        self.is_due |= match change {
            // We open these files ourselves, so an open is no reason to look.
            Change::ExitCode(_, FileEvent::Opened) | Change::Signal(..) | Change::Grown(_) => false,
            Change::ExitCode(watch, _) | Change::Gone(watch) | Change::Deleted(watch) | Change::Other(watch) => Some(watch) == self.watch,
            Change::Overflow | Change::Folders => true,
        };
        match change {
            Change::ExitCode(watch, what) if Some(watch) == self.watch => match what {
                FileEvent::Complete => self.file.note_closed(),
                FileEvent::Created => self.file.note_created(clock::now()),
                FileEvent::Opened => self.file.note_opened(),
            },
            Change::Overflow => self.file.note_overflow(),
            Change::Gone(watch) | Change::Deleted(watch) if Some(watch) == self.watch => self.may_be_gone = true,
            Change::Folders => self.may_be_gone = true,
            _ => {}
        }
    }

    /// Opens and watches the folder again, if it was replaced by another one.
    fn reopen_if_replaced(&mut self, shared: &Shared<'_>, watch: &mut Watch) {
        if !self.may_be_gone {
            return;
        }
        match shared.existing(&self.name) {
            Some(folder) if !folder.is_same(&self.folder) => {
                self.folder = folder;
                self.watch = watch_folder(shared, &self.name, watch, self.growth);
                self.may_be_gone = false;
            }
            Some(_) => self.may_be_gone = false,
            None => {}
        }
    }

    /// Returns whether the container's logs may have grown by this change.
    pub(crate) fn may_grow_by(&self, change: Change) -> bool {
        match change {
            Change::Grown(watch) | Change::ExitCode(watch, _) | Change::Other(watch) => Some(watch) == self.watch,
            Change::Signal(..) => false,
            Change::Overflow | Change::Folders | Change::Gone(_) | Change::Deleted(_) => true,
        }
    }

    /// Returns whether events report every change in the container's folder.
    pub(crate) const fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Makes the next look read the exit code, even if no change was reported.
    pub(crate) const fn make_due(&mut self) {
        self.is_due = true;
    }

    /// Looks at the container's exit code. Does not look if the code is known, or if no change can have affected it: a pod may have many containers, and each
    /// end of one and each log line is an event.
    ///
    /// # Errors
    /// The file stays unreadable, or it is complete and holds no exit code.
    pub(crate) fn look(&mut self, now: Instant, shared: &Shared<'_>, watch: &mut Watch) -> Result<Reading, Error> {
        let is_watched = self.watch.is_some() && !watch.must_look() && !self.may_be_gone;
        if self.code.is_none() && is_watched && !self.is_due {
            match self.again_at {
                None => return Ok(Reading::NotYet),
                Some(at) if at > now => return Ok(Reading::LookAfter(at.since(now))),
                Some(_) => {}
            }
        }
        let reading = self.look_now(now, shared, watch);
        self.is_due = reading.is_err();
        self.again_at = if let Ok(Reading::LookAfter(length)) = reading { Some(now.after(length)) } else { None };
        reading
    }

    fn look_now(&mut self, now: Instant, shared: &Shared<'_>, watch: &mut Watch) -> Result<Reading, Error> {
        if let Some(code) = self.code {
            return Ok(Reading::Code(code));
        }
        self.reopen_if_replaced(shared, watch);
        if let Some(length) = self.file.wait_before_opening(now) {
            return Ok(Reading::LookAfter(length));
        }
        let name = layout::base_name(File::ExitCode);
        let mut room = [0; EXIT_CODE_FILE_BYTES];
        let (mut again, mut is_abandoned);
        is_abandoned = false;
        let mut read = self.folder.read(name, &mut room);
        self.emissary_runs = false;
        if matches!(read, Ok(None)) {
            match self.folder.lock_state() {
                LockState::Absent => {}
                LockState::Held => self.emissary_runs = true,
                LockState::Free => {
                    // The emissary may have written the code between our two looks, just before it released the lock.
                    again = [0; EXIT_CODE_FILE_BYTES];
                    read = self.folder.read(name, &mut again);
                    is_abandoned = matches!(read, Ok(None));
                }
            }
        }
        let look = match &read {
            Ok(None) if is_abandoned => Look::Abandoned,
            Ok(None) => Look::Absent,
            Ok(Some((bytes, age_ms))) => Look::Bytes(bytes, *age_ms),
            Err(error) => Look::Unreadable { may_pass: error.errno.is_some_and(fs::is_passing) },
        };
        let is_watched = self.watch.is_some() && !watch.must_look();
        let reading = self.file.handle(now, is_watched, look);
        match (reading, read) {
            (Reading::Code(code), _) => self.code = Some(code),
            (Reading::Killed, _) => {
                self.was_killed = true;
                self.code = Some(exit::code_of_signal(Signal::KILL));
            }
            (Reading::Unreadable, Err(error)) => return Err(error),
            (Reading::Malformed, _) => {
                return Err(Error::because(&[&self.folder.path_of(name)], &|out| ExitCodeError::Malformed.describe(out)));
            }
            _ => {}
        }
        match reading {
            // No watch reports that the folder is made again.
            Reading::NotYet if self.may_be_gone && !watch.must_look() => Ok(Reading::LookAfter(LOOK_EVERY)),
            other => Ok(other),
        }
    }

    /// Returns whether the current problem with the exit code is reported for the first time.
    pub(crate) fn is_first_report(&mut self) -> bool {
        self.file.is_first_report()
    }
}

/// Watches a container's folder. Returns the number of the watch.
pub(crate) fn watch_folder(shared: &Shared<'_>, name: &[u8], watch: &mut Watch, growth: bool) -> Option<i32> {
    let mut room = [0; PATH_BYTES];
    let path = shared.layout_of(name).path(File::Container, &mut room).ok()?;
    watch.add(path, growth)
}

/// Watches the folder that holds all containers' folders. The flat layout has none: its only folder is the mount point of the volume.
pub(crate) fn watch_parent(shared: &Shared<'_>, watch: &mut Watch) {
    let mut room = [0; PATH_BYTES];
    if shared.layout.kind == Kind::Pod
        && let Ok(path) = shared.layout.path(File::Containers, &mut room)
    {
        watch.add_parent(path);
    }
}
