//! What the command line asks of a role, as plain data.
//!
//! `command_line` fills these types from the arguments, and the roles read them. Nothing here reads a file or refuses a value.

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

/// Settings that every role gets.
pub(crate) struct Common<'a> {
    pub(crate) personality: Personality,
    pub(crate) console: Console,
    pub(crate) place: Place<'a>,
    /// The arguments ask to run a command, even if they hold a mistake. Another container may wait for that command's exit code.
    pub(crate) is_run: bool,
}

/// Flags of `wait`.
#[derive(Default)]
pub(crate) struct WaitFlags {
    pub(crate) follow: bool,
    pub(crate) json: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) grace: Option<Duration>,
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
}
