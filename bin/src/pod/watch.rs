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

/// What happened to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Its writer has closed it, or renamed it into place.
    Complete,
    /// It has appeared: made, or linked.
    Created,
    /// A process has opened it.
    Opened,
}

/// Something that happened in a watched folder, by the number of its watch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// To the exit-code file.
    ExitCode(i32, What),
    /// To the signal file.
    Signal(i32, What),
    /// More happened than the kernel keeps: some of it may be unseen.
    Overflow,
    /// The folder was removed, or its file system was unmounted: it is watched no longer.
    Gone(i32),
    /// A file of ours was removed, as happens to a folder's files before the folder goes.
    Deleted(i32),
    /// A container's folder appeared or went.
    Folders,
    /// A file was written to: a log, where that is watched.
    Grown(i32),
    /// Anything else in the folder of this watch.
    Other(i32),
}

/// Folders that are watched for files which appear complete: closed after writing, or renamed into place.
pub(crate) struct Watch {
    fd: Option<OwnedFd>,
    /// The watch on the folder of containers' folders.
    parent: Option<i32>,
    must_look: bool,
    console: Console,
}

impl Watch {
    /// A watch on nothing, which costs nothing yet.
    pub(crate) const fn new(console: Console) -> Self {
        Self { fd: None, parent: None, must_look: false, console }
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
        let mut flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::CREATE
            | WatchFlags::OPEN
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
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

    /// Watches the folder of containers' folders for those that appear and go. Where that is refused, a folder that is made again is not noticed.
    pub(crate) fn add_parent(&mut self, folder: &CStr) {
        if let Some(fd) = self.fd.as_ref().filter(|_| self.parent.is_none()) {
            let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR;
            self.parent = rustix::fs::inotify::add_watch(fd, folder, flags).ok();
        }
    }

    /// Takes the events that are waiting.
    pub(crate) fn take(&self, each: &mut dyn FnMut(Change)) {
        let Some(fd) = &self.fd else { return };
        let mut room = [MaybeUninit::uninit(); 1024];
        let mut reader = Reader::new(fd, &mut room);
        while let Ok(event) = reader.next() {
            let name = event.file_name();
            let events = event.events();
            let what = if events.contains(ReadFlags::OPEN) {
                What::Opened
            } else if events.contains(ReadFlags::CREATE) {
                What::Created
            } else {
                What::Complete
            };
            each(match events {
                _ if events.contains(ReadFlags::QUEUE_OVERFLOW) => Change::Overflow,
                _ if events.contains(ReadFlags::IGNORED) => Change::Gone(event.wd()),
                _ if Some(event.wd()) == self.parent => Change::Folders,
                _ if events.contains(ReadFlags::DELETE) => {
                    let is_ours = [File::Lock, File::Template].into_iter().any(|file| name == Some(layout::base_name(file)));
                    if is_ours { Change::Deleted(event.wd()) } else { continue }
                }
                _ if events.contains(ReadFlags::MODIFY) => Change::Grown(event.wd()),
                _ if name == Some(layout::base_name(File::ExitCode)) => Change::ExitCode(event.wd(), what),
                _ if name == Some(layout::base_name(File::Signal)) => Change::Signal(event.wd(), what),
                // Who opens a file changes nothing; we do that ourselves.
                _ if what == What::Opened => continue,
                _ => Change::Other(event.wd()),
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
