//! Watches folders of the shared volume for files that appear (inotify(7)).
//!
//! Enters: paths of folders. Leaves: changes, each with the number of its watch. Refuses nothing: if inotify is exhausted or refuses a folder, a
//! warning is printed once, and the caller must look at the folders every 100 ms instead.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::layout::{self, File};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::os::errno::refused;
use crate::report::console::Console;
use crate::report::error::Error;

/// The kind of change to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileEvent {
    /// The writer has closed the file, or has renamed it into place.
    Complete,
    /// The file has appeared: it was made or linked.
    Created,
    /// A process has opened the file.
    Opened,
}

/// A change in a watched folder. The number is that of the watch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The exit-code file has changed.
    ExitCode(i32, FileEvent),
    /// The signal file has changed.
    Signal(i32, FileEvent),
    /// The kernel's queue was full, so some changes are lost.
    Overflow,
    /// The folder was removed, or its file system was unmounted. The watch is over.
    Gone(i32),
    /// One of our own files was removed. That happens to a folder's files before the folder is removed.
    Deleted(i32),
    /// A container's folder has appeared or gone.
    Folders,
    /// A file was written to: a log, where that is watched.
    Grown(i32),
    /// Anything else in the folder of this watch.
    Other(i32),
}

/// An inotify descriptor with its watches, or the fallback for it.
pub(crate) struct Watch {
    fd: Option<OwnedFd>,
    /// The watch on the folder that holds all containers' folders.
    parent: Option<i32>,
    must_look: bool,
    console: Console,
}

impl Watch {
    /// Makes a watch on nothing. It opens no descriptor yet.
    pub(crate) const fn new(console: Console) -> Self {
        Self { fd: None, parent: None, must_look: false, console }
    }

    fn fall_back(&mut self, error: &Error) {
        if !self.must_look {
            self.must_look = true;
            self.console.warn(&[&error.text, b"; looking every 100 ms instead"]);
        }
    }

    /// Watches a folder. With `growth`, each write to its files is a change too. Returns the number of the watch, which is always the same for one
    /// folder.
    pub(crate) fn add(&mut self, folder: &CStr, growth: bool) -> Option<i32> {
        if self.fd.is_none() && !self.must_look {
            match rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|errno| refused(c"inotify_init1", errno))
            {
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

    /// Stops to watch a folder.
    pub(crate) fn remove(&self, watch: i32) {
        if let Some(fd) = self.fd.as_ref().filter(|_| self.parent != Some(watch)) {
            let _ = rustix::fs::inotify::remove_watch(fd, watch);
        }
    }

    /// Watches the folder that holds all containers' folders. If the kernel refuses that, we do not notice a container's folder that is made again.
    pub(crate) fn add_parent(&mut self, folder: &CStr) {
        if let Some(fd) = self.fd.as_ref().filter(|_| self.parent.is_none()) {
            let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR;
            self.parent = rustix::fs::inotify::add_watch(fd, folder, flags).ok();
        }
    }

    /// Hands each waiting change to `each`.
    pub(crate) fn take(&self, each: &mut dyn FnMut(Change)) {
        let Some(fd) = &self.fd else { return };
        let mut room = [MaybeUninit::uninit(); 1024];
        let mut reader = Reader::new(fd, &mut room);
        while let Ok(event) = reader.next() {
            let name = event.file_name();
            let events = event.events();
            let what = if events.contains(ReadFlags::OPEN) {
                FileEvent::Opened
            } else if events.contains(ReadFlags::CREATE) {
                FileEvent::Created
            } else {
                FileEvent::Complete
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
                // An open changes nothing, and we open files ourselves.
                _ if what == FileEvent::Opened => continue,
                _ => Change::Other(event.wd()),
            });
        }
    }

    /// Returns the descriptor to poll, if there is one.
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Returns whether changes may go unseen, so that the caller must look every 100 ms.
    pub(crate) fn must_look(&self) -> bool {
        self.must_look
    }
}
