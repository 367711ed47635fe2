//! Prints the messages of emissary itself.
//!
//! Enters: texts and errors with a level. Leaves: one log line each on stderr; a fatal error also goes to Kubernetes' termination log. Refuses: a
//! line below the chosen level, and a line that stderr does not take within 100 ms.

use core::ffi::CStr;
use std::os::fd::AsFd;

use emissary_core::log::{self, Format, Level};
use emissary_core::{exit, limits};
use rustix::fs::{CWD, OFlags};

use super::error::Error;
use super::output::OwnOutput;
use crate::os::{clock, descriptors, env, fs};

/// Default `terminationMessagePath` of Kubernetes: the file from which it reads a container's last message.
const TERMINATION_LOG: &CStr = c"/dev/termination-log";

/// Format and least level of the log lines.
#[derive(Clone, Copy)]
pub(crate) struct Console {
    pub(crate) format: Format,
    pub(crate) level: Level,
    /// The descriptor that the lines go to.
    pub(crate) descriptor: i32,
}

impl Console {
    /// A console that prints errors alone.
    pub(crate) const fn silent() -> Self {
        Self { format: Format::Plain, level: Level::Error, descriptor: 2 }
    }

    #[inline(never)]
    fn print(self, level: Level, parts: &[&[u8]]) {
        if level >= self.level {
            let mut room = [0; limits::LOG_LINE_BYTES];
            let line = log::line(self.format, level, clock::unix_ms(), &parts.concat(), &mut room);
            // A failure of stderr cannot be reported anywhere. A reader that takes nothing must not hold us up.
            let _ = OwnOutput::new(descriptors::own(self.descriptor)).write_soon(line);
        }
    }

    /// Prints a line of another init, in whose place we are called, as it is.
    #[cold]
    #[inline(never)]
    pub(crate) fn verbatim(self, level: Level, parts: &[&[u8]]) {
        if level >= self.level {
            let _ = OwnOutput::new(rustix::stdio::stderr()).write_soon(&parts.concat());
        }
    }

    pub(crate) fn info(self, parts: &[&[u8]]) {
        self.print(Level::Info, parts);
    }

    /// Prints the progress of a long operation. It is shown unless the level is `Error`.
    pub(crate) fn progress(self, parts: &[&[u8]]) {
        let level = if self.level == Level::Warn { Level::Info } else { self.level };
        Self { level, ..self }.print(Level::Info, parts);
    }

    pub(crate) fn warn(self, parts: &[&[u8]]) {
        self.print(Level::Warn, parts);
    }

    pub(crate) fn error(self, error: &Error) {
        self.print(Level::Error, &[&error.text]);
    }

    /// Prints the error that ends the run, and appends it to the termination log. Returns the status to exit with.
    #[cold]
    #[inline(never)]
    pub(crate) fn fatal(self, error: &Error) -> u8 {
        self.error(error);
        let path = env::var(c"EMISSARY_TERMINATION_LOG").unwrap_or(TERMINATION_LOG);
        // We do not create the file: outside Kubernetes nothing reads it.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::NONBLOCK;
        if let Ok(file) = fs::open_at(CWD, path, flags, 0) {
            let mut room = [0; limits::LOG_LINE_BYTES];
            let line = log::line(Format::Plain, Level::Error, 0, &error.text, &mut room);
            let _ = fs::write_all(file.as_fd(), line);
        }
        if error.status == 0 { exit::FAILURE } else { error.status }
    }
}
