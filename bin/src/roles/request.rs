//! What the command line asks of a role, as plain data.
//!
//! `command_line` fills these types from the arguments, and the roles read them. Nothing here reads a file or refuses a value.

use core::ffi::CStr;

use emissary_core::exit::Remaps;
use emissary_core::log::{Format, Level};
use emissary_core::signal::{Rewrites, Signal};
use emissary_core::timers::Duration;

use crate::pod::shared::Place;
use crate::report::console::Console;

/// The name under which the binary was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Personality {
    /// Any other name.
    Emissary,
    /// `argoexec`, the name of Argo's executor.
    Argoexec,
}

/// Another init in whose place the binary is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Tini,
    DumbInit,
    Catatonit,
}

impl Peer {
    /// The init with this name. Docker calls its copy of tini docker-init.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"tini" | b"tini-static" | b"docker-init" => Some(Self::Tini),
            b"dumb-init" => Some(Self::DumbInit),
            b"catatonit" => Some(Self::Catatonit),
            _ => None,
        }
    }
}

/// The exit code of a command that cannot be found or executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum StartCodes {
    /// 64, as Argo's executor has it.
    #[default]
    Own,
    /// 127 if the command is not found, else 126.
    Posix,
    /// 127 if the command is not found, 126 if it may not be executed, else 1.
    Tini,
    /// Always this one.
    Fixed(u8),
}

/// The process group in which the command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Group {
    /// A group of its own.
    #[default]
    Own,
    /// A session of its own.
    Session,
    /// Our group.
    Inherited,
}

/// Settings that every role gets.
pub(crate) struct Common<'a> {
    pub(crate) personality: Personality,
    pub(crate) console: Console,
    pub(crate) place: Place<'a>,
    /// How to run a command.
    pub(crate) run: RunFlags<'a>,
    /// A bit for each flag of [`crate::flags::Flag`] that the command line has.
    pub(crate) on_command_line: u64,
    /// The arguments ask to run a command, even if they hold a mistake. Another container may wait for that command's exit code.
    pub(crate) is_run: bool,
}

impl Common<'_> {
    /// The settings of a command line without flags.
    pub(crate) fn new(personality: Personality) -> Self {
        let (format, level) = match personality {
            Personality::Emissary => (Format::Plain, Level::Warn),
            Personality::Argoexec => (Format::Text, Level::Info),
        };
        let console = Console { format, level, descriptor: 2 };
        Self { personality, console, place: Place::default(), run: RunFlags::default(), on_command_line: 0, is_run: false }
    }
}

/// Flags of `run`.
#[derive(Default)]
pub(crate) struct RunFlags<'a> {
    /// Save no outputs.
    pub(crate) saves_nothing: bool,
    /// Whether to keep copies of the logs; `None` means that the layout and the template decide.
    pub(crate) keeps_logs: Option<bool>,
    /// Send signals to the command alone.
    pub(crate) signals_child: bool,
    pub(crate) rewrites: Rewrites,
    pub(crate) remaps: Remaps,
    pub(crate) start_codes: StartCodes,
    /// The init in whose place we are called. We then write nothing.
    pub(crate) peer: Option<Peer>,
    pub(crate) group: Group,
    /// Do not become a subreaper.
    pub(crate) is_no_subreaper: bool,
    /// Print a warning for each process that is reaped, but not for the command.
    pub(crate) warns_of_reaped: bool,
    /// After SIGTSTP, SIGTTIN and SIGTTOU, stop ourselves, too.
    pub(crate) stops_with_command: bool,
    /// A bit for each signal that the command line rewrites.
    pub(crate) is_rewritten: u64,
    /// SIGTERM to the command's process group when the command has ended.
    pub(crate) terms_group: bool,
    pub(crate) waits_for_descendants: bool,
    /// The signal that the kernel sends us when our parent ends.
    pub(crate) parent_death: Option<Signal>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Option<Duration>,
    pub(crate) cancel_file: Option<&'a CStr>,
    /// Exit with 0 although the command failed.
    pub(crate) continues_on_error: bool,
    pub(crate) pauses_on_failure: bool,
    pub(crate) wait_files: Vec<&'a CStr>,
    pub(crate) waits_for_content: bool,
    pub(crate) post_file: Option<&'a CStr>,
    /// A file with the exit code of an earlier step.
    pub(crate) previous_marker: Option<&'a CStr>,
}

/// Flags of `wait`.
#[derive(Default)]
pub(crate) struct WaitFlags {
    pub(crate) follow: bool,
    pub(crate) json: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Option<Duration>,
}

/// A shell that completes command lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// A page of help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    All,
    Run,
    Init,
    Wait,
    Signal,
    Kill,
    Check,
}
