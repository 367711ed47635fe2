//! The shared folder: where the protocol's files are, and opening the folders that hold them.
//!
//! Everything below the shared folder is opened relative to a descriptor, one component at a time, and no link is followed: other
//! containers write there too, and a link must not lead us out.

use core::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use emissary_core::layout::{self, File, Kind, Layout};
use emissary_core::limits::PATH_BYTES;
use rustix::fs::{Access, AtFlags, CWD, OFlags, RawMode};
use rustix::io::Errno;

use super::folder::Folder;
use crate::os::{env, fs};
use crate::report::error::Error;

/// Room for a path.
pub(crate) type Room = [u8; PATH_BYTES];

/// What the command line says of the shared folder; the environment and the defaults say the rest.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    /// The container's name.
    pub(crate) name: Option<&'a CStr>,
    /// The layout.
    pub(crate) kind: Option<Kind>,
    /// The shared folder's path.
    pub(crate) dir: Option<&'a CStr>,
    /// Without a word on it anywhere, the layout is the pod's, as for Argo's own executor.
    pub(crate) is_in_pod: bool,
}

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
    pub(crate) fn open(place: &Place<'a>) -> Result<Self, Error> {
        let text = |name: &CStr| env::var(name).filter(|value| !value.is_empty());
        let name = place.name.or_else(|| text(c"ARGO_CONTAINER_NAME")).map(CStr::to_bytes);
        let kind = match (place.kind, text(c"EMISSARY_LAYOUT")) {
            (Some(kind), _) => kind,
            (None, Some(value)) => Kind::parse(value.to_bytes())
                .ok_or_else(|| Error::text(&[b"EMISSARY_LAYOUT: '", value.to_bytes(), b"' is not `flat` or `pod`"]))?,
            (None, None) if name.is_some() || place.is_in_pod => Kind::Pod,
            (None, None) => Kind::Flat,
        };
        if let Some(name) = name {
            check_name(name)?;
        }
        let dir = place.dir.or_else(|| text(c"EMISSARY_DIR")).unwrap_or(kind.default_dir());
        if dir.is_empty() {
            return Err(Error::text(&[b"flag --dir: its path is empty"]));
        }
        let fd = fs::open_at(CWD, dir, OFlags::PATH | OFlags::DIRECTORY, 0)
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
        let fd = self.descend(name, Some(0o777)).map_err(|errno| Error::new("make the folder", path.to_bytes(), errno))?;
        Ok(Folder { fd, path: path.to_bytes().to_vec() })
    }

    fn descend(&self, name: &[u8], made: Option<RawMode>) -> Result<OwnedFd, Errno> {
        let parts = [&b"ctr"[..], name];
        let parts: &[&[u8]] = match self.layout.kind {
            Kind::Flat => &[],
            // A container that has no name has its files directly there.
            Kind::Pod if name.is_empty() => &parts[..1],
            Kind::Pod => &parts,
        };
        fs::descend(self.fd.as_fd(), &mut parts.iter().copied(), made)
    }

    /// A container's folder, where it is there.
    pub(crate) fn existing(&self, name: &[u8]) -> Option<Folder> {
        let mut room = [0; PATH_BYTES];
        let path = self.layout_of(name).path(File::Container, &mut room).ok()?;
        let fd = match self.layout.kind {
            // The shared folder itself may have been made again.
            Kind::Flat => fs::open_at(CWD, path, OFlags::PATH | OFlags::DIRECTORY, 0).ok()?,
            Kind::Pod => self.descend(name, None).ok()?,
        };
        Some(Folder { fd, path: path.to_bytes().to_vec() })
    }

    /// This container's folder.
    ///
    /// # Errors
    /// As [`Shared::container`], and where the folder is not writable.
    pub(crate) fn own(&self) -> Result<Folder, Error> {
        let folder = self.container(self.layout.container)?;
        // Better said before the command runs than when its exit code cannot be written.
        match rustix::fs::accessat(&folder.fd, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Err(errno @ (Errno::ACCESS | Errno::ROFS)) => Err(Error::new("write to the folder", &folder.path, errno)),
            _ => Ok(folder),
        }
    }

    /// The shared folder itself, as a folder to read and write in.
    pub(crate) fn top(&self) -> Result<Folder, Error> {
        let fd = fs::descend(self.fd.as_fd(), &mut core::iter::empty(), None)
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
        let fd = fs::descend(self.fd.as_fd(), &mut parts, Some(0o755)).map_err(|errno| Error::new("make the folder", parent, errno))?;
        Ok((Folder { fd, path: parent.to_vec() }, name))
    }
}

/// Refuses what cannot be a container's folder.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Error> {
    layout::check_name(name).map_err(|cause| Error::because(&[b"container name '", name, b"'"], &|out| cause.describe(out)))
}
