//! The wait role waits until every main container of a pod has an exit code, then prints a report (docs/protocol.md, "Wait"). A pod is a group of containers
//! that share one volume; a main container runs a step's command.
//!
//! Enters: the exit-code files and logs on the shared volume, the template (a JSON document that names the outputs), signals, and the time. Leaves: the
//! report on stdout, and the first exit code that is not 0 as the status. Refuses: an exit-code file that holds no exit code, which counts as 64; an output
//! that cannot be read, which gives the status 64 if every exit code is 0.
//!
//! At the deadline, or after a request to end, the wait container writes SIGTERM to the containers' signal files, and SIGKILL after the grace period. With
//! `--follow`, the wait container copies the containers' captured logs while they grow. A reader that takes nothing does not delay the deadline.
//! `core::waiting::Machine` decides.

use core::cell::Cell;
use core::ffi::CStr;
use core::ops::Range;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use emissary_core::buf::Writer;
use emissary_core::documents::Text;
use emissary_core::escalate;
use emissary_core::exit;
use emissary_core::exit_file::Reading;
use emissary_core::json::{self, Str};
use emissary_core::layout::{self, File, Kind};
use emissary_core::limits::{CONTAINER_NAME_BYTES, PATH_BYTES};
use emissary_core::lines::{self, Lines, Piece};
use emissary_core::report::{self, Artifact, Container, Parameter, Report};
use emissary_core::signal::Signal;
use emissary_core::template::Template;
use emissary_core::time;
use emissary_core::timers::{Duration, Instant, ReaderTime};
use emissary_core::waiting::{Action, Copied, Event, Machine};
use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::io::Errno;

use super::request::{Common, WaitFlags};
use crate::os::signals::{self, Signals};
use crate::os::{clock, descriptors, env, fs};
use crate::pod::container::Container as Neighbour;
use crate::pod::environment;
use crate::pod::folder::Folder;
use crate::pod::shared::{Room, Shared};
use crate::pod::watch::{Change, FileEvent, Watch};
use crate::pod::{signal_file, template};
use crate::process::child;
use crate::process::events::PollSet;
use crate::report::console::Console;
use crate::report::error::Error;
use crate::report::output::OwnOutput;
use crate::save::outputs::Mounts;

/// Bytes of a log that one read takes.
const PIECE_BYTES: usize = 4_096;

/// Argo's value for no deadline: Go's zero time, 0001-01-01T00:00:00Z.
const NO_DEADLINE_MS: i64 = -62_135_596_800_000;

/// Waits and reports. Returns the status to exit with.
pub(crate) fn wait(common: &Common<'_>, flags: &WaitFlags) -> u8 {
    rustix::process::umask(Mode::empty());
    signals::block_all_signals();
    descriptors::occupy_standard();
    match wait_and_report(common, flags) {
        Ok(code) => code,
        Err(error) => common.console.fatal(&error),
    }
}

/// Returns the time at which the containers must end, if there is one.
#[inline(never)]
fn deadline(flags: &WaitFlags) -> Result<Option<Instant>, Error> {
    let now = clock::now();
    let timeout = flags.timeout.map(|timeout| now.after(timeout));
    let Some(text) = env::var(c"ARGO_DEADLINE").map(CStr::to_bytes).filter(|text| !text.is_empty()) else { return Ok(timeout) };
    let at_ms = time::parse_rfc3339(text).map_err(|cause| Error::because(&[b"ARGO_DEADLINE '", text, b"'"], &|out| cause.describe(out)))?;
    if at_ms <= NO_DEADLINE_MS {
        return Ok(timeout);
    }
    let left_ms = u64::try_from(at_ms.saturating_sub(clock::unix_ms())).unwrap_or(0);
    let deadline = now.after(Duration::from_ms(left_ms));
    Ok(Some(timeout.map_or(deadline, |timeout| timeout.min(deadline))))
}

/// A main container that this role waits for.
struct Main {
    container: Neighbour,
    logs: Vec<Log>,
    /// The logs may have grown since the last read.
    may_have_more: bool,
}

impl Main {
    /// Sets the end of the container's logs to their present size. Nothing beyond it is copied.
    fn end_logs(&mut self) {
        self.may_have_more = true;
        for log in &mut self.logs {
            log.end = self.container.folder.size(log.name).unwrap_or(u64::MAX);
        }
    }
}

/// A captured log that is copied to our own stdout or stderr.
struct Log {
    name: &'static CStr,
    /// Index of the follower's outlet that gets this log.
    outlet: usize,
    file: Option<OwnedFd>,
    offset: u64,
    /// Offset at which the copy ends, once the container has ended.
    end: u64,
    /// A read error of this log has been reported.
    is_said: bool,
}

impl Log {
    /// Reads the log's next bytes. Returns 0 while the log does not exist.
    fn read(&mut self, folder: &Folder, room: &mut [u8]) -> Result<usize, Errno> {
        if self.file.is_none() {
            self.file = folder.open_log(self.name)?;
        }
        let Some(file) = &self.file else { return Ok(0) };
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let room = &mut room[..left.min(PIECE_BYTES)];
        loop {
            match fs::read_at(file.as_fd(), &mut *room, self.offset) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

#[inline(never)]
fn wait_and_report(common: &Common<'_>, flags: &WaitFlags) -> Result<u8, Error> {
    let console = common.console;
    let deadline = deadline(flags)?;
    let shared = Shared::open(&common.place)?;
    let document = template::read(&shared)?;
    let template = template::parse(&document)?;
    let signals = Signals::new().map_err(|errno| Error::new("make a", b"signal descriptor", errno))?;
    let mut watch = Watch::new(console);
    let mut mains = mains(&shared, &template, &mut watch, flags.follow)?;
    let mut follower = Follower::new(console, mains.len() > 1);
    let grace = flags.grace.unwrap_or_else(|| environment::grace(console));
    let mut machine = Machine::new(deadline, grace);
    if watch.must_look() {
        machine.handle(clock::now(), Event::CannotWatch);
    }
    let mut is_due = true;
    let mut reason = "timeout";
    let began = clock::now();
    loop {
        let now = clock::now();
        if is_due {
            let looked = look(console, &shared, &mut mains, now, &mut watch);
            machine.handle(now, looked);
            if carry_out(console, &mut machine, &mut mains, &mut follower) {
                break;
            }
        }
        let progress = follower.follow(&mut mains, machine.has_given_up());
        if core::mem::replace(&mut follower.passed_on, false) {
            machine.handle(now, Event::PassedOn);
        }
        machine.handle(now, Event::Copied(progress.copied()));
        if carry_out(console, &mut machine, &mut mains, &mut follower) {
            break;
        }
        let mut set = PollSet::new(&signals);
        if let Some(fd) = watch.as_fd() {
            set.push(fd, PollFlags::IN);
        }
        if let Progress::Blocked(outlet) = progress {
            set.push(follower.outlets[outlet].as_fd(), PollFlags::OUT);
        }
        let deadline = machine.next_deadline(now);
        set.wait(now, deadline);
        is_due = deadline.is_some_and(|at| at <= clock::now());
        if is_due {
            mains.iter_mut().for_each(|main| {
                main.container.make_due();
                main.may_have_more = true;
            });
        }
        while let Some(received) = signals.next() {
            if received.signal == Signal::CHLD {
                // PID 1 of the container also becomes the parent of processes that it did not start.
                child::reap(None);
            } else if received.is_request_to_end() {
                if deadline.is_none_or(|at| clock::now() < at) {
                    reason = "asked to end";
                }
                machine.handle(clock::now(), Event::EndRequested);
                is_due = true;
            } else if received.is_suspension() {
                signals::suspend();
            }
        }
        carry_out(console, &mut machine, &mut mains, &mut follower);
        watch.take(&mut |change| {
            // We open exit-code and signal files ourselves when we look, so an open is no reason for another look.
            is_due |= !matches!(change, Change::ExitCode(_, FileEvent::Opened) | Change::Signal(_, FileEvent::Opened) | Change::Grown(_));
            mains.iter_mut().for_each(|main| {
                main.may_have_more |= main.container.may_grow_by(change);
                main.container.note(change);
            });
        });
    }
    let reason = machine.has_given_up().then_some(reason);
    if let Some(reason) = reason {
        say_given_up(console, &mains, reason, clock::now().since(began));
    }
    let code = exit::first_failure(mains.iter().map(|main| main.container.code));
    let (mut text, is_whole) = report(console, &shared, &template, &mains, (code, reason), flags.json);
    if flags.json && follower.is_within_line {
        text.insert(0, b'\n');
    }
    let length = escalate::wait_after_kill(grace);
    let printed = print(&signals, &text, machine.reader(clock::now()), length).map_err(|error| console.fatal(&error));
    Ok(match printed {
        _ if code != 0 => code,
        Err(status) => status,
        Ok(()) if is_whole => 0,
        Ok(()) => exit::FAILURE,
    })
}

/// Prints when and why the wait gave up on the containers without an exit code.
#[cold]
fn say_given_up(console: Console, mains: &[Main], reason: &str, waited: Duration) {
    let mut room = [0; 64];
    let mut out = Writer::new(&mut room);
    out.text(": no exit code; gave up after ")
        .decimal(waited.as_ms() / 1_000)
        .byte(b'.')
        .padded(waited.as_ms() % 1_000, 3)
        .text(" s: ")
        .text(reason);
    for main in mains.iter().filter(|main| main.container.code.is_none()) {
        console.error(&Error::text(&[b"container '", &main.container.name, b"'", out.written()]));
    }
}

/// Looks for the exit codes that are still missing.
fn look(console: Console, shared: &Shared<'_>, mains: &mut [Main], now: Instant, watch: &mut Watch) -> Event {
    let mut again_after = None;
    for container in mains.iter_mut().map(|main| &mut main.container).filter(|container| container.code.is_none()) {
        match container.look(now, shared, watch) {
            Ok(Reading::Killed) => {
                console.error(&Error::text(&[b"container '", &container.name, b"' was killed and left no exit code: 137"]))
            }
            Ok(Reading::LookAfter(length)) => again_after = Some(again_after.map_or(length, |now: Duration| now.min(length))),
            Ok(_) => {}
            Err(error) => {
                // The container ended without a readable exit code, so its code is not 0.
                console.error(&error);
                container.code = Some(exit::FAILURE);
                container.is_unread = true;
            }
        }
    }
    Event::Looked {
        all_ended: mains.iter().all(|main| main.container.code.is_some()),
        any_runs: mains.iter().any(|main| main.container.emissary_runs),
        again_after,
    }
}

/// Does the machine's actions. Returns whether the report is due.
fn carry_out(console: Console, machine: &mut Machine, mains: &mut [Main], follower: &mut Follower) -> bool {
    while let Some(action) = machine.poll_action() {
        match action {
            Action::SendSignal(signal) => leave(console, mains, signal),
            Action::EndLogs => mains.iter_mut().for_each(Main::end_logs),
            Action::WarnLogsCut => follower.say_cut(mains),
            Action::Report => return true,
        }
    }
    false
}

/// Returns the containers to wait for. Makes and watches their folders.
#[inline(never)]
fn mains(shared: &Shared<'_>, document: &Template<'_>, watch: &mut Watch, follow: bool) -> Result<Vec<Main>, Error> {
    let mut mains = Vec::new();
    let mut add = |name: &[u8]| -> Result<(), Error> {
        let container = Neighbour::open(shared, name, watch, follow)?;
        let log = |file, outlet| Log { name: layout::base_name(file), outlet, file: None, offset: 0, end: u64::MAX, is_said: false };
        let logs = match (follow, shared.layout.kind) {
            (false, _) => vec![],
            (true, Kind::Flat) => vec![log(File::Stdout, 0), log(File::Stderr, 1)],
            (true, Kind::Pod) => vec![log(File::Combined, 0)],
        };
        mains.push(Main { container, logs, may_have_more: true });
        Ok(())
    };
    if shared.layout.kind == Kind::Flat {
        add(b"main")?;
    } else {
        for name in template::main_containers(document) {
            let mut room = [0; CONTAINER_NAME_BYTES];
            add(name.decode(&mut room).unwrap_or_default())?;
        }
    }
    Ok(mains)
}

fn leave(console: Console, mains: &[Main], signal: Signal) {
    for container in mains.iter().map(|main| &main.container).filter(|container| container.code.is_none()) {
        if let Err(error) = signal_file::write(&container.folder, signal) {
            console.error(&error);
        }
    }
}

/// Writes the report to stdout. After a request to end, gives up on a reader that takes nothing.
#[inline(never)]
fn print(signals: &Signals, mut text: &[u8], mut reader: ReaderTime, grace: Duration) -> Result<(), Error> {
    let error = |errno| Error::new("write the report to", b"stdout", errno);
    let mut outlet = OwnOutput::new(rustix::stdio::stdout());
    while !text.is_empty() {
        let written = outlet.write(text).map_err(error)?;
        text = &text[written..];
        let now = clock::now();
        if written > 0 {
            reader.took(now);
            continue;
        }
        if reader.deadline().is_some_and(|deadline| deadline <= now) {
            return Err(Error::count(
                b"gave up on the reader of our own stdout, which did not get ",
                text.len() as u64,
                b" bytes of the report",
            ));
        }
        let mut set = PollSet::new(signals);
        set.push(outlet.as_fd(), PollFlags::OUT);
        set.wait(now, reader.deadline());
        while let Some(received) = signals.next() {
            if received.is_request_to_end() {
                reader.ask(clock::now(), grace);
            } else if received.is_suspension() {
                signals::suspend();
            }
        }
    }
    // Stdout may be a file on a network file system or under a quota, which reports a write error only at close(2).
    fs::check_written(rustix::stdio::stdout()).map_err(error)
}

/// How far the logs are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Every log is copied up to its present end.
    Idle,
    /// A log has more to copy. Signals, the deadline and exit codes come first.
    More,
    /// This outlet takes no more bytes now.
    Blocked(usize),
}

impl Progress {
    const fn copied(self) -> Copied {
        match self {
            Self::Idle => Copied::All,
            Self::More => Copied::More,
            Self::Blocked(_) => Copied::Blocked,
        }
    }
}

/// Rounds of copying before signals, the deadline and exit codes are looked at again.
const PIECES_A_TURN: usize = 64;

/// Copies logs. If there are several containers, each line begins with its container's name.
struct Follower {
    console: Console,
    prefixed: bool,
    /// Our own stdout and stderr.
    outlets: [OwnOutput; 2],
    /// Bytes that an outlet has not taken yet.
    unsent: Vec<u8>,
    unsent_to: usize,
    lines: Lines,
    /// Whether each outlet has failed. Nothing more is written to a failed outlet.
    broken: [bool; 2],
    /// A reader has taken bytes since the machine was told last.
    passed_on: bool,
    /// The last byte that stdout's reader got does not end a line.
    is_within_line: bool,
}

impl Follower {
    fn new(console: Console, prefixed: bool) -> Self {
        let outlets = [OwnOutput::new(rustix::stdio::stdout()), OwnOutput::new(rustix::stdio::stderr())];
        let (unsent, lines, broken) = (Vec::new(), Lines::default(), [false; 2]);
        Self { console, prefixed, outlets, unsent, unsent_to: 0, lines, broken, passed_on: false, is_within_line: false }
    }

    /// Prints how many bytes of the logs were not copied.
    #[inline(never)]
    fn say_cut(&self, mains: &[Main]) {
        let mut left = self.unsent.len() as u64;
        for main in mains {
            for log in main.logs.iter().filter(|log| !self.broken[log.outlet]) {
                let size = main.container.folder.size(log.name).unwrap_or(0).min(log.end);
                left = left.saturating_add(size.saturating_sub(log.offset));
            }
        }
        self.console.warn(&[&Error::count(b"the logs are cut: ", left, b" bytes were not copied in time").text]);
    }

    /// Writes the unsent bytes. Returns whether none is left.
    fn send(&mut self) -> bool {
        let to = self.unsent_to;
        while !self.unsent.is_empty() && !self.broken[to] {
            match self.outlets[to].write(&self.unsent) {
                Ok(0) => return false,
                Ok(written) => {
                    self.passed_on = true;
                    if to == 0 || self.outlets[0].is_same(&self.outlets[1]) {
                        self.is_within_line = self.unsent[written - 1] != b'\n';
                    }
                    self.unsent.drain(..written);
                }
                Err(errno) => {
                    self.console.warn(&[&Error::new("write to", b"our own output", errno).text]);
                    self.broken[to] = true;
                }
            }
        }
        self.unsent.clear();
        true
    }

    /// Copies the logs' new bytes, for one turn at most. `given_up` says that the wait has given up on the containers.
    fn follow(&mut self, mains: &mut [Main], given_up: bool) -> Progress {
        let mut pieces = 0;
        loop {
            let mut moved = false;
            for (at, main) in mains.iter_mut().enumerate().filter(|(_, main)| main.may_have_more) {
                // A log is read only after a change: there may be thousands of containers, and each line of one is an event.
                let mut has_more = !main.container.is_watched() || given_up;
                for log in &mut main.logs {
                    if !self.send() {
                        return Progress::Blocked(self.unsent_to);
                    }
                    if self.broken[log.outlet] || !self.lines.may_write(at) {
                        has_more |= !self.broken[log.outlet];
                        continue;
                    }
                    let mut room = [0; PIECE_BYTES];
                    let read = match log.read(&main.container.folder, &mut room) {
                        Ok(read) => read,
                        // The next turn reads the log again.
                        Err(errno) => {
                            has_more = true;
                            if !core::mem::replace(&mut log.is_said, true) {
                                self.console.warn(&[&Error::new("read", &main.container.folder.path_of(log.name), errno).text]);
                            }
                            0
                        }
                    };
                    let bytes = &room[..read];
                    let unsent = &mut self.unsent;
                    let taken = if self.prefixed {
                        let has_ended = given_up || main.container.code.is_some();
                        let piece = Piece { at, name: &main.container.name, bytes, has_ended, is_full: read == room.len() };
                        self.lines.take(piece, &mut |bytes| unsent.extend_from_slice(bytes))
                    } else {
                        // The other log may go to the same file, so the piece ends at a line's end if it can.
                        let taken = if read == room.len() { lines::before_more(bytes) } else { read };
                        unsent.extend_from_slice(&bytes[..taken]);
                        taken
                    };
                    log.offset += taken as u64;
                    self.unsent_to = log.outlet;
                    moved |= !self.unsent.is_empty();
                    has_more |= read > 0;
                }
                main.may_have_more = has_more;
            }
            if !self.send() {
                return Progress::Blocked(self.unsent_to);
            }
            pieces += 1;
            match moved {
                false => return Progress::Idle,
                true if pieces >= PIECES_A_TURN => return Progress::More,
                true => {}
            }
        }
    }
}

/// A parameter or an artifact for the report. The fields are ranges of one text, because there may be thousands of outputs.
struct Found {
    name: Range<usize>,
    path: Range<usize>,
    contents: Option<Range<usize>>,
    size_bytes: Option<u64>,
}

/// Maximum bytes of a parameter's value in the report. An API server stores no larger object.
const VALUE_BYTES: usize = 1 << 20;

/// Appends bytes to a text. Returns their range.
fn add(text: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = text.len();
    text.extend_from_slice(bytes);
    start..text.len()
}

/// Appends a string of the template, decoded, to a text. Returns its range.
fn add_str(text: &mut Vec<u8>, string: Str<'_>) -> Range<usize> {
    let start = text.len();
    text.resize(start + string.raw_len(), 0);
    let length = string.decode(&mut text[start..]).map_or(0, <[u8]>::len);
    text.truncate(start + length);
    start..text.len()
}

/// The place of an output: a folder (the shared folder or a mount), and the path below that folder. Other containers may have put links on that path.
struct Place<'p> {
    folder: &'p CStr,
    below: &'p [u8],
    is_mount: bool,
}

impl Place<'_> {
    fn path(&self) -> Vec<u8> {
        let mut path = self.folder.to_bytes().to_vec();
        parts(self.below).for_each(|part| path.extend([b"/", part].concat()));
        path
    }
}

/// The folders that hold outputs.
struct Places<'a> {
    shared: &'a Shared<'a>,
    /// The shared folder's path.
    folder: CString,
    mounts: Mounts,
}

impl Places<'_> {
    #[inline(never)]
    fn locate<'p>(&'p self, path: Str<'_>, file: fn(&[u8]) -> File<'_>, room: &'p mut Room) -> Option<Place<'p>> {
        let mut decoded = [0; PATH_BYTES];
        let path = template::path(path, &mut decoded).ok()?.to_bytes();
        let mut clean_room = [0; PATH_BYTES];
        let cleaned = layout::clean(path, &mut clean_room).ok()?;
        if path.starts_with(b"/")
            && let Some((folder, below)) = self.mounts.holding(cleaned)
        {
            let room = &mut room[..below.len()];
            room.copy_from_slice(below);
            return Some(Place { folder, below: room, is_mount: true });
        }
        let full = self.shared.path(file(path), room).ok()?.to_bytes();
        Some(Place { folder: &self.folder, below: full.get(self.shared.layout.dir.len()..)?, is_mount: false })
    }
}

fn parts(below: &[u8]) -> impl Iterator<Item = &[u8]> {
    below.split(|&byte| byte == b'/').filter(|part| !part.is_empty())
}

/// Adds the records of the runs to a report in JSON, as its last member: `"reports":{"NAME":{…}}`. A record that is missing or no JSON is left out.
#[inline(never)]
fn add_records(mains: &[Main], report: &mut Vec<u8>) {
    /// Maximum bytes of a record. Only a command line of such a length makes one that is longer.
    const RECORD_BYTES: usize = 4 << 20;
    let mut separator = &b",\"reports\":{"[..];
    for main in mains {
        let name = layout::base_name(File::Report);
        let size = main.container.folder.size(name).and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        let mut room = vec![0; size.min(RECORD_BYTES)];
        let Ok(Some((bytes, _))) = main.container.folder.read(name, &mut room) else { continue };
        let record = bytes.trim_ascii();
        if record.first() != Some(&b'{') || json::parse(record).is_err() {
            continue;
        }
        if separator.len() > 1 {
            // The report ends with `}` and a newline.
            report.truncate(report.len() - 2);
        }
        report.extend_from_slice(separator);
        // A container's name needs no escapes.
        report.extend([b"\"", &main.container.name[..], b"\":", record].concat());
        separator = b",";
    }
    if separator.len() == 1 {
        report.extend_from_slice(b"}}\n");
    }
}

/// Returns the report's text, and whether every output that exists could be read.
#[inline(never)]
fn report(
    console: Console,
    shared: &Shared<'_>,
    template: &Template<'_>,
    mains: &[Main],
    (exit_code, reason): (u8, Option<&'static str>),
    json: bool,
) -> (Vec<u8>, bool) {
    let is_whole = Cell::new(true);
    let unread = |what: &[u8], name: &[u8], place: &Place<'_>, errno: Errno| {
        let path = place.path();
        let words: &[&[u8]] = &[what, b" '", name, b"': ", &Error::new("read", &path, errno).text];
        // A value that is too long for the report still exists, so this is a warning.
        if errno == Errno::FBIG {
            console.warn(words);
        } else {
            is_whole.set(false);
            console.error(&Error::text(words));
        }
    };
    let places = Places { shared, folder: CString::new(shared.layout.dir).unwrap_or_default(), mounts: Mounts::new(template) };
    let mut text = Vec::with_capacity(1 << 14);
    let mut parameters = Vec::new();
    for parameter in template.output_parameters() {
        let (name, path) = (add_str(&mut text, parameter.name), add_str(&mut text, parameter.path));
        let mut room = [0; PATH_BYTES];
        let found = places.locate(parameter.path, |path| File::Parameter(path), &mut room);
        let read = |place: &Place<'_>| fs::read_below(place.folder, &mut parts(place.below), VALUE_BYTES);
        let contents = match found.map(|place| (read(&place), place)) {
            Some((Ok(value), _)) => Some(add(&mut text, report::trim_newline(&value))),
            // The default replaces a missing value, but not one that cannot be read.
            None | Some((Err(Errno::NOENT | Errno::NOTDIR), _)) => parameter.default.map(|default| add_str(&mut text, default)),
            Some((Err(errno), place)) => {
                unread(b"parameter", &text[name.clone()], &place, errno);
                None
            }
        };
        parameters.push(Found { name, path, contents, size_bytes: None });
    }
    let mut artifacts = Vec::new();
    for artifact in template.output_artifacts() {
        let (name, path) = (add_str(&mut text, artifact.name), add_str(&mut text, artifact.path));
        let mut room = [0; PATH_BYTES];
        let found = places.locate(artifact.path, |path| File::Artifact(path), &mut room);
        let found = found.and_then(|place| match fs::open_below(place.folder, &mut parts(place.below)) {
            Ok((_, stat)) => Some((place.path(), Some(stat.st_size.unsigned_abs()))),
            Err(Errno::ISDIR) if place.is_mount => Some((place.path(), None)),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(errno) => {
                unread(b"artifact", &text[name.clone()], &place, errno);
                None
            }
        });
        let (contents, size_bytes) = found.map_or((None, None), |(at, size_bytes)| (Some(add(&mut text, &at)), size_bytes));
        artifacts.push(Found { name, path, contents, size_bytes });
    }
    let containers: Vec<Container<'_>> = mains
        .iter()
        .map(|main| {
            let [stdout_bytes, stderr_bytes, combined_bytes] =
                [File::Stdout, File::Stderr, File::Combined].map(|file| main.container.folder.size(layout::base_name(file)));
            let reason = match &main.container {
                container if container.was_killed => Some("killed"),
                container if container.is_unread => Some("no exit code"),
                container if container.code.is_none() => reason,
                _ => None,
            };
            Container {
                name: Text(&main.container.name),
                exit_code: main.container.code,
                reason,
                stdout_bytes,
                stderr_bytes,
                combined_bytes,
            }
        })
        .collect();
    let slice = |range: &Range<usize>| Text(&text[range.start..range.end]);
    let parameters: Vec<Parameter<'_>> = parameters
        .iter()
        .map(|found| Parameter { name: slice(&found.name), path: slice(&found.path), value: found.contents.as_ref().map(slice) })
        .collect();
    let artifacts: Vec<Artifact<'_>> = artifacts
        .iter()
        .map(|found| Artifact {
            name: slice(&found.name),
            path: slice(&found.path),
            file: found.contents.as_ref().map(slice),
            bytes: found.size_bytes,
        })
        .collect();
    let report = Report { exit_code, reason, containers: &containers, parameters: &parameters, artifacts: &artifacts };
    let mut room = Vec::new();
    if json {
        // An estimate that suffices unless much of the text is escaped. Pages that are never written take no memory.
        let mut capacity = 4_096 + text.len() + 128 * (containers.len() + parameters.len() + artifacts.len());
        let length = loop {
            room = vec![0; capacity];
            match report.write_json(&mut room) {
                Some(length) => break length,
                None => capacity *= 2,
            }
            drop(core::mem::take(&mut room));
        };
        room.truncate(length);
        add_records(mains, &mut room);
    } else {
        let mut measure = Writer::new(&mut []);
        report.write_text(&mut measure);
        room.resize(measure.needed(), 0);
        report.write_text(&mut Writer::new(&mut room));
    }
    (room, is_whole.get())
}
