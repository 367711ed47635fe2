//! What we say ourselves: one line each on stderr, and a fatal error in the container's termination log too.

use core::ffi::CStr;
use std::os::fd::AsFd;

use emissary_core::log::{self, Format, Level};
use emissary_core::{exit, limits};
use rustix::fs::{CWD, OFlags};

use super::error::Error;
use super::output::OwnOutput;
use crate::os::{clock, env, fs};

/// Where Kubernetes reads a container's last words, unless its `terminationMessagePath` says otherwise.
const TERMINATION_LOG: &CStr = c"/dev/termination-log";

/// Form and least level of the lines.
#[derive(Clone, Copy)]
pub(crate) struct Console {
    pub(crate) format: Format,
    pub(crate) level: Level,
}

impl Console {
    #[inline(never)]
    fn say(self, level: Level, parts: &[&[u8]]) {
        if level >= self.level {
            let mut room = [0; limits::LOG_LINE_BYTES];
            let line = log::line(self.format, level, clock::unix_ms(), &parts.concat(), &mut room);
            // Nobody is left to tell where stderr itself fails, and nothing waits for a reader that takes nothing.
            let _ = OwnOutput::new(rustix::stdio::stderr()).write_soon(line);
        }
    }

    pub(crate) fn info(self, parts: &[&[u8]]) {
        self.say(Level::Info, parts);
    }

    /// How far a long piece of work is: shown unless only errors are.
    pub(crate) fn progress(self, parts: &[&[u8]]) {
        let level = if self.level == Level::Warn { Level::Info } else { self.level };
        Self { level, ..self }.say(Level::Info, parts);
    }

    pub(crate) fn warn(self, parts: &[&[u8]]) {
        self.say(Level::Warn, parts);
    }

    pub(crate) fn error(self, error: &Error) {
        self.say(Level::Error, &[&error.text]);
    }

    /// Says what ends the run, in the termination log too, and gives the status to exit with.
    #[cold]
    #[inline(never)]
    pub(crate) fn fatal(self, error: &Error) -> u8 {
        self.error(error);
        let path = env::var(c"EMISSARY_TERMINATION_LOG").unwrap_or(TERMINATION_LOG);
        // Only where it is there: outside Kubernetes nobody reads it.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::NONBLOCK;
        if let Ok(file) = fs::open_at(CWD, path, flags, 0) {
            let mut room = [0; limits::LOG_LINE_BYTES];
            let line = log::line(Format::Plain, Level::Error, 0, &error.text, &mut room);
            let _ = fs::write_all(file.as_fd(), line);
        }
        if error.status == 0 { exit::FAILURE } else { error.status }
    }
}
