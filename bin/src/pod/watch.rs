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

/// Something that happened in a watched folder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The writer of an exit-code file has closed it or renamed it into place, in the folder of this watch.
    ExitCode(i32),
    /// The same for a signal file.
    Signal(i32),
    /// More happened than the kernel keeps: some of it may be unseen.
    Overflow,
    /// Anything else.
    Other,
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

    /// Takes the events that are waiting.
    pub(crate) fn take(&self, each: &mut dyn FnMut(Change)) {
        let Some(fd) = &self.fd else { return };
        let mut room = [MaybeUninit::uninit(); 1024];
        let mut reader = Reader::new(fd, &mut room);
        while let Ok(event) = reader.next() {
            let name = event.file_name();
            each(match event.events() {
                events if events.contains(ReadFlags::QUEUE_OVERFLOW) => Change::Overflow,
                events if events.contains(ReadFlags::MODIFY) => Change::Other,
                _ if name == Some(layout::base_name(File::ExitCode)) => Change::ExitCode(event.wd()),
                _ if name == Some(layout::base_name(File::Signal)) => Change::Signal(event.wd()),
                _ => Change::Other,
            });
        }
    }

    /// The descriptor to poll, where there is one.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Whether changes may go unseen.
    pub(crate) fn must_look(&self) -> bool {
        self.must_look
    }
}
