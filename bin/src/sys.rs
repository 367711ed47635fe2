//! The only unsafe code: the edge to the kernel and the C library where rustix has no safe wrapper.
//!
//! Every wrapper is safe, takes and returns plain data or owned descriptors, and holds no policy.
#![allow(unsafe_code, reason = "the one file that may")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::marker::PhantomData;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use emissary_core::exit;
use emissary_core::gzip::crc::Crc;
use rustix::io::Errno;
use rustix::process::Pid;

/// The C library's entry: no Rust runtime runs before it, which would ignore SIGPIPE and install handlers that the command would
/// have to be freed from again.
#[cfg(not(test))]
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let count = usize::try_from(argc).unwrap_or(0);
    let mut args = Vec::with_capacity(count);
    for at in 0..count {
        // SAFETY: the C library passes `argc` pointers (C11, 5.1.2.2.1).
        let arg = unsafe { argv.add(at) };
        // SAFETY: `arg` is one of those pointers.
        let arg = unsafe { arg.read() };
        // SAFETY: each is a NUL-terminated string that lives as long as the process.
        args.push(unsafe { CStr::from_ptr(arg) });
    }
    c_int::from(crate::start(&args))
}

/// An allocator for a process that allocates little: what is small comes from one arena, one behind the other, and what is large (a template, a
/// compressor's state) has pages of its own by mmap. Once a main container's command has started and its outputs are taken nothing is allocated, unless
/// something is to be said. Memory that is not touched is not there.
///
/// Only the last piece of the arena can be given back or grow in place. Others stay taken; where none is left there are still pages.
pub(crate) struct Pages;

#[cfg(not(test))]
#[global_allocator]
static PAGES: Pages = Pages;

/// Smallest page of any architecture. The kernel rounds lengths up to its own.
const PAGE_BYTES: usize = 4096;

/// Bytes of the arena, and of the largest piece of it.
const ARENA_BYTES: usize = 8 * 1024;
const SMALL_BYTES: usize = 1024;

#[repr(align(16))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: a piece is handed out to one owner at a time, by the exchange of `TAKEN`.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));
/// Bytes of the arena that are taken.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

const fn whole_pages(bytes: usize) -> usize {
    bytes.saturating_add(PAGE_BYTES - 1) & !(PAGE_BYTES - 1)
}

/// Pieces are multiples of 16 bytes, so that all are aligned to that.
const fn piece(bytes: usize) -> usize {
    bytes.saturating_add(15) & !15
}

/// Where in the arena an address lies.
fn in_arena(at: *mut u8) -> Option<usize> {
    let offset = at.addr().wrapping_sub(ARENA.0.get().addr());
    (offset < ARENA_BYTES).then_some(offset)
}

/// Moves the end of what is taken, if it is where it is thought to be.
fn moves(from: usize, to: usize) -> bool {
    to <= ARENA_BYTES && TAKEN.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Where the exit code of a run goes that ends because there is no memory: a folder's descriptor.
static LEAVE_IN: AtomicI32 = AtomicI32::new(-1);
/// The command's code, once it has one that is not 0.
static LEAVE_CODE: AtomicU8 = AtomicU8::new(exit::FAILURE);

/// Says where the exit code goes, should memory run out. The descriptor stays open as long as the process.
pub(crate) fn leave_in(folder: BorrowedFd<'_>) {
    LEAVE_IN.store(folder.as_raw_fd(), Ordering::Relaxed);
}

/// Says which exit code the run has if memory runs out from now on.
pub(crate) fn leave_code(code: u8) {
    LEAVE_CODE.store(code, Ordering::Relaxed);
}

/// Ends the run: there is no memory. Says so and leaves the exit code, with nothing but the stack.
#[cold]
#[inline(never)]
fn out_of_memory() -> ! {
    static LEAVES: AtomicBool = AtomicBool::new(false);
    // One thread leaves; another waits for the end.
    while LEAVES.swap(true, Ordering::AcqRel) {
        // SAFETY: touches no memory; every signal is blocked.
        unsafe { libc::pause() };
    }
    let code = LEAVE_CODE.load(Ordering::Relaxed);
    let folder = LEAVE_IN.load(Ordering::Relaxed);
    let draft = crate::files::own_name(0);
    let (draft, name) = (draft.as_c_str(), c"exitcode");
    let mut room = [0; 3];
    let digits = exit::digits(code, &mut room);
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name is NUL-terminated; a descriptor that is none is an error.
    let file = unsafe { libc::openat(folder, draft.as_ptr(), flags, 0o644) };
    if file >= 0 {
        // SAFETY: the pointer is to so many bytes.
        let written = unsafe { libc::write(file, digits.as_ptr().cast(), digits.len()) };
        if usize::try_from(written) == Ok(digits.len()) {
            // SAFETY: both names are NUL-terminated.
            unsafe { libc::renameat(folder, draft.as_ptr(), folder, name.as_ptr()) };
        }
    }
    // Last, and only where somebody takes it.
    let text = b"emissary: error: out of memory\n";
    let mut ready = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
    // SAFETY: the pointer is to one entry of ours.
    if unsafe { libc::poll(&raw mut ready, 1, 0) } == 1 {
        // SAFETY: the pointer is to so many bytes.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }
    // SAFETY: ends the process. The command, if it runs, is killed by the kernel.
    unsafe { libc::_exit(code.into()) }
}

fn map(bytes: usize) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that is in use.
    let at = unsafe { libc::mmap(ptr::null_mut(), whole_pages(bytes), protection, flags, -1, 0) };
    if at == libc::MAP_FAILED { out_of_memory() } else { at.cast() }
}

/// Whether a command runs, during which nothing is to be allocated.
#[cfg(feature = "strict-allocation")]
static RUNS: AtomicBool = AtomicBool::new(false);

/// Says that a command runs, or does no longer: with the feature `strict-allocation` any allocation in between ends the process.
pub(crate) fn command_runs(runs: bool) {
    #[cfg(feature = "strict-allocation")]
    RUNS.store(runs, Ordering::Relaxed);
    #[cfg(not(feature = "strict-allocation"))]
    let _ = runs;
}

/// Ends the process where a command runs.
#[inline(always)]
fn expect_no_command() {
    #[cfg(feature = "strict-allocation")]
    if RUNS.load(Ordering::Relaxed) {
        // SAFETY: ends the process; nothing is unwound.
        unsafe { libc::abort() }
    }
}

// SAFETY: a piece of the arena is nobody else's until it is given back, and aligned to 16; mmap gives memory that nothing else uses, aligned to a
// page, until munmap; larger alignments are refused.
unsafe impl GlobalAlloc for Pages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        expect_no_command();
        if layout.align() > PAGE_BYTES {
            return ptr::null_mut();
        }
        if layout.size() <= SMALL_BYTES && layout.align() <= 16 {
            let taken = TAKEN.load(Ordering::Relaxed);
            // Another thread that was faster is no reason to try again: there are pages.
            if moves(taken, taken + piece(layout.size())) {
                // SAFETY: within the arena, as `moves` has checked.
                return unsafe { ARENA.0.get().cast::<u8>().add(taken) };
            }
        }
        map(layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let at = unsafe { self.alloc(layout) };
        // Fresh pages are zero.
        if !at.is_null() && in_arena(at).is_some() {
            // SAFETY: `alloc` has just given so many bytes.
            unsafe { at.write_bytes(0, layout.size()) };
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match in_arena(at) {
            Some(offset) => {
                moves(offset + piece(layout.size()), offset);
            }
            // SAFETY: the caller says that `at` came from `alloc` with this layout, and it is no part of the arena.
            None => unsafe {
                libc::munmap(at.cast(), whole_pages(layout.size()));
            },
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        expect_no_command();
        if let Some(offset) = in_arena(at) {
            let (old, new) = (piece(layout.size()), piece(new_size));
            if old == new || new_size <= SMALL_BYTES && moves(offset + old, offset + new) || new < old {
                return at;
            }
            // SAFETY: the alignment is the old one, and the caller says that the size is no larger than it may be.
            let layout_now = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
            // SAFETY: as above; a size of zero never gets here (GlobalAlloc::realloc).
            let now = unsafe { self.alloc(layout_now) };
            if !now.is_null() {
                // SAFETY: both are at least that long, and different pieces.
                unsafe { ptr::copy_nonoverlapping(at, now, layout.size().min(new_size)) };
                moves(offset + old, offset);
            }
            return now;
        }
        if whole_pages(layout.size()) == whole_pages(new_size) {
            return at;
        }
        // SAFETY: the caller says that `at` came from `alloc` with this layout, and it is no part of the arena.
        let at = unsafe { libc::mremap(at.cast(), whole_pages(layout.size()), whole_pages(new_size), libc::MREMAP_MAYMOVE) };
        if at == libc::MAP_FAILED { out_of_memory() } else { at.cast() }
    }
}

/// The value of an environment variable. It lives as long as the process, which never changes its environment.
pub(crate) fn env(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: `name` is NUL-terminated; no thread changes the environment.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: getenv gives a NUL-terminated string of the environment.
    Some(unsafe { CStr::from_ptr(value) })
}

/// The C library's text for an error number, such as `No such file or directory`.
pub(crate) fn error_text(errno: Errno) -> &'static [u8] {
    // SAFETY: strerror takes any number.
    let text = unsafe { libc::strerror(errno.raw_os_error()) };
    if text.is_null() {
        return b"unknown error";
    }
    // SAFETY: strerror gives a NUL-terminated string; only one thread calls it, and musl's are static.
    unsafe { CStr::from_ptr(text) }.to_bytes()
}

fn last_errno() -> Errno {
    // SAFETY: the address of this thread's error number is always valid.
    let at = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    Errno::from_raw_os_error(unsafe { at.read() })
}

/// A signal mask as the kernel has it: bit N-1 for signal N, the real-time signals of the C library included.
#[derive(Clone, Copy)]
pub(crate) struct Mask(u64);

fn set_mask(mask: Mask) -> Mask {
    let mut old = 0_u64;
    // SAFETY: both pointers are to eight bytes, as the size says; the kernel's set is a 64-bit word on every Linux we build for.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK as c_long, ptr::from_ref(&mask.0), ptr::from_mut(&mut old), 8 as c_long)
    };
    Mask(old)
}

/// Blocks every signal that can be blocked, and gives the mask from before.
pub(crate) fn block_all_signals() -> Mask {
    set_mask(Mask(u64::MAX))
}

/// A descriptor that reads the signals which are sent to us, all of which are blocked.
pub(crate) fn signal_descriptor() -> Result<OwnedFd, Errno> {
    let mask = u64::MAX;
    let flags = libc::SFD_NONBLOCK | libc::SFD_CLOEXEC;
    // SAFETY: the pointer is to eight bytes, as the size says.
    let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1 as c_long, ptr::from_ref(&mask), 8 as c_long, flags as c_long) };
    let fd = RawFd::try_from(fd).map_err(|_| Errno::BADF)?;
    if fd < 0 {
        return Err(last_errno());
    }
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets SIGCHLD to its default action, without which ended children vanish unseen; says whether it was ignored.
pub(crate) fn take_sigchld() -> bool {
    // SAFETY: the default action runs no code of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) == libc::SIG_IGN }
}

/// Sends a signal; a negative `pid` means the process group, as in kill(2).
pub(crate) fn kill(pid: i32, signal: u8) -> Result<(), Errno> {
    // SAFETY: kill touches no memory.
    if unsafe { libc::kill(pid, c_int::from(signal)) } == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Where the kernel says that our own executable was started from, for a system without /proc.
pub(crate) fn executable_path() -> Option<&'static CStr> {
    // SAFETY: getauxval reads the process's own vector.
    let at = unsafe { libc::getauxval(libc::AT_EXECFN) };
    if at == 0 {
        return None;
    }
    // SAFETY: AT_EXECFN is the address of a NUL-terminated string that lives as long as the process (getauxval(3)).
    Some(unsafe { CStr::from_ptr(ptr::with_exposed_provenance(usize::try_from(at).ok()?)) })
}

/// An argument vector: borrowed strings, and the null pointer that ends it.
pub(crate) struct Argv<'a> {
    pointers: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> Argv<'a> {
    /// No arguments yet, room for `count`.
    pub(crate) fn with_capacity(count: usize) -> Self {
        let mut pointers = Vec::with_capacity(count.saturating_add(1));
        pointers.push(ptr::null());
        Self { pointers, strings: PhantomData }
    }

    /// Appends one.
    pub(crate) fn push(&mut self, arg: &'a CStr) {
        let end = self.pointers.len() - 1;
        self.pointers[end] = arg.as_ptr();
        self.pointers.push(ptr::null());
    }
}

/// How to start a command.
pub(crate) struct Spawn<'a> {
    /// The executable.
    pub(crate) path: &'a CStr,
    /// Its arguments, its own name first.
    pub(crate) argv: &'a Argv<'a>,
    /// What becomes its stdin, stdout and stderr; `None` leaves ours.
    pub(crate) stdio: [Option<BorrowedFd<'a>>; 3],
    /// Its stdin is a terminal that becomes the controlling one of a session of its own.
    pub(crate) terminal: bool,
    /// Where there is no such terminal, ours becomes that of its process group.
    pub(crate) takes_terminal: bool,
    /// The signal mask it starts with.
    pub(crate) mask: Mask,
    /// SIGCHLD is ignored.
    pub(crate) ignores_sigchld: bool,
    /// The file mode creation mask it starts with.
    pub(crate) umask: u32,
}

/// What the child's side needs. It lives on the parent's stack, which waits until the child has called execve or ended.
struct Child {
    path: *const c_char,
    argv: *const *const c_char,
    stdio: [RawFd; 3],
    terminal: bool,
    /// Where there is no such terminal, ours becomes that of its process group.
    takes_terminal: bool,
    mask: Mask,
    ignores_sigchld: bool,
    umask: libc::mode_t,
    parent: libc::pid_t,
    report: RawFd,
}

/// Bytes of the stack on which the child runs until execve. It makes system calls and nothing deep.
const CHILD_STACK_BYTES: usize = 4 * 1024;

#[repr(align(16))]
struct ChildStack(#[allow(dead_code, reason = "only its address is used")] [core::mem::MaybeUninit<u8>; CHILD_STACK_BYTES]);

/// Starts a command in a process group (or session) of its own, which dies with us. Returns once it runs.
///
/// The child shares our memory until execve, as with vfork(2): nothing is copied, however large we are.
///
/// # Errors
/// What execve(2) or a step before it gave, or what pipe(2) or clone(2) gave.
#[inline(never)]
pub(crate) fn spawn(spawn: &Spawn<'_>) -> Result<Pid, Errno> {
    // Its write end closes at execve; until then it carries the error number, on systems that emulate vfork too.
    let (failed, report) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let mut child = Child {
        path: spawn.path.as_ptr(),
        argv: spawn.argv.pointers.as_ptr(),
        stdio: spawn.stdio.map(|fd| fd.map_or(-1, |fd| fd.as_raw_fd())),
        terminal: spawn.terminal,
        takes_terminal: spawn.takes_terminal,
        mask: spawn.mask,
        ignores_sigchld: spawn.ignores_sigchld,
        umask: spawn.umask as libc::mode_t,
        parent: rustix::process::getpid().as_raw_nonzero().get(),
        report: report.as_raw_fd(),
    };
    let mut stack = core::mem::MaybeUninit::<ChildStack>::uninit();
    // SAFETY: one past the end of the stack, whose type is aligned to 16.
    let top = unsafe { stack.as_mut_ptr().add(1) };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: with CLONE_VFORK this thread waits until the child has replaced its memory or ended, so `child` and `stack` outlive it; all
    // signals are blocked, so no handler runs on either side.
    let pid = unsafe { libc::clone(run_child, top.cast(), flags, ptr::from_mut(&mut child).cast()) };
    if pid < 0 {
        return Err(last_errno());
    }
    drop(report);
    let pid = Pid::from_raw(pid).ok_or(Errno::CHILD)?;
    let mut errno = [0; 4];
    loop {
        match rustix::io::read(&failed, &mut errno) {
            Ok(4) => {
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                return Err(Errno::from_raw_os_error(c_int::from_ne_bytes(errno)));
            }
            Err(Errno::INTR) => {}
            _ => return Ok(pid),
        }
    }
}

/// The child's side, from clone to execve. Async-signal-safe throughout: system calls only, no allocation, no lock.
extern "C" fn run_child(child: *mut c_void) -> c_int {
    let child = child.cast::<Child>();
    // SAFETY: the parent passes a pointer to its `Child` and waits.
    let child = unsafe { &*child };
    let errno = exec_child(child).raw_os_error().to_ne_bytes();
    // SAFETY: four bytes to a descriptor of ours; where that fails the parent reads nothing and reaps status 127.
    unsafe { libc::write(child.report, errno.as_ptr().cast(), errno.len()) };
    // SAFETY: ends this process without running what the parent has registered.
    unsafe { libc::_exit(127) }
}

fn check(result: c_int) -> Result<(), Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

fn exec_child(child: &Child) -> Errno {
    prepare_child(child).map_or_else(
        |errno| errno,
        |()| {
            // SAFETY: the parent passes a NUL-terminated path and a vector that ends with a null pointer; `environ` is the C library's.
            unsafe { libc::execve(child.path, child.argv, environ) };
            last_errno()
        },
    )
}

fn prepare_child(child: &Child) -> Result<(), Errno> {
    if child.terminal {
        // SAFETY: touches no memory.
        check(unsafe { libc::setsid() })?;
        // SAFETY: makes the terminal on the given descriptor the controlling one; takes a number.
        check(unsafe { libc::ioctl(child.stdio[0], libc::TIOCSCTTY as _, 0) })?;
    } else {
        // SAFETY: touches no memory.
        check(unsafe { libc::setpgid(0, 0) })?;
        if child.takes_terminal {
            // Before it can read from it. That is allowed from the background, too, while SIGTTOU is blocked, as every signal is.
            // SAFETY: touches no memory.
            let group = unsafe { libc::getpid() };
            // SAFETY: takes numbers.
            unsafe { libc::tcsetpgrp(0, group) };
        }
    }
    // SAFETY: takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    // SAFETY: touches no memory.
    let parent = unsafe { libc::getppid() };
    // A child that is the first of a PID namespace sees none.
    if parent != child.parent && parent != 0 {
        // The parent died before the line above: nobody is left to report to.
        // SAFETY: ends this process.
        unsafe { libc::_exit(127) };
    }
    for (target, &source) in (0..).zip(&child.stdio) {
        if source >= 0 {
            // SAFETY: takes numbers; descriptors 0 to 2 are always open (see `events`), so `source` is another one.
            check(unsafe { libc::dup2(source, target) })?;
        }
    }
    if child.ignores_sigchld {
        // SAFETY: runs no code of ours.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
    // SAFETY: takes a number.
    unsafe { libc::umask(child.umask) };
    set_mask(child.mask);
    Ok(())
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Replaces this process. Returns only what went wrong.
pub(crate) fn execute(path: &CStr, argv: &Argv<'_>) -> Errno {
    // SAFETY: `Argv` ends with a null pointer and holds NUL-terminated strings; `environ` is the C library's.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), environ) };
    last_errno()
}

/// A clock of clock_gettime(2).
#[derive(Clone, Copy)]
pub(crate) enum Clock {
    Realtime,
    Monotonic,
}

/// A clock's time: seconds, and nanoseconds behind them.
pub(crate) fn clock(clock: Clock) -> (i64, i64) {
    // The C library has its own way to the kernel's page; rustix would bring another. Where a word has 32 bits the libc crate still has the time in one.
    #[cfg(target_pointer_width = "64")]
    {
        let id = match clock {
            Clock::Realtime => libc::CLOCK_REALTIME,
            Clock::Monotonic => libc::CLOCK_MONOTONIC,
        };
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a timespec of ours; both clocks are always there.
        unsafe { libc::clock_gettime(id, &raw mut now) };
        (now.tv_sec, now.tv_nsec)
    }
    #[cfg(not(target_pointer_width = "64"))]
    {
        let now = rustix::time::clock_gettime(match clock {
            Clock::Realtime => rustix::time::ClockId::Realtime,
            Clock::Monotonic => rustix::time::ClockId::Monotonic,
        });
        (now.tv_sec, now.tv_nsec.into())
    }
}

/// The same in milliseconds.
pub(crate) fn clock_ms(which: Clock) -> i64 {
    let (seconds, nanoseconds) = clock(which);
    seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
}

/// Starts a thread that runs `work`, which does not end: the process's end ends it. It has our signal mask, under which every signal is blocked.
///
/// # Errors
/// What pthread_create(3) gives: `EAGAIN` at a limit.
pub(crate) fn start_thread(work: fn()) -> Result<(), Errno> {
    extern "C" fn run(work: *mut c_void) -> *mut c_void {
        // SAFETY: the only caller is `start_thread`, which passes a `fn()`.
        let work = unsafe { core::mem::transmute::<*mut c_void, fn()>(work) };
        work();
        ptr::null_mut()
    }
    let mut thread = core::mem::MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: `thread` is written on success; no attributes are the default ones.
    match unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), run, work as *mut c_void) } {
        0 => Ok(()),
        errno => Err(Errno::from_raw_os_error(errno)),
    }
}

/// The CRC-32 of bytes, by the processor's instructions where it has them.
pub(crate) fn crc(tables: &Crc, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        // Leaf 1, bit 1 of ECX: PCLMULQDQ (Intel's manual, volume 2, CPUID).
        if core::arch::x86_64::__cpuid(1).ecx & 1 << 1 != 0 {
            // SAFETY: the processor has just said that it has the instruction.
            return unsafe { tables.update_clmul(0, bytes) };
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        // SAFETY: getauxval reads the process's own vector.
        let features = unsafe { libc::getauxval(libc::AT_HWCAP) };
        if features & libc::HWCAP_CRC32 != 0 {
            // SAFETY: the kernel has just said that the processor has the instruction.
            return unsafe { tables.update_crc(0, bytes) };
        }
    }
    tables.update(0, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processors_crc_is_that_of_the_tables() {
        let tables = Crc::new();
        let bytes: Vec<u8> = (0..900_u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        for length in 0..=bytes.len() {
            assert_eq!(crc(&tables, &bytes[..length]), tables.update(0, &bytes[..length]), "{length}");
        }
    }
}
