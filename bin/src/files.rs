//! Protocol files: where they are, reading them, writing them so that they appear complete or not at all.
//!
//! Everything below the shared folder is opened relative to a descriptor, one component at a time, and no link is followed: other
//! containers write there too, and a link must not lead us out.

use core::ffi::CStr;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use emissary_core::buf::Writer;
use emissary_core::layout::{self, File, Kind, Layout};
use emissary_core::limits::PATH_BYTES;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, RawMode, RenameFlags};
use rustix::io::Errno;

use crate::args::Common;
use crate::console;
use crate::error::Error;
use crate::sys;

/// Room for a path.
pub(crate) type Room = [u8; PATH_BYTES];

/// The shared folder.
pub(crate) struct Shared<'a> {
    pub(crate) layout: Layout<'a>,
    fd: OwnedFd,
}

impl<'a> Shared<'a> {
    /// Finds and opens the shared folder, and checks the container's name.
    ///
    /// # Errors
    /// A name or layout that is none, a folder that is not there; the message names it.
    pub(crate) fn open(common: &Common<'a>) -> Result<Self, Error> {
        let text = |name: &CStr| sys::env(name).filter(|value| !value.is_empty());
        let name = common.name.or_else(|| text(c"ARGO_CONTAINER_NAME")).map(CStr::to_bytes);
        let kind = match (common.kind, text(c"EMISSARY_LAYOUT")) {
            (Some(kind), _) => kind,
            (None, Some(value)) => Kind::parse(value.to_bytes())
                .ok_or_else(|| Error::text(&[b"EMISSARY_LAYOUT: '", value.to_bytes(), b"' is not `flat` or `pod`"]))?,
            (None, None) if name.is_some() => Kind::Pod,
            (None, None) => Kind::Flat,
        };
        if let Some(name) = name {
            check_name(name)?;
        }
        let dir = common.dir.or_else(|| text(c"EMISSARY_DIR")).unwrap_or(kind.default_dir());
        let fd = open_at(CWD, dir, OFlags::PATH | OFlags::DIRECTORY, 0)
            .map_err(|errno| Error::new("open the shared folder", dir.to_bytes(), errno))?;
        Ok(Self { layout: Layout { kind, dir: dir.to_bytes(), container: name.unwrap_or_default() }, fd })
    }

    /// The same folder as another container sees it.
    pub(crate) fn layout_of<'b>(&'b self, container: &'b [u8]) -> Layout<'b> {
        Layout { container, ..self.layout }
    }

    /// The path of a protocol file.
    pub(crate) fn path<'b>(&self, file: File<'_>, room: &'b mut Room) -> Result<&'b CStr, Error> {
        self.layout.path(file, room).map_err(|cause| Error::because(&[b"path in the shared folder"], &|out| cause.describe(out)))
    }

    /// A container's folder; made, with its parent, where it is missing. In the flat layout it is the shared folder.
    ///
    /// # Errors
    /// A folder that cannot be made or opened, by its path.
    pub(crate) fn container(&self, name: &[u8]) -> Result<Folder, Error> {
        let mut room = [0; PATH_BYTES];
        let path = self
            .layout_of(name)
            .path(File::Container, &mut room)
            .map_err(|cause| Error::because(&[b"folder of container '", name, b"'"], &|out| cause.describe(out)))?;
        let parts = [&b"ctr"[..], name];
        let parts = if self.layout.kind == Kind::Pod { &parts[..] } else { &[] };
        let fd = descend(self.fd.as_fd(), &mut parts.iter().copied(), 0o777)
            .map_err(|errno| Error::new("make the folder", path.to_bytes(), errno))?;
        Ok(Folder { fd, path: path.to_bytes().to_vec() })
    }

    /// This container's folder.
    ///
    /// # Errors
    /// As [`Shared::container`], where the pod layout has no container name, and where the folder is not writable.
    pub(crate) fn own(&self) -> Result<Folder, Error> {
        if self.layout.kind == Kind::Pod && self.layout.container.is_empty() {
            return Err(Error::text(&[b"the pod layout needs a container name: --name, or ARGO_CONTAINER_NAME"]));
        }
        let folder = self.container(self.layout.container)?;
        // Better said before the command runs than when its exit code cannot be written.
        match rustix::fs::accessat(&folder.fd, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Err(errno @ (Errno::ACCESS | Errno::ROFS)) => Err(Error::new("write to the folder", &folder.path, errno)),
            _ => Ok(folder),
        }
    }

    /// The shared folder itself, as a folder to read and write in.
    pub(crate) fn top(&self) -> Result<Folder, Error> {
        let fd = descend(self.fd.as_fd(), &mut core::iter::empty(), 0)
            .map_err(|errno| Error::new("open the shared folder", self.layout.dir, errno))?;
        Ok(Folder { fd, path: self.layout.dir.to_vec() })
    }

    /// The folder that an output goes to (made, mode 0755, where it is missing) and the file's name in it.
    ///
    /// # Errors
    /// A path that names nothing or has a NUL, a folder that cannot be made.
    pub(crate) fn output<'b>(&self, file: File<'_>, room: &'b mut Room) -> Result<(Folder, &'b CStr), Error> {
        let path = self.path(file, room)?.to_bytes_with_nul();
        let slash = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let (parent, name) = (&path[..slash], CStr::from_bytes_with_nul(&path[slash + 1..]).unwrap_or_default());
        let below = parent.get(self.layout.dir.len()..).unwrap_or_default();
        let mut parts = below.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
        let fd = descend(self.fd.as_fd(), &mut parts, 0o755).map_err(|errno| Error::new("make the folder", parent, errno))?;
        Ok((Folder { fd, path: parent.to_vec() }, name))
    }

    /// The template's bytes: the file, else `ARGO_TEMPLATE`, else what `offloaded` stands for.
    ///
    /// # Errors
    /// A template that is nowhere or cannot be read.
    pub(crate) fn read_template(&self) -> Result<Vec<u8>, Error> {
        let mut room = [0; PATH_BYTES];
        let path = self.path(File::Template, &mut room)?;
        let dir = CString::new(self.layout.dir).unwrap_or_default();
        let mut name = core::iter::once(layout::base_name(File::Template).to_bytes());
        match read_below(&dir, &mut name, DOCUMENT_BYTES).map_err(|errno| Error::new("read", path.to_bytes(), errno)) {
            Err(error) if error.errno == Some(Errno::NOENT) => match template_from_env()? {
                Some(document) => Ok(document),
                None => Err(Error::text(&[b"no template: ", path.to_bytes(), b" is missing and ARGO_TEMPLATE is not set"])),
            },
            other => other,
        }
    }
}

/// Where a template is that was too large for the environment.
const OFFLOADED_TEMPLATE: &CStr = c"/argo/config/ARGO_TEMPLATE";

/// The template in `ARGO_TEMPLATE`, where it is set.
///
/// # Errors
/// An offloaded template that cannot be read.
pub(crate) fn template_from_env() -> Result<Option<Vec<u8>>, Error> {
    match sys::env(c"ARGO_TEMPLATE").map(CStr::to_bytes) {
        None => Ok(None),
        Some(b"offloaded") => read_file(OFFLOADED_TEMPLATE).map(Some),
        Some(document) => Ok(Some(document.to_vec())),
    }
}

/// Refuses what cannot be a container's folder.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Error> {
    layout::check_name(name).map_err(|cause| Error::because(&[b"container name '", name, b"'"], &|out| cause.describe(out)))
}

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

/// openat(2), close-on-exec; one that is interrupted is done again, which slow file systems ask for.
///
/// # Errors
/// What the system says otherwise.
#[inline(never)]
pub(crate) fn open_at(folder: BorrowedFd<'_>, path: &CStr, flags: OFlags, mode: RawMode) -> Result<OwnedFd, Errno> {
    loop {
        match rustix::fs::openat(folder, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode)) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Opens folders one below the other, each relative to the one before, following no link; makes those that are missing.
fn descend(from: BorrowedFd<'_>, parts: &mut dyn Iterator<Item = &[u8]>, mode: RawMode) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut at = open_at(from, c".", flags, 0)?;
    for part in parts {
        let name = Name::new(part)?;
        let name = name.as_c_str();
        at = match open_at(at.as_fd(), name, flags, 0) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(mode)) {
                    // Another container was first.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                open_at(at.as_fd(), name, flags, 0)?
            }
            other => other?,
        };
    }
    Ok(at)
}

/// A folder of the protocol, and its path for messages.
pub(crate) struct Folder {
    fd: OwnedFd,
    path: Vec<u8>,
}

impl Folder {
    /// Its descriptor.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The path of a file in it, for a message.
    pub(crate) fn path_of(&self, name: &CStr) -> Vec<u8> {
        [&self.path, &b"/"[..], name.to_bytes()].concat()
    }

    fn error(&self, operation: &str, name: &CStr, errno: Errno) -> Error {
        Error::new(operation, &self.path_of(name), errno)
    }

    /// Whether something has this name.
    pub(crate) fn has(&self, name: &CStr) -> bool {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The start of a small file, and milliseconds since it was written (negative for a time in the future); `None` where there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or that is no regular file.
    pub(crate) fn read<'b>(&self, name: &CStr, room: &'b mut [u8]) -> Result<Option<(&'b [u8], i64)>, Error> {
        match open_regular(self.fd.as_fd(), name, OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("read", name, errno)),
            Ok((file, stat)) => {
                let bytes = read_some(&file, room).map_err(|errno| self.error("read", name, errno))?;
                Ok(Some((bytes, age_ms(&stat))))
            }
        }
    }

    /// Milliseconds since a file was written (negative for a time in the future), and whether it is a regular one without contents; `None` where there is
    /// none.
    ///
    /// # Errors
    /// What the system says otherwise.
    pub(crate) fn age_ms(&self, name: &CStr) -> Result<Option<(i64, bool)>, Error> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("read", name, errno)),
            Ok(stat) => Ok(Some((age_ms(&stat), is_regular(&stat) && stat.st_size == 0))),
        }
    }

    /// Bytes of a file; `None` where there is none.
    pub(crate) fn size(&self, name: &CStr) -> Option<u64> {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| stat.st_size.unsigned_abs())
    }

    /// Takes a small file away and gives its start; `None` where there is none. It is renamed first, so that a file which replaces it
    /// meanwhile is not lost.
    ///
    /// # Errors
    /// A file that cannot be read or taken away, or that is no regular file. It is gone all the same, unless the cause may pass ([`is_passing`]).
    pub(crate) fn take<'b>(&self, name: &CStr, room: &'b mut [u8]) -> Result<Option<&'b [u8]>, Error> {
        let mut taken = own_name(0);
        let taken = loop {
            match rustix::fs::renameat(&self.fd, name, &self.fd, taken.as_c_str()) {
                Err(Errno::NOENT) => return Ok(None),
                // Somebody keeps a folder there.
                Err(Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST) => taken = own_name(1),
                Err(errno) => return Err(self.error("take away", name, errno)),
                Ok(()) => break taken,
            }
        };
        let taken = taken.as_c_str();
        let result = open_regular(self.fd.as_fd(), taken, OFlags::NOFOLLOW).and_then(|(file, _)| read_some(&file, room));
        if let Err(errno) = result
            && is_passing(errno)
        {
            // Back to where it was, unless another is there by now, which is the one that counts.
            let back = rustix::fs::renameat_with(&self.fd, taken, &self.fd, name, RenameFlags::NOREPLACE);
            // Some file systems know no such flag.
            let back =
                if matches!(back, Err(Errno::INVAL | Errno::NOSYS)) { rustix::fs::renameat(&self.fd, taken, &self.fd, name) } else { back };
            if back.is_err() {
                let _ = rustix::fs::unlinkat(&self.fd, taken, AtFlags::empty());
            }
            return Err(self.error("read", name, errno));
        }
        if rustix::fs::unlinkat(&self.fd, taken, AtFlags::empty()) == Err(Errno::ISDIR) {
            let _ = rustix::fs::unlinkat(&self.fd, taken, AtFlags::REMOVEDIR);
        }
        result.map(Some).map_err(|errno| self.error("read", name, errno))
    }

    /// Removes a file, if it is there and that is allowed.
    pub(crate) fn remove(&self, name: &CStr) {
        let _ = rustix::fs::unlinkat(&self.fd, name, AtFlags::empty());
    }

    /// Writes a small file beside its name and renames it there.
    ///
    /// # Errors
    /// What the system says; the file is then as it was.
    pub(crate) fn write(&self, name: &CStr, bytes: &[u8], mode: RawMode) -> Result<(), Error> {
        let draft = self.draft(name, mode)?;
        console::write_all(draft.file.as_fd(), bytes).map_err(|errno| self.error("write", name, errno))?;
        draft.commit(name)
    }

    /// A file that appears under `name` when it is complete.
    ///
    /// # Errors
    /// What the system says of the folder.
    pub(crate) fn draft(&self, name: &CStr, mode: RawMode) -> Result<Draft<'_>, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mut next = 0;
        loop {
            let own = own_name(next);
            match open_at(self.as_fd(), own.as_c_str(), flags, mode) {
                Err(Errno::EXIST) => next += 1,
                Err(errno) => return Err(self.error("write", name, errno)),
                Ok(file) => {
                    // An init container that is not ours may run under another umask.
                    let _ = rustix::fs::fchmod(&file, Mode::from_raw_mode(mode));
                    return Ok(Draft { folder: self, name: own, file, committed: false });
                }
            }
        }
    }

    /// Opens a log for appending.
    ///
    /// # Errors
    /// What the system says, or that it is no regular file.
    pub(crate) fn append(&self, name: &CStr) -> Result<OwnedFd, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        open_at(self.as_fd(), name, flags, 0o666)
            .and_then(|file| if is_regular(&rustix::fs::fstat(&file)?) { Ok(file) } else { Err(Errno::INVAL) })
            .map_err(|errno| self.error("open", name, errno))
    }

    /// Opens a log for reading; `None` where there is none yet.
    ///
    /// # Errors
    /// What the system says otherwise, or that it is no regular file.
    pub(crate) fn open_log(&self, name: &CStr) -> Result<Option<OwnedFd>, Errno> {
        match open_regular(self.fd.as_fd(), name, OFlags::NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            other => other.map(|(file, _)| Some(file)),
        }
    }
}

/// Whether a later attempt may go better: the cause lies in the machine's state, not in the file.
pub(crate) const fn is_passing(errno: Errno) -> bool {
    matches!(errno, Errno::INTR | Errno::AGAIN | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::IO | Errno::NOSPC)
}

/// A name that nobody else uses or foresees: containers that share a folder may have the same process id, the clock tells them apart.
pub(crate) fn own_name(next: u64) -> Name {
    let serial = sys::clock(sys::Clock::Monotonic).1.unsigned_abs().wrapping_add(next);
    let mut name = Name([0; 256]);
    let pid = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    Writer::new(&mut name.0).text(".emissary-").decimal(pid.into()).byte(b'-').decimal(serial);
    name
}

/// A file under a name of its own until it is complete; removed if it never is.
pub(crate) struct Draft<'a> {
    folder: &'a Folder,
    name: Name,
    /// To write to.
    pub(crate) file: OwnedFd,
    committed: bool,
}

impl Draft<'_> {
    /// Gives it its name, in place of what stood there.
    ///
    /// # Errors
    /// What rename(2) says; what stood there stays.
    pub(crate) fn commit(mut self, name: &CStr) -> Result<(), Error> {
        let folder = self.folder;
        rustix::fs::renameat(&folder.fd, self.name.as_c_str(), &folder.fd, name).map_err(|errno| folder.error("write", name, errno))?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if !self.committed {
            let _ = rustix::fs::unlinkat(&self.folder.fd, self.name.as_c_str(), AtFlags::empty());
        }
    }
}

fn is_regular(stat: &rustix::fs::Stat) -> bool {
    rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()
}

fn age_ms(stat: &rustix::fs::Stat) -> i64 {
    #[allow(clippy::unnecessary_cast, reason = "the types differ between targets")]
    let written = (stat.st_mtime as i64).saturating_mul(1_000).saturating_add(stat.st_mtime_nsec as i64 / 1_000_000);
    console::unix_ms().saturating_sub(written)
}

/// Opens a regular file for reading; a pipe does not block, and neither it nor anything else that is no file is read.
fn open_regular(folder: BorrowedFd<'_>, name: &CStr, more: OFlags) -> Result<(OwnedFd, rustix::fs::Stat), Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | more;
    let file = open_at(folder, name, flags, 0)?;
    let stat = rustix::fs::fstat(&file)?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    match kind {
        rustix::fs::FileType::RegularFile => Ok((file, stat)),
        rustix::fs::FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}

/// Fills `room` as far as the file goes.
fn read_some<'b>(file: &OwnedFd, room: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let mut filled = 0;
    while filled < room.len() {
        match rustix::io::read(file, &mut room[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(&room[..filled])
}

/// Bytes of a template or an argument file at most: far more than an API server stores.
pub(crate) const DOCUMENT_BYTES: usize = 64 << 20;

/// A whole file by a path of ours, not of another container's.
///
/// # Errors
/// What the system says, by the path; `EFBIG` past [`DOCUMENT_BYTES`].
pub(crate) fn read_file(path: &CStr) -> Result<Vec<u8>, Error> {
    let error = |errno| Error::new("read", path.to_bytes(), errno);
    let (file, _) = open_regular(CWD, path, OFlags::empty()).map_err(error)?;
    read_to_end(file.as_fd(), DOCUMENT_BYTES).map_err(error)
}

/// A whole file below a folder, reached through no link.
///
/// # Errors
/// What the system says; `ELOOP` or `ENOTDIR` for a link, `EFBIG` past `limit`.
pub(crate) fn read_below(folder: &CStr, parts: &mut dyn Iterator<Item = &[u8]>, limit: usize) -> Result<Vec<u8>, Errno> {
    let (file, _) = open_below(folder, parts)?;
    read_to_end(file.as_fd(), limit)
}

/// Opens a regular file below a folder, reached through no link.
///
/// # Errors
/// As [`read_below`].
pub(crate) fn open_below(folder: &CStr, parts: &mut dyn Iterator<Item = &[u8]>) -> Result<(OwnedFd, rustix::fs::Stat), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let mut at = open_at(CWD, folder, flags, 0)?;
    let mut last = parts.next().ok_or(Errno::ISDIR)?;
    for next in parts {
        let name = Name::new(last)?;
        let name = name.as_c_str();
        at = match open_at(at.as_fd(), name, flags | OFlags::NOFOLLOW, 0) {
            // A link is no folder; it is no missing one either.
            Err(Errno::NOTDIR) if rustix::fs::readlinkat(&at, name, Vec::new()).is_ok() => return Err(Errno::LOOP),
            other => other?,
        };
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
            Err(errno) => return Err(errno),
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
/// is cut at `size_bytes`, or at [`LEAST_COPIED`] where that is more, so that there is an end.
///
/// # Errors
/// What the system says, and of which side.
pub(crate) fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size_bytes: u64) -> Result<(), CopyError> {
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
            Ok(0) => break,
            Ok(read) => {
                console::write_all(to, &room[..read]).map_err(CopyError::Write)?;
                left = left.saturating_sub(read as u64);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(CopyError::Read(errno)),
        }
    }
    Ok(())
}
