//! Watching the protocol's folders for files that appear (inotify(7)).
//!
//! Where inotify is exhausted or refuses a folder, folders are looked at every 100 ms instead, and that is said once.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::layout::{self, File};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::report::console::Console;
use crate::report::error::Error;

/// Milliseconds between two looks at a folder that cannot be watched.
const LOOK_EVERY_MS: u64 = 100;

/// The watched folders in which an exit-code file, or a signal file, was closed by its writer or renamed into place, and so is complete: a bit for each
/// watch. Past the 64th nothing is known, and the file's age decides.
#[derive(Clone, Copy, Default)]
pub(crate) struct Closed {
    exit_codes: u64,
    signals: u64,
    /// More happened than the kernel keeps: some of it may be unseen.
    pub(crate) is_partial: bool,
}

impl Closed {
    fn bit(watch: i32) -> u64 {
        u32::try_from(watch).ok().and_then(|at| 1_u64.checked_shl(at)).unwrap_or(0)
    }

    /// Adds what happened since.
    pub(crate) fn add(&mut self, more: Self) {
        self.exit_codes |= more.exit_codes;
        self.signals |= more.signals;
    }

    /// Adds one folder's exit code.
    pub(crate) fn insert(&mut self, watch: Option<i32>) {
        self.exit_codes |= watch.map_or(0, Self::bit);
    }

    /// Whether it happened to the exit code in the folder of this watch.
    pub(crate) fn has(self, watch: Option<i32>) -> bool {
        watch.is_some_and(|watch| self.exit_codes & Self::bit(watch) != 0)
    }

    /// Whether it happened to the signal file there; counts it as told.
    pub(crate) fn takes_signal(&mut self, watch: Option<i32>) -> bool {
        let bit = watch.map_or(0, Self::bit);
        let had = self.signals & bit != 0;
        self.signals &= !bit;
        had
    }
}

/// Folders that are watched for files which appear complete: closed after writing, or renamed into place.
pub(crate) struct Watch {
    fd: Option<OwnedFd>,
    must_look: bool,
    console: Console,
}

impl Watch {
    /// A watch on nothing, which costs nothing yet.
    pub(crate) const fn new(console: Console) -> Self {
        Self { fd: None, must_look: false, console }
    }

    fn fall_back(&mut self, error: &Error) {
        if !self.must_look {
            self.must_look = true;
            self.console.warn(&[&error.text, b"; looking every 100 ms instead"]);
        }
    }

    /// Watches a folder; with `growth`, writes to its files count too. Gives the number of the watch, the same each time for one folder.
    pub(crate) fn add(&mut self, folder: &CStr, growth: bool) -> Option<i32> {
        if self.fd.is_none() && !self.must_look {
            match rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
                Ok(fd) => self.fd = Some(fd),
                Err(errno) => self.fall_back(&Error::new("watch", b"folders with inotify", errno)),
            }
        }
        let fd = self.fd.as_ref()?;
        let mut flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        if growth {
            flags |= WatchFlags::MODIFY;
        }
        match rustix::fs::inotify::add_watch(fd, folder, flags) {
            Ok(watch) => Some(watch),
            Err(errno) => {
                self.fall_back(&Error::new("watch the folder", folder.to_bytes(), errno));
                None
            }
        }
    }

    /// Takes the events that are waiting; `None` where there is no reason to look.
    pub(crate) fn take(&self) -> Option<Closed> {
        let mut closed = self.must_look.then(Closed::default);
        if let Some(fd) = &self.fd {
            let mut room = [MaybeUninit::uninit(); 1024];
            let mut reader = Reader::new(fd, &mut room);
            while let Ok(event) = reader.next() {
                let seen = closed.get_or_insert_default();
                seen.is_partial |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                if event.events().contains(ReadFlags::MODIFY) {
                    continue;
                }
                if event.file_name() == Some(layout::base_name(File::ExitCode)) {
                    seen.exit_codes |= Closed::bit(event.wd());
                } else if event.file_name() == Some(layout::base_name(File::Signal)) {
                    seen.signals |= Closed::bit(event.wd());
                }
            }
        }
        closed
    }

    /// The descriptor to poll, where there is one.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Whether changes may go unseen.
    pub(crate) fn must_look(&self) -> bool {
        self.must_look
    }

    /// When to look again although nothing happened.
    pub(crate) fn look_at_ms(&self, now_ms: u64) -> Option<u64> {
        self.must_look.then(|| now_ms.saturating_add(LOOK_EVERY_MS))
    }
}
