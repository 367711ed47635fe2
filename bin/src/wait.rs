//! The wait role: until every main container has an exit code, then the report.
//!
//! Past the deadline, or when asked to end, it leaves SIGTERM for them, and SIGKILL after the grace period. With `--follow` it copies their
//! captured logs while they grow; a reader that takes nothing never keeps it from the deadline.

use core::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use emissary_core::buf::Writer;
use emissary_core::escalate::{Escalation, Step};
use emissary_core::exit;
use emissary_core::json::Str;
use emissary_core::layout::{self, File, Kind};
use emissary_core::limits::{CONTAINER_NAME_BYTES, PATH_BYTES};
use emissary_core::report::{self, Artifact, Container, Parameter, Report};
use emissary_core::signal::Signal;
use emissary_core::template::Template;
use emissary_core::time;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::Mode;

use crate::args::{Common, Wait};
use crate::console::{self, Console};
use crate::error::Error;
use crate::events::{self, PollSet, Signals, Watch};
use crate::files::{self, Folder, Shared};
use crate::{kill, outputs, run, sys};

/// Bytes of a log that are copied at once: what poll(2) says a pipe takes.
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
    code: Option<u8>,
    logs: Vec<Log>,
}

/// A captured log on its way to our own stdout or stderr.
struct Log {
    name: &'static CStr,
    target: BorrowedFd<'static>,
    file: Option<OwnedFd>,
    offset: u64,
}

fn wait_and_report(common: &Common<'_>, flags: &Wait) -> Result<u8, Error> {
    let console = common.console;
    let deadline_ms = deadline_ms(flags)?;
    let shared = Shared::open(common)?;
    let document = shared.read_template()?;
    let template = run::parse_template(&document)?;
    let signals = Signals::new()?;
    let mut watch = Watch::new(console);
    let mut mains = Vec::new();
    let mut add = |name: &[u8]| -> Result<(), Error> {
        let folder = shared.container(name)?;
        let mut room = [0; PATH_BYTES];
        if let Ok(path) = shared.layout_of(name).path(File::Container, &mut room) {
            watch.add(path, flags.follow);
        }
        let log = |file, target| Log { name: layout::base_name(file), target, file: None, offset: 0 };
        let logs = match (flags.follow, shared.layout.kind) {
            (false, _) => vec![],
            (true, Kind::Flat) => vec![log(File::Stdout, rustix::stdio::stdout()), log(File::Stderr, rustix::stdio::stderr())],
            (true, Kind::Pod) => vec![log(File::Combined, rustix::stdio::stdout())],
        };
        mains.push(Main { name: name.to_vec(), folder, code: None, logs });
        Ok(())
    };
    if shared.layout.kind == Kind::Flat {
        add(b"main")?;
    } else {
        for name in run::main_containers(&template) {
            let mut room = [0; CONTAINER_NAME_BYTES];
            add(name.decode(&mut room).unwrap_or_default())?;
        }
    }
    let mut follower = Follower { console, prefixed: mains.len() > 1, within_line_of: None, broken: false };
    let grace_ms = flags.grace_ms.unwrap_or_else(run::grace_ms);
    let mut escalation = Escalation::new(deadline_ms, grace_ms);
    let mut is_closed = false;
    let mut given_up = false;
    loop {
        let now_ms = console::monotonic_ms();
        let mut look_at_ms = watch.look_at_ms(now_ms);
        for main in mains.iter_mut().filter(|main| main.code.is_none()) {
            match run::read_exit_code(&main.folder, is_closed) {
                Ok((code, again_in_ms)) => {
                    main.code = code;
                    if let Some(again_in_ms) = again_in_ms {
                        let at = now_ms.saturating_add(again_in_ms);
                        look_at_ms = Some(look_at_ms.map_or(at, |now| now.min(at)));
                    }
                }
                Err(error) => {
                    // It ended and left no code that can be read: not 0.
                    console.error(&error);
                    main.code = Some(exit::FAILURE);
                }
            }
        }
        let blocked = follower.follow(&mut mains);
        if mains.iter().all(|main| main.code.is_some()) || given_up {
            if blocked.is_none() {
                break;
            }
        } else {
            match escalation.tick(console::monotonic_ms()) {
                Some(Step::Leave(signal)) => leave(console, &mains, signal),
                Some(Step::GiveUp) => given_up = true,
                None => {}
            }
        }
        let mut set = PollSet::new(&signals);
        if let Some(fd) = watch.as_fd() {
            set.push(fd, PollFlags::IN);
        }
        if let Some(fd) = blocked {
            set.push(fd, PollFlags::OUT);
        }
        if !given_up {
            set.wait(now_ms, [look_at_ms, escalation.next_ms()].into_iter().flatten().min());
        }
        while let Some(signal) = signals.next() {
            if signal.is_request_to_end() {
                if mains.iter().all(|main| main.code.is_some()) {
                    // Only the reader of our stdout is waited for.
                    follower.broken = true;
                }
                escalation.request(console::monotonic_ms());
            }
        }
        is_closed = watch.take().exit_code;
    }
    let code = exit_code(&mains);
    report(&shared, &template, &mains, code, flags.json)?;
    Ok(code)
}

fn leave(console: Console, mains: &[Main], signal: Signal) {
    for main in mains.iter().filter(|main| main.code.is_none()) {
        if let Err(error) = kill::leave(&main.folder, signal) {
            console.error(&error);
        }
    }
}

/// The first code that is not 0; 64 for a container that left none.
fn exit_code(mains: &[Main]) -> u8 {
    mains.iter().map(|main| main.code.unwrap_or(exit::FAILURE)).find(|code| *code != 0).unwrap_or(0)
}

/// Copies logs. With several containers each line begins with its container's name, and lines are never torn.
struct Follower {
    console: Console,
    prefixed: bool,
    /// The container, by its place, in the middle of whose line the output is.
    within_line_of: Option<usize>,
    /// Nobody reads us any more.
    broken: bool,
}

impl Follower {
    /// Copies what is there; gives the descriptor that took no more, if one did.
    fn follow(&mut self, mains: &mut [Main]) -> Option<BorrowedFd<'static>> {
        loop {
            let mut moved = false;
            for (at, main) in mains.iter_mut().enumerate() {
                let has_ended = main.code.is_some();
                for log in &mut main.logs {
                    if self.broken || self.within_line_of.is_some_and(|other| other != at) {
                        continue;
                    }
                    if log.file.is_none() {
                        log.file = main.folder.open_log(log.name);
                    }
                    let mut piece = [0; PIECE_BYTES];
                    let room = piece.len() - main.name.len() - 3;
                    let read = match &log.file {
                        Some(file) => rustix::io::pread(file, &mut piece[..room], log.offset).unwrap_or(0),
                        None => 0,
                    };
                    let Some((taken, text)) = self.next_piece(at, &main.name, &piece[..read], has_ended, read == room) else { continue };
                    let mut fds = [PollFd::from_borrowed_fd(log.target, PollFlags::OUT)];
                    if rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0) {
                        return Some(log.target);
                    }
                    if let Err(errno) = console::write_all(log.target, &text) {
                        self.console.warn(&[&Error::new("write to", b"our own output", errno).text]);
                        self.broken = true;
                    }
                    let ends_line = text.last() == Some(&b'\n');
                    self.within_line_of = (self.prefixed && !ends_line).then_some(at);
                    log.offset += taken as u64;
                    moved = true;
                }
            }
            if !moved {
                return None;
            }
        }
    }

    /// How many bytes of `bytes` are copied next, and as what. `is_full` says that a longer piece would not have fitted.
    fn next_piece(&self, at: usize, name: &[u8], bytes: &[u8], has_ended: bool, is_full: bool) -> Option<(usize, Vec<u8>)> {
        if !self.prefixed {
            return (!bytes.is_empty()).then(|| (bytes.len(), bytes.to_vec()));
        }
        let within = self.within_line_of == Some(at);
        if bytes.is_empty() {
            // The last line of a container that has ended gets the newline it lacks.
            return (within && has_ended).then(|| (0, b"\n".to_vec()));
        }
        let line = match bytes.iter().position(|&byte| byte == b'\n') {
            Some(newline) => &bytes[..=newline],
            None if has_ended || is_full || within => bytes,
            None => return None,
        };
        let mut text = if within { Vec::new() } else { [name, b": "].concat() };
        text.extend_from_slice(line);
        Some((line.len(), text))
    }
}

/// What a parameter or an artifact is reported as.
struct Found {
    name: Vec<u8>,
    path: Vec<u8>,
    contents: Option<Vec<u8>>,
    size_bytes: u64,
}

fn text(string: Str<'_>) -> Vec<u8> {
    let mut bytes = vec![0; string.raw_len()];
    let length = string.decode(&mut bytes).map_or(0, <[u8]>::len);
    bytes.truncate(length);
    bytes
}

fn report(shared: &Shared<'_>, template: &Template<'_>, mains: &[Main], exit_code: u8, json: bool) -> Result<(), Error> {
    // Where an output is: on its volume mount, or in the shared folder.
    let locate = |path: Str<'_>, file: fn(&[u8]) -> File<'_>| -> Option<Vec<u8>> {
        let (mut room, mut other, mut mount) = ([0; PATH_BYTES], [0; PATH_BYTES], [0; PATH_BYTES]);
        let path = outputs::decode(path, &mut room).ok()?;
        if template.is_on_mount(path.to_bytes(), &mut mount) {
            return Some(path.to_bytes_with_nul().to_vec());
        }
        Some(shared.path(file(path.to_bytes()), &mut other).ok()?.to_bytes_with_nul().to_vec())
    };
    let c_str = |path: &Vec<u8>| CStr::from_bytes_with_nul(path).unwrap_or_default().to_owned();
    let parameters: Vec<Found> = template
        .output_parameters()
        .map(|parameter| {
            let value = locate(parameter.path, |path| File::Parameter(path)).and_then(|at| files::read_file(&c_str(&at)).ok());
            let value = value.map(|value| report::trim_newline(&value).to_vec()).or_else(|| parameter.default.map(text));
            Found { name: text(parameter.name), path: text(parameter.path), contents: value, size_bytes: 0 }
        })
        .collect();
    let artifacts: Vec<Found> = template
        .output_artifacts()
        .map(|artifact| {
            let at = locate(artifact.path, |path| File::Artifact(path));
            let stat = at.as_ref().and_then(|at| rustix::fs::stat(c_str(at)).ok());
            let contents = stat.and(at).map(|at| c_str(&at).into_bytes());
            Found {
                name: text(artifact.name),
                path: text(artifact.path),
                contents,
                size_bytes: stat.map_or(0, |stat| stat.st_size.unsigned_abs()),
            }
        })
        .collect();
    let containers: Vec<Container<'_>> = mains
        .iter()
        .map(|main| Container {
            name: &main.name,
            exit_code: main.code,
            logs: [File::Stdout, File::Stderr, File::Combined].map(|file| {
                let name = layout::base_name(file);
                main.folder.size(name).map(|size_bytes| (name.to_str().unwrap_or_default(), size_bytes))
            }),
        })
        .collect();
    let parameters: Vec<Parameter<'_>> =
        parameters.iter().map(|found| Parameter { name: &found.name, path: &found.path, value: found.contents.as_deref() }).collect();
    let artifacts: Vec<Artifact<'_>> = artifacts
        .iter()
        .map(|found| Artifact {
            name: &found.name,
            path: &found.path,
            file: found.contents.as_deref().map(|file| (file, found.size_bytes)),
        })
        .collect();
    let report = Report { exit_code, containers: &containers, parameters: &parameters, artifacts: &artifacts };
    let write = |out: &mut Writer<'_>| if json { report.write_json(out) } else { report.write_text(out) };
    let mut measure = Writer::new(&mut []);
    write(&mut measure);
    let mut room = vec![0; measure.needed()];
    let mut out = Writer::new(&mut room);
    write(&mut out);
    console::write_all(rustix::stdio::stdout(), out.written()).map_err(|errno| Error::new("write the report to", b"stdout", errno))
}
