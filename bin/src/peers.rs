//! Reads the command line of another init in whose place the binary is called: tini (also as docker-init), dumb-init, catatonit (docs/init.md).
//!
//! Enters: the arguments and the environment variables of that program. Leaves: the command, and the settings of the run that give the same behaviour.
//! Refuses: an unknown option or a bad value, with that program's exit status.
//!
//! Options end at the first word that is not one, as musl's getopt(3) has it. The C library of Debian would go on, and take options of the command.

use core::ffi::CStr;

use emissary_core::exit;
use emissary_core::log::Level;
use emissary_core::signal::Signal;

use crate::command_line::Command;
use crate::roles::request::{Common, Group, Peer, StartCodes};

/// The version that `--version` tells. dockerd and podman read `tini version …`.
const TINI_VERSION: &str = concat!("tini version ", env!("CARGO_PKG_VERSION"), " - git.emissary\n");
const DUMB_INIT_VERSION: &str = concat!("dumb-init v", env!("CARGO_PKG_VERSION"), " (emissary)\n");
const CATATONIT_VERSION: &str = concat!("tini version ", env!("CARGO_PKG_VERSION"), "_catatonit\n");
const LICENSE: &str = "emissary: MIT or Apache-2.0, at your choice\n";

const TINI: &str = "\
Usage: tini [OPTIONS] PROGRAM -- [ARGS] | --version

Runs PROGRAM under the supervision of a valid init process, emissary.

  -s         become a subreaper
  -p SIGNAL  receive SIGNAL when the parent ends
  -v         more verbose; up to three times
  -w         warn of each process that is reaped
  -g         send signals to PROGRAM's process group
  -e CODE    exit with 0 in the place of CODE; may be repeated
  -h, -l     print this page, the licence
";

const DUMB_INIT: &str = "\
Usage: dumb-init [option] command [[arg] ...]

  -c, --single-child  send signals to command alone, not to its session
  -r, --rewrite s:r   send signal r in the place of s; 0 drops it
  -v, --verbose       print more messages
  -h, --help; -V, --version
";

const CATATONIT: &str = "\
usage: catatonit [-ghLPV] [--] <progname> [<arguments>...]

  -g  send signals to progname's process group
  -P  run no program; end at SIGINT or SIGTERM
  -h, -L, -V  print this page, the licence, the version
";

/// Signals that tini's `-p` takes, by their numbers: SIGHUP to SIGSYS without SIGSTKFLT, SIGIO and SIGPWR, and with the prefix SIG.
const fn is_tinis_parent_signal(number: u8) -> bool {
    matches!(number, 1..=15 | 17..=28 | 31)
}

/// The page of an error: a line that names the cause, then the usage.
fn refuse<'a>(peer: Peer, parts: &[&[u8]]) -> Command<'a> {
    let usage = match peer {
        Peer::Tini => TINI,
        Peer::DumbInit => DUMB_INIT,
        Peer::Catatonit => CATATONIT,
    };
    let mut text = parts.concat();
    if !text.is_empty() {
        text.push(b'\n');
    }
    text.extend_from_slice(usage.as_bytes());
    Command::Page { text, is_error: true, status: 1 }
}

fn page<'a>(text: &str, is_error: bool) -> Command<'a> {
    Command::Page { text: text.as_bytes().to_vec(), is_error, status: 0 }
}

/// The one-letter option for a long one. GNU's getopt_long(3) also takes an unambiguous start of the name.
fn short(peer: Peer, long: &[u8]) -> Option<u8> {
    let (names, letters): (&str, &[u8]) = match peer {
        Peer::Tini => ("", b""),
        Peer::DumbInit => ("single-child rewrite verbose help version", b"crvhV"),
        Peer::Catatonit => ("version", b"V"),
    };
    let starts =
        || names.as_bytes().split(|&byte| byte == b' ').zip(letters).filter(|(name, _)| name.starts_with(long) && !long.is_empty());
    let exact = starts().find(|(name, _)| *name == long);
    let only = starts().next().filter(|_| starts().count() == 1);
    exact.or(only).map(|(_, letter)| *letter)
}

/// Reads the arguments behind the program's name, and the peer's variables through `variable`.
#[cold]
#[inline(never)]
pub(crate) fn parse<'a>(
    peer: Peer,
    own_name: &[u8],
    args: &'a [&'a CStr],
    common: &mut Common<'a>,
    variable: &dyn Fn(&CStr) -> Option<&'static [u8]>,
) -> Command<'a> {
    let run = &mut common.run;
    run.peer = Some(peer);
    (run.signals_child, run.start_codes) = match peer {
        Peer::Tini => (true, StartCodes::Tini),
        Peer::DumbInit => (false, StartCodes::Fixed(2)),
        Peer::Catatonit => (true, StartCodes::Fixed(1)),
    };
    run.is_no_subreaper = peer != Peer::Catatonit;
    if let (Peer::Tini, [only]) = (peer, args)
        && *only == c"--version"
    {
        return page(TINI_VERSION, false);
    }
    if peer == Peer::Catatonit && variable(c"CATATONIT_LOG").is_some() {
        return Command::Page { text: b"catatonit: CATATONIT_LOG is reserved\n".to_vec(), is_error: true, status: 1 };
    }
    let (mut verbosity, mut is_pause, mut is_single) = (1_u8, false, false);
    let mut rest = args;
    while let Some((word, behind)) = rest.split_first() {
        let bytes = word.to_bytes();
        if bytes.len() < 2 || bytes[0] != b'-' {
            break;
        }
        rest = behind;
        if bytes == b"--" {
            break;
        }
        let mut letters = &bytes[1..];
        let mut attached: Option<&[u8]> = None;
        let one;
        if let Some(long) = bytes.strip_prefix(b"--") {
            let end = long.iter().position(|&byte| byte == b'=').unwrap_or(long.len());
            let Some(letter) = short(peer, &long[..end]) else {
                return refuse(peer, &[own_name, b": unrecognized option '", bytes, b"'"]);
            };
            attached = long.get(end + 1..);
            if attached.is_some() && letter != b'r' {
                return refuse(peer, &[own_name, b": option '", &bytes[..end + 2], b"' doesn't allow an argument"]);
            }
            one = [letter];
            letters = &one;
        }
        while let Some((&letter, more)) = letters.split_first() {
            letters = more;
            let takes_value = matches!((peer, letter), (Peer::Tini, b'p' | b'e') | (Peer::DumbInit, b'r'));
            let mut value: &[u8] = b"";
            if takes_value {
                let next = rest.split_first();
                value = match (attached, more.is_empty(), next) {
                    (Some(value), ..) => value,
                    (None, false, _) => more,
                    (None, true, Some((value, behind))) => {
                        rest = behind;
                        value.to_bytes()
                    }
                    (None, true, None) => {
                        return refuse(peer, &[own_name, b": option requires an argument -- '", &[letter], b"'"]);
                    }
                };
                letters = &[];
            }
            match (peer, letter) {
                (Peer::Tini, b'h') => return page(TINI, false),
                (Peer::Tini, b'l') => return page(LICENSE, false),
                (Peer::Tini, b's') => run.is_no_subreaper = false,
                (Peer::Tini, b'g') => run.signals_child = false,
                (Peer::Tini, b'w') => run.warns_of_reaped = true,
                (Peer::Tini, b'v') => verbosity = verbosity.saturating_add(1),
                (Peer::Tini, b'e') => {
                    let digits = value.trim_ascii_start();
                    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
                    let code = if value.is_empty() { Some(0) } else { exit::parse_decimal(digits) };
                    match code.and_then(|code| u8::try_from(code).ok()) {
                        Some(code) => run.remaps.set(code, 0),
                        None => return tinis_bad_value(b"-e", value),
                    }
                }
                (Peer::Tini, b'p') => {
                    let signal = if value.starts_with(b"SIG") { Signal::parse(value).ok() } else { None };
                    let is_alias = matches!(value, b"SIGIOT" | b"SIGCLD" | b"SIGPOLL" | b"SIGUNUSED");
                    match signal.filter(|signal| is_tinis_parent_signal(signal.number()) && !is_alias) {
                        Some(signal) => run.parent_death = Some(signal),
                        None => return tinis_bad_value(b"-p", value),
                    }
                }
                (Peer::DumbInit, b'h') => return page(DUMB_INIT, true),
                (Peer::DumbInit, b'V') => return page(DUMB_INIT_VERSION, true),
                (Peer::DumbInit, b'c') => is_single = true,
                (Peer::DumbInit, b'v') => verbosity = 3,
                (Peer::DumbInit, b'r') => {
                    let mut parts = value.splitn(2, |&byte| byte == b':').map(exit::parse_decimal);
                    match (parts.next().flatten(), parts.next().flatten()) {
                        (Some(from @ 1..=31), Some(to @ 0..=31)) => {
                            if let Some(from) = Signal::new(from) {
                                run.rewrites.set(from, to as u8);
                                run.is_rewritten |= 1 << from.number();
                            }
                        }
                        _ => {
                            return refuse(peer, &[b"error: -r takes <signum>:<signum>, from 1 to 31, or 0 behind the colon"]);
                        }
                    }
                }
                (Peer::Catatonit, b'h') => return page(CATATONIT, true),
                (Peer::Catatonit, b'V') => return page(CATATONIT_VERSION, false),
                (Peer::Catatonit, b'L') => return page(LICENSE, false),
                (Peer::Catatonit, b'g') => run.signals_child = false,
                (Peer::Catatonit, b'P') => is_pause = true,
                _ => return refuse(peer, &[own_name, b": invalid option -- '", &[letter], b"'"]),
            }
        }
    }
    if is_pause {
        return Command::Pause;
    }
    if rest.is_empty() {
        let cause: &[u8] = if peer == Peer::Catatonit { b"catatonit: missing program name" } else { b"" };
        return refuse(peer, &[cause]);
    }
    let is_one = |name: &CStr| variable(name) == Some(b"1");
    match peer {
        Peer::Tini => {
            run.is_no_subreaper &= variable(c"TINI_SUBREAPER").is_none();
            run.signals_child &= variable(c"TINI_KILL_PROCESS_GROUP").is_none();
            if let Some(text) = variable(c"TINI_VERBOSITY") {
                verbosity = exit::parse_decimal(text.trim_ascii()).map_or(0, |count| count.min(4) as u8);
            }
            for signal in [Signal::TTIN, Signal::TTOU] {
                run.rewrites.set(signal, 0);
            }
        }
        Peer::DumbInit => {
            is_single |= variable(c"DUMB_INIT_SETSID") == Some(b"0");
            if is_one(c"DUMB_INIT_DEBUG") {
                verbosity = 3;
            }
            run.signals_child = is_single;
            run.group = if is_single { Group::Inherited } else { Group::Session };
            run.terms_group = !is_single;
            run.stops_with_command = true;
            if !is_single {
                // A session without a terminal ignores the stops of job control (setsid(2)).
                for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
                    if run.is_rewritten & 1 << signal.number() == 0 {
                        run.rewrites.set(signal, Signal::STOP.number());
                    }
                }
            }
        }
        Peer::Catatonit => {
            if variable(c"CATATONIT_DEBUG").is_some() {
                verbosity = 3;
            }
            for signal in [Signal::TSTP, Signal::TTIN, Signal::TTOU] {
                run.rewrites.set(signal, 0);
            }
        }
    }
    common.console.level = match verbosity {
        0 => Level::Error,
        1 => Level::Warn,
        2 => Level::Info,
        _ => Level::Debug,
    };
    Command::Run { command: rest }
}

fn tinis_bad_value<'a>(option: &[u8], value: &[u8]) -> Command<'a> {
    Command::Page { text: [b"tini: Not a valid option for ", option, b": ", value, b"\n"].concat(), is_error: true, status: 1 }
}
