//! Exit-code files of other containers: reading one that may still be written.

use emissary_core::exit::{self, Reading};
use emissary_core::layout::{self, File};
use emissary_core::limits::EXIT_CODE_FILE_BYTES;
use emissary_core::trust::Trust;

use super::folder::Folder;
use super::watch::Closed;
use crate::os::{clock, fs};
use crate::report::error::Error;

/// Milliseconds after which a signal or an exit code that could not be read is tried again.
pub(crate) const RETRY_MS: u64 = 100;

/// What is known of exit-code files that others write.
#[derive(Default)]
pub(crate) struct ExitCodes {
    /// Those that were seen to be closed.
    pub(crate) closed: Closed,
    /// Those that were not there when they were looked for first: they are complete when they are seen to be closed, and not before.
    absent: Closed,
    /// Containers whose exit code cannot be read.
    failing: Vec<Failing>,
}

/// A container whose exit code cannot be read.
pub(crate) struct Failing {
    container: Vec<u8>,
    since_ms: u64,
    pub(crate) is_said: bool,
}

/// Milliseconds after which a cause that may pass is taken to stay.
const BORNE_MS: u64 = 5_000;

impl ExitCodes {
    /// Adds what happened since.
    pub(crate) fn note(&mut self, change: Closed) {
        self.closed.add(change);
        if change.is_partial {
            // That one was closed may be among what is unseen: its age decides.
            self.absent = Closed::default();
        }
    }

    /// Takes an error whose cause may pass for a file that is to be read later, for some seconds: a container that has ended well must not be taken for one
    /// that left no code.
    ///
    /// # Errors
    /// Those that stay, again and again.
    pub(crate) fn bear(&mut self, container: &[u8], reading: Result<Reading, Error>) -> Result<Reading, Error> {
        let error = match reading {
            Ok(reading) => {
                self.failing.retain(|failing| failing.container != container);
                return Ok(reading);
            }
            Err(error) => error,
        };
        let now_ms = clock::monotonic_ms();
        let since_ms = self.failing(container).map(|failing| failing.since_ms).unwrap_or_else(|| {
            self.failing.push(Failing { container: container.to_vec(), since_ms: now_ms, is_said: false });
            now_ms
        });
        let may_pass = error.errno.is_some_and(fs::is_passing);
        if may_pass && now_ms < since_ms.saturating_add(BORNE_MS) { Ok(Reading::LaterBy(RETRY_MS)) } else { Err(error) }
    }

    pub(crate) fn failing(&mut self, container: &[u8]) -> Option<&mut Failing> {
        self.failing.iter_mut().find(|failing| failing.container == container)
    }

    /// Reads the exit code in a container's folder. `watch` is the number of the watch on it, where nothing of it goes unseen.
    ///
    /// # Errors
    /// A file that cannot be read, or is complete and holds no exit code.
    pub(crate) fn read(&mut self, folder: &Folder, watch: Option<i32>) -> Result<Reading, Error> {
        let name = layout::base_name(File::ExitCode);
        let mut room = [0; EXIT_CODE_FILE_BYTES];
        let Some((bytes, age_ms)) = folder.read(name, &mut room)? else {
            self.absent.insert(watch);
            return Ok(Reading::Later);
        };
        let trust = match () {
            () if self.closed.has(watch) => Trust::Closed,
            () if self.absent.has(watch) => Trust::Open,
            () => Trust::Age(age_ms),
        };
        exit::read(bytes, trust).map_err(|cause| Error::because(&[&folder.path_of(name)], &|out| cause.describe(out)))
    }
}
