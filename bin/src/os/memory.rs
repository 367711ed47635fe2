//! The allocator, and the end of a run that has no memory left.
//!
//! Enters: requests of the `alloc` library. Leaves: pieces of one arena, or pages. Refuses nothing: where the kernel has no page left, the process writes
//! its exit code and ends.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering};
use std::os::fd::{AsRawFd, BorrowedFd};

use emissary_core::exit;

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
static EXIT_CODE_FOLDER: AtomicI32 = AtomicI32::new(-1);
/// The command's code, once it has one that is not 0.
static EXIT_CODE: AtomicU8 = AtomicU8::new(exit::FAILURE);

/// Says where the exit code goes, should memory run out. The descriptor stays open as long as the process.
pub(crate) fn set_exit_code_folder(folder: BorrowedFd<'_>) {
    EXIT_CODE_FOLDER.store(folder.as_raw_fd(), Ordering::Relaxed);
}

/// Says which exit code the run has if memory runs out from now on.
pub(crate) fn set_exit_code(code: u8) {
    EXIT_CODE.store(code, Ordering::Relaxed);
}

/// Ends the run: there is no memory. Says so and leaves the exit code, with nothing but the stack.
#[cold]
#[inline(never)]
fn out_of_memory() -> ! {
    static IS_ENDING: AtomicBool = AtomicBool::new(false);
    // One thread writes the exit code. Another one waits for the end.
    while IS_ENDING.swap(true, Ordering::AcqRel) {
        // SAFETY: touches no memory; every signal is blocked.
        unsafe { libc::pause() };
    }
    let code = EXIT_CODE.load(Ordering::Relaxed);
    let folder = EXIT_CODE_FOLDER.load(Ordering::Relaxed);
    let name = c"exitcode";
    let mut room = [0; 3];
    let digits = exit::digits(code, &mut room);
    let draft = super::fs::RESERVED_EXIT_CODE;
    // The file whose room is reserved, or a new one.
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the name is NUL-terminated; a descriptor that is none is an error.
    let file = unsafe { libc::openat(folder, draft.as_ptr(), flags, 0o644) };
    if file >= 0 {
        // SAFETY: the pointer is to so many bytes.
        let written = unsafe { libc::pwrite(file, digits.as_ptr().cast(), digits.len(), 0) };
        // SAFETY: takes numbers.
        let cut = unsafe { libc::ftruncate(file, digits.len() as libc::off_t) };
        if cut == 0 && usize::try_from(written) == Ok(digits.len()) {
            // SAFETY: both names are NUL-terminated.
            unsafe { libc::renameat(folder, draft.as_ptr(), folder, name.as_ptr()) };
        }
    }
    super::terminal::restore();
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

unsafe extern "C" {
    /// The start of the program's first page, and the end of its code, as the linker defines them (ld(1)).
    static __ehdr_start: u8;
    static etext: u8;
}

/// Gives back the pages of the program's own file that the start has touched. The kernel has mapped up to 64 KiB around each of them. It reads a page from the
/// file's cache again when the process needs it (madvise(2), MADV_DONTNEED).
#[inline(always)]
pub(crate) fn unmap_code() {
    // SAFETY: getauxval reads the process's own vector.
    let page = usize::try_from(unsafe { libc::getauxval(libc::AT_PAGESZ) }).unwrap_or(0).max(PAGE_BYTES);
    let start = (&raw const __ehdr_start).addr().next_multiple_of(page);
    let end = (&raw const etext).addr() & !(page - 1);
    if let Some(bytes) = end.checked_sub(start) {
        // SAFETY: these pages are headers, constants and code. They are mapped from the file and were never written, so nothing is lost.
        let _ = unsafe { rustix::mm::madvise(ptr::with_exposed_provenance_mut(start), bytes, rustix::mm::Advice::LinuxDontNeed) };
    }
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
        let old = at;
        // SAFETY: the caller says that `at` came from `alloc` with this layout, and it is no part of the arena.
        let at = unsafe { libc::mremap(old.cast(), whole_pages(layout.size()), whole_pages(new_size), libc::MREMAP_MAYMOVE) };
        if at != libc::MAP_FAILED {
            return at.cast();
        }
        // A sandbox that refuses mremap(2) still gives pages.
        let now = map(new_size);
        // SAFETY: both are at least that long, and `now` is fresh.
        unsafe { ptr::copy_nonoverlapping(old, now, layout.size().min(new_size)) };
        // SAFETY: the caller gives it up, and it is no part of the arena.
        unsafe { libc::munmap(old.cast(), whole_pages(layout.size())) };
        now
    }
}
