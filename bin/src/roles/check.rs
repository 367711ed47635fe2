//! The check role tells what this image, volume and sandbox lack, a line for each thing (docs/protocol.md, "Check").
//!
//! Enters: the shared folder, if there is one, and the kernel's answers. Leaves: lines `ok`, `without` (a run does without it) or `lacks` (a run fails or may
//! lose something), and status 1 if a line says `lacks`. Refuses nothing. It writes one small file to the volume and removes it.

use core::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs::{Access, CWD, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;

use super::request::Common;
use crate::os::signals::{self, Signals};
use crate::os::{clock, env, errno, fs};
use crate::pod::folder::Folder;
use crate::pod::shared::Shared;
use crate::pod::watch::Watch;
use crate::report::error::Error;
use crate::report::output;

/// Room that a run may need for its exit code, its record and short logs.
const ROOM_BYTES: u64 = 1 << 20;

/// The seconds at 2020-01-01. A clock that shows less was never set.
const YEAR_2020: i64 = 1_577_836_800;

/// What one line says.
#[derive(Clone, Copy)]
enum Finding {
    Ok,
    Without,
    Lacks,
}

/// The lines so far.
struct Findings {
    text: Vec<u8>,
    status: u8,
}

impl Findings {
    fn add(&mut self, finding: Finding, parts: &[&[u8]]) {
        let word: &[u8] = match finding {
            Finding::Ok => b"ok      ",
            Finding::Without => b"without ",
            Finding::Lacks => b"lacks   ",
        };
        if matches!(finding, Finding::Lacks) {
            self.status = 1;
        }
        self.text.extend([word, &parts.concat(), b"\n"].concat());
    }

    /// Adds a line for a thing that works, or that a run does without.
    fn optional(&mut self, what: &[u8], result: Result<(), Errno>, instead: &[u8]) {
        match result {
            Ok(()) => self.add(Finding::Ok, &[what]),
            Err(errno) => self.add(Finding::Without, &[what, b": ", &errno::cause(errno), b"; ", instead]),
        }
    }
}

/// Prints what is lacking. Returns 0 or 1.
#[cold]
pub(crate) fn check(common: &Common<'_>) -> u8 {
    signals::block_all_signals();
    // The container's folder is made as a run makes it.
    fs::set_umask(0);
    let mut findings = Findings { text: Vec::new(), status: 0 };
    match Shared::open_if_any(&common.place) {
        Ok(None) => findings.add(Finding::Ok, &[b"volume: none is asked for: a plain init"]),
        Ok(Some(shared)) => match shared.own() {
            Ok(folder) => check_volume(&folder, &mut findings),
            Err(error) => findings.add(Finding::Lacks, &[b"volume: ", &error.text]),
        },
        Err(error) => findings.add(Finding::Lacks, &[b"volume: ", &error.text]),
    }
    findings.optional(b"signal descriptor", Signals::new().map(drop), b"emissary asks for signals every 20 ms");
    let terminal = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).map(drop);
    findings.optional(b"pseudo-terminal", terminal, b"a command gets our own terminal");
    findings.optional(b"/tmp", fs::access(CWD, c"/tmp", Access::WRITE_OK | Access::EXEC_OK), b"long arguments go to the volume");
    let log = env::var(c"EMISSARY_TERMINATION_LOG").unwrap_or(c"/dev/termination-log");
    findings.optional(b"termination log", fs::access(CWD, log, Access::WRITE_OK), b"errors go to stderr alone");
    if clock::unix_ms() / 1_000 < YEAR_2020 {
        findings.add(Finding::Lacks, &[b"clock: it was never set"]);
    } else {
        findings.add(Finding::Ok, &[b"clock"]);
    }
    check_user(&mut findings);
    check_filter(&mut findings);
    output::print(&findings.text, findings.status)
}

/// Writes a file as a run writes its exit code, locks it, and watches its folder.
fn check_volume(folder: &Folder, findings: &mut Findings) {
    let path = folder.path();
    let probe = fs::unique_name(9);
    let probe = probe.as_c_str();
    match folder.write(probe, b"   ", 0o600) {
        Ok(()) => {
            findings.add(Finding::Ok, &[b"volume: ", path, b" is writable"]);
            let ahead_ms = folder.age_ms(probe).ok().flatten().map_or(0, |(age_ms, ..)| age_ms);
            if ahead_ms.abs() > 1_000 {
                findings.add(Finding::Without, &[b"one clock: the volume's differs from ours"]);
            }
            let locked = fs::open_at(folder.as_fd(), probe, OFlags::RDWR | OFlags::NOFOLLOW, 0).and_then(|file| fs::lock(file.as_fd()));
            findings.optional(b"locks", locked, b"nobody notices that emissary was killed");
            folder.remove(probe);
        }
        Err(error) => findings.add(Finding::Lacks, &[b"volume: ", &error.text]),
    }
    if let Ok(room) = rustix::fs::fstatvfs(folder.as_fd()) {
        let bytes = room.f_bavail.saturating_mul(room.f_frsize);
        // Some file systems do not count files, and say 0 of 0.
        let has_files = room.f_files == 0 || room.f_favail > 16;
        let said = Error::count(b"room: ", bytes >> 20, b" MiB free");
        let finding = if bytes >= ROOM_BYTES && has_files { Finding::Ok } else { Finding::Lacks };
        findings.add(finding, &[&said.text, if has_files { b"" } else { b", but no more files" }]);
    }
    let mut watch = Watch::new(crate::report::console::Console::silent());
    let mut folder_path = path.to_vec();
    folder_path.push(0);
    let watched = watch.add(CStr::from_bytes_with_nul(&folder_path).unwrap_or_default(), false);
    findings.optional(b"inotify", watched.map(drop).ok_or(Errno::NOSYS), b"emissary looks every 100 ms");
}

/// Looks for the name of our user. Images FROM scratch have none.
fn check_user(findings: &mut Findings) {
    let user = rustix::process::getuid().as_raw();
    let number = Error::count(b"", user.into(), b"");
    let users = fs::read_file(c"/etc/passwd", 1 << 20).unwrap_or_default();
    let has_name = users.split(|&byte| byte == b'\n').any(|line| line.split(|&byte| byte == b':').nth(2) == Some(&number.text[..]));
    if has_name {
        findings.add(Finding::Ok, &[b"user ", &number.text]);
    } else {
        findings.add(Finding::Without, &[b"user ", &number.text, b": it has no name in /etc/passwd"]);
    }
}

/// Tells whether a seccomp filter is at work (proc_pid_status(5)).
fn check_filter(findings: &mut Findings) {
    let status = fs::read_file(c"/proc/self/status", 1 << 16).unwrap_or_default();
    let mode = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Seccomp:")).map(<[u8]>::trim_ascii);
    findings.add(
        Finding::Ok,
        &[match mode {
            Some(b"0") => b"seccomp: no filter",
            Some(_) => b"seccomp: a filter",
            None => b"seccomp: the kernel does not tell",
        }],
    );
}
