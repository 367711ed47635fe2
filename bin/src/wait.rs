//! The wait role: until every main container has an exit code, then the report.
//!
//! Past the deadline, or when asked to end, it leaves SIGTERM for them, and SIGKILL after the grace period. With `--follow` it copies their
//! captured logs while they grow; a reader that takes nothing never keeps it from the deadline.

use core::cell::Cell;
use core::ffi::CStr;
use core::ops::Range;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use emissary_core::buf::Writer;
use emissary_core::documents::Text;
use emissary_core::escalate::{self, Escalation, Step};
use emissary_core::exit::{self, Reading};
use emissary_core::json::Str;
use emissary_core::layout::{self, File, Kind};
use emissary_core::limits::{CONTAINER_NAME_BYTES, PATH_BYTES};
use emissary_core::lines::{Lines, Piece};
use emissary_core::report::{self, Artifact, Container, Parameter, Report};
use emissary_core::signal::Signal;
use emissary_core::template::Template;
use emissary_core::time;
use rustix::event::PollFlags;
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::args::{Common, Wait};
use crate::console::{self, Console};
use crate::error::Error;
use crate::events::{self, PollSet, Signals, Watch};
use crate::files::{self, Folder, Room, Shared};
use crate::outlet::Outlet;
use crate::outputs::{self, Mounts};
use crate::run::ExitCodes;
use crate::{kill, run, sys};

/// Bytes of a log that are read at once.
const PIECE_BYTES: usize = 4_096;

/// What Argo writes where there is no deadline: the zero time of Go, 0001-01-01T00:00:00Z.
const NO_DEADLINE_MS: i64 = -62_135_596_800_000;

/// Waits and reports; gives the status to exit with.
pub(crate) fn wait(common: &Common<'_>, flags: &Wait) -> u8 {
    rustix::process::umask(Mode::empty());
    sys::block_all_signals();
    events::occupy_standard_descriptors();
    match wait_and_report(common, flags) {
        Ok(code) => code,
        Err(error) => common.console.fatal(&error),
    }
}

/// Milliseconds on the monotonic clock at which the containers are to end, if ever.
#[inline(never)]
fn deadline_ms(flags: &Wait) -> Result<Option<u64>, Error> {
    let now_ms = console::monotonic_ms();
    let timeout = flags.timeout_ms.map(|timeout_ms| now_ms.saturating_add(timeout_ms));
    let Some(text) = sys::env(c"ARGO_DEADLINE").map(CStr::to_bytes).filter(|text| !text.is_empty()) else { return Ok(timeout) };
    let at_ms = time::parse_rfc3339(text).map_err(|cause| Error::because(&[b"ARGO_DEADLINE '", text, b"'"], &|out| cause.describe(out)))?;
    if at_ms <= NO_DEADLINE_MS {
        return Ok(timeout);
    }
    let left_ms = u64::try_from(at_ms.saturating_sub(console::unix_ms())).unwrap_or(0);
    let deadline = now_ms.saturating_add(left_ms);
    Ok(Some(timeout.map_or(deadline, |timeout| timeout.min(deadline))))
}

/// A main container as it is waited for.
struct Main {
    name: Vec<u8>,
    folder: Folder,
    watch: Option<i32>,
    code: Option<u8>,
    logs: Vec<Log>,
}

impl Main {
    /// From now on its logs end where they end now.
    fn end_logs(&mut self) {
        for log in &mut self.logs {
            log.end = self.folder.size(log.name).unwrap_or(u64::MAX);
        }
    }
}

/// A captured log on its way to our own stdout or stderr.
struct Log {
    name: &'static CStr,
    /// Which of the follower's outlets it goes to.
    outlet: usize,
    file: Option<OwnedFd>,
    offset: u64,
    /// Up to where it is copied, once its container has ended.
    end: u64,
    /// That it cannot be read has been said.
    is_said: bool,
}

impl Log {
    /// What it holds next, once it is there.
    fn read(&mut self, folder: &Folder, room: &mut [u8]) -> Result<usize, Errno> {
        if self.file.is_none() {
            self.file = folder.open_log(self.name)?;
        }
        let Some(file) = &self.file else { return Ok(0) };
        let left = usize::try_from(self.end.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let room = &mut room[..left.min(PIECE_BYTES)];
        loop {
            match rustix::io::pread(file, &mut *room, self.offset) {
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

#[inline(never)]
fn wait_and_report(common: &Common<'_>, flags: &Wait) -> Result<u8, Error> {
    let console = common.console;
    let deadline_ms = deadline_ms(flags)?;
    let shared = Shared::open(common)?;
    let document = shared.read_template()?;
    let template = run::parse_template(&document)?;
    let signals = Signals::new()?;
    let mut watch = Watch::new(console);
    let mut mains = mains(&shared, &template, &mut watch, flags.follow)?;
    let mut follower = Follower::new(console, mains.len() > 1);
    let grace_ms = flags.grace_ms.unwrap_or_else(run::grace_ms);
    let mut escalation = Escalation::new(deadline_ms, grace_ms);
    let mut exit_codes = ExitCodes::default();
    let mut given_up = false;
    // Once all is over: until when the logs are copied, where there is a deadline.
    let mut logs_until_ms: Option<Option<u64>> = None;
    loop {
        let now_ms = console::monotonic_ms();
        let mut look_at_ms = watch.look_at_ms(now_ms);
        for main in mains.iter_mut().filter(|main| main.code.is_none()) {
            let reading = exit_codes.read(&main.folder, main.watch.filter(|_| !watch.must_look()));
            match exit_codes.bear(&main.name, reading) {
                Ok(Reading::Code(code)) => main.code = Some(code),
                Ok(Reading::LaterBy(milliseconds)) => {
                    look_at_ms = [look_at_ms, Some(now_ms.saturating_add(milliseconds))].into_iter().flatten().min();
                }
                Ok(Reading::Later) => {}
                Err(error) => {
                    // It ended and left no code that can be read: not 0.
                    console.error(&error);
                    main.code = Some(exit::FAILURE);
                }
            }
        }
        if !given_up && mains.iter().any(|main| main.code.is_none()) {
            match escalation.tick(now_ms) {
                Some(Step::Leave(signal)) => leave(console, &mains, signal),
                Some(Step::GiveUp) => given_up = true,
                None => {}
            }
        }
        let is_over = given_up || mains.iter().all(|main| main.code.is_some());
        if is_over && logs_until_ms.is_none() {
            // What the logs hold by now is still copied, and for that, too, there is a time.
            mains.iter_mut().for_each(Main::end_logs);
            logs_until_ms = Some(deadline_ms.map(|_| now_ms.saturating_add(escalate::last_wait_ms(grace_ms))));
        }
        let progress = follower.follow(&mut mains, given_up);
        match progress {
            Progress::Idle if is_over => break,
            // Nobody answers, and nobody reads.
            Progress::Blocked(_) if given_up => break,
            _ if logs_until_ms.flatten().is_some_and(|until_ms| now_ms >= until_ms) => {
                console.warn(&[b"the logs are cut: there was no time to copy all of them"]);
                break;
            }
            _ => {}
        }
        let mut set = PollSet::new(&signals);
        if let Some(fd) = watch.as_fd() {
            set.push(fd, PollFlags::IN);
        }
        if let Progress::Blocked(outlet) = progress {
            set.push(follower.outlets[outlet].as_fd(), PollFlags::OUT);
        }
        let until_ms = [
            look_at_ms,
            logs_until_ms.flatten(),
            escalation.next_ms().filter(|_| !is_over),
            (progress == Progress::More).then_some(now_ms),
        ];
        set.wait(now_ms, until_ms.into_iter().flatten().min());
        while let Some(signal) = signals.next() {
            if signal.is_request_to_end() && is_over {
                // Only a reader of our output is waited for.
                follower.broken = [true; 2];
            } else if signal.is_request_to_end() {
                escalation.request(console::monotonic_ms());
            }
        }
        exit_codes.note(watch.take().unwrap_or_default());
    }
    let code = exit::first_failure(mains.iter().map(|main| main.code));
    let (text, is_whole) = report(console, &shared, &template, &mains, code, flags.json);
    let printed = print(&signals, &text).map_err(|error| console.fatal(&error));
    Ok(match printed {
        _ if code != 0 => code,
        Err(status) => status,
        Ok(()) if is_whole => 0,
        Ok(()) => exit::FAILURE,
    })
}

/// The containers to wait for, their folders made and watched.
#[inline(never)]
fn mains(shared: &Shared<'_>, template: &Template<'_>, watch: &mut Watch, follow: bool) -> Result<Vec<Main>, Error> {
    let mut mains = Vec::new();
    let mut add = |name: &[u8]| -> Result<(), Error> {
        let folder = shared.container(name)?;
        let mut room = [0; PATH_BYTES];
        let path = shared.layout_of(name).path(File::Container, &mut room).ok();
        let watch = path.and_then(|path| watch.add(path, follow));
        let log = |file, outlet| Log { name: layout::base_name(file), outlet, file: None, offset: 0, end: u64::MAX, is_said: false };
        let logs = match (follow, shared.layout.kind) {
            (false, _) => vec![],
            (true, Kind::Flat) => vec![log(File::Stdout, 0), log(File::Stderr, 1)],
            (true, Kind::Pod) => vec![log(File::Combined, 0)],
        };
        mains.push(Main { name: name.to_vec(), folder, watch, code: None, logs });
        Ok(())
    };
    if shared.layout.kind == Kind::Flat {
        add(b"main")?;
    } else {
        for name in run::main_containers(template) {
            let mut room = [0; CONTAINER_NAME_BYTES];
            add(name.decode(&mut room).unwrap_or_default())?;
        }
    }
    Ok(mains)
}

fn leave(console: Console, mains: &[Main], signal: Signal) {
    for main in mains.iter().filter(|main| main.code.is_none()) {
        if let Err(error) = kill::leave(&main.folder, signal) {
            console.error(&error);
        }
    }
}

/// Writes the report to stdout; a request to end ends it.
#[inline(never)]
fn print(signals: &Signals, mut text: &[u8]) -> Result<(), Error> {
    let error = |errno| Error::new("write the report to", b"stdout", errno);
    let outlet = Outlet::new(rustix::stdio::stdout());
    while !text.is_empty() {
        let written = outlet.write(text).map_err(error)?;
        text = &text[written..];
        if written == 0 {
            let mut set = PollSet::new(signals);
            set.push(outlet.as_fd(), PollFlags::OUT);
            set.wait(0, None);
            while let Some(signal) = signals.next() {
                if signal.is_request_to_end() {
                    return Err(error(Errno::INTR));
                }
            }
        }
    }
    Ok(())
}

/// How far the logs are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Everything that is there.
    Idle,
    /// There is more; others have their turn first.
    More,
    /// This outlet takes no more now.
    Blocked(usize),
}

/// Pieces that are copied before signals, deadline and exit codes are looked at again.
const PIECES_A_TURN: usize = 64;

/// Copies logs; with several containers, each line under its container's name.
struct Follower {
    console: Console,
    prefixed: bool,
    /// Our own stdout and stderr.
    outlets: [Outlet; 2],
    /// What an outlet has not taken yet.
    unsent: Vec<u8>,
    unsent_to: usize,
    lines: Lines,
    /// Which of the outlets nobody reads any more.
    broken: [bool; 2],
}

impl Follower {
    fn new(console: Console, prefixed: bool) -> Self {
        let outlets = [Outlet::new(rustix::stdio::stdout()), Outlet::new(rustix::stdio::stderr())];
        Self { console, prefixed, outlets, unsent: Vec::new(), unsent_to: 0, lines: Lines::default(), broken: [false; 2] }
    }

    /// Sends what is unsent; says whether all of it is gone.
    fn send(&mut self) -> bool {
        let to = self.unsent_to;
        while !self.unsent.is_empty() && !self.broken[to] {
            match self.outlets[to].write(&self.unsent) {
                Ok(0) => return false,
                Ok(written) => drop(self.unsent.drain(..written)),
                Err(errno) => {
                    self.console.warn(&[&Error::new("write to", b"our own output", errno).text]);
                    self.broken[to] = true;
                }
            }
        }
        self.unsent.clear();
        true
    }

    /// Copies what is there, and no more than a turn's worth. `given_up` says that no container is waited for any more.
    fn follow(&mut self, mains: &mut [Main], given_up: bool) -> Progress {
        let mut pieces = 0;
        loop {
            let mut moved = false;
            for (at, main) in mains.iter_mut().enumerate() {
                for log in &mut main.logs {
                    if !self.send() {
                        return Progress::Blocked(self.unsent_to);
                    }
                    if self.broken[log.outlet] || !self.lines.may_write(at) {
                        continue;
                    }
                    let mut room = [0; PIECE_BYTES];
                    let read = match log.read(&main.folder, &mut room) {
                        Ok(read) => read,
                        // It is tried again at the next turn.
                        Err(errno) => {
                            if !core::mem::replace(&mut log.is_said, true) {
                                self.console.warn(&[&Error::new("read", &main.folder.path_of(log.name), errno).text]);
                            }
                            0
                        }
                    };
                    let bytes = &room[..read];
                    let unsent = &mut self.unsent;
                    let taken = if self.prefixed {
                        let has_ended = given_up || main.code.is_some();
                        let piece = Piece { at, name: &main.name, bytes, has_ended, is_full: read == room.len() };
                        self.lines.take(piece, &mut |bytes| unsent.extend_from_slice(bytes))
                    } else {
                        unsent.extend_from_slice(bytes);
                        read
                    };
                    log.offset += taken as u64;
                    self.unsent_to = log.outlet;
                    moved |= !self.unsent.is_empty();
                }
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

/// What a parameter or an artifact is reported as: places in one text, as there may be thousands of them.
struct Found {
    name: Range<usize>,
    path: Range<usize>,
    contents: Option<Range<usize>>,
    size_bytes: Option<u64>,
}

/// Bytes of a parameter's value that are reported: what the objects of an API server hold.
const VALUE_BYTES: usize = 1 << 20;

/// Adds bytes to a text; where they are in it.
fn add(text: &mut Vec<u8>, bytes: &[u8]) -> Range<usize> {
    let start = text.len();
    text.extend_from_slice(bytes);
    start..text.len()
}

/// The same for a string of the template.
fn add_str(text: &mut Vec<u8>, string: Str<'_>) -> Range<usize> {
    let start = text.len();
    text.resize(start + string.raw_len(), 0);
    let length = string.decode(&mut text[start..]).map_or(0, <[u8]>::len);
    text.truncate(start + length);
    start..text.len()
}

/// Where an output is: the shared folder or a mount, and the path below it, which other containers may have filled with links.
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

/// Where to look for outputs.
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
        let path = outputs::decode(path, &mut decoded).ok()?.to_bytes();
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

/// The whole report as text, and whether everything that is there could be read.
#[inline(never)]
fn report(console: Console, shared: &Shared<'_>, template: &Template<'_>, mains: &[Main], exit_code: u8, json: bool) -> (Vec<u8>, bool) {
    let is_whole = Cell::new(true);
    let unread = |what: &[u8], name: &[u8], place: &Place<'_>, errno: Errno| {
        let path = place.path();
        let words: &[&[u8]] = &[what, b" '", name, b"': ", &Error::new("read", &path, errno).text];
        // What is too long to be reported is there all the same.
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
        let read = |place: &Place<'_>| files::read_below(place.folder, &mut parts(place.below), VALUE_BYTES);
        let contents = match found.map(|place| (read(&place), place)) {
            Some((Ok(value), _)) => Some(add(&mut text, report::trim_newline(&value))),
            // The default stands for what is missing, not for what cannot be read.
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
        let found = found.and_then(|place| match files::open_below(place.folder, &mut parts(place.below)) {
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
                [File::Stdout, File::Stderr, File::Combined].map(|file| main.folder.size(layout::base_name(file)));
            Container { name: Text(&main.name), exit_code: main.code, stdout_bytes, stderr_bytes, combined_bytes }
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
    let report = Report { exit_code, containers: &containers, parameters: &parameters, artifacts: &artifacts };
    let mut room = Vec::new();
    if json {
        // A guess that holds unless much of it is escaped. Pages that nobody writes to are not there.
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
    } else {
        let mut measure = Writer::new(&mut []);
        report.write_text(&mut measure);
        room.resize(measure.needed(), 0);
        report.write_text(&mut Writer::new(&mut room));
    }
    (room, is_whole.get())
}
