//! Reads the command line: arguments in, [`Command`] out (docs/protocol.md).
//!
//! Enters: the arguments, and the name that the binary was called by. Leaves: the role to play, with its flags. Refuses: an unknown flag, a flag without its
//! value, a missing command; the message names the word. Called as `argoexec`, the name of Argo Workflows' own executor, the binary takes that program's
//! subcommands and flags too (docs/argo.md).

use core::ffi::CStr;

use emissary_core::layout::Kind;
use emissary_core::log::{Format, Level};
use emissary_core::signal::Signal;
use emissary_core::time::TimeError;
use emissary_core::timers::Duration;
use emissary_core::words::WordList;
use emissary_core::{exit, time};

use crate::report::error::Error;
use crate::roles::request::{Common, Personality, Topic, WaitFlags};

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
    Version,
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
const SUBCOMMANDS: WordList = WordList("run emissary init wait signal kill artifact-plugin-sidecar version help");

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
}

impl Role {
    const fn topic(self) -> Topic {
        match self {
            Self::Run | Self::PluginSidecar => Topic::Run,
            Self::Init => Topic::Init,
            Self::Wait => Topic::Wait,
            Self::Signal => Topic::Signal,
            Self::Kill => Topic::Kill,
        }
    }
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
    let mut wait = WaitFlags::default();
    let mut template = None;
    let mut create = false;
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
                        Some(7) => return Ok(Command::Version),
                        Some(8) => {
                            let Some(word) = cursor.next() else { return Ok(Command::Help(Topic::All)) };
                            return Ok(Command::Help(match SUBCOMMANDS.position(word.to_bytes()) {
                                Some(0 | 1 | 6) => Topic::Run,
                                Some(2) => Topic::Init,
                                Some(3) => Topic::Wait,
                                Some(4) => Topic::Signal,
                                Some(5) => Topic::Kill,
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
                        _ => return Err(usage(&[b"unknown subcommand '", bytes, b"'; a command to run stands behind `--`"])),
                    });
                    continue;
                }
                // The command begins at the first word that is not a flag.
                Some(Role::Run | Role::PluginSidecar) => break before,
                Some(Role::Signal | Role::Kill) => {
                    let Some(slot) = operands.iter_mut().find(|slot| slot.is_none()) else {
                        return Err(usage(&[b"unexpected argument '", bytes, b"'"]));
                    };
                    *slot = Some(word);
                    continue;
                }
                Some(Role::Init | Role::Wait) => return Err(usage(&[b"unexpected argument '", bytes, b"'"])),
            }
        }
        let flag = cursor.flag_name(word);
        match (flag, role) {
            (b"--help" | b"-h", role) => return Ok(Command::Help(role.map_or(Topic::All, Role::topic))),
            (b"--version", None) => return Ok(Command::Version),
            (b"--name", _) => common.place.name = Some(cursor.value(flag)?),
            (b"--dir", _) => common.place.dir = Some(cursor.value(flag)?),
            (b"--layout", _) => {
                let value = cursor.value(flag)?;
                common.place.kind = Some(Kind::parse(value.to_bytes()).ok_or_else(|| bad_value(flag, value, b"`flat` or `pod`"))?);
            }
            (b"--loglevel", _) => {
                let value = cursor.value(flag)?;
                common.console.level =
                    Level::parse(value.to_bytes()).ok_or_else(|| bad_value(flag, value, b"`debug`, `info`, `warn` or `error`"))?;
            }
            (b"--log-format", _) => {
                let value = cursor.value(flag)?;
                common.console.format =
                    Format::parse(value.to_bytes()).ok_or_else(|| bad_value(flag, value, b"`plain`, `text` or `json`"))?;
            }
            (b"--create", Some(Role::Signal)) => create = true,
            (b"--template", Some(Role::Init)) => template = Some(cursor.value(flag)?),
            (b"--follow" | b"-f", Some(Role::Wait)) => wait.follow = true,
            (b"--json", Some(Role::Wait)) => wait.json = true,
            (b"--timeout", Some(Role::Wait)) => wait.timeout = Some(duration(flag, cursor.value(flag)?)?),
            (b"--grace", Some(Role::Wait)) => wait.grace = Some(duration(flag, cursor.value(flag)?)?),
            _ => {
                let argoexec = common.personality == Personality::Argoexec;
                if argoexec && ACCEPTED.position(flag).is_some() {
                    cursor.value(flag)?;
                } else if !(argoexec && ACCEPTED_ALONE.position(flag).is_some()) {
                    return Err(usage(&[b"unknown flag '", bytes, b"'"]));
                }
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
        Some(Role::Init) => Ok(Command::Init { template }),
        Some(Role::Wait) => Ok(Command::Wait(wait)),
        Some(Role::Signal) => match operands {
            [Some(word), container] => Ok(Command::Signal { signal: signal(word)?, container, create }),
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
    use crate::pod::shared::Place;
    use crate::report::console::Console;

    fn parsed(
        personality: Personality,
        words: &'static [&'static CStr],
        delegate: bool,
        look: impl Fn(Result<Command<'_>, Error>, &Common<'_>),
    ) {
        let console = Console { format: Format::Plain, level: Level::Warn };
        let mut common = Common { personality, console, place: Place::default(), is_run: false };
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
            (&[c"frob"], "unknown subcommand 'frob'; a command to run stands behind `--`"),
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
