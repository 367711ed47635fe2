//! `emissary`: runs a container's command as its child and leaves exit code, logs, outputs as files on a shared volume.
//!
//! Arguments in, exit status out; the roles are in files of their own.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code, reason = "the C entry, from which everything is reached, is not built for unit tests"))]

mod args;
mod console;
mod error;
mod help;

mod init;
mod kill;
mod run;
mod wait;

mod arguments;
mod child;
mod events;
mod inputs;
mod outlet;
mod tee;
mod terminal;

mod artifact;
mod compress;
mod cpus;
mod deflate;
mod files;
mod outputs;

mod sys;

use core::ffi::CStr;

use emissary_core::log::{Format, Level};

use crate::args::{Command, Common, Personality};
use crate::console::Console;

/// Where the full executor is, unless `EMISSARY_DELEGATE` says otherwise.
const DELEGATE: &CStr = c"/bin/argoexec-full";

/// Plays the role that the arguments ask for; gives the exit status.
fn start(args: &[&'static CStr]) -> u8 {
    let own_name = args.first().map_or(&[][..], |name| name.to_bytes());
    let personality =
        if own_name.rsplit(|&byte| byte == b'/').next() == Some(b"argoexec") { Personality::Argoexec } else { Personality::Emissary };
    let console = match personality {
        Personality::Emissary => Console { format: Format::Plain, level: Level::Warn },
        Personality::Argoexec => Console { format: Format::Text, level: Level::Info },
    };
    let mut common = Common { personality, console, name: None, kind: None, dir: None, is_run: false };
    let delegate = sys::env(c"EMISSARY_DELEGATE").unwrap_or(DELEGATE);
    let command = args::parse(args.get(1..).unwrap_or_default(), &mut common, || rustix::fs::stat(delegate).is_ok());
    let console = common.console;
    match command {
        Err(error) if common.is_run => run::refuse(&common, &error),
        Err(error) => console.fatal(&error),
        Ok(Command::Run { command }) => run::run(&common, command, run::Role::Main),
        Ok(Command::PluginSidecar { command }) => run::run(&common, command, run::Role::PluginSidecar),
        Ok(Command::Init { template }) => init::init(&common, template),
        Ok(Command::Wait(flags)) => wait::wait(&common, &flags),
        Ok(Command::Signal { signal, container }) => kill::signal(&common, signal, container),
        Ok(Command::Kill { signal, pid }) => kill::kill(&common, signal, pid),
        Ok(Command::Delegate) => hand_over(console, delegate, args),
        Ok(Command::Version) => help::version(),
        Ok(Command::Help(topic)) => help::help(topic),
    }
}

/// Becomes the full executor.
fn hand_over(console: Console, delegate: &CStr, args: &[&CStr]) -> u8 {
    let mut argv = sys::Argv::with_capacity(args.len());
    for arg in args {
        argv.push(arg);
    }
    let errno = sys::execute(delegate, &argv);
    console.fatal(&error::Error::new("hand over to the full executor", delegate.to_bytes(), errno))
}
