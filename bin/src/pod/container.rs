//! Another container whose exit code is waited for: its folder, the watch on it, its exit-code file.

use emissary_core::exit::ExitCodeError;
use emissary_core::exit_file::{ExitFile, Look, Reading};
use emissary_core::layout::{self, File};
use emissary_core::limits::{EXIT_CODE_FILE_BYTES, PATH_BYTES};
use emissary_core::timers::Instant;

use super::folder::Folder;
use super::shared::Shared;
use super::watch::{Change, Watch};
use crate::os::fs;
use crate::report::error::Error;

/// A container that ends some time.
pub(crate) struct Container {
    pub(crate) name: Vec<u8>,
    pub(crate) folder: Folder,
    watch: Option<i32>,
    file: ExitFile,
    /// Its exit code, once it has one.
    pub(crate) code: Option<u8>,
}

impl Container {
    /// Opens a container's folder, which is made where it is missing, and watches it; with `growth`, writes to its files count as changes too.
    ///
    /// # Errors
    /// A folder that cannot be made or opened, by its path.
    pub(crate) fn open(shared: &Shared<'_>, name: &[u8], watch: &mut Watch, growth: bool) -> Result<Self, Error> {
        let folder = shared.container(name)?;
        let mut room = [0; PATH_BYTES];
        let path = shared.layout_of(name).path(File::Container, &mut room).ok();
        let watch = path.and_then(|path| watch.add(path, growth));
        Ok(Self { name: name.to_vec(), folder, watch, file: ExitFile::default(), code: None })
    }

    /// Takes in what happened in a watched folder.
    pub(crate) fn note(&mut self, change: Change) {
        match change {
            Change::ExitCode(watch) if Some(watch) == self.watch => self.file.note_closed(),
            Change::Overflow => self.file.note_overflow(),
            _ => {}
        }
    }

    /// Looks at its exit code, unless that is known.
    ///
    /// # Errors
    /// A file that stays unreadable, or is complete and holds no exit code.
    pub(crate) fn look(&mut self, now: Instant, watch: &Watch) -> Result<Reading, Error> {
        if let Some(code) = self.code {
            return Ok(Reading::Code(code));
        }
        let name = layout::base_name(File::ExitCode);
        let mut room = [0; EXIT_CODE_FILE_BYTES];
        let read = self.folder.read(name, &mut room);
        let look = match &read {
            Ok(None) => Look::Absent,
            Ok(Some((bytes, age_ms))) => Look::Bytes(bytes, *age_ms),
            Err(error) => Look::Unreadable { may_pass: error.errno.is_some_and(fs::is_passing) },
        };
        let is_watched = self.watch.is_some() && !watch.must_look();
        let reading = self.file.handle(now, is_watched, look);
        match (reading, read) {
            (Reading::Code(code), _) => self.code = Some(code),
            (Reading::Unreadable, Err(error)) => return Err(error),
            (Reading::Malformed, _) => {
                return Err(Error::because(&[&self.folder.path_of(name)], &|out| ExitCodeError::Malformed.describe(out)));
            }
            _ => {}
        }
        Ok(reading)
    }

    /// Returns whether this is the first report of what is wrong with its exit code.
    pub(crate) fn is_first_report(&mut self) -> bool {
        self.file.is_first_report()
    }
}
