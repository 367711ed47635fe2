//! Files and folders by descriptor: opening below a folder, reading, writing, copying, locking (openat(2), renameat(2), copy_file_range(2), fcntl(2)).
//!
//! Enters: a folder's descriptor, names, bytes. Leaves: descriptors, bytes, the kernel's error number. Refuses: a symbolic link where another container may
//! have made the file or folder, and anything but a regular file where a file is read.
#![allow(unsafe_code, reason = "the edge to the kernel")]

use core::ffi::CStr;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use emissary_core::buf::Writer;
use emissary_core::signal_file::Version;
use rustix::fs::{Access, AtFlags, CWD, FlockOperation, Mode, OFlags, RawMode, RenameFlags, SeekFrom, Stat};
use rustix::io::Errno;
use rustix::process::{Flock, FlockOffsetType, FlockType};

use super::clock;
use super::errno::{is_refusal, last_errno, noted, refused};

/// Name of the file that reserves room on the volume until the exit code is known. Only this container's emissary writes the file.
pub(crate) const RESERVED_EXIT_CODE: &CStr = c".emissary-exitcode";

/// A file name with the NUL that the kernel needs. `NAME_MAX` is 255 bytes, so every valid name fits.
pub(crate) struct Name([u8; 256]);

impl Name {
    /// Copies a name that has no NUL.
    ///
    /// # Errors
    /// `ENAMETOOLONG` past `NAME_MAX` (limits.h).
    pub(crate) fn new(name: &[u8]) -> Result<Self, Errno> {
        let mut room = [0; 256];
        room[..255].get_mut(..name.len()).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(name);
        Ok(Self(room))
    }

    /// Returns the name.
    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

/// Our own error number for a link that must not be followed. The kernel has no number for that alone: it says «too many links» or «not a directory».
pub(crate) const LINK: Errno = Errno::from_raw_os_error(4_000);

/// Opens a file (openat(2)) that closes at execve. Calls openat(2) again if a signal interrupts it, as slow file systems need.
///
/// # Errors
/// [`LINK`] for a link that must not be followed; otherwise the error number that the kernel gives.
#[inline(never)]
pub(crate) fn open_at(folder: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: RawMode) -> Result<OwnedFd, Errno> {
    loop {
        match rustix::fs::openat(folder, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode)) {
            Err(Errno::INTR) => {}
            Err(Errno::LOOP) if flags.contains(OFlags::NOFOLLOW) => return Err(LINK),
            Err(Errno::NOTDIR) if flags.contains(OFlags::NOFOLLOW) && rustix::fs::readlinkat(folder, path, Vec::new()).is_ok() => {
                return Err(LINK);
            }
            other => return other.map_err(|errno| noted(c"openat", errno)),
        }
    }
}

/// Returns an open file's metadata (fstat(2), or fstatat(2)).
///
/// # Errors
/// The error number that the kernel gives.
#[inline(never)]
pub(crate) fn fstat(file: impl AsFd) -> Result<Stat, Errno> {
    match rustix::fs::fstat(file.as_fd()) {
        Err(errno) if is_refusal(errno) => {
            rustix::fs::statat(file.as_fd(), c"", AtFlags::EMPTY_PATH).map_err(|errno| noted(c"fstat", errno))
        }
        other => other,
    }
}

/// Returns the metadata of a file in a folder. With `SYMLINK_NOFOLLOW`, returns that of a link itself (fstatat(2), or openat(2) and fstat(2)).
///
/// # Errors
/// The error number that the kernel gives.
#[inline(never)]
pub(crate) fn stat_at(folder: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<Stat, Errno> {
    match rustix::fs::statat(folder, name, flags) {
        Err(errno) if is_refusal(errno) => {
            let flags = if flags.contains(AtFlags::SYMLINK_NOFOLLOW) { OFlags::NOFOLLOW } else { OFlags::empty() };
            fstat(open_at(folder, name, OFlags::PATH | flags, 0)?)
        }
        other => other,
    }
}

/// Returns the metadata of the file that a path leads to. Follows links.
///
/// # Errors
/// The error number that the kernel gives.
pub(crate) fn stat(path: &CStr) -> Result<Stat, Errno> {
    stat_at(CWD, path, AtFlags::empty())
}

/// Returns the working directory's path (getcwd(2), or proc_pid_cwd(5)); `None` if the directory has no path.
pub(crate) fn working_directory() -> Option<CString> {
    match rustix::process::getcwd(Vec::new()) {
        Err(errno) if is_refusal(errno) => rustix::fs::readlinkat(CWD, c"/proc/self/cwd", Vec::new()),
        other => other,
    }
    .ok()
}

/// Reads from an offset of a file (pread(2), or lseek(2) and read(2)). The caller must be the only reader, because lseek(2) moves the file's own offset.
///
/// # Errors
/// The error number that the kernel gives.
#[inline(never)]
pub(crate) fn read_at(file: BorrowedFd<'_>, room: &mut [u8], at: u64) -> Result<usize, Errno> {
    match rustix::io::pread(file, &mut *room, at) {
        Err(errno) if is_refusal(errno) => {
            rustix::fs::seek(file, SeekFrom::Start(at))?;
            rustix::io::read(file, room).map_err(|errno| noted(c"pread64", errno))
        }
        other => other,
    }
}

/// Returns whether our effective user may use a file in these ways (faccessat2(2), or faccessat(2)). If a sandbox refuses both calls, the answer is yes: the
/// use itself then fails.
///
/// # Errors
/// Otherwise the error number that the kernel gives.
#[inline(never)]
pub(crate) fn access(folder: BorrowedFd<'_>, path: &CStr, how: Access) -> Result<(), Errno> {
    let mut allowed = rustix::fs::accessat(folder, path, how, AtFlags::EACCESS);
    if allowed.is_err_and(is_refusal) {
        // Without flags, the call checks the real user. That is the effective user, unless the binary is set-uid.
        allowed = rustix::fs::accessat(folder, path, how, AtFlags::empty());
    }
    if allowed.is_err_and(is_refusal) { Ok(()) } else { allowed }
}

/// Replaces the file mode creation mask. Returns the previous mask; `None` if a sandbox refuses the call.
pub(crate) fn set_umask(mask: RawMode) -> Option<RawMode> {
    let before = rustix::process::umask(Mode::from_raw_mode(mask)).as_raw_mode();
    // rustix returns a refused call's error number as a mask.
    (before & !0o777 == 0).then_some(before)
}

/// Renames a file in a folder (renameat(2), or renameat2(2) if a sandbox allows that alone).
///
/// # Errors
/// The error number that the kernel gives.
#[inline(never)]
pub(crate) fn rename(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> Result<(), Errno> {
    match rustix::fs::renameat(folder, from, folder, to) {
        Err(errno) if is_refusal(errno) => rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::empty()),
        other => other,
    }
    .map_err(|errno| noted(c"renameat", errno))
}

/// Makes a pipe whose ends close at execve. Returns the reading end and the writing end (pipe2(2), or pipe(2)).
///
/// # Errors
/// The error number that the kernel gives.
#[inline(never)]
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    match rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) {
        Err(errno) if is_refusal(errno) => {}
        other => return other,
    }
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: the pointer is to room for two descriptors.
    if unsafe { libc::pipe(ends.as_mut_ptr()) } < 0 {
        return Err(refused(c"pipe2", last_errno()));
    }
    let [source, sink] = ends.map(|end| {
        // SAFETY: the kernel has just opened this descriptor for us.
        unsafe { OwnedFd::from_raw_fd(end) }
    });
    let close = rustix::io::FdFlags::CLOEXEC;
    rustix::io::fcntl_setfd(&source, close)?;
    rustix::io::fcntl_setfd(&sink, close)?;
    Ok((source, sink))
}

/// Makes reads and writes of an open file description of ours non-blocking (ioctl(2) `FIONBIO`, or fcntl(2) `F_SETFL`).
///
/// # Errors
/// The error number that the kernel gives.
pub(crate) fn do_not_block(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::io::ioctl_fionbio(fd, true) {
        Err(errno) if is_refusal(errno) => {
            rustix::fs::fcntl_setfl(fd, rustix::fs::fcntl_getfl(fd)? | OFlags::NONBLOCK).map_err(|errno| refused(c"fcntl", errno))
        }
        other => other,
    }
}

/// Opens folders one below the other, each relative to the one before it, and follows no link. With a mode, makes the folders that are missing.
///
/// # Errors
/// The error number that the kernel gives; [`LINK`] for a link.
pub(crate) fn descend(from: BorrowedFd<'_>, parts: &mut dyn Iterator<Item = &[u8]>, made: Option<RawMode>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut at = open_at(from, c".", flags, 0)?;
    for part in parts {
        let name = Name::new(part)?;
        let name = name.as_c_str();
        at = match (open_at(at.as_fd(), name, flags, 0), made) {
            (Err(Errno::NOENT), Some(mode)) => {
                match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(mode)) {
                    // Another container may make the folder before we do.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(noted(c"mkdirat", errno)),
                }
                open_at(at.as_fd(), name, flags, 0)?
            }
            (other, _) => other?,
        };
    }
    Ok(at)
}

/// Returns whether a later attempt may succeed: the cause is the machine's state, not the file.
pub(crate) const fn is_passing(errno: Errno) -> bool {
    matches!(errno, Errno::INTR | Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO | Errno::NOSPC)
}

/// Returns a name that no other process uses or can guess. Containers that share a folder may have the same process id; the clock makes their names differ.
pub(crate) fn unique_name(next: u64) -> Name {
    let serial = clock::clock(clock::Clock::Monotonic).1.unsigned_abs().wrapping_add(next);
    let mut name = Name([0; 256]);
    let pid = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    Writer::new(&mut name.0).text(".emissary-").decimal(pid.into()).byte(b'-').decimal(serial);
    name
}

pub(crate) fn is_regular(stat: &Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()
}

/// Returns the inode and the time of the last write, which tell one version of a file from another.
pub(crate) fn version(stat: &Stat) -> Version {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
    Version { inode: stat.st_ino as u64, written: (stat.st_mtime as i64, stat.st_mtime_nsec as i64) }
}

pub(crate) fn age_ms(stat: &Stat) -> i64 {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
    let written = (stat.st_mtime as i64).saturating_mul(1_000).saturating_add(stat.st_mtime_nsec as i64 / 1_000_000);
    clock::unix_ms().saturating_sub(written)
}

/// Opens a regular file for reading. Refuses everything else, and does not block on a pipe.
pub(crate) fn open_regular(folder: BorrowedFd<'_>, name: &CStr, more: OFlags) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | more;
    let file = open_at(folder, name, flags, 0)?;
    let stat = fstat(&file)?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    match kind {
        rustix::fs::FileType::RegularFile => Ok((file, stat)),
        rustix::fs::FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}

/// Reads until `room` is full or the file ends. Returns the filled part.
pub(crate) fn read_some<'b>(file: &OwnedFd, room: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let mut filled = 0;
    while filled < room.len() {
        match rustix::io::read(file, &mut room[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(noted(c"read", errno)),
        }
    }
    Ok(&room[..filled])
}

/// Reads a whole file below a folder. Follows no link on the way.
///
/// # Errors
/// The error number that the kernel gives; [`LINK`] for a link, `EFBIG` past `limit`.
pub(crate) fn read_below(folder: &CStr, parts: &mut dyn Iterator<Item = &[u8]>, limit: usize) -> Result<Vec<u8>, Errno> {
    let (file, _) = open_below(folder, parts)?;
    read_to_end(file.as_fd(), limit)
}

/// Opens a regular file below a folder. Follows no link on the way. Without `parts`, the folder's own path may name a file, because a volume can be mounted
/// at a file.
///
/// # Errors
/// The error number that the kernel gives; [`LINK`] for a link.
pub(crate) fn open_below(folder: &CStr, parts: &mut dyn Iterator<Item = &[u8]>) -> Result<(OwnedFd, Stat), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let Some(mut last) = parts.next() else { return open_regular(CWD, folder, OFlags::empty()) };
    let mut at = open_at(CWD, folder, flags, 0)?;
    for next in parts {
        let name = Name::new(last)?;
        let name = name.as_c_str();
        at = open_at(at.as_fd(), name, flags | OFlags::NOFOLLOW, 0)?;
        last = next;
    }
    open_regular(at.as_fd(), Name::new(last)?.as_c_str(), OFlags::NOFOLLOW)
}

/// Reads a file up to its end. Does not rely on the file's size, because the file may be sparse.
///
/// # Errors
/// The error number that the kernel gives; `EFBIG` past `limit`.
pub(crate) fn read_to_end(file: BorrowedFd<'_>, limit: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; 4096];
    let mut filled = 0;
    loop {
        if filled == bytes.len() {
            bytes.resize(bytes.len().saturating_mul(2), 0);
        }
        match rustix::io::read(file, &mut bytes[filled..]) {
            Ok(0) => {
                bytes.truncate(filled);
                return Ok(bytes);
            }
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(noted(c"read", errno)),
        }
        if filled > limit {
            return Err(Errno::FBIG);
        }
    }
}

/// The side of a copy that failed, with its error number.
pub(crate) enum CopyError {
    Read(Errno),
    Write(Errno),
}

/// Minimum of a copy's upper limit. A file of /proc has the size 0 and is copied all the same.
const LEAST_COPIED: u64 = 64 << 20;

/// Copies one file to another. The kernel copies, and may share the blocks, if both file systems allow that; otherwise we copy. A file may grow meanwhile, so
/// the copy ends at `size_bytes` or at [`LEAST_COPIED`], whichever is more. Returns whether the copy was cut.
///
/// # Errors
/// The error number that the kernel gives, and the side that it concerns.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size_bytes: u64) -> Result<bool, CopyError> {
    /// Maximum bytes of one copy_file_range(2).
    const MOST: usize = 1 << 30;
    // The kernel refuses copy_file_range(2) with many error numbers, and reports 0 bytes for a file of /proc. So on any of these, the loop below goes on at
    // the same offset. A real error occurs there again.
    let mut left = size_bytes.max(LEAST_COPIED);
    let most = |left: u64, room: usize| usize::try_from(left).unwrap_or(room).min(room);
    loop {
        match rustix::fs::copy_file_range(from, None, to, None, most(left, MOST)) {
            Ok(copied @ 1..) => left = left.saturating_sub(copied as u64),
            Err(Errno::INTR) => {}
            _ => break,
        }
    }
    let mut room = [0; 16_384];
    while left > 0 {
        match rustix::io::read(from, &mut room[..most(left, 16_384)]) {
            Ok(0) => return Ok(false),
            Ok(read) => {
                write_all(to, &room[..read]).map_err(CopyError::Write)?;
                left = left.saturating_sub(read as u64);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(CopyError::Read(noted(c"read", errno))),
        }
    }
    Ok(matches!(rustix::io::read(from, &mut room[..1]), Ok(1)))
}

/// Writes all bytes. Returns the first error.
pub(crate) fn write_all(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
    let mut left = bytes;
    while !left.is_empty() {
        match rustix::io::write(fd, left) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Gives `stand_in` the mode of `original` and, if we may, the owner.
pub(crate) fn resemble(original: BorrowedFd<'_>, stand_in: BorrowedFd<'_>) {
    if let Ok(stat) = fstat(original) {
        let _ = rustix::fs::fchmod(stand_in, Mode::from_raw_mode(stat.st_mode & 0o777));
        let (user, group) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        let _ = rustix::fs::fchown(stand_in, Some(user), Some(group));
    }
}

/// Reads a whole file by a path that no other container chose. Follows links.
///
/// # Errors
/// The error number that the kernel gives; `EFBIG` past `limit`.
pub(crate) fn read_file(path: &CStr, limit: usize) -> Result<Vec<u8>, Errno> {
    let (file, _) = open_regular(CWD, path, OFlags::empty())?;
    read_to_end(file.as_fd(), limit)
}

/// Closes a file that we wrote to. Network file systems and quotas report only at close(2) that the data could not be stored.
///
/// # Errors
/// The error number that the kernel gives. The descriptor is closed even then.
pub(crate) fn close(file: OwnedFd) -> Result<(), Errno> {
    // SAFETY: we own the descriptor and give it up here.
    match unsafe { rustix::io::try_close(file.into_raw_fd()) } {
        // Linux closes the descriptor before it returns this error.
        Err(Errno::INTR) => Ok(()),
        other => other,
    }
}

/// Returns a late write error of a file that stays open. Some file systems report a late error only at close(2), and they report it at the close of any
/// descriptor of the file. So we close a duplicate.
///
/// # Errors
/// The error number that the kernel gives.
pub(crate) fn check_written(file: BorrowedFd<'_>) -> Result<(), Errno> {
    // If the kernel gives no duplicate, we cannot ask.
    rustix::io::fcntl_dupfd_cloexec(file, 3).map_or(Ok(()), close)
}

/// Locks a file for as long as this process has the file open. Uses both kinds of lock (fcntl(2) and flock(2)), because some file systems support only one of
/// them.
///
/// # Errors
/// Both kinds are refused, or another process holds the lock.
pub(crate) fn lock(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let by_record = rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive);
    by_record.or(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive))
}

/// Returns whether another process holds a lock on a file.
pub(crate) fn is_locked(file: BorrowedFd<'_>) -> bool {
    let any = Flock { start: 0, length: 0, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    if matches!(rustix::process::fcntl_getlk(file, &any), Ok(Some(_))) {
        return true;
    }
    // The kernel releases this lock when the caller closes the file.
    rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Renames a file, unless the new name is taken.
///
/// # Errors
/// `EEXIST` if the name is taken; otherwise the error number of renameat(2).
pub(crate) fn rename_if_free(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // Some file systems do not support the flag. Some kernels and sandboxes do not know the call. Then the rename may replace a file.
        Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => rename(folder, from, to),
        other => other,
    }
}

/// Makes a descriptor's number refer to another open file, for every holder of the number (dup3(2), or dup2(2)).
///
/// # Errors
/// The error number that the kernel gives.
pub(crate) fn replace(fd: BorrowedFd<'_>, by: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the call takes numbers. The number stays open throughout, so every owner or borrower of it still holds an open descriptor.
    if unsafe { libc::dup3(by.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) } >= 0 {
        return Ok(());
    }
    // SAFETY: as above.
    if unsafe { libc::dup2(by.as_raw_fd(), fd.as_raw_fd()) } < 0 {
        return Err(last_errno());
    }
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)
}
