//! Writes the record of a run, `report.json`, beside the exit code (docs/protocol.md, "report.json").
//!
//! Enters: the facts that the run has collected. Leaves: the file. Refuses nothing; a record that cannot be written is an error for the caller to print.

use core::ffi::CStr;
use std::os::fd::AsFd;

use emissary_core::documents::Text;
use emissary_core::layout::{self, File};
use emissary_core::record::{Output, Record, SCHEMA, Time, Usage};

use rustix::fs::OFlags;

use super::shared::Home;
use crate::os::clock::{self, Clock};
use crate::os::fs;
use crate::report::error::Error;

/// A point in time, by both clocks: the first is for a person, the second for a length.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    time: Time,
    steady_ns: i64,
}

/// Returns the present moment.
pub(crate) fn now() -> Moment {
    let (seconds, nanoseconds) = clock::clock(Clock::Realtime);
    let (steady_s, steady_ns) = clock::clock(Clock::Monotonic);
    let time = Time { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) };
    Moment { time, steady_ns: steady_s.saturating_mul(1_000_000_000).saturating_add(steady_ns) }
}

/// An output that was saved.
pub(crate) struct Saved {
    /// `parameter` or `artifact`.
    pub(crate) kind: &'static str,
    pub(crate) name: Vec<u8>,
    pub(crate) path: Vec<u8>,
    pub(crate) size_bytes: u64,
    pub(crate) duration_ms: u64,
}

/// What happened in a run.
pub(crate) struct Facts<'a> {
    pub(crate) command: &'a [&'a CStr],
    pub(crate) started: Option<Moment>,
    pub(crate) finished: Option<Moment>,
    /// The command's exit code, or the one that a person gave in its place.
    pub(crate) code: Option<u8>,
    pub(crate) signal: Option<u8>,
    pub(crate) dumped_core: bool,
    pub(crate) timed_out: bool,
    /// A person gave another exit code.
    pub(crate) is_released: bool,
    pub(crate) attempts: u32,
    pub(crate) reason: &'static str,
    /// The message of the error that ended the run; empty if there was none.
    pub(crate) message: Vec<u8>,
    pub(crate) usage: Usage,
    pub(crate) outputs: Vec<Saved>,
}

impl<'a> Facts<'a> {
    /// The facts of a run whose command has not started.
    pub(crate) fn new(command: &'a [&'a CStr]) -> Self {
        Self {
            command,
            started: None,
            finished: None,
            code: None,
            signal: None,
            dumped_core: false,
            timed_out: false,
            is_released: false,
            attempts: 0,
            reason: "not started",
            message: Vec::new(),
            usage: Usage::default(),
            outputs: Vec::new(),
        }
    }
}

/// Writes the record.
///
/// # Errors
/// The file cannot be written.
#[inline(never)]
pub(crate) fn write(home: Home<'_>, facts: &Facts<'_>, code: u8) -> Result<(), Error> {
    let command: Vec<Text<'_>> = facts.command.iter().map(|word| Text(word.to_bytes())).collect();
    let outputs: Vec<Output<'_>> = facts
        .outputs
        .iter()
        .map(|saved| Output {
            kind: saved.kind,
            name: Text(&saved.name),
            path: Text(&saved.path),
            bytes: saved.size_bytes,
            duration_ms: saved.duration_ms,
        })
        .collect();
    let finished = facts.finished.unwrap_or_else(now);
    let size = |file| home.folder.size(layout::base_name(file));
    let record = Record {
        schema: SCHEMA,
        name: Text(home.shared.layout.container),
        command: &command,
        started: facts.started.map(|moment| moment.time),
        finished: finished.time,
        duration_ns: facts.started.map_or(0, |started| finished.steady_ns.saturating_sub(started.steady_ns).unsigned_abs()),
        exit_code: code,
        signal: facts.signal,
        core_dumped: facts.dumped_core,
        timed_out: facts.timed_out,
        attempts: facts.attempts,
        reason: facts.reason,
        message: (!facts.message.is_empty()).then_some(Text(&facts.message)),
        usage: facts.usage,
        stdout_bytes: size(File::Stdout),
        stderr_bytes: size(File::Stderr),
        combined_bytes: size(File::Combined),
        outputs: &outputs,
    };
    let mut room = Vec::new();
    let mut capacity = 2_048;
    let length = loop {
        room.resize(capacity, 0);
        match record.write(&mut room) {
            Some(length) => break length,
            None => capacity *= 2,
        }
    };
    let name = layout::base_name(File::Report);
    // No other file has the name, because the run has removed it at its start. A reader that sees no exit code yet must expect a part of the record, so a rename
    // would gain nothing.
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    match fs::open_at(home.folder.as_fd(), name, flags, 0o644) {
        Ok(file) => fs::write_all(file.as_fd(), &room[..length]).and_then(|()| fs::close(file)).map_err(|errno| {
            home.folder.remove(name);
            Error::new("write", &home.folder.path_of(name), errno)
        }),
        // Another process made it, or the folder was removed.
        Err(_) => home.folder.write(name, &room[..length], 0o644),
    }
}
