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
/// Every role but `version`.
pub(crate) const ALL: u16 = RUN | INIT | WAIT | SIGNAL | KILL;

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
        /// The flags' names, with a space behind each.
        const NAMES: &str = concat!($($name, " "),*);
        /// The roles that take each flag.
        const ROLES: &[u16] = &[$($roles),*];
        /// Whether each flag has a value.
        const HAS_VALUE: &[bool] = &[$(!$value.is_empty()),*];
        /// For each flag a line: name, value, help, with a tab between them.
        const HELP: &str = concat!($($name, "\t", $value, "\t", $help, "\n"),*);
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
    Timeout 5 "--timeout" "DURATION" "end the command (wait: the containers) after this time: 300ms, 1h2m3.5s";
    Grace 5 "--grace" "DURATION" "time from SIGTERM to SIGKILL at such an end; default: 30s";
    CancelFile RUN "--cancel-file" "PATH" "end the command when this file appears";
    OnError RUN "--on-error" "stop|continue" "continue: exit with 0 although the command failed; the file keeps the code";
    PauseOnFailure RUN "--pause-on-failure" "" "if the command fails, wait for the file `after`; it may hold another code";
    WaitFile RUN "--wait-file" "PATH" "start when PATH appears; PATH.err ends the run; or PATH,PATH…";
    WaitContent RUN "--wait-content" "" "--wait-file waits until the file is not empty";
    PostFile RUN "--post-file" "PATH" "make PATH at the end, PATH.err after a failure";
    PreviousMarker RUN "--previous-marker" "PATH" "start when PATH holds an exit code; one that is not 0 ends the run";
    Follow WAIT "--follow" "" "copy the captured logs to stdout and stderr as they grow (-f)";
    Json 36 "--json" "" "print one JSON object";
    Template INIT "--template" "FILE" "the template; `-` is stdin; default: ARGO_TEMPLATE";
    Create SIGNAL "--create" "" "make the folder of a container that is still to come";
}

impl Flag {
    /// Finds a flag by its name, such as `--timeout`.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        let name = Some(name).filter(|name| !name.is_empty())?;
        let at = NAMES.as_bytes().split(|&byte| byte == b' ').position(|known| known == name)?;
        EVERY.get(at).copied()
    }

    /// Finds a flag of `run` by the rest of its variable's name behind `EMISSARY_`, such as `SOME_NAME`.
    pub(crate) fn of_variable(rest: &[u8]) -> Option<Self> {
        let is_same = |(known, given): (&u8, &u8)| *given == if *known == b'-' { b'_' } else { known.to_ascii_uppercase() };
        let matches = |known: &[u8]| {
            let known = known.strip_prefix(b"--").unwrap_or_default();
            !known.is_empty() && known.len() == rest.len() && known.iter().zip(rest).all(is_same)
        };
        let at = NAMES.as_bytes().split(|&byte| byte == b' ').position(matches)?;
        EVERY.get(at).copied().filter(|flag| flag.is_of(RUN))
    }

    /// Whether these roles take the flag.
    pub(crate) fn is_of(self, roles: u16) -> bool {
        ROLES.get(self as usize).is_some_and(|own| own & roles != 0)
    }

    pub(crate) fn has_value(self) -> bool {
        HAS_VALUE.get(self as usize).copied().unwrap_or(false)
    }
}

/// Returns the flags that every role takes: name, value, help.
pub(crate) fn of_all() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    HELP.lines().zip(ROLES).filter(|(_, of)| **of == ALL).filter_map(|(line, _)| parts(line))
}

fn parts(line: &'static str) -> Option<(&'static str, &'static str, &'static str)> {
    let mut parts = line.splitn(3, '\t');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

/// Returns the flags of these roles: name, value, help. With `own`, a flag that every role takes is left out.
pub(crate) fn each(roles: u16, own: bool) -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    HELP.lines().zip(ROLES).filter(move |(_, of)| **of & roles != 0 && (!own || **of != ALL)).filter_map(|(line, _)| parts(line))
}
