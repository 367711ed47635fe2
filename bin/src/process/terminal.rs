//! A pseudo-terminal between our own and the command's, where stdin is a terminal.
//!
//! The command leads a session of its own on a terminal of the same size and settings, so that job control works in a shell. Ours is raw meanwhile:
//! every key goes through, and what ^C and ^Z mean is decided on the command's side. It gets its settings back at every end.
//!
//! Where stdin is none and we have one all the same, the command is in its foreground in our place ([`Foreground`]).

use core::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::signal::Signal;
use rustix::event::{PollFlags, epoll};
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios};

use super::events::PollSet;
use crate::os::terminal::{self, is_ours, own_group};
use crate::os::{fs, poll, signals};
use crate::report::error::Error;

/// Bytes of input that are on their way at once.
const INPUT_BYTES: usize = 1024;

/// Our end of the command's terminal.
pub(crate) struct Terminal {
    master: OwnedFd,
    /// The command's end, open here too until it has ended: whenever nobody has it, the master says that it is over, which a command that opens
    /// `/dev/tty` later would not agree with.
    slave: Option<OwnedFd>,
    /// We are in the foreground of our own: it is raw, and what is typed is the command's.
    is_ours: bool,
    /// Everything that the command writes goes through here, so that ours has nothing to make of it.
    shows_output: bool,
    /// Tells once of each line that is typed while ours belongs to another process group.
    typed: Option<OwnedFd>,
    input: [u8; INPUT_BYTES],
    pending: core::ops::Range<usize>,
}

impl Terminal {
    /// Makes one with the settings, the size and the owner of our own, and takes ours; the other end is the command's. Where our stdout is no terminal
    /// (`shows_output`), others may write to it behind us, and lines end on ours as before.
    ///
    /// # Errors
    /// What the system says, for example where `/dev/pts` is not mounted.
    #[inline(never)]
    pub(crate) fn open(shows_output: bool) -> Result<Self, Error> {
        let error = |errno| Error::new("make a", b"pseudo-terminal", errno);
        let stdin = rustix::stdio::stdin();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).map_err(error)?;
        rustix::pty::grantpt(&master).and_then(|()| rustix::pty::unlockpt(&master)).map_err(error)?;
        let slave = terminal::peer(master.as_fd(), flags).map_err(error)?;
        fs::resemble(stdin, slave.as_fd());
        let settings = rustix::termios::tcgetattr(stdin).map_err(error)?;
        fs::do_not_block(master.as_fd()).map_err(error)?;
        let slave = Some(slave);
        let mut terminal = Self { master, slave, is_ours: false, shows_output, typed: None, input: [0; INPUT_BYTES], pending: 0..0 };
        terminal.adopt(settings).map_err(error)?;
        terminal.resize();
        terminal.look_again();
        Ok(terminal)
    }

    /// Gives the command's terminal these settings of ours.
    fn adopt(&self, mut settings: Termios) -> Result<(), Errno> {
        if !self.shows_output {
            // Ours does it.
            settings.output_modes.remove(OutputModes::OPOST);
        }
        self.slave().map_or(Ok(()), |slave| rustix::termios::tcsetattr(slave, OptionalActions::Now, &settings))
    }

    /// The command's end.
    pub(crate) fn slave(&self) -> Option<BorrowedFd<'_>> {
        self.slave.as_ref().map(AsFd::as_fd)
    }

    /// The command has ended: its end is no longer held open.
    pub(crate) fn let_go(&mut self) {
        self.slave = None;
    }

    /// A second descriptor of our end, to read the command's output from.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn output(&self) -> Result<OwnedFd, Error> {
        rustix::io::fcntl_dupfd_cloexec(&self.master, 3).map_err(|errno| Error::new("make a", b"pseudo-terminal", errno))
    }

    /// Takes our own terminal if we are in its foreground, and lets it alone if we are not; again after a stop, in which a shell may have changed it.
    #[inline(never)]
    pub(crate) fn look_again(&mut self) {
        let stdin = rustix::stdio::stdin();
        self.is_ours = is_ours(stdin);
        if !self.is_ours {
            // It may come to us without a signal.
            self.typed = self.typed.take().or_else(watch_keys);
            return;
        }
        let Ok(now) = rustix::termios::tcgetattr(stdin) else { return };
        if terminal::kept().is_none() {
            terminal::keep(&now);
            // In the background they were those that a shell edits its lines with.
            let _ = self.adopt(now.clone());
        }
        if now.local_modes.contains(LocalModes::ICANON) {
            self.take_lines(&now);
        }
        let Some(kept) = terminal::kept() else { return };
        let mut raw = kept.clone();
        raw.make_raw();
        if !self.shows_output {
            raw.output_modes = kept.output_modes;
        }
        let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw);
    }

    /// Passes on what was typed while ours was not raw: read as lines, so that each ends as it did there.
    fn take_lines(&mut self, settings: &Termios) {
        let code = |index| settings.special_codes[index];
        while self.pending.is_empty() && ready(rustix::stdio::stdin()) == PollFlags::IN {
            let room = INPUT_BYTES - 1;
            let Ok(mut read) = rustix::io::read(rustix::stdio::stdin(), &mut self.input[..room]) else { return };
            let ends = [b'\n', code(SpecialCodeIndex::VEOL), code(SpecialCodeIndex::VEOL2)];
            if read < room && !self.input[..read].last().is_some_and(|last| ends.contains(last)) {
                self.input[read] = code(SpecialCodeIndex::VEOF);
                read += 1;
            }
            self.pending = 0..read;
            self.send();
        }
    }

    /// Gives the command's terminal the size of ours; the kernel tells the command.
    pub(crate) fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    /// Adds what is waited for: input, room for it, or our own terminal's end.
    pub(crate) fn poll_for<'f>(&'f self, set: &mut PollSet<'f>) {
        let reads = self.is_ours && self.pending.is_empty();
        set.push(rustix::stdio::stdin(), if reads { PollFlags::IN } else { PollFlags::empty() });
        if !self.pending.is_empty() {
            set.push(self.master.as_fd(), PollFlags::OUT);
        }
        if let Some(typed) = self.typed.as_ref().filter(|_| !self.is_ours) {
            set.push(typed.as_fd(), PollFlags::IN);
        }
    }

    /// Passes on what was typed. Says whether our own terminal was hung up.
    pub(crate) fn pump(&mut self) -> bool {
        if !self.is_ours && self.typed.as_ref().is_some_and(was_typed) {
            self.look_again();
        }
        let stdin = rustix::stdio::stdin();
        let ready = ready(stdin);
        if self.pending.is_empty() && self.is_ours && ready == PollFlags::IN {
            match rustix::io::read(stdin, &mut self.input) {
                Ok(read) => self.pending = 0..read,
                Err(Errno::INTR | Errno::AGAIN) => {}
                // It belongs to another process group now.
                Err(_) => self.look_again(),
            }
        }
        self.send();
        ready.intersects(PollFlags::HUP | PollFlags::ERR)
    }

    fn send(&mut self) {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.master, &self.input[self.pending.clone()]) {
                Ok(written) => self.pending.start += written,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pending = 0..0,
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        terminal::restore();
    }
}

/// What a terminal is ready for at this moment.
fn ready(fd: BorrowedFd<'_>) -> PollFlags {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll::poll(&mut fds, Some(&now)).map_or(PollFlags::empty(), |_| fds[0].revents())
}

/// A descriptor that is ready once for each line that is typed on our stdin, whoever reads it: to poll that one would be to be woken until then.
#[inline(never)]
fn watch_keys() -> Option<OwnedFd> {
    let typed = epoll::create(epoll::CreateFlags::CLOEXEC).ok()?;
    let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&typed, rustix::stdio::stdin(), epoll::EventData::new_u64(0), events).ok()?;
    Some(typed)
}

/// Whether a line was typed since the last call.
fn was_typed(typed: &OwnedFd) -> bool {
    let mut room = [const { MaybeUninit::uninit() }; 1];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(typed, &mut room, Some(&now)).is_ok_and(|(events, _)| !events.is_empty())
}

/// Our controlling terminal, where the command has none of its own: it is in the foreground while we would be.
pub(crate) struct Foreground {
    tty: OwnedFd,
}

impl Foreground {
    /// The terminal that controls us, if there is one; `on_stdin` says that it is there.
    #[inline(never)]
    pub(crate) fn open(on_stdin: bool) -> Option<Self> {
        let tty = if on_stdin {
            rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        } else {
            fs::open_at(CWD, c"/dev/tty", OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK, 0)
        };
        tty.ok().map(|tty| Self { tty })
    }

    /// It, if we are in the foreground now.
    pub(crate) fn to_hand_over(&self) -> Option<BorrowedFd<'_>> {
        own_group().is_some_and(|own| self.is_of(own)).then_some(self.tty.as_fd())
    }

    fn is_of(&self, group: Pid) -> bool {
        rustix::termios::tcgetpgrp(&self.tty) == Ok(group)
    }

    /// Gives one group's place in the foreground to another: that SIGTTOU is blocked allows it from the background, too.
    fn pass(&self, from: Pid, to: Pid) -> bool {
        self.is_of(from) && rustix::termios::tcsetpgrp(&self.tty, to).is_ok()
    }

    /// The command goes on: it has the foreground if we have.
    pub(crate) fn hand_over(&self, command: Pid) {
        if let Some(own) = own_group() {
            self.pass(own, command);
        }
    }

    /// The command has ended: we are where it was.
    pub(crate) fn take_back(&self, command: Pid) -> bool {
        own_group().is_some_and(|own| self.pass(command, own))
    }

    /// The command was stopped. If the terminal did that, we stop too, until a shell lets both go on. Says whether the command is to go on at once.
    pub(crate) fn suspend(&self, command: Pid, by: Signal) -> bool {
        let was_there = match by {
            Signal::TSTP | Signal::TTIN | Signal::TTOU => self.take_back(command),
            _ => return false,
        };
        // In the background it is a person who sends SIGTSTP.
        if by != Signal::TSTP || was_there {
            signals::suspend();
            self.hand_over(command);
        }
        was_there
    }
}
