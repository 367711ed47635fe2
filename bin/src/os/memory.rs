//! The memory allocator, and the end of a run when the system has no memory left (mmap(2), mremap(2), `core::alloc::GlobalAlloc`).
//!
//! Enters: requests of Rust's `alloc` library. Leaves: pieces of one fixed arena, or whole pages of the kernel. Refuses: alignments above a page. If the
//! kernel has no page left, the process writes its exit code and ends.
#![allow(unsafe_code, reason = "the edge to the kernel and the C library")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering};
use std::os::fd::{AsRawFd, BorrowedFd};

use emissary_core::exit;

/// An allocator for a process that allocates little. Small pieces come from one arena, one behind the other. Large ones, such as a template or a compressor's
/// state, get pages of their own from mmap(2). While a main container's command runs, emissary allocates nothing, unless emissary prints a message or runs on
/// a terminal. A page that is never touched takes no memory.
///
/// Only the arena's last piece can be given back or grow in place. The other pieces stay taken. When the arena is full, small pieces get pages too.
pub(crate) struct Pages;

#[cfg(not(test))]
#[global_allocator]
static PAGES: Pages = Pages;

/// Smallest page size of any architecture. The kernel rounds lengths up to its own page size.
const PAGE_BYTES: usize = 4096;

/// Bytes of the arena, and of the largest piece of the arena.
const ARENA_BYTES: usize = 8 * 1024;
const SMALL_BYTES: usize = 1024;

#[repr(align(16))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

// SAFETY: the exchange of `TAKEN` gives each piece to one owner at a time.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(UnsafeCell::new([0; ARENA_BYTES]));
/// Bytes of the arena that are taken.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

const fn whole_pages(bytes: usize) -> usize {
    bytes.saturating_add(PAGE_BYTES - 1) & !(PAGE_BYTES - 1)
}

/// Rounds a length up to 16 bytes, so that every piece is aligned to 16.
const fn piece(bytes: usize) -> usize {
    bytes.saturating_add(15) & !15
}

/// Returns an address's offset in the arena, or `None` if the address is outside the arena.
fn in_arena(at: *mut u8) -> Option<usize> {
    let offset = at.addr().wrapping_sub(ARENA.0.get().addr());
    (offset < ARENA_BYTES).then_some(offset)
}

/// Moves the end of the taken part from `from` to `to`. Returns whether the end was at `from` and `to` is inside the arena.
fn moves(from: usize, to: usize) -> bool {
    to <= ARENA_BYTES && TAKEN.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// Descriptor of the folder for the exit code of a run that memory exhaustion ends; -1 for none.
static EXIT_CODE_FOLDER: AtomicI32 = AtomicI32::new(-1);
/// Exit code of such a run: the command's code, if the command has ended with a code that is not 0.
static EXIT_CODE: AtomicU8 = AtomicU8::new(exit::FAILURE);

/// Sets the folder for the exit code of a run that memory exhaustion ends. The caller keeps the descriptor open as long as the process lives.
pub(crate) fn set_exit_code_folder(folder: BorrowedFd<'_>) {
    EXIT_CODE_FOLDER.store(folder.as_raw_fd(), Ordering::Relaxed);
}

/// Sets the exit code of a run that memory exhaustion ends.
pub(crate) fn set_exit_code(code: u8) {
    EXIT_CODE.store(code, Ordering::Relaxed);
}

/// Ends the run because the system has no memory left: writes the exit code and prints a message. Needs only the stack.
#[cold]
#[inline(never)]
fn out_of_memory() -> ! {
    static IS_ENDING: AtomicBool = AtomicBool::new(false);
    // The first thread writes the exit code. Any other thread waits here for the end of the process.
    while IS_ENDING.swap(true, Ordering::AcqRel) {
        // SAFETY: the call touches no memory, and every signal is blocked.
        unsafe { libc::pause() };
    }
    let code = EXIT_CODE.load(Ordering::Relaxed);
    let folder = EXIT_CODE_FOLDER.load(Ordering::Relaxed);
    let name = c"exitcode";
    let mut room = [0; 3];
    let digits = exit::digits(code, &mut room);
    let draft = super::fs::RESERVED_EXIT_CODE;
    // If the run reserved room for the exit code, this opens that file. Otherwise it makes a new one.
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the name is NUL-terminated; the kernel gives an error if `folder` is no descriptor.
    let file = unsafe { libc::openat(folder, draft.as_ptr(), flags, 0o644) };
    if file >= 0 {
        // SAFETY: the pointer and the length are those of one slice.
        let written = unsafe { libc::pwrite(file, digits.as_ptr().cast(), digits.len(), 0) };
        // SAFETY: the call takes numbers alone.
        let cut = unsafe { libc::ftruncate(file, digits.len() as libc::off_t) };
        if cut == 0 && usize::try_from(written) == Ok(digits.len()) {
            // SAFETY: both names are NUL-terminated.
            unsafe { libc::renameat(folder, draft.as_ptr(), folder, name.as_ptr()) };
        }
    }
    super::terminal::restore();
    // The message comes last, and only if stderr takes it without waiting.
    let text = b"emissary: error: out of memory\n";
    let mut ready = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
    // SAFETY: the pointer is to one entry of ours.
    if unsafe { libc::poll(&raw mut ready, 1, 0) } == 1 {
        // SAFETY: the pointer and the length are those of one slice.
        unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
    }
    // SAFETY: the call ends the process. If the command runs, the kernel kills the command.
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

/// Whether a command runs. Meanwhile emissary must allocate nothing.
#[cfg(feature = "strict-allocation")]
static RUNS: AtomicBool = AtomicBool::new(false);

/// Notes whether a command runs. With the feature `strict-allocation`, an allocation while a command runs ends the process.
pub(crate) fn command_runs(runs: bool) {
    #[cfg(feature = "strict-allocation")]
    RUNS.store(runs, Ordering::Relaxed);
    #[cfg(not(feature = "strict-allocation"))]
    let _ = runs;
}

/// Ends the process if a command runs. Without the feature `strict-allocation`, does nothing.
#[inline(always)]
fn expect_no_command() {
    #[cfg(feature = "strict-allocation")]
    if RUNS.load(Ordering::Relaxed) {
        // SAFETY: the call ends the process and unwinds nothing.
        unsafe { libc::abort() }
    }
}

// SAFETY: a piece of the arena has one owner until it is given back, and is aligned to 16. mmap gives memory that has no other owner until munmap and is
// aligned to a page. `alloc` refuses larger alignments.
unsafe impl GlobalAlloc for Pages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        expect_no_command();
        if layout.align() > PAGE_BYTES {
            return ptr::null_mut();
        }
        if layout.size() <= SMALL_BYTES && layout.align() <= 16 {
            let taken = TAKEN.load(Ordering::Relaxed);
            // If another thread took the piece first, we do not try again: pages are still available.
            if moves(taken, taken + piece(layout.size())) {
                // SAFETY: `moves` has checked that the piece is within the arena.
                return unsafe { ARENA.0.get().cast::<u8>().add(taken) };
            }
        }
        map(layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: our caller makes the promises that `alloc` needs.
        let at = unsafe { self.alloc(layout) };
        // The kernel's new pages are zero already.
        if !at.is_null() && in_arena(at).is_some() {
            // SAFETY: `alloc` has just returned that many bytes.
            unsafe { at.write_bytes(0, layout.size()) };
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match in_arena(at) {
            Some(offset) => {
                moves(offset + piece(layout.size()), offset);
            }
            // SAFETY: the caller promises that `at` came from `alloc` with this layout; `at` is outside the arena, so it is a mapping.
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
            // SAFETY: the alignment is the old one, and the caller promises that the new size is valid for it.
            let layout_now = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
            // SAFETY: as above; the caller promises that the size is not zero (GlobalAlloc::realloc).
            let now = unsafe { self.alloc(layout_now) };
            if !now.is_null() {
                // SAFETY: both pieces are at least that long, and they do not overlap.
                unsafe { ptr::copy_nonoverlapping(at, now, layout.size().min(new_size)) };
                moves(offset + old, offset);
            }
            return now;
        }
        if whole_pages(layout.size()) == whole_pages(new_size) {
            return at;
        }
        let old = at;
        // SAFETY: the caller promises that `at` came from `alloc` with this layout; `at` is outside the arena, so it is a mapping.
        let at = unsafe { libc::mremap(old.cast(), whole_pages(layout.size()), whole_pages(new_size), libc::MREMAP_MAYMOVE) };
        if at != libc::MAP_FAILED {
            return at.cast();
        }
        // If a sandbox refuses mremap(2), mmap(2) still gives pages.
        let now = map(new_size);
        // SAFETY: both mappings are at least that long, and `now` is a new one.
        unsafe { ptr::copy_nonoverlapping(old, now, layout.size().min(new_size)) };
        // SAFETY: the caller gives `old` up, and `old` is a mapping.
        unsafe { libc::munmap(old.cast(), whole_pages(layout.size())) };
        now
    }
}
