//! Reads the command line: arguments in, [`Command`] out (docs/protocol.md).
//!
//! Enters: the arguments, and the name that the binary was called by. Leaves: the role to play, with its flags. Refuses: an unknown flag, a flag without its
//! value, a missing command; the message names the word. Called as `argoexec`, the name of Argo Workflows' own executor, the binary takes that program's
//! subcommands and flags too (docs/argo.md).

use core::ffi::CStr;
use std::ffi::CString;

use emissary_core::buf::Writer;
use emissary_core::layout::Kind;
use emissary_core::log::{Format, Level};
use emissary_core::signal::Signal;
use emissary_core::time::TimeError;
use emissary_core::timers::Duration;
use emissary_core::words::WordList;
use emissary_core::{exit, time};

use crate::flags::{self, Flag};
use crate::report::error::Error;
use crate::roles::request::{Common, Personality, RunFlags, Shell, StartCodes, Topic, WaitFlags};

/// A role to play.
pub(crate) enum Command<'a> {
    /// Run the command in these arguments.
    Run {
        command: &'a [&'a CStr],
    },
    /// Run the server of an artifact plugin: no template, no outputs, and SIGTERM is not passed on.
    PluginSidecar {
        command: &'a [&'a CStr],
    },
    /// Prepare the shared folder.
    Init {
        template: Option<&'a CStr>,
    },
    /// Wait for the main containers and report.
    Wait(WaitFlags),
    /// Write the signal file.
    Signal {
        signal: Signal,
        container: Option<&'a CStr>,
        /// Write the signal file also for a container that does not exist yet.
        create: bool,
    },
    /// Send a signal to a process.
    Kill {
        signal: Signal,
        pid: i32,
    },
    /// Become the full executor.
    Delegate,
    Version {
        json: bool,
    },
    /// Tell what is lacking.
    Check,
    /// Print a script for a shell.
    Completions(Shell),
    /// Run no command, and end at a request.
    Pause,
    /// Print a text of another init.
    Page {
        text: Vec<u8>,
        is_error: bool,
        status: u8,
    },
    Help(Topic),
}

/// Flags of `argoexec` that the binary ignores (those of client-go's `clientcmd`, and Argo's own): first those with a value, then those without.
const ACCEPTED: WordList = WordList(
    "--gloglevel --as --as-group --as-uid --cache-dir --certificate-authority --client-certificate --client-key --cluster --context --kubeconfig \
     --namespace -n --password --proxy-url --request-timeout --server -s --tls-server-name --token --user --username",
);
const ACCEPTED_ALONE: WordList = WordList("--disable-compression --insecure-skip-tls-verify");

/// Subcommands of `argoexec` that no main container calls. The full executor runs them, if it exists.
const DELEGATED: WordList = WordList("init wait supervisor resource data agent artifact artifact-plugin-init");

/// Subcommands of `argoexec` that a main container calls, and that this binary runs.
const ARGO_SUBCOMMANDS: WordList = WordList("emissary kill artifact-plugin-sidecar");

/// The binary's own subcommands. `parse` uses their positions.
const SUBCOMMANDS: WordList = WordList("run emissary init wait signal kill artifact-plugin-sidecar version help check completions");

/// A position among the arguments. Each argument is read once.
struct Cursor<'a> {
    args: &'a [&'a CStr],
    /// The text behind `=` in the flag that was read last.
    attached: Option<&'a CStr>,
}

impl<'a> Cursor<'a> {
    fn next(&mut self) -> Option<&'a CStr> {
        let (first, rest) = self.args.split_first()?;
        self.args = rest;
        Some(first)
    }

    /// Returns a flag's name, without `=` and the text behind it.
    fn flag_name(&mut self, word: &'a CStr) -> &'a [u8] {
        let bytes = word.to_bytes();
        self.attached = None;
        if bytes.starts_with(b"--")
            && let Some(at) = bytes.iter().position(|&byte| byte == b'=')
        {
            self.attached = word.to_bytes_with_nul().get(at + 1..).and_then(|value| CStr::from_bytes_with_nul(value).ok());
            return &bytes[..at];
        }
        bytes
    }

    /// Returns the value of the flag that was read last.
    fn value(&mut self, flag: &[u8]) -> Result<&'a CStr, Error> {
        if let Some(value) = self.attached.take() {
            return Ok(value);
        }
        self.next().ok_or_else(|| usage(&[b"flag ", flag, b" needs a value"]))
    }
}

#[cold]
#[inline(never)]
fn usage(parts: &[&[u8]]) -> Error {
    let mut error = Error::text(parts);
    error.text.extend_from_slice(b" (see `emissary help`)");
    error
}

#[cold]
#[inline(never)]
fn bad_value(flag: &[u8], value: &CStr, want: &[u8]) -> Error {
    usage(&[b"flag ", flag, b": '", value.to_bytes(), b"' is not ", want])
}

#[inline(never)]
fn duration(flag: &[u8], value: &CStr) -> Result<Duration, Error> {
    let want: &[u8] = match time::parse_duration(value.to_bytes()).map(u64::try_from) {
        Ok(Ok(nanoseconds)) => return Ok(Duration::from_ms(nanoseconds.div_ceil(1_000_000))),
        Ok(Err(_)) => b"0 or more",
        Err(TimeError::OutOfRange) => b"within 292 years",
        Err(TimeError::Malformed { .. }) => b"a duration such as 1m30s",
    };
    Err(bad_value(flag, value, want))
}

fn signal(word: &CStr) -> Result<Signal, Error> {
    Signal::parse(word.to_bytes()).map_err(|cause| Error::because(&[b"signal '", word.to_bytes(), b"'"], &|out| cause.describe(out)))
}

/// The role that a subcommand names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Run,
    PluginSidecar,
    Init,
    Wait,
    Signal,
    Kill,
    Version,
    Check,
    Completions,
}

impl Role {
    /// The role as a bit of the table of flags.
    const fn bit(self) -> u16 {
        match self {
            Self::Run | Self::PluginSidecar => flags::RUN,
            Self::Init => flags::INIT,
            Self::Wait => flags::WAIT,
            Self::Signal => flags::SIGNAL,
            Self::Kill => flags::KILL,
            Self::Version => flags::VERSION,
            Self::Check => flags::CHECK,
            Self::Completions => 0,
        }
    }

    const fn topic(self) -> Topic {
        match self {
            Self::Run | Self::PluginSidecar => Topic::Run,
            Self::Init => Topic::Init,
            Self::Wait => Topic::Wait,
            Self::Signal => Topic::Signal,
            Self::Kill => Topic::Kill,
            Self::Check => Topic::Check,
            Self::Version | Self::Completions => Topic::All,
        }
    }
}

/// What the flags say, besides [`Common`].
#[derive(Default)]
struct Given<'a> {
    wait: WaitFlags,
    template: Option<&'a CStr>,
    create: bool,
    json: bool,
    verbosity: u8,
}

/// Refuses a value that is not one of two words. Returns whether it is the second.
fn is_second(flag: &[u8], value: &CStr, first: &[u8], second: &[u8]) -> Result<bool, Error> {
    match value.to_bytes() {
        word if word == second => Ok(true),
        word if word == first => Ok(false),
        _ => Err(bad_value(flag, value, &[b"`", first, b"` or `", second, b"`"].concat())),
    }
}

/// Calls `add` for each part of a list with commas.
#[inline(never)]
fn each_part(flag: &[u8], value: &CStr, add: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    value.to_bytes().split(|&byte| byte == b',').try_for_each(|part| {
        add(part).map_err(|cause| {
            let mut error = Error::text(&[b"flag ", flag, b": '", part, b"' "]);
            error.text.extend_from_slice(&cause.text);
            error.text.extend_from_slice(b" (see `emissary help`)");
            error
        })
    })
}

/// Describes why a part of a list was refused.
#[cold]
#[inline(never)]
fn described(describe: &dyn Fn(&mut Writer<'_>)) -> Error {
    let mut error = Error::text(&[]);
    crate::report::error::described(&mut error.text, describe);
    error
}

/// Hands each part of a list to `each`. Empty parts are left out.
fn split<'a>(list: &'a CStr, separator: u8, each: &mut dyn FnMut(&'a CStr)) {
    if !list.to_bytes().contains(&separator) {
        return each(list);
    }
    for part in list.to_bytes().split(|&byte| byte == separator).filter(|part| !part.is_empty()) {
        // The list is read once, and its parts are needed until the end.
        each(Box::leak(CString::new(part).unwrap_or_default().into_boxed_c_str()));
    }
}

/// Takes a flag. `name` is for messages: a flag or a variable.
#[inline(never)]
fn take<'a>(flag: Flag, name: &[u8], value: &'a CStr, common: &mut Common<'a>, given: &mut Given<'a>) -> Result<(), Error> {
    let run: &mut RunFlags<'a> = &mut common.run;
    if flag.has_value() && value.is_empty() && flag != Flag::Dir {
        return Err(bad_value(name, value, b"a value"));
    }
    match flag {
        Flag::Name => common.place.name = Some(value),
        Flag::Dir => common.place.dir = Some(value),
        Flag::Layout => {
            common.place.kind = Some(Kind::parse(value.to_bytes()).ok_or_else(|| bad_value(name, value, b"`flat` or `pod`"))?);
        }
        Flag::LogLevel => {
            common.console.level =
                Level::parse(value.to_bytes()).ok_or_else(|| bad_value(name, value, b"`debug`, `info`, `warn` or `error`"))?;
        }
        Flag::LogFormat => {
            common.console.format = Format::parse(value.to_bytes()).ok_or_else(|| bad_value(name, value, b"`plain`, `text` or `json`"))?;
        }
        Flag::LogFd => {
            let number = exit::parse_decimal(value.to_bytes()).and_then(|number| i32::try_from(number).ok());
            common.console.descriptor = number.ok_or_else(|| bad_value(name, value, b"the number of a descriptor"))?;
        }
        Flag::Verbose => {
            given.verbosity += 1;
            common.console.level = if given.verbosity > 1 { Level::Debug } else { Level::Info };
        }
        Flag::Quiet => common.console.level = Level::Error,
        // `main` has read it, if it stands first.
        Flag::As => return Err(usage(&[b"flag --as must be the first word"])),
        Flag::Outputs => run.saves_nothing = is_second(name, value, b"template", b"none")?,
        Flag::Logs => run.keeps_logs = Some(is_second(name, value, b"none", b"files")?),
        Flag::SignalChild => run.signals_child = true,
        Flag::Rewrite => {
            each_part(name, value, &mut |part| run.rewrites.add(part).map_err(|cause| described(&|out| cause.describe(out))))?;
        }
        Flag::RemapExit => {
            each_part(name, value, &mut |part| run.remaps.add(part).map_err(|cause| described(&|out| cause.describe(out))))?;
        }
        Flag::ExitCodes => {
            run.start_codes = if is_second(name, value, b"emissary", b"posix")? { StartCodes::Posix } else { StartCodes::Own };
        }
        Flag::TermGroupOnExit => run.terms_group = true,
        Flag::WaitDescendants => run.waits_for_descendants = true,
        Flag::ParentDeath => run.parent_death = Some(signal(value)?),
        Flag::Timeout => (run.timeout, given.wait.timeout) = twice(duration(name, value)?),
        Flag::Grace => (run.grace, given.wait.grace) = twice(duration(name, value)?),
        Flag::CancelFile => run.cancel_file = Some(value),
        Flag::OnError => run.continues_on_error = is_second(name, value, b"stop", b"continue")?,
        Flag::PauseOnFailure => run.pauses_on_failure = true,
        Flag::WaitFile => split(value, b',', &mut |path| run.wait_files.push(path)),
        Flag::WaitContent => run.waits_for_content = true,
        Flag::PostFile => run.post_file = Some(value),
        Flag::PreviousMarker => run.previous_marker = Some(value),
        Flag::Follow => given.wait.follow = true,
        Flag::Json => (given.wait.json, given.json) = (true, true),
        Flag::Template => given.template = Some(value),
        Flag::Create => given.create = true,
    }
    Ok(())
}

const fn twice(length: Duration) -> (Option<Duration>, Option<Duration>) {
    (Some(length), Some(length))
}

/// Takes a variable `EMISSARY_…` for a flag of `run` that the command line does not have. `rest` is the name behind `EMISSARY_`. Other variables are left
/// alone. An empty value counts as none.
///
/// # Errors
/// As [`parse`]; the message names the variable.
pub(crate) fn take_variable(rest: &[u8], value: &'static CStr, common: &mut Common<'_>) -> Result<(), Error> {
    let is_free = |flag: &Flag| *flag != Flag::As && common.on_command_line & 1 << *flag as u8 == 0;
    let Some(flag) = Flag::of_variable(rest).filter(is_free) else { return Ok(()) };
    let name = [b"EMISSARY_", rest].concat();
    let mut given = Given::default();
    match value.to_bytes() {
        b"" => Ok(()),
        word if !flag.has_value() => match WordList("1 true yes on 0 false no off").position_ignoring_case(word) {
            Some(0..=3) => take(flag, &name, value, common, &mut given),
            Some(_) => Ok(()),
            None => Err(Error::text(&[&name, b": '", word, b"' is not `true` or `false`"])),
        },
        _ => take(flag, &name, value, common, &mut given),
    }
    .map_err(|mut error| {
        // A variable is no flag.
        if let Some(text) = error.text.strip_prefix(b"flag ") {
            error.text = text.to_vec();
        }
        error
    })
}

/// Reads the arguments after the binary's name. `delegate_exists` returns whether the full executor exists.
///
/// # Errors
/// A message that names the unexpected word; status 64.
pub(crate) fn parse<'a>(
    args: &'a [&'a CStr],
    common: &mut Common<'a>,
    delegate_exists: impl FnOnce() -> bool,
) -> Result<Command<'a>, Error> {
    // Another container may wait for this run's exit code. So every command line counts as a run until it names another role.
    common.is_run = true;
    let mut cursor = Cursor { args, attached: None };
    let mut role = None;
    let mut given = Given::default();
    let mut operands: [Option<&'a CStr>; 2] = [None; 2];
    let mut delegate_exists = Some(delegate_exists);
    let command: &'a [&'a CStr] = loop {
        let before = cursor.args;
        let Some(word) = cursor.next() else { break &[] };
        let bytes = word.to_bytes();
        if bytes == b"--" {
            break cursor.args;
        }
        if !bytes.starts_with(b"-") || bytes == b"-" {
            match role {
                None => {
                    let argoexec = common.personality == Personality::Argoexec;
                    let delegated = DELEGATED.position(bytes).is_some();
                    common.is_run = matches!(SUBCOMMANDS.position(bytes), None | Some(0 | 1 | 6)) && !(argoexec && delegated);
                    // Argo calls its own subcommands in its pods alone, even if a container was not told its name.
                    common.place.is_in_pod = argoexec && ARGO_SUBCOMMANDS.position(bytes).is_some();
                    if argoexec && delegated && delegate_exists.take().is_some_and(|exists| exists()) {
                        return Ok(Command::Delegate);
                    }
                    role = Some(match SUBCOMMANDS.position(bytes) {
                        Some(0 | 1) => Role::Run,
                        Some(2) => Role::Init,
                        Some(3) => Role::Wait,
                        Some(4) => Role::Signal,
                        Some(5) => Role::Kill,
                        Some(6) => Role::PluginSidecar,
                        Some(7) => Role::Version,
                        Some(9) => Role::Check,
                        Some(10) => Role::Completions,
                        Some(8) => {
                            let Some(word) = cursor.next() else { return Ok(Command::Help(Topic::All)) };
                            return Ok(Command::Help(match SUBCOMMANDS.position(word.to_bytes()) {
                                Some(0 | 1 | 6) => Topic::Run,
                                Some(2) => Topic::Init,
                                Some(3) => Topic::Wait,
                                Some(4) => Topic::Signal,
                                Some(5) => Topic::Kill,
                                Some(9) => Topic::Check,
                                Some(_) => Topic::All,
                                None => return Err(usage(&[b"no help on '", word.to_bytes(), b"': it is no subcommand"])),
                            }));
                        }
                        _ if delegated => {
                            return Err(usage(&[
                                b"subcommand '",
                                bytes,
                                b"' is the full executor's, and EMISSARY_DELEGATE names none that exists",
                            ]));
                        }
                        None if !argoexec => break before,
                        _ => return Err(usage(&[b"unknown subcommand '", bytes, b"'; a command to run stands behind `--`"])),
                    });
                    continue;
                }
                // The command begins at the first word that is not a flag.
                Some(Role::Run | Role::PluginSidecar) => break before,
                Some(Role::Signal | Role::Kill | Role::Completions) => {
                    let Some(slot) = operands.iter_mut().find(|slot| slot.is_none()) else {
                        return Err(usage(&[b"unexpected argument '", bytes, b"'"]));
                    };
                    *slot = Some(word);
                    continue;
                }
                Some(Role::Init | Role::Wait | Role::Version | Role::Check) => return Err(usage(&[b"unexpected argument '", bytes, b"'"])),
            }
        }
        let flag = cursor.flag_name(word);
        let argoexec = common.personality == Personality::Argoexec;
        match (flag, role) {
            (b"--help" | b"-h", role) => {
                common.is_run = false;
                return Ok(Command::Help(role.map_or(Topic::All, Role::topic)));
            }
            (b"--version", None) => {
                common.is_run = false;
                role = Some(Role::Version);
            }
            _ if argoexec && ACCEPTED.position(flag).is_some() => {
                cursor.value(flag)?;
            }
            _ if argoexec && ACCEPTED_ALONE.position(flag).is_some() => {}
            (repeated, _) if repeated.len() > 2 && repeated[1..].iter().all(|&letter| letter == b'v') => {
                common.console.level = Level::Debug;
                common.on_command_line |= 1 << Flag::LogLevel as u8;
            }
            _ => {
                let name = if flag == b"-f" { b"--follow" } else { flag };
                // Before the role is known, a flag may be one of any role. A run has no name before its flags.
                let roles = role.map_or(flags::ALL, Role::bit);
                let known = Flag::named(name).filter(|known| known.is_of(roles));
                let Some(known) = known else { return Err(usage(&[b"unknown flag '", bytes, b"'"])) };
                let value = if known.has_value() { cursor.value(flag)? } else { c"" };
                // Three flags set the level of messages. Each outweighs the variables of all.
                let sets_level = matches!(known, Flag::LogLevel | Flag::Verbose | Flag::Quiet);
                common.on_command_line |= 1 << if sets_level { Flag::LogLevel } else { known } as u8;
                take(known, flag, value, common, &mut given)?;
            }
        }
        if cursor.attached.is_some() {
            return Err(usage(&[b"flag ", flag, b" takes no value"]));
        }
    };
    let operands_are = |want: &[u8]| usage(&[b"usage: emissary ", want]);
    match role {
        None | Some(Role::Run) if command.is_empty() => Err(usage(&[b"no command to run; it stands behind `--`"])),
        None | Some(Role::Run) => Ok(Command::Run { command }),
        Some(Role::PluginSidecar) if command.is_empty() => Err(usage(&[b"no command to run; it stands behind `--`"])),
        Some(Role::PluginSidecar) => Ok(Command::PluginSidecar { command }),
        Some(_) if !command.is_empty() => Err(usage(&[b"unexpected argument '", command[0].to_bytes(), b"'"])),
        Some(Role::Version) => Ok(Command::Version { json: given.json }),
        Some(Role::Check) => Ok(Command::Check),
        Some(Role::Completions) => match operands {
            [Some(shell), None] => {
                let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
                let known = WordList("bash zsh fish").position(shell.to_bytes()).and_then(|at| shells.get(at).copied());
                known.map(Command::Completions).ok_or_else(|| usage(&[b"no completions for '", shell.to_bytes(), b"'"]))
            }
            _ => Err(operands_are(b"completions bash|zsh|fish")),
        },
        Some(Role::Init) => Ok(Command::Init { template: given.template }),
        Some(Role::Wait) => Ok(Command::Wait(given.wait)),
        Some(Role::Signal) => match operands {
            [Some(word), container] => Ok(Command::Signal { signal: signal(word)?, container, create: given.create }),
            [None, _] => Err(operands_are(b"signal SIGNAL [NAME]")),
        },
        Some(Role::Kill) => match operands {
            [Some(word), Some(pid)] => {
                let number = exit::parse_decimal(pid.to_bytes()).and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
                let pid = number.ok_or_else(|| usage(&[b"process id '", pid.to_bytes(), b"' is not a positive number"]))?;
                Ok(Command::Kill { signal: signal(word)?, pid })
            }
            _ => Err(operands_are(b"kill SIGNAL PID")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_fill_what_the_command_line_leaves_open() {
        let mut common = Common::new(Personality::Emissary);
        let words = [c"--timeout", c"5s", c"x"];
        assert!(parse(&words, &mut common, || false).is_ok());
        let mut take = |name: &str, value: &'static CStr| {
            take_variable(name.as_bytes(), value, &mut common).map_err(|error| String::from_utf8_lossy(&error.text).into_owned())
        };
        for (name, value) in [
            ("TIMEOUT", c"9s"),
            ("SIGNAL_CHILD", c"true"),
            ("TERM_GROUP_ON_EXIT", c"0"),
            ("REMAP_EXIT", c"143,5:6"),
            ("WAIT_FILE", c"/a,/b"),
            ("CANCEL_FILE", c""),
            ("DELEGATE", c"/x"),
            ("AS", c"tini"),
            ("JSON", c"true"),
        ] {
            assert_eq!(take(name, value), Ok(()), "{name}");
        }
        assert_eq!(take("GRACE", c"soon"), Err("EMISSARY_GRACE: 'soon' is not a duration such as 1m30s (see `emissary help`)".into()));
        assert_eq!(take("WAIT_DESCENDANTS", c"maybe"), Err("EMISSARY_WAIT_DESCENDANTS: 'maybe' is not `true` or `false`".into()));
        let run = &common.run;
        assert_eq!((run.timeout, run.signals_child, run.terms_group), (Some(Duration::from_ms(5_000)), true, false));
        assert_eq!((run.remaps.apply(143), run.remaps.apply(5), run.cancel_file), (0, 6, None));
        assert_eq!(run.wait_files, [c"/a", c"/b"]);
    }

    #[test]
    fn every_flag_has_its_own_bit() {
        let names: Vec<_> = flags::each(u16::MAX, true).chain(flags::each(u16::MAX, false)).map(|[name, ..]| name).collect();
        assert!(names.len() <= 64 && names.iter().all(|name| Flag::named(name).is_some()));
        assert!((1..names.len()).all(|at| !names[..at].contains(&names[at])));
        assert_eq!((Flag::named(b"--grace"), Flag::named(b""), Flag::named(b"--grac")), (Some(Flag::Grace), None, None));
    }

    fn parsed(
        personality: Personality,
        words: &'static [&'static CStr],
        delegate: bool,
        look: impl Fn(Result<Command<'_>, Error>, &Common<'_>),
    ) {
        let mut common = Common::new(personality);
        let result = parse(words, &mut common, || delegate);
        look(result, &common);
    }

    #[test]
    fn commands() {
        let run = |words: &'static [&'static CStr], want: &'static [&'static CStr]| {
            parsed(Personality::Emissary, words, false, |command, _| match command {
                Ok(Command::Run { command }) => assert_eq!(command, want),
                _ => panic!("{words:?}"),
            });
        };
        run(&[c"--", c"sh", c"-c", c"x"], &[c"sh", c"-c", c"x"]);
        run(&[c"run", c"--", c"--", c"-x"], &[c"--", c"-x"]);
        run(&[c"run", c"--name", c"a", c"sh", c"--name"], &[c"sh", c"--name"]);
        run(&[c"emissary", c"--loglevel=debug", c"--", c"true"], &[c"true"]);
        // The first word that is no subcommand begins the command.
        run(&[c"sh", c"-c", c"x"], &[c"sh", c"-c", c"x"]);
        run(&[c"-vv", c"--rewrite", c"15:3,1:0", c"frob", c"--", c"--name"], &[c"frob", c"--", c"--name"]);
    }

    #[test]
    fn flags_reach_their_place() {
        parsed(
            Personality::Emissary,
            &[c"--dir=/d", c"wait", c"--layout", c"pod", c"--timeout", c"1.5s", c"--json", c"-f", c"--log-format=json"],
            false,
            |command, common| {
                let Ok(Command::Wait(wait)) = command else { panic!("no wait") };
                assert!(wait.json && wait.follow && wait.timeout == Some(Duration::from_ms(1_500)) && wait.grace.is_none());
                assert_eq!(common.place.kind, Some(Kind::Pod));
                assert_eq!(common.place.dir, Some(c"/d"));
                assert_eq!(common.console.format, Format::Json);
            },
        );
    }

    #[test]
    fn errors_name_the_word() {
        let rows: [(&'static [&'static CStr], &str); 14] = [
            (&[c"run"], "no command to run; it stands behind `--`"),
            (&[c"run", c"--"], "no command to run; it stands behind `--`"),
            (&[c"--frob", c"--", c"x"], "unknown flag '--frob'"),
            (&[c"run", c"--json", c"--", c"x"], "unknown flag '--json'"),
            (&[c"--rewrite", c"1:2,x:3", c"x"], "flag --rewrite: 'x:3' the part before `:` is neither a signal number nor a signal name"),
            (&[c"run", c"--name"], "flag --name needs a value"),
            (&[c"wait", c"--json=1"], "flag --json takes no value"),
            (&[c"wait", c"--timeout", c"soon"], "flag --timeout: 'soon' is not a duration such as 1m30s"),
            (&[c"--layout", c"round", c"--", c"x"], "flag --layout: 'round' is not `flat` or `pod`"),
            (&[c"init", c"x"], "unexpected argument 'x'"),
            (&[c"init", c"--", c"x"], "unexpected argument 'x'"),
            (&[c"kill", c"9"], "usage: emissary kill SIGNAL PID"),
            (&[c"kill", c"9", c"0"], "process id '0' is not a positive number"),
            (&[c"supervisor"], "subcommand 'supervisor' is the full executor's, and EMISSARY_DELEGATE names none that exists"),
        ];
        for (words, want) in rows {
            parsed(Personality::Emissary, words, false, |command, _| {
                let error = command.err().expect("an error");
                assert_eq!(String::from_utf8_lossy(&error.text), format!("{want} (see `emissary help`)"));
                assert_eq!(error.status, 64);
            });
        }
        parsed(Personality::Emissary, &[c"kill", c"frob", c"7"], false, |command, _| {
            assert_eq!(
                String::from_utf8_lossy(&command.err().unwrap().text),
                "signal 'frob': is neither a signal number nor a signal name"
            );
        });
    }

    #[test]
    fn as_argoexec() {
        parsed(Personality::Argoexec, &[c"--gloglevel", c"0", c"-n", c"argo", c"wait"], true, |command, _| {
            assert!(matches!(command, Ok(Command::Delegate)));
        });
        parsed(Personality::Argoexec, &[c"wait", c"--json"], false, |command, _| assert!(matches!(command, Ok(Command::Wait(_)))));
        for (word, is_in_pod) in [(c"emissary", true), (c"kill", true), (c"run", false), (c"wait", false)] {
            let words: &'static [&'static CStr] = vec![word, c"--", c"x"].leak();
            parsed(Personality::Argoexec, words, false, |_, common| assert_eq!(common.place.is_in_pod, is_in_pod, "{word:?}"));
        }
        parsed(Personality::Emissary, &[c"wait"], true, |command, _| assert!(matches!(command, Ok(Command::Wait(_)))));
        parsed(Personality::Emissary, &[c"--gloglevel", c"0", c"--", c"x"], false, |command, _| assert!(command.is_err()));
        parsed(Personality::Argoexec, &[c"kill", c"SIGTERM", c"7"], true, |command, _| {
            assert!(matches!(command, Ok(Command::Kill { signal: Signal::TERM, pid: 7 })));
        });
    }
}
