//! What the command line asks a role for: plain data.

use emissary_core::timers::Duration;

use crate::pod::shared::Place;
use crate::report::console::Console;

/// Who we are called as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Personality {
    /// Under any other name.
    Emissary,
    /// As Argo's executor.
    Argoexec,
}

/// What every role knows.
pub(crate) struct Common<'a> {
    pub(crate) personality: Personality,
    pub(crate) console: Console,
    pub(crate) place: Place<'a>,
    /// The arguments ask for a command to be run, whatever is wrong with them: its exit code is waited for.
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
