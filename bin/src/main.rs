//! `emissary` runs a container's command as its child process. It writes the exit code, the logs and the outputs as files to a volume that the
//! containers of a pod share.
//!
//! Enters: the process's arguments. Leaves: an exit status. Refuses: arguments that name no role. `command_line` reads the arguments; each role is a
//! file in `roles/`. docs/protocol.md describes the files.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code, reason = "the C entry, from which everything is reached, is not built for unit tests"))]

mod command_line;

mod roles;

mod pod;
mod process;
mod save;

mod report;

mod os;

use core::ffi::CStr;

use emissary_core::log::{Format, Level};

use crate::command_line::Command;
use crate::pod::shared::Place;
use crate::report::console::Console;
use crate::roles::request::{Common, Personality};
use crate::roles::{delegate, help, init, kill, run, signal, wait};

os::entry::c_main!(start);

/// Plays the role that the arguments name. Returns the exit status.
fn start(args: &[&'static CStr]) -> u8 {
    let own_name = args.first().map_or(&[][..], |name| name.to_bytes());
    let personality =
        if own_name.rsplit(|&byte| byte == b'/').next() == Some(b"argoexec") { Personality::Argoexec } else { Personality::Emissary };
    let console = match personality {
        Personality::Emissary => Console { format: Format::Plain, level: Level::Warn },
        Personality::Argoexec => Console { format: Format::Text, level: Level::Info },
    };
    let mut common = Common { personality, console, place: Place::default(), is_run: false };
    let command = command_line::parse(args.get(1..).unwrap_or_default(), &mut common, delegate::exists);
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
        Ok(Command::Version) => help::version(),
        Ok(Command::Help(topic)) => help::help(topic),
    }
}
