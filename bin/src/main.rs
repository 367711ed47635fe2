//! `emissary` runs a container's command as its child process. It writes the exit code, the logs and the outputs as files to a volume that the
//! containers of a pod share.
//!
//! Enters: the process's arguments. Leaves: an exit status. Refuses: arguments that name no role. `command_line` reads the arguments; each role is a
//! file in `roles/`. docs/protocol.md describes the files.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code, reason = "the C entry, from which everything is reached, is not built for unit tests"))]

mod command_line;
mod flags;
mod peers;

mod roles;

mod pod;
mod process;
mod save;

mod report;

mod os;

use core::ffi::CStr;

use crate::command_line::Command;
use crate::report::error::Error;
use crate::roles::request::{Common, Peer, Personality};
use crate::roles::{check, completions, delegate, help, init, kill, pause, run, signal, wait};

os::entry::c_main!(start);

/// Plays the role that the arguments name. Returns the exit status.
fn start(args: &[&'static CStr]) -> u8 {
    let own_name = args.first().map_or(&[][..], |name| name.to_bytes());
    let base_name = own_name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    let personality = if base_name == b"argoexec" { Personality::Argoexec } else { Personality::Emissary };
    let mut common = Common::new(personality);
    let mut words = args.get(1..).unwrap_or_default();
    let mut peer = base_name;
    if personality == Personality::Emissary {
        // `--as NAME` or `--as=NAME`.
        match words {
            [flag, name, rest @ ..] if *flag == c"--as" => (peer, words) = (name.to_bytes(), rest),
            [flag, rest @ ..] => {
                if let Some(name) = flag.to_bytes().strip_prefix(b"--as=") {
                    (peer, words) = (name, rest);
                }
            }
            [] => {}
        }
    }
    common.is_run = peer != base_name;
    let command = match Peer::named(peer) {
        Some(peer) => Ok(peers::parse(peer, own_name, words, &mut common, &|name| os::env::var(name).map(CStr::to_bytes))),
        None if peer != base_name => Err(Error::text(&[b"flag --as: '", peer, b"' is not tini, docker-init, dumb-init or catatonit"])),
        None => parse(words, &mut common),
    };
    let console = common.console;
    match command {
        Err(error) if common.is_run => run::refuse(&common, &error),
        Err(error) => console.fatal(&error),
        Ok(Command::Run { command }) => run::run(&common, command, run::Role::Main),
        Ok(Command::PluginSidecar { command }) => run::run(&common, command, run::Role::PluginSidecar),
        Ok(Command::Init { template }) => init::init(&common, template),
        Ok(Command::Wait(options)) => wait::wait(&common, &options),
        Ok(Command::Signal { signal, container, create }) => signal::signal(&common, signal, container, create),
        Ok(Command::Kill { signal, pid }) => kill::kill(&common, signal, pid),
        Ok(Command::Delegate) => delegate::hand_over(console, args),
        Ok(Command::Version { json }) => help::version(json),
        Ok(Command::Help(topic)) => help::help(topic),
        Ok(Command::Check) => check::check(&common),
        Ok(Command::Completions(shell)) => completions::completions(shell),
        Ok(Command::Pause) => pause::pause(console),
        Ok(Command::Page { text, is_error, status }) => help::page(&text, is_error, status),
    }
}

/// Reads the arguments of emissary itself, and the variables `EMISSARY_…` of a run.
fn parse<'a>(words: &'a [&'static CStr], common: &mut Common<'a>) -> Result<Command<'a>, Error> {
    let mut command = command_line::parse(words, common, delegate::exists);
    if common.is_run && command.is_ok() {
        let mut taken = Ok(());
        os::env::each(&mut |name, value| {
            if let Some(rest) = name.strip_prefix(b"EMISSARY_")
                && taken.is_ok()
            {
                taken = command_line::take_variable(rest, value, common);
            }
        });
        if let Err(error) = taken {
            command = Err(error);
        }
    }
    if !os::descriptors::take_for_messages(common.console.descriptor) {
        let number = core::mem::replace(&mut common.console.descriptor, 2);
        // An emissary inside another one inherits the variable, and not the descriptor.
        let is_flag = common.on_command_line & 1 << flags::Flag::LogFd as u8 != 0;
        if is_flag && command.is_ok() {
            command = Err(Error::count(b"flag --log-fd: descriptor ", number.unsigned_abs().into(), b" is not open"));
        }
    }
    command
}
