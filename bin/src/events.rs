//! Kernel events: signals as a descriptor, changes of folders through inotify, and one poll over both and the command's pipes.
//!
//! Nothing wakes us but an event. Where inotify is exhausted or refuses a folder, folders are looked at every 100 ms instead, and that is said
//! once.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::layout::{self, File};
use emissary_core::signal::{Origin, Signal};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;

use crate::console::Console;
use crate::error::Error;
use crate::files;
use crate::sys;

/// Milliseconds between two looks at a folder that cannot be watched.
const LOOK_EVERY_MS: u64 = 100;

/// Makes sure that descriptors 0 to 2 are taken, so that nothing we open gets one of them. What fills a gap closes at execve: the
/// command finds closed what we found closed.
pub(crate) fn occupy_standard_descriptors() {
    let mut fds = [
        PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::empty()),
        PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::empty()),
        PollFd::from_borrowed_fd(rustix::stdio::stderr(), PollFlags::empty()),
    ];
    let _ = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    for fd in &fds {
        if fd.revents().contains(PollFlags::NVAL)
            // The lowest free number is this one. A path descriptor needs no device, and fails at every read and write.
            && let Ok(filler) = files::open_at(CWD, c"/", OFlags::PATH, 0)
        {
            core::mem::forget(filler);
        }
    }
}

/// Signals that were sent to us.
pub(crate) struct Signals {
    fd: OwnedFd,
    own_pid: u32,
}

impl Signals {
    /// Starts to receive them; they are all blocked already.
    ///
    /// # Errors
    /// What signalfd(2) says.
    pub(crate) fn new() -> Result<Self, Error> {
        let fd = sys::signal_descriptor().map_err(|errno| Error::new("make a", b"signal descriptor", errno))?;
        Ok(Self { fd, own_pid: rustix::process::getpid().as_raw_nonzero().get().unsigned_abs() })
    }

    /// The next one that is waiting and is either to be forwarded or SIGCHLD.
    pub(crate) fn next(&self) -> Option<Signal> {
        // struct signalfd_siginfo, signalfd(2): 128 bytes; ssi_signo at 0, ssi_code at 8, ssi_pid at 12.
        let mut record = [0; 128];
        loop {
            match rustix::io::read(&self.fd, &mut record) {
                Ok(128) => {}
                Err(Errno::INTR) => continue,
                _ => return None,
            }
            let word = |at: usize| u32::from_ne_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
            let origin = Origin::new(word(8).cast_signed(), word(12), self.own_pid);
            if let Some(signal) = Signal::new(u64::from(word(0)))
                && (signal == Signal::CHLD || signal.is_forwarded(origin))
            {
                return Some(signal);
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

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

/// Descriptors to wait for: signals, folders, three outputs, and a terminal's input.
const POLL_FDS: usize = 6;

/// What is waited for in one round.
pub(crate) struct PollSet<'f> {
    fds: [PollFd<'f>; POLL_FDS],
    count: usize,
}

impl<'f> PollSet<'f> {
    /// Waits for signals, and for what is added.
    pub(crate) fn new(signals: &'f Signals) -> Self {
        // What fills the array is cut off before it is polled.
        Self { fds: core::array::from_fn(|_| PollFd::new(signals, PollFlags::IN)), count: 1 }
    }

    /// Adds a descriptor.
    pub(crate) fn push(&mut self, fd: BorrowedFd<'f>, flags: PollFlags) {
        if let Some(slot) = self.fds.get_mut(self.count) {
            *slot = PollFd::from_borrowed_fd(fd, flags);
            self.count += 1;
        }
    }

    /// Waits until a descriptor is ready or a time has come.
    pub(crate) fn wait(mut self, now_ms: u64, until_ms: Option<u64>) {
        let timeout = until_ms.map(|until| {
            let left_ms = until.saturating_sub(now_ms);
            Timespec { tv_sec: i64::try_from(left_ms / 1_000).unwrap_or(i64::MAX), tv_nsec: ((left_ms % 1_000) * 1_000_000) as _ }
        });
        // EINTR cannot be: every signal is blocked. After any other error the next round shows what is ready, a moment later: it may last.
        if rustix::event::poll(&mut self.fds[..self.count], timeout.as_ref()).is_err() {
            let _ = rustix::event::poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
        }
    }
}
