//! Files and folders by descriptor: opening below a folder, reading, writing, copying (openat(2), copy_file_range(2)).
//!
//! Enters: a folder's descriptor, names, bytes. Leaves: descriptors, bytes, the system's error number. Refuses: a link where a file or folder of another
//! container's making is opened, and whatever is no regular file where one is read.
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

/// Name of the file that holds the room of the exit code until that is known. Nobody else writes it.
pub(crate) const RESERVED_EXIT_CODE: &CStr = c".emissary-exitcode";

/// A file name for the kernel, which wants it NUL-terminated. One that is longer than any name can be does not fit.
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

    /// The name.
    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

/// In the place of the system's number where a link was to be opened, and is not followed. The kernel has none of its own for that: it says «too many
/// links», or «not a directory».
pub(crate) const LINK: Errno = Errno::from_raw_os_error(4_000);

/// openat(2), close-on-exec; one that is interrupted is done again, which slow file systems ask for.
///
/// # Errors
/// [`LINK`] for a link that is not to be followed; what the system says otherwise.
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

/// What is known of an open file (fstat(2), fstatat(2)).
///
/// # Errors
/// What the system says.
#[inline(never)]
pub(crate) fn fstat(file: impl AsFd) -> Result<Stat, Errno> {
    match rustix::fs::fstat(file.as_fd()) {
        Err(errno) if is_refusal(errno) => {
            rustix::fs::statat(file.as_fd(), c"", AtFlags::EMPTY_PATH).map_err(|errno| noted(c"fstat", errno))
        }
        other => other,
    }
}

/// What is known of a file in a folder; of a link, with `SYMLINK_NOFOLLOW` (fstatat(2), else openat(2) and fstat(2)).
///
/// # Errors
/// What the system says.
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

/// What a path leads to.
///
/// # Errors
/// What the system says.
pub(crate) fn stat(path: &CStr) -> Result<Stat, Errno> {
    stat_at(CWD, path, AtFlags::empty())
}

/// The working directory's path (getcwd(2), else proc_pid_cwd(5)); `None` where it has none.
pub(crate) fn working_directory() -> Option<CString> {
    match rustix::process::getcwd(Vec::new()) {
        Err(errno) if is_refusal(errno) => rustix::fs::readlinkat(CWD, c"/proc/self/cwd", Vec::new()),
        other => other,
    }
    .ok()
}

/// Reads from a place in a file, for which nobody else reads (pread(2), else lseek(2) and read(2)).
///
/// # Errors
/// What the system says.
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

/// Whether our effective user may use a file in these ways (faccessat2(2), faccessat(2)). Where neither call is to be had, yes: the use itself will tell.
///
/// # Errors
/// What the system says otherwise.
#[inline(never)]
pub(crate) fn access(folder: BorrowedFd<'_>, path: &CStr, how: Access) -> Result<(), Errno> {
    let mut allowed = rustix::fs::accessat(folder, path, how, AtFlags::EACCESS);
    if allowed.is_err_and(is_refusal) {
        // Without flags it is about the real user, who is the same one unless the binary is set-uid.
        allowed = rustix::fs::accessat(folder, path, how, AtFlags::empty());
    }
    if allowed.is_err_and(is_refusal) { Ok(()) } else { allowed }
}

/// Replaces the file mode creation mask and gives the one from before; `None` where that is refused.
pub(crate) fn set_umask(mask: RawMode) -> Option<RawMode> {
    let before = rustix::process::umask(Mode::from_raw_mode(mask)).as_raw_mode();
    // rustix takes an error for a mask.
    (before & !0o777 == 0).then_some(before)
}

/// renameat(2), or renameat2(2) where a sandbox knows that alone.
///
/// # Errors
/// What the system says.
#[inline(never)]
pub(crate) fn rename(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> Result<(), Errno> {
    match rustix::fs::renameat(folder, from, folder, to) {
        Err(errno) if is_refusal(errno) => rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::empty()),
        other => other,
    }
    .map_err(|errno| noted(c"renameat", errno))
}

/// A pipe, both ends close-on-exec: its reading end and its writing end (pipe2(2), pipe(2)).
///
/// # Errors
/// What the system says.
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
        // SAFETY: the kernel has just opened it for us.
        unsafe { OwnedFd::from_raw_fd(end) }
    });
    let close = rustix::io::FdFlags::CLOEXEC;
    rustix::io::fcntl_setfd(&source, close)?;
    rustix::io::fcntl_setfd(&sink, close)?;
    Ok((source, sink))
}

/// Lets reads and writes of an open file description of ours not block (ioctl(2) `FIONBIO`, fcntl(2) `F_SETFL`).
///
/// # Errors
/// What the system says.
pub(crate) fn do_not_block(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::io::ioctl_fionbio(fd, true) {
        Err(errno) if is_refusal(errno) => {
            rustix::fs::fcntl_setfl(fd, rustix::fs::fcntl_getfl(fd)? | OFlags::NONBLOCK).map_err(|errno| refused(c"fcntl", errno))
        }
        other => other,
    }
}

/// Opens folders one below the other, each relative to the one before, following no link. With a mode, those that are missing are made.
///
/// # Errors
/// What the system says; [`LINK`] for a link.
pub(crate) fn descend(from: BorrowedFd<'_>, parts: &mut dyn Iterator<Item = &[u8]>, made: Option<RawMode>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut at = open_at(from, c".", flags, 0)?;
    for part in parts {
        let name = Name::new(part)?;
        let name = name.as_c_str();
        at = match (open_at(at.as_fd(), name, flags, 0), made) {
            (Err(Errno::NOENT), Some(mode)) => {
                match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(mode)) {
                    // Another container was first.
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

/// Whether a later attempt may go better: the cause lies in the machine's state, not in the file.
pub(crate) const fn is_passing(errno: Errno) -> bool {
    matches!(errno, Errno::INTR | Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO | Errno::NOSPC)
}

/// A name that nobody else uses or foresees: containers that share a folder may have the same process id, the clock tells them apart.
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

/// Which writing of which file it is.
pub(crate) fn version(stat: &Stat) -> Version {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
    Version { inode: stat.st_ino as u64, written: (stat.st_mtime as i64, stat.st_mtime_nsec as i64) }
}

pub(crate) fn age_ms(stat: &Stat) -> i64 {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
    let written = (stat.st_mtime as i64).saturating_mul(1_000).saturating_add(stat.st_mtime_nsec as i64 / 1_000_000);
    clock::unix_ms().saturating_sub(written)
}

/// Opens a regular file for reading; a pipe does not block, and neither it nor anything else that is no file is read.
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

/// Fills `room` as far as the file goes.
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

/// A whole file below a folder, reached through no link.
///
/// # Errors
/// What the system says; [`LINK`] for a link, `EFBIG` past `limit`.
pub(crate) fn read_below(folder: &CStr, parts: &mut dyn Iterator<Item = &[u8]>, limit: usize) -> Result<Vec<u8>, Errno> {
    let (file, _) = open_below(folder, parts)?;
    read_to_end(file.as_fd(), limit)
}

/// Opens a regular file below a folder, reached through no link; the folder's own path may itself be that of a file, which a volume can be mounted at.
///
/// # Errors
/// As [`read_below`].
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

/// Reads up to the end. What a file says of its size is not believed: it may be sparse.
///
/// # Errors
/// What the system says; `EFBIG` past `limit`.
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

/// Which side of a copy failed.
pub(crate) enum CopyError {
    Read(Errno),
    Write(Errno),
}

/// Bytes of a file that are copied at least, whatever its size is said to be: one of /proc has none.
const LEAST_COPIED: u64 = 64 << 20;

/// Copies one file to another: in the kernel where the two file systems allow it, which may even share the blocks, else through us. One that grows meanwhile
/// is cut at `size_bytes`, or at [`LEAST_COPIED`] where that is more, so that there is an end. Returns whether it was cut.
///
/// # Errors
/// What the system says, and of which side.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size_bytes: u64) -> Result<bool, CopyError> {
    /// Bytes that are asked for at once.
    const MOST: usize = 1 << 30;
    // A refusal has many numbers, and a file of /proc says it has nothing: whatever ends this, the loop below goes on where it stood, and meets a
    // real error itself.
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

/// Writes everything, or gives the first error.
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

/// Gives something that stands for another file the mode and, where we may, the owner of that.
pub(crate) fn resemble(original: BorrowedFd<'_>, stand_in: BorrowedFd<'_>) {
    if let Ok(stat) = fstat(original) {
        let _ = rustix::fs::fchmod(stand_in, Mode::from_raw_mode(stat.st_mode & 0o777));
        let (user, group) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
        let _ = rustix::fs::fchown(stand_in, Some(user), Some(group));
    }
}

/// A whole file by a path of ours, not of another container's.
///
/// # Errors
/// What the system says; `EFBIG` past `limit`.
pub(crate) fn read_file(path: &CStr, limit: usize) -> Result<Vec<u8>, Errno> {
    let (file, _) = open_regular(CWD, path, OFlags::empty())?;
    read_to_end(file.as_fd(), limit)
}

/// Closes a file that was written to. Network and quota file systems say only here that they could not keep what was written (close(2)).
///
/// # Errors
/// What the system says; the descriptor is closed all the same.
pub(crate) fn close(file: OwnedFd) -> Result<(), Errno> {
    // SAFETY: the descriptor is owned, and given up here.
    match unsafe { rustix::io::try_close(file.into_raw_fd()) } {
        // Linux has closed it all the same.
        Err(Errno::INTR) => Ok(()),
        other => other,
    }
}

/// Asks a file system that says only at close(2) what it could not keep, about a file that stays open: each close of a descriptor of it is told.
///
/// # Errors
/// What the system says.
pub(crate) fn check_written(file: BorrowedFd<'_>) -> Result<(), Errno> {
    // Without another descriptor nothing can be asked.
    rustix::io::fcntl_dupfd_cloexec(file, 3).map_or(Ok(()), close)
}

/// Locks a file for as long as this process has it open, in both of the ways that file systems know (fcntl(2), flock(2)): some know one of them.
///
/// # Errors
/// Where neither is to be had, or another process has it locked.
pub(crate) fn lock(file: BorrowedFd<'_>) -> Result<(), Errno> {
    let by_record = rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockExclusive);
    by_record.or(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive))
}

/// Whether another process has a file locked.
pub(crate) fn is_locked(file: BorrowedFd<'_>) -> bool {
    let any = Flock { start: 0, length: 0, pid: None, typ: FlockType::WriteLock, offset_type: FlockOffsetType::Set };
    if matches!(rustix::process::fcntl_getlk(file, &any), Ok(Some(_))) {
        return true;
    }
    // It is given back when the caller closes the file.
    rustix::fs::flock(file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

/// Renames a file unless another has that name.
///
/// # Errors
/// `EEXIST`, and what renameat(2) says.
pub(crate) fn rename_if_free(folder: BorrowedFd<'_>, from: &CStr, to: &CStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // Some file systems know no such flag, some kernels and sandboxes no such call.
        Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => rename(folder, from, to),
        other => other,
    }
}

/// Lets a descriptor's number stand for another open file, whoever holds it (dup3(2), dup2(2)).
///
/// # Errors
/// What the system says.
pub(crate) fn replace(fd: BorrowedFd<'_>, by: OwnedFd) -> Result<(), Errno> {
    // SAFETY: takes numbers. The number stays open throughout, so whoever owns or borrows it still does.
    if unsafe { libc::dup3(by.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) } >= 0 {
        return Ok(());
    }
    // SAFETY: as above.
    if unsafe { libc::dup2(by.as_raw_fd(), fd.as_raw_fd()) } < 0 {
        return Err(last_errno());
    }
    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)
}
