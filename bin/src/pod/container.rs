//! Another container whose exit code is waited for: its folder, the watch on it, its exit-code file.

use emissary_core::exit::{self, ExitCodeError};
use emissary_core::exit_file::{ExitFile, Look, Reading};
use emissary_core::layout::{self, File, Kind};
use emissary_core::limits::{EXIT_CODE_FILE_BYTES, PATH_BYTES};
use emissary_core::signal::Signal;
use emissary_core::timers::{Instant, LOOK_EVERY};

use super::folder::{Folder, LockState};
use super::shared::Shared;
use super::watch::{Change, Watch, What};
use crate::os::{clock, fs};
use crate::report::error::Error;

/// A container that ends some time.
pub(crate) struct Container {
    pub(crate) name: Vec<u8>,
    pub(crate) folder: Folder,
    /// Whether writes to its files count as changes.
    growth: bool,
    /// The watch on its folder, where there is one.
    watch: Option<i32>,
    /// The folder may have been removed.
    may_be_gone: bool,
    /// Something happened in its folder since the last look.
    is_due: bool,
    /// When to look again although nothing happens.
    again_at: Option<Instant>,
    file: ExitFile,
    /// Its exit code, once it has one.
    pub(crate) code: Option<u8>,
    /// Its emissary was killed and has left none: the code stands for that.
    pub(crate) was_killed: bool,
    /// What it left is no exit code, or cannot be read: the code stands for that.
    pub(crate) is_unread: bool,
    /// At the last look it had no code, and its emissary ran.
    pub(crate) someone_runs: bool,
}

impl Container {
    /// Opens a container's folder, which is made where it is missing, and watches it; with `growth`, writes to its files count as changes too.
    ///
    /// # Errors
    /// A folder that cannot be made or opened, by its path.
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
            someone_runs: false,
        })
    }

    /// Takes in what happened in a watched folder.
    pub(crate) fn note(&mut self, change: Change) {
        self.is_due |= match change {
            // We open it ourselves.
            Change::ExitCode(_, What::Opened) | Change::Signal(..) | Change::Grown(_) => false,
            Change::ExitCode(watch, _) | Change::Gone(watch) | Change::Deleted(watch) | Change::Other(watch) => Some(watch) == self.watch,
            Change::Overflow | Change::Folders => true,
        };
        match change {
            Change::ExitCode(watch, what) if Some(watch) == self.watch => match what {
                What::Complete => self.file.note_closed(),
                What::Created => self.file.note_created(clock::now()),
                What::Opened => self.file.note_opened(),
            },
            Change::Overflow => self.file.note_overflow(),
            Change::Gone(watch) | Change::Deleted(watch) if Some(watch) == self.watch => self.may_be_gone = true,
            Change::Folders => self.may_be_gone = true,
            _ => {}
        }
    }

    /// Opens and watches its folder again, if that is another one by now.
    fn find_again(&mut self, shared: &Shared<'_>, watch: &mut Watch) {
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

    /// Whether its logs may be longer by this.
    pub(crate) fn may_grow_by(&self, change: Change) -> bool {
        match change {
            Change::Grown(watch) | Change::ExitCode(watch, _) | Change::Other(watch) => Some(watch) == self.watch,
            Change::Signal(..) => false,
            Change::Overflow | Change::Folders | Change::Gone(_) | Change::Deleted(_) => true,
        }
    }

    /// Whether events tell of all that happens in its folder.
    pub(crate) const fn is_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// Is to be looked at, whatever happened.
    pub(crate) const fn make_due(&mut self) {
        self.is_due = true;
    }

    /// Looks at its exit code, unless that is known, or nothing happened that could have changed it: there may be many containers, and each end, each log line, is
    /// an event.
    ///
    /// # Errors
    /// A file that stays unreadable, or is complete and holds no exit code.
    pub(crate) fn look(&mut self, now: Instant, shared: &Shared<'_>, watch: &mut Watch) -> Result<Reading, Error> {
        let is_watched = self.watch.is_some() && !watch.must_look() && !self.may_be_gone;
        if self.code.is_none() && is_watched && !self.is_due {
            match self.again_at {
                None => return Ok(Reading::Later),
                Some(at) if at > now => return Ok(Reading::LaterBy(at.since(now))),
                Some(_) => {}
            }
        }
        let reading = self.look_now(now, shared, watch);
        self.is_due = reading.is_err();
        self.again_at = if let Ok(Reading::LaterBy(length)) = reading { Some(now.after(length)) } else { None };
        reading
    }

    fn look_now(&mut self, now: Instant, shared: &Shared<'_>, watch: &mut Watch) -> Result<Reading, Error> {
        if let Some(code) = self.code {
            return Ok(Reading::Code(code));
        }
        self.find_again(shared, watch);
        if let Some(length) = self.file.leave_alone_for(now) {
            return Ok(Reading::LaterBy(length));
        }
        let name = layout::base_name(File::ExitCode);
        let mut room = [0; EXIT_CODE_FILE_BYTES];
        let (mut again, mut is_abandoned);
        is_abandoned = false;
        let mut read = self.folder.read(name, &mut room);
        self.someone_runs = false;
        if matches!(read, Ok(None)) {
            match self.folder.lock_state() {
                LockState::Absent => {}
                LockState::Held => self.someone_runs = true,
                LockState::Free => {
                    // It may have been written between the two looks, just before the lock became free.
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
            // Nothing tells when a folder that has gone is made again.
            Reading::Later if self.may_be_gone && !watch.must_look() => Ok(Reading::LaterBy(LOOK_EVERY)),
            other => Ok(other),
        }
    }

    /// Returns whether this is the first report of what is wrong with its exit code.
    pub(crate) fn is_first_report(&mut self) -> bool {
        self.file.is_first_report()
    }
}

/// Watches a container's folder; gives the number of the watch.
pub(crate) fn watch_folder(shared: &Shared<'_>, name: &[u8], watch: &mut Watch, growth: bool) -> Option<i32> {
    let mut room = [0; PATH_BYTES];
    let path = shared.layout_of(name).path(File::Container, &mut room).ok()?;
    watch.add(path, growth)
}

/// Watches the folder in which containers' folders are made. The flat layout has none: its one folder is where the volume is mounted.
pub(crate) fn watch_parent(shared: &Shared<'_>, watch: &mut Watch) {
    let mut room = [0; PATH_BYTES];
    if shared.layout.kind == Kind::Pod
        && let Ok(path) = shared.layout.path(File::Containers, &mut room)
    {
        watch.add_parent(path);
    }
}
