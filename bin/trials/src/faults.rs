//! The trial `faults`. It plays every fault of every system call in a run of the static binary: the call fails once, or every time; a read or write is
//! shortened; a SIGKILL ends the run at the call.
//!
//! Enters: the binary, and the scenarios of `scenarios.rs`. Leaves: a summary and the wrong results. Refuses: a system call that its list of errors does not
//! name. It follows docs/protocol.md and the errors of each call's manual page.
//!
//! strace runs the binary and makes the Nth call of a kind fail, or makes all of them fail, or kills the binary there. [`crate::short`] runs the binary and
//! shortens the Nth call. It can also close a descriptor and return an error, as a file system does that could not keep what was written. After each run these
//! must hold:
//!
//! - The exit status and the exit-code file agree, or the status is not 0 and emissary has printed a warning.
//! - No file under a final name is wrong.
//! - The command has ended.
//! - After a SIGKILL, a second run over the same volume does its work.
//! - After an interrupted or shortened call, the run ends as if nothing had happened.
//! - A call may fail every time although emissary has an older call as a substitute, or although a run can do without it. That run leaves every output.
//! - If close(2) fails for a file that was written, emissary has printed a warning, and the exit status is not 0.
//!
//! A run without a fault, also under strace, gives the number of calls of each kind.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result, ensure};

use crate::scenarios::{Pod, SCENARIOS, Scenario};
use crate::short::{self, Share};

/// The errors that a call of this kind can return and that a healthy machine never shows. `None` for a call that this list does not know.
fn errors(call: &str) -> Option<&'static [&'static str]> {
    let errors: &[&str] = match call {
        "read" | "pread64" => &["EINTR", "EIO", "EAGAIN"],
        "write" => &["EINTR", "EIO", "ENOSPC", "EAGAIN"],
        "pwritev2" | "sendto" => &["EINTR", "EIO", "EAGAIN", "EOPNOTSUPP", "ENOSYS", "EPERM"],
        "openat" | "open" => &["EINTR", "EIO", "EMFILE", "ENFILE", "ENOMEM", "EACCES", "EPERM"],
        "mkdirat" => &["EIO", "ENOSPC", "EACCES", "EPERM"],
        "renameat" | "renameat2" | "unlinkat" => &["EIO", "EACCES", "EPERM", "ENOSPC"],
        "ppoll" | "poll" => &["EINTR", "ENOMEM"],
        "wait4" => &["EINTR"],
        "kill" | "getpgid" => &["EPERM"],
        "clone" => &["EAGAIN", "ENOMEM", "EPERM"],
        "pipe2" | "signalfd4" | "inotify_init1" | "inotify_add_watch" => &["EMFILE", "ENOMEM"],
        "mmap" | "mremap" => &["ENOMEM"],
        "fstat" | "newfstatat" | "stat" | "lstat" | "getdents64" | "readlinkat" | "lseek" | "getcwd" | "faccessat2" | "fchmod" => {
            &["EIO", "EACCES", "EPERM", "ENOMEM"]
        }
        // A kernel or filter that does not know the call returns one of the first two.
        "copy_file_range" => &["ENOSYS", "EPERM", "EXDEV", "EIO", "EINTR", "ENOSPC"],
        "prctl" | "ioctl" | "umask" | "fcntl" => &["EPERM", "EIO"],
        "fchown" => &["EPERM", "EIO"],
        "flock" => &["ENOLCK", "EIO"],
        "dup2" | "dup3" => &["EMFILE"],
        "pwrite64" | "ftruncate" => &["EIO", "ENOSPC"],
        "waitid" | "waitpid" => &["EINTR"],
        // Linux's close frees the descriptor even if it returns an error, but strace would skip the call. `LATE` serves instead.
        "close" => &[],
        // These calls cannot fail, or fail only for a mistake of emissary's own, or end the process.
        "arch_prctl" | "set_tid_address" | "rt_sigprocmask" | "rt_sigaction" | "getpid" | "gettid" | "exit_group" | "munmap"
        | "mprotect" | "futex" | "madvise" | "sched_getaffinity" | "clock_gettime" | "brk" => &[],
        _ => return None,
    };
    Some(errors)
}

/// The errors that close(2) can return after it has closed the descriptor.
const LATE: [&str; 3] = ["EINTR", "EIO", "EDQUOT"];

/// The errors with which a call fails every time. They are those of a filter that does not know the call, and those of [`errors`] that can last.
fn lasting_errors(call: &str) -> Vec<&'static str> {
    match call {
        // `LATE` serves for close. strace follows one thread of a run, and a failing futex there would wake no other thread. The C library ends a process that
        // it cannot set up.
        "close" | "futex" | "arch_prctl" | "set_tid_address" | "exit_group" => Vec::new(),
        _ => {
            let lasting = errors(call).unwrap_or_default().iter().filter(|error| !matches!(**error, "EINTR" | "EAGAIN" | "EPERM"));
            [&["EPERM", "ENOSYS"], &lasting.copied().collect::<Vec<_>>()[..]].concat()
        }
    }
}

/// Whether a run must do its work although a kernel or a sandbox refuses this call: emissary uses an older call instead, or does without it.
fn is_dispensable(call: &str) -> bool {
    matches!(
        call,
        "ppoll"
            | "poll"
            | "wait4"
            | "clone"
            | "pipe2"
            | "signalfd4"
            | "inotify_init1"
            | "inotify_add_watch"
            | "mremap"
            | "fstat"
            | "newfstatat"
            | "pread64"
            | "pwrite64"
            | "lseek"
            | "faccessat2"
            | "fchmod"
            | "fchown"
            | "copy_file_range"
            | "prctl"
            | "ioctl"
            | "umask"
            | "fcntl"
            | "flock"
            | "ftruncate"
            | "renameat"
            | "renameat2"
            | "rt_sigaction"
            | "munmap"
            | "mprotect"
            | "madvise"
            | "sched_getaffinity"
            | "dup2"
            | "unlinkat"
            | "getpid"
            | "getpgid"
            | "pwritev2"
    )
}

/// Plays every fault of the named scenarios; without a name, of all scenarios.
pub(crate) fn faults(binary: &Path, only: &[String]) -> Result<()> {
    let names = SCENARIOS.map(|scenario| scenario.name);
    for name in only {
        ensure!(names.contains(&&**name), "no scenario '{name}'; there are: {}", names.join(", "));
    }
    let mut tries = Vec::new();
    for scenario in SCENARIOS.iter().filter(|scenario| only.is_empty() || only.iter().any(|name| name == scenario.name)) {
        tries.extend(tries_of(scenario, &counted(binary, scenario)?)?);
    }
    let (next, unreached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    // A run mostly waits for processes, so the machine can play more runs at once than it has CPUs.
    std::thread::scope(|scope| {
        for _ in 0..5 * std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(one) = tries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match one.play_until_reached(binary) {
                        Ok(true) => {}
                        Ok(false) => drop(unreached.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => wrong.lock().expect("no panic").push(format!("{}, {}: {error:#}", one.scenario.name, one.words())),
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner()?;
    for line in &wrong {
        println!("{line}");
    }
    let count = |is: &dyn Fn(Fault) -> bool| tries.iter().filter(|one| is(one.fault)).count();
    let (kills, shorts) = (count(&|fault| matches!(fault, Fault::Kill)), count(&|fault| matches!(fault, Fault::Short(_))));
    let (lasting, late) = (count(&|fault| matches!(fault, Fault::Lasts(_))), count(&|fault| matches!(fault, Fault::Late(_))));
    let unreached = unreached.into_inner();
    let failures = tries.len() - kills - shorts - lasting - late;
    println!(
        "{failures} calls failed once, {lasting} kinds of calls failed every time, {late} closes failed once the descriptor was closed, {shorts} calls \
         shortened, {kills} kills; {unreached} of these not reached; {} wrong",
        wrong.len()
    );
    ensure!(wrong.is_empty(), "some faults have wrong results");
    // The number of waits and reads differs from run to run. `short` leaves reads of one byte and reads of whole records alone.
    ensure!(10 * unreached < tries.len(), "too few calls were reached: has the format of strace's trace changed?");
    Ok(())
}

/// All faults of a scenario. `calls` is the number of calls of each kind that the scenario makes.
fn tries_of<'a>(scenario: &'a Scenario, calls: &BTreeMap<String, usize>) -> Result<Vec<Try<'a>>> {
    ensure!(calls.values().sum::<usize>() > 10, "{}: strace has counted {calls:?}", scenario.name);
    let mut tries = Vec::new();
    for (call, &count) in calls {
        let mut last = |fault| tries.push(Try { scenario, call: call.clone(), nth: 0, fault });
        lasting_errors(call).iter().for_each(|error| last(Fault::Lasts(error)));
        if short::IS_POSSIBLE && call == "close" {
            LATE.iter().for_each(|error| last(Fault::Late(error)));
        }
        for nth in 1..=count {
            let mut add = |fault| tries.push(Try { scenario, call: call.clone(), nth, fault });
            let errors = errors(call).with_context(|| format!("{}: the list of errors has no entry for {call}", scenario.name))?;
            errors.iter().for_each(|error| add(Fault::Fails(error)));
            if short::IS_POSSIBLE && call == "close" {
                LATE.iter().for_each(|error| add(Fault::Late(error)));
            }
            if call == "write" {
                add(Fault::WritesNothing);
            }
            if short::IS_POSSIBLE && short::call(call).is_some() {
                add(Fault::Short(Share::One));
                add(Fault::Short(Share::Half));
            }
            add(Fault::Kill);
        }
    }
    Ok(tries)
}

/// What happens at a call.
#[derive(Clone, Copy)]
enum Fault {
    /// The call returns this error.
    Fails(&'static str),
    /// Each call of this kind returns this error.
    Lasts(&'static str),
    /// The kernel closes the descriptor, and the call returns this error.
    Late(&'static str),
    /// The call returns 0, as if the disk had no room for the moment. A read never gets this fault, because 0 would claim the end of a file that has not ended.
    WritesNothing,
    /// The kernel carries the call out for fewer bytes.
    Short(Share),
    /// A SIGKILL ends the run.
    Kill,
}

/// One fault at one call of one scenario.
struct Try<'a> {
    scenario: &'a Scenario,
    call: String,
    /// Which of these calls, counted from 1; 0 means each of them.
    nth: usize,
    fault: Fault,
}

impl Try<'_> {
    /// The fault in the words of strace's option `inject`, which a person can read, too.
    fn words(&self) -> String {
        let what = match self.fault {
            Fault::Fails(error) => format!("error={error}"),
            Fault::WritesNothing => "retval=0".to_string(),
            Fault::Short(share) => format!("short={}", share.word()),
            Fault::Kill => "signal=KILL".to_string(),
            Fault::Lasts(error) => return format!("{}:error={error}", self.call),
            Fault::Late(error) => format!("late={error}"),
        };
        format!("{}:{what}:when={}", self.call, self.nth)
    }

    /// Plays the fault up to three times, because not every run makes the same number of calls. Returns whether a run reached the call.
    fn play_until_reached(&self, binary: &Path) -> Result<bool> {
        // The same calls are too short to be shortened in every run.
        let runs = if let Fault::Short(_) | Fault::Lasts(_) = self.fault { 1 } else { 3 };
        for _ in 0..runs {
            if self.play(binary)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Plays the fault once and checks the result. Returns whether the run reached the call.
    fn play(&self, binary: &Path) -> Result<bool> {
        let pod = Pod::new(binary, self.scenario)?;
        let traced = |how: &str, what: &str| -> Result<Vec<String>> {
            let trials = std::env::current_exe()?.display().to_string();
            let mark = pod.mark().display().to_string();
            Ok(vec![trials, how.into(), self.call.clone(), self.nth.to_string(), what.into(), mark])
        };
        let through: Vec<String> = match self.fault {
            Fault::Short(share) => traced("short", share.word())?,
            Fault::Late(error) => traced("late", error)?,
            _ => pod.strace(&["-e", &format!("trace={}", self.call), "-e", &format!("inject={}", self.words())]),
        };
        let ended = pod.run(&through)?;
        pod.command_is_gone()?;
        let whole = pod.outputs_are_whole()?;
        let is_reached = match self.fault {
            Fault::Kill => ended.status.is_none(),
            Fault::Short(_) | Fault::Late(_) => !pod.marks()?.is_empty(),
            _ => pod.trace()?.contains("(INJECTED)"),
        };
        match self.fault {
            Fault::Kill => pod.runs_again(&ended)?,
            // The call is repeated, or its rest follows, so the run must succeed.
            Fault::Short(_) | Fault::Fails("EINTR") | Fault::Late("EINTR") => {
                ensure!(ended.status == Some(self.scenario.code), "the run ends with {:?}: {}", ended.status, ended.stderr);
                pod.agrees(&ended)?;
                ensure!(!ended.stderr.contains("emissary: "), "emissary warns: {}", ended.stderr);
                ensure!(whole, "an output is missing");
                pod.is_told(&ended, whole)?;
            }
            Fault::Fails(_) | Fault::WritesNothing => {
                pod.agrees(&ended)?;
                pod.is_told(&ended, whole)?;
            }
            Fault::Late(_) => {
                pod.agrees(&ended)?;
                pod.is_told(&ended, whole)?;
                pod.is_told_of_closes(&ended, self.nth == 0)?;
            }
            Fault::Lasts("EPERM" | "ENOSYS") if is_dispensable(&self.call) => {
                ensure!(ended.status == Some(self.scenario.code), "the run ends with {:?}: {}", ended.status, ended.stderr);
                pod.agrees(&ended)?;
                ensure!(whole, "an output is missing: {}", ended.stderr);
                pod.is_told(&ended, whole)?;
            }
            // Emissary can write no warning and no output here.
            Fault::Lasts(_) if self.call == "write" => {
                pod.agrees(&ended)?;
                ensure!(ended.status != Some(0), "nothing can be written, and the status is 0");
            }
            Fault::Lasts(_) => {
                pod.agrees(&ended)?;
                pod.is_told(&ended, whole)?;
            }
        }
        Ok(is_reached)
    }
}

/// Counts the calls of each kind in a run without a fault.
fn counted(binary: &Path, scenario: &Scenario) -> Result<BTreeMap<String, usize>> {
    let pod = Pod::new(binary, scenario)?;
    let ended = pod.run(&pod.strace(&["-e", "trace=all"]))?;
    ensure!(ended.status == Some(scenario.code), "{} ends with {:?}: {}", scenario.name, ended.status, ended.stderr);
    ensure!(pod.outputs_are_whole()?, "{} leaves no output", scenario.name);
    let mut calls = BTreeMap::new();
    for line in pod.trace()?.lines() {
        if let Some((name, _)) = line.split_once('(')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            *calls.entry(name.to_string()).or_insert(0) += 1;
        }
    }
    // strace itself makes this call.
    calls.remove("execve");
    Ok(calls)
}
