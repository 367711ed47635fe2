//! Compresses a stream of bytes to one gzip member (RFC 1952), on as many threads as the container has CPUs.
//!
//! Enters: bytes, read straight into a chunk, and lengths of holes, which stand for zeros. Leaves: one gzip member in a file. Its bytes depend on the
//! contents and the level alone, not on the number of threads. Refuses nothing but what the file refuses.
//!
//! The calling thread fills chunks and writes the compressed ones in order. The other threads compress. They start when a stream turns out to be
//! longer than one chunk, and they stay for the next stream; with one CPU there are none. A chunk carries everything that its compression needs,
//! including the window before it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use emissary_core::gzip::crc::{self, Crc};
use emissary_core::gzip::{self, STORED_BYTES, stored_header};

use super::cpus;
use super::deflate::{CHUNK_BYTES, Deflater, OUT_BYTES, WINDOW_BYTES, only_byte};
use crate::os::{cpu, fs, threads};
use crate::report::error::Error;

/// Most threads. One thread reads for all of them, and each takes 0.9 MB.
const MAX_WORKERS: usize = 16;
/// Most chunks in the ring: one for each thread, and one that waits for a thread. The calling thread fills one more meanwhile.
const SLOTS: usize = MAX_WORKERS + 1;

/// A longer run of zeros is not copied into chunks. One chunk of zeros is compressed once, and its blocks are written repeatedly.
const ZEROS_BYTES: u64 = 4 * CHUNK_BYTES as u64;

/// Small pieces of output are collected up to this size and written together.
const GATHER_BYTES: usize = 65_536;

/// Factor for the checksum when a whole chunk follows.
const CHUNK_SHIFT: u32 = crc::shift(CHUNK_BYTES as u64);

/// A piece of the stream, the window before it, and its compressed form.
struct Chunk {
    /// The window, then the chunk.
    input: Box<[u8]>,
    start: usize,
    end: usize,
    level: u8,
    out: Box<[u8]>,
    /// Bytes in `out`; `None` if the chunk is stored.
    made: Option<usize>,
    crc: u32,
}

impl Chunk {
    fn new() -> Self {
        // The allocator gets zeroed pages from the kernel and need not write them. A page takes memory only once we write to it.
        let zeros = |bytes| vec![0; bytes].into_boxed_slice();
        Self { input: zeros(WINDOW_BYTES + CHUNK_BYTES), start: 0, end: 0, level: 0, out: zeros(OUT_BYTES), made: None, crc: 0 }
    }

    fn deflate(&mut self, worker: &mut Worker) {
        self.crc = cpu::crc(&worker.crc, &self.input[self.start..self.end]);
        self.made = worker.deflater.deflate(self.level, &self.input[..self.end], self.start, &mut self.out);
    }

    /// Hands each piece of the chunk's blocks to `each`: the compressed bytes, or stored blocks with a header each.
    fn each_piece(&self, each: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        if let Some(made) = self.made {
            return each(&self.out[..made]);
        }
        for piece in self.input[self.start..self.end].chunks(STORED_BYTES) {
            each(&stored_header(piece.len() as u16))?;
            each(piece)?;
        }
        Ok(())
    }
}

/// State of one thread that compresses.
struct Worker {
    deflater: Deflater,
    crc: Box<Crc>,
}

impl Worker {
    fn new() -> Self {
        Self { deflater: Deflater::new(), crc: Box::new(Crc::new()) }
    }
}

/// State of one place in the ring.
enum Slot {
    Empty,
    Filled(Chunk),
    Busy,
    Done(Chunk),
}

/// A ring of chunks. They are filled, taken and written in order; they are compressed in any order.
struct Ring {
    slots: [Slot; SLOTS],
    /// The place from which the next free thread takes a chunk.
    next: usize,
}

static RING: Mutex<Ring> = Mutex::new(Ring { slots: [const { Slot::Empty }; SLOTS], next: 0 });
static FILLED: Condvar = Condvar::new();
static DONE: Condvar = Condvar::new();

fn ring() -> MutexGuard<'static, Ring> {
    RING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a>(for_what: &Condvar, ring: MutexGuard<'a, Ring>) -> MutexGuard<'a, Ring> {
    for_what.wait(ring).unwrap_or_else(PoisonError::into_inner)
}

/// The endless loop of a thread.
fn work() {
    let mut worker = Worker::new();
    let mut guard = ring();
    loop {
        let at = guard.next;
        match core::mem::replace(&mut guard.slots[at], Slot::Busy) {
            Slot::Filled(mut chunk) => {
                guard.next = (at + 1) % SLOTS;
                drop(guard);
                chunk.deflate(&mut worker);
                guard = ring();
                guard.slots[at] = Slot::Done(chunk);
                DONE.notify_one();
            }
            other => {
                guard.slots[at] = other;
                guard = wait(&FILLED, guard);
            }
        }
    }
}

/// Compresses streams, one after another.
pub(crate) struct Compressor {
    level: u8,
    /// Number of threads; `None` until the first stream that is longer than a chunk.
    workers: Option<usize>,
    /// State of the calling thread, if it compresses.
    own: Option<Worker>,
    /// The chunk that is being filled.
    chunk: Chunk,
    /// Unused chunks, and the number of all chunks.
    spare: Vec<Chunk>,
    chunks: usize,
    /// Place in the ring for the next chunk, and the number of chunks in the ring.
    head: usize,
    in_flight: usize,
    crc: u32,
    /// Bytes of contents so far, and bytes of the compressed stream that have been written.
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    gathered: Vec<u8>,
}

impl Compressor {
    /// Makes a compressor. It starts no thread yet.
    pub(crate) fn new() -> Self {
        Self {
            level: 0,
            workers: None,
            own: None,
            chunk: Chunk::new(),
            spare: Vec::new(),
            chunks: 1,
            head: 0,
            in_flight: 0,
            crc: 0,
            read_bytes: 0,
            written_bytes: 0,
            gathered: Vec::new(),
        }
    }

    /// Begins a stream. Drops the rest of a stream that failed.
    pub(crate) fn begin(&mut self, level: u8) {
        while self.in_flight > 0 {
            let chunk = self.take_oldest();
            self.spare.push(chunk);
        }
        self.level = level;
        (self.crc, self.read_bytes, self.written_bytes) = (0, 0, 0);
        (self.chunk.start, self.chunk.end) = (0, 0);
        self.gathered.clear();
        self.gathered.extend_from_slice(&gzip::HEADER);
    }

    /// Returns the free part of the current chunk, which is never empty. Call [`Compressor::filled`] after writing to it.
    ///
    /// # Errors
    /// The error of write(2): a full chunk is passed on first.
    pub(crate) fn room(&mut self, to: &To<'_>) -> Result<&mut [u8], Error> {
        if self.chunk.end - self.chunk.start == CHUNK_BYTES {
            self.pass_on(to)?;
        }
        let chunk = &mut self.chunk;
        Ok(&mut chunk.input[chunk.end..chunk.start + CHUNK_BYTES])
    }

    /// Counts bytes that the caller wrote to [`Compressor::room`].
    pub(crate) fn filled(&mut self, bytes: usize) {
        self.chunk.end += bytes;
        self.read_bytes += bytes as u64;
    }

    /// Adds bytes to the stream.
    ///
    /// # Errors
    /// As [`Compressor::room`].
    pub(crate) fn write(&mut self, to: &To<'_>, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = self.room(to)?;
            let now = room.len().min(bytes.len());
            room[..now].copy_from_slice(&bytes[..now]);
            bytes = &bytes[now..];
            self.filled(now);
        }
        Ok(())
    }

    /// Adds zeros to the stream. A long run costs next to nothing.
    ///
    /// # Errors
    /// As [`Compressor::room`].
    pub(crate) fn zeros(&mut self, to: &To<'_>, mut count: u64) -> Result<(), Error> {
        while count > 0 {
            // This passes on a full chunk.
            self.room(to)?;
            if count >= ZEROS_BYTES && self.is_after_zeros() {
                while self.in_flight > 0 {
                    self.write_oldest(to)?;
                }
                self.put_zeros(to, count / CHUNK_BYTES as u64)?;
                count %= CHUNK_BYTES as u64;
                continue;
            }
            let room = self.room(to)?;
            let now = room.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            room[..now].fill(0);
            count -= now as u64;
            self.filled(now);
        }
        Ok(())
    }

    /// Returns whether the current chunk is empty and follows a whole window of zeros.
    fn is_after_zeros(&self) -> bool {
        let chunk = &self.chunk;
        chunk.end == chunk.start && chunk.start == WINDOW_BYTES && only_byte(&chunk.input[..WINDOW_BYTES]) == Some(0)
    }

    /// Writes chunks of zeros that follow a window of zeros. The window stays the same.
    fn put_zeros(&mut self, to: &To<'_>, chunks: u64) -> Result<(), Error> {
        let chunk = &mut self.chunk;
        chunk.input[chunk.start..].fill(0);
        (chunk.end, chunk.level) = (chunk.start + CHUNK_BYTES, self.level);
        chunk.deflate(self.own.get_or_insert_with(Worker::new));
        for _ in 0..chunks {
            self.read_bytes += CHUNK_BYTES as u64;
            emit(&self.chunk, &mut self.crc, &mut self.gathered, &mut self.written_bytes, to)?;
        }
        self.chunk.end = self.chunk.start;
        Ok(())
    }

    /// Ends the stream: compresses the last chunk, and writes the final block and the trailer.
    ///
    /// # Errors
    /// The error of write(2).
    pub(crate) fn finish(&mut self, to: &To<'_>) -> Result<(), Error> {
        if self.in_flight == 0 {
            self.deflate_here(to)?;
        } else {
            let next = self.spare(to, self.workers.unwrap_or(0))?;
            self.submit(next);
            while self.in_flight > 0 {
                self.write_oldest(to)?;
            }
        }
        put(&mut self.gathered, &mut self.written_bytes, to, &gzip::END)?;
        put(&mut self.gathered, &mut self.written_bytes, to, &gzip::trailer(self.crc, self.read_bytes))?;
        flush(&mut self.gathered, &mut self.written_bytes, to)
    }

    /// Passes on a full chunk. The end of that chunk becomes the window of the next one.
    fn pass_on(&mut self, to: &To<'_>) -> Result<(), Error> {
        let workers = match self.workers {
            Some(workers) => workers,
            None => *self.workers.insert(start_workers()),
        };
        let before = self.chunk.end - WINDOW_BYTES..self.chunk.end;
        if workers == 0 {
            self.deflate_here(to)?;
            self.chunk.input.copy_within(before, 0);
        } else {
            let mut next = self.spare(to, workers)?;
            next.input[..WINDOW_BYTES].copy_from_slice(&self.chunk.input[before]);
            self.submit(next);
        }
        (self.chunk.start, self.chunk.end) = (WINDOW_BYTES, WINDOW_BYTES);
        Ok(())
    }

    fn deflate_here(&mut self, to: &To<'_>) -> Result<(), Error> {
        self.chunk.level = self.level;
        self.chunk.deflate(self.own.get_or_insert_with(Worker::new));
        emit(&self.chunk, &mut self.crc, &mut self.gathered, &mut self.written_bytes, to)
    }

    /// Returns an unused chunk. Makes one while the limit allows it; otherwise writes the oldest chunk in the ring and reuses it.
    fn spare(&mut self, to: &To<'_>, workers: usize) -> Result<Chunk, Error> {
        loop {
            if let Some(spare) = self.spare.pop() {
                return Ok(spare);
            }
            if self.chunks < workers + 2 {
                self.chunks += 1;
                return Ok(Chunk::new());
            }
            self.write_oldest(to)?;
        }
    }

    /// Puts the current chunk in the ring, and `next` in its place.
    fn submit(&mut self, next: Chunk) {
        let mut chunk = core::mem::replace(&mut self.chunk, next);
        chunk.level = self.level;
        ring().slots[self.head] = Slot::Filled(chunk);
        FILLED.notify_one();
        self.head = (self.head + 1) % SLOTS;
        self.in_flight += 1;
    }

    fn take_oldest(&mut self) -> Chunk {
        let at = (self.head + SLOTS - self.in_flight) % SLOTS;
        let mut guard = ring();
        loop {
            match core::mem::replace(&mut guard.slots[at], Slot::Empty) {
                Slot::Done(chunk) => {
                    self.in_flight -= 1;
                    return chunk;
                }
                other => {
                    guard.slots[at] = other;
                    guard = wait(&DONE, guard);
                }
            }
        }
    }

    fn write_oldest(&mut self, to: &To<'_>) -> Result<(), Error> {
        let chunk = self.take_oldest();
        let result = emit(&chunk, &mut self.crc, &mut self.gathered, &mut self.written_bytes, to);
        self.spare.push(chunk);
        result
    }
}

/// The file that a stream goes to.
pub(crate) struct To<'a> {
    pub(crate) file: &'a OwnedFd,
    /// The file's path, for messages.
    pub(crate) path: &'a [u8],
}

impl To<'_> {
    fn write(&self, bytes: &[u8], written: &mut u64) -> Result<(), Error> {
        *written += bytes.len() as u64;
        fs::write_all(self.file.as_fd(), bytes).map_err(|errno| Error::new("write", self.path, errno))
    }
}

/// Writes a compressed chunk, and adds its checksum.
fn emit(chunk: &Chunk, crc: &mut u32, gathered: &mut Vec<u8>, written: &mut u64, to: &To<'_>) -> Result<(), Error> {
    let contents = &chunk.input[chunk.start..chunk.end];
    let shift = if contents.len() == CHUNK_BYTES { CHUNK_SHIFT } else { crc::shift(contents.len() as u64) };
    *crc = crc::join(*crc, chunk.crc, shift);
    chunk.each_piece(&mut |piece| put(gathered, written, to, piece))
}

/// Writes a large piece. Keeps a small one until more has come.
fn put(gathered: &mut Vec<u8>, written: &mut u64, to: &To<'_>, bytes: &[u8]) -> Result<(), Error> {
    if gathered.len() + bytes.len() > GATHER_BYTES {
        flush(gathered, written, to)?;
    }
    if bytes.len() > GATHER_BYTES / 4 {
        flush(gathered, written, to)?;
        return to.write(bytes, written);
    }
    gathered.extend_from_slice(bytes);
    Ok(())
}

fn flush(gathered: &mut Vec<u8>, written: &mut u64, to: &To<'_>) -> Result<(), Error> {
    if gathered.is_empty() {
        return Ok(());
    }
    let result = to.write(gathered, written);
    gathered.clear();
    result
}

/// Starts the threads. Returns their number; 0 if the calling thread is faster alone.
fn start_workers() -> usize {
    let wanted = match cpus::available() {
        0 | 1 => return 0,
        cpus => cpus.min(MAX_WORKERS),
    };
    // The system may allow fewer threads (a limit on processes).
    let mut started = 0;
    while started < wanted && threads::start_thread(work).is_ok() {
        started += 1;
    }
    started
}
