//! The table of flags: the one source of the command line's parser, of the help, of the completions and of the manual page.
//!
//! Enters: nothing. Leaves: for each flag its name, its value, the roles that take it, and a line of help. A flag `--some-name` of `run` also has the
//! environment variable `EMISSARY_SOME_NAME`. Nothing is refused here.
//!
//! `xtask` and the fuzz targets compile this file, too. So it uses no other file.

/// Roles that take a flag, as bits.
pub(crate) const RUN: u16 = 1;
pub(crate) const INIT: u16 = 2;
pub(crate) const WAIT: u16 = 4;
pub(crate) const SIGNAL: u16 = 8;
pub(crate) const KILL: u16 = 16;
pub(crate) const VERSION: u16 = 32;
pub(crate) const CHECK: u16 = 64;
/// The roles that take the flags of every subcommand.
pub(crate) const ALL: u16 = RUN | INIT | WAIT | SIGNAL | KILL | CHECK;

/// The subcommands that help and completions name. `version`, `help` and `completions` are at the end.
pub(crate) const SUBCOMMANDS: &str = "run init wait signal kill check version help completions";

/// Returns the bits of the subcommand at a position of [`SUBCOMMANDS`].
pub(crate) fn roles_of(position: usize) -> u16 {
    [RUN, INIT, WAIT, SIGNAL, KILL, CHECK, VERSION].get(position).copied().unwrap_or(0)
}

macro_rules! flags {
    ($($flag:ident $roles:tt $name:literal $value:literal $help:literal;)*) => {
        /// A flag.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Flag {
            $($flag),*
        }

        /// Every flag, in the order of the table.
        const EVERY: &[Flag] = &[$(Flag::$flag),*];
        /// The roles that take each flag.
        const ROLES: &[u16] = &[$($roles),*];
        /// For each flag a line: name, value, help, with a tab between them.
        const HELP: &[u8] = concat!($($name, "\t", $value, "\t", $help, "\n"),*).as_bytes();
    };
}

flags! {
    Name ALL "--name" "NAME" "the container's name; selects the pod layout (ARGO_CONTAINER_NAME)";
    Dir ALL "--dir" "DIR" "the shared folder; default: /var/argo (flat), /var/run/argo (pod)";
    Layout ALL "--layout" "flat|pod" "the layout of the files; default: pod with a name, else flat";
    LogLevel ALL "--loglevel" "LEVEL" "least level of messages: debug, info, warn, error; default: warn";
    LogFormat ALL "--log-format" "plain|text|json" "the form of messages; default: plain";
    LogFd ALL "--log-fd" "N" "write messages to descriptor N instead of stderr";
    Verbose ALL "-v" "" "more messages: -v like --loglevel info, -vv and -vvv like debug";
    Quiet ALL "-q" "" "fewer messages, like --loglevel error";
    As RUN "--as" "NAME" "take the flags of tini, docker-init, dumb-init or catatonit; first flag";
    Outputs RUN "--outputs" "none|template" "which outputs to save; default: those of the template, if there is one";
    Logs RUN "--logs" "none|files" "keep copies of stdout and stderr, or none";
    SignalChild RUN "--signal-child" "" "send signals to the command alone, not to its process group";
    Rewrite RUN "--rewrite" "FROM:TO" "send signal TO in the place of FROM; 0 drops it; may be repeated";
    RemapExit RUN "--remap-exit" "N[:M]" "exit with M (0) in the place of N; the file keeps N; may be repeated";
    ExitCodes RUN "--exit-codes" "emissary|posix" "posix: 127 if the command is not found, 126 if it cannot run";
    TermGroupOnExit RUN "--term-group-on-exit" "" "when the command ends, send SIGTERM to the rest of its process group";
    WaitDescendants RUN "--wait-descendants" "" "end when the last descendant of the command has ended";
    ParentDeath RUN "--parent-death" "SIGNAL" "receive SIGNAL, and pass it on, when the parent of emissary ends";
    Timeout (RUN | WAIT) "--timeout" "DURATION" "end the command (wait: the containers) after this time: 300ms, 1h2m3.5s";
    Grace (RUN | WAIT) "--grace" "DURATION" "time from SIGTERM to SIGKILL at such an end; default: 30s";
    CancelFile RUN "--cancel-file" "PATH" "end the command when this file appears";
    OnError RUN "--on-error" "stop|continue" "continue: exit with 0 although the command failed; the file keeps the code";
    PauseOnFailure RUN "--pause-on-failure" "" "if the command fails, wait for the file `after`; it may hold another code";
    WaitFile RUN "--wait-file" "PATH" "start when PATH appears; PATH.err ends the run; or PATH,PATH…";
    WaitContent RUN "--wait-content" "" "--wait-file waits until the file is not empty";
    PostFile RUN "--post-file" "PATH" "make PATH at the end, PATH.err after a failure";
    PreviousMarker RUN "--previous-marker" "PATH" "start when PATH holds an exit code; one that is not 0 ends the run";
    Follow WAIT "--follow" "" "copy the captured logs to stdout and stderr as they grow (-f)";
    Json (WAIT | VERSION) "--json" "" "print one JSON object";
    Template INIT "--template" "FILE" "the template; `-` is stdin; default: ARGO_TEMPLATE";
    Create SIGNAL "--create" "" "make the folder of a container that is still to come";
}

impl Flag {
    /// Finds a flag by its name, such as `--timeout`.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        Self::find(&|known| known == name)
    }

    /// Finds a flag of `run` by the rest of its variable's name behind `EMISSARY_`, such as `SOME_NAME`.
    pub(crate) fn of_variable(rest: &[u8]) -> Option<Self> {
        let is_same = |(known, given): (&u8, &u8)| *given == if *known == b'-' { b'_' } else { known.to_ascii_uppercase() };
        let found = Self::find(&|known| {
            known.strip_prefix(b"--").is_some_and(|known| known.len() == rest.len() && known.iter().zip(rest).all(is_same))
        });
        found.filter(|flag| flag.is_of(RUN))
    }

    #[inline(never)]
    fn find(is_it: &dyn Fn(&[u8]) -> bool) -> Option<Self> {
        let at = lines().position(|line| is_it(parts(line)[0]))?;
        EVERY.get(at).copied()
    }

    /// Whether these roles take the flag.
    pub(crate) fn is_of(self, roles: u16) -> bool {
        ROLES.get(self as usize).is_some_and(|own| own & roles != 0)
    }

    pub(crate) fn has_value(self) -> bool {
        lines().nth(self as usize).is_some_and(|line| !parts(line)[1].is_empty())
    }
}

fn lines() -> impl Iterator<Item = &'static [u8]> {
    HELP.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

/// Splits a line: name, value, help.
#[inline(never)]
fn parts(line: &'static [u8]) -> [&'static [u8]; 3] {
    let mut parts = line.split(|&byte| byte == b'\t');
    core::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// Returns the flags of these roles: name, value, help. `is_common` chooses between those that every role takes, and the others.
pub(crate) fn each(roles: u16, is_common: bool) -> impl Iterator<Item = [&'static [u8]; 3]> {
    let of_these = move |of: u16| of & roles != 0 && (of == ALL) == is_common;
    lines().zip(ROLES).filter(move |(_, of)| of_these(**of)).map(|(line, _)| parts(line))
}
