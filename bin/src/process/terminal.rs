//! Gives the command a terminal of its own if emissary's stdin is a terminal.
//!
//! Enters: the keys, the size and the settings of emissary's own terminal. Leaves: the same keys, size and settings on a pseudo-terminal (pty(7),
//! termios(3)), where the command leads a session of its own. So job control works if the command is a shell. Refuses: a system on which no
//! pseudo-terminal can be made, for example without `/dev/pts`.
//!
//! While the command runs, emissary's own terminal is raw. Every key passes through, and the command's terminal decides what ^C and ^Z mean. Emissary
//! restores the settings at every exit except by SIGKILL.
//!
//! If stdin is no terminal but emissary has a controlling terminal, [`Foreground`] makes the command's process group the foreground group of that
//! terminal in place of emissary's own group (tcsetpgrp(3)).

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

/// Most bytes of input on their way at once.
const INPUT_BYTES: usize = 1024;

/// Our end of the command's terminal.
pub(crate) struct Terminal {
    master: OwnedFd,
    /// The command's end. We keep it open until the command has ended: while no process has it open, the kernel reports a hang-up on the master,
    /// although the command may open `/dev/tty` later.
    slave: Option<OwnedFd>,
    /// Our process group is in the foreground of our own terminal. That terminal is raw, and its input goes to the command.
    is_in_foreground: bool,
    /// Our stdout is on the terminal, so all output of the command passes through the pseudo-terminal, which formats it. Our own terminal then does
    /// no output processing.
    shows_output: bool,
    /// Becomes ready once for each line that is typed while our own terminal belongs to another process group.
    typed_lines: Option<OwnedFd>,
    input: [u8; INPUT_BYTES],
    pending: core::ops::Range<usize>,
}

impl Terminal {
    /// Makes a pseudo-terminal with the settings, the size and the owner of our own terminal, and makes our own terminal raw.
    ///
    /// If our stdout is no terminal (`shows_output` is false), other processes may write to our terminal directly. Our terminal then keeps its output
    /// processing.
    ///
    /// # Errors
    /// The system's error, for example if `/dev/pts` is not mounted.
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
        let mut terminal =
            Self { master, slave, is_in_foreground: false, shows_output, typed_lines: None, input: [0; INPUT_BYTES], pending: 0..0 };
        terminal.apply_settings(settings).map_err(error)?;
        terminal.resize();
        terminal.check_foreground();
        Ok(terminal)
    }

    /// Gives our terminal's settings to the command's terminal.
    fn apply_settings(&self, mut settings: Termios) -> Result<(), Errno> {
        if !self.shows_output {
            // Our own terminal does the output processing.
            settings.output_modes.remove(OutputModes::OPOST);
        }
        self.slave().map_or(Ok(()), |slave| rustix::termios::tcsetattr(slave, OptionalActions::Now, &settings))
    }

    /// Returns the command's end of the pseudo-terminal.
    pub(crate) fn slave(&self) -> Option<BorrowedFd<'_>> {
        self.slave.as_ref().map(AsFd::as_fd)
    }

    /// Closes our copy of the command's end. Call it once the command has ended.
    pub(crate) fn close_slave(&mut self) {
        self.slave = None;
    }

    /// Duplicates our end, to read the command's output from it.
    ///
    /// # Errors
    /// The error of fcntl(2).
    pub(crate) fn output(&self) -> Result<OwnedFd, Error> {
        rustix::io::fcntl_dupfd_cloexec(&self.master, 3).map_err(|errno| Error::new("make a", b"pseudo-terminal", errno))
    }

    /// Makes our own terminal raw if our process group is in its foreground; otherwise leaves it alone. Call it again after a stop, because a shell
    /// may have changed the settings meanwhile.
    #[inline(never)]
    pub(crate) fn check_foreground(&mut self) {
        let stdin = rustix::stdio::stdin();
        self.is_in_foreground = is_ours(stdin);
        if !self.is_in_foreground {
            // A shell may put us in the foreground without a signal. A typed line makes us look again.
            self.typed_lines = self.typed_lines.take().or_else(watch_typed_lines);
            return;
        }
        let Ok(now) = rustix::termios::tcgetattr(stdin) else { return };
        if terminal::kept().is_none() {
            terminal::keep(&now);
            // While we were in the background, the settings were those of the shell's own line editor.
            let _ = self.apply_settings(now.clone());
        }
        if now.local_modes.contains(LocalModes::ICANON) {
            self.forward_typed_lines(&now);
        }
        let Some(kept) = terminal::kept() else { return };
        let mut raw = kept.clone();
        raw.make_raw();
        if !self.shows_output {
            raw.output_modes = kept.output_modes;
        }
        let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw);
    }

    /// Forwards what was typed before our own terminal became raw. Reads it in line mode, so that each line and each end of input stays as it was
    /// typed.
    fn forward_typed_lines(&mut self, settings: &Termios) {
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

    /// Copies our terminal's size to the command's terminal. The kernel then sends SIGWINCH to the command.
    pub(crate) fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    /// Adds the descriptors to poll: our own terminal, the command's terminal if input is pending, and typed lines in the background.
    pub(crate) fn poll_for<'f>(&'f self, set: &mut PollSet<'f>) {
        let reads = self.is_in_foreground && self.pending.is_empty();
        set.push(rustix::stdio::stdin(), if reads { PollFlags::IN } else { PollFlags::empty() });
        if !self.pending.is_empty() {
            set.push(self.master.as_fd(), PollFlags::OUT);
        }
        if let Some(typed) = self.typed_lines.as_ref().filter(|_| !self.is_in_foreground) {
            set.push(typed.as_fd(), PollFlags::IN);
        }
    }

    /// Passes typed input on to the command. Returns whether our own terminal was hung up.
    pub(crate) fn pump(&mut self) -> bool {
        if !self.is_in_foreground && self.typed_lines.as_ref().is_some_and(was_typed) {
            self.check_foreground();
        }
        let stdin = rustix::stdio::stdin();
        let ready = ready(stdin);
        if self.pending.is_empty() && self.is_in_foreground && ready == PollFlags::IN {
            match rustix::io::read(stdin, &mut self.input) {
                Ok(read) => self.pending = 0..read,
                Err(Errno::INTR | Errno::AGAIN) => {}
                // The terminal now belongs to another process group.
                Err(_) => self.check_foreground(),
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

/// Returns the events that are ready on a terminal now.
fn ready(fd: BorrowedFd<'_>) -> PollFlags {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll::poll(&mut fds, Some(&now)).map_or(PollFlags::empty(), |_| fds[0].revents())
}

/// Makes a descriptor that is ready once for each line that is typed on our stdin, whichever process reads that line. Polling stdin itself would wake
/// us continuously until the line is read.
#[inline(never)]
fn watch_typed_lines() -> Option<OwnedFd> {
    let typed = epoll::create(epoll::CreateFlags::CLOEXEC).ok()?;
    let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&typed, rustix::stdio::stdin(), epoll::EventData::new_u64(0), events).ok()?;
    Some(typed)
}

/// Returns whether a line was typed since the last call.
fn was_typed(typed: &OwnedFd) -> bool {
    let mut room = [const { MaybeUninit::uninit() }; 1];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(typed, &mut room, Some(&now)).is_ok_and(|(events, _)| !events.is_empty())
}

/// Our controlling terminal, if the command has no terminal of its own. The command's process group takes our place in its foreground.
pub(crate) struct Foreground {
    tty: OwnedFd,
}

impl Foreground {
    /// Opens our controlling terminal, if we have one. `on_stdin` says that stdin is that terminal.
    #[inline(never)]
    pub(crate) fn open(on_stdin: bool) -> Option<Self> {
        let tty = if on_stdin {
            rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        } else {
            fs::open_at(CWD, c"/dev/tty", OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK, 0)
        };
        tty.ok().map(|tty| Self { tty })
    }

    /// Returns the terminal if our process group is in its foreground now.
    pub(crate) fn to_hand_over(&self) -> Option<BorrowedFd<'_>> {
        own_group().is_some_and(|own| self.is_foreground(own)).then_some(self.tty.as_fd())
    }

    fn is_foreground(&self, group: Pid) -> bool {
        rustix::termios::tcgetpgrp(&self.tty) == Ok(group)
    }

    /// Moves the foreground from one process group to another. This works from the background too, because SIGTTOU is blocked.
    fn move_foreground(&self, from: Pid, to: Pid) -> bool {
        self.is_foreground(from) && rustix::termios::tcsetpgrp(&self.tty, to).is_ok()
    }

    /// Gives the foreground to the command, if we have it. Call it when the command continues.
    pub(crate) fn hand_over(&self, command: Pid) {
        if let Some(own) = own_group() {
            self.move_foreground(own, command);
        }
    }

    /// Takes the foreground back, if the command had it. Call it when the command has ended or stopped.
    pub(crate) fn take_back(&self, command: Pid) -> bool {
        own_group().is_some_and(|own| self.move_foreground(command, own))
    }

    /// Handles a stop of the command. If the terminal stopped the command, emissary stops its own process group too, until a shell continues it.
    /// Returns whether the command must be continued at once.
    pub(crate) fn suspend(&self, command: Pid, by: Signal) -> bool {
        let had_foreground = match by {
            Signal::TSTP | Signal::TTIN | Signal::TTOU => self.take_back(command),
            _ => return false,
        };
        // The terminal sends SIGTSTP only to its foreground group. In the background a process sent it, and emissary goes on.
        if by != Signal::TSTP || had_foreground {
            signals::suspend();
            self.hand_over(command);
        }
        had_foreground
    }
}
