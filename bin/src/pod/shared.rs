//! Finds the shared folder, a volume that all containers of a pod mount, and opens the folders in it (docs/protocol.md, "Files").
//!
//! Enters: the command line's options and the environment. Leaves: open folders, and paths of protocol files. Refuses: a container name or a layout
//! that is not valid, a shared folder that is missing, and a symbolic link in a path below it.
//!
//! Other containers write to the shared folder, and a link made there must not lead emissary out of it. So each path below it is opened one component
//! at a time, relative to a descriptor, without following a link.

use core::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use emissary_core::layout::{self, File, Kind, Layout};
use emissary_core::limits::PATH_BYTES;
use rustix::fs::{Access, CWD, OFlags, RawMode};
use rustix::io::Errno;

use super::folder::Folder;
use crate::os::{env, fs};
use crate::report::error::Error;

/// A buffer for a path.
pub(crate) type Room = [u8; PATH_BYTES];

/// Where the shared folder is, as the command line says. The environment and defaults fill the gaps.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    /// The container's name.
    pub(crate) name: Option<&'a CStr>,
    /// The layout.
    pub(crate) kind: Option<Kind>,
    /// The shared folder's path.
    pub(crate) dir: Option<&'a CStr>,
    /// Argo is the caller. If neither a layout nor a name is given, the layout is the pod's.
    pub(crate) is_in_pod: bool,
}

/// The shared folder, and this container's own folder in it.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    pub(crate) shared: &'a Shared<'a>,
    pub(crate) folder: &'a Folder,
}

impl Place<'_> {
    /// Returns whether the command line or the environment asks for a shared folder.
    ///
    /// Every variable `ARGO_…` asks, but not one that Kubernetes sets for a service with such a name: `ARGO_SERVER_SERVICE_HOST`, `ARGO_SERVER_PORT`.
    fn is_asked_for(&self) -> bool {
        let mut is_asked = self.name.is_some() || self.kind.is_some() || self.dir.is_some() || self.is_in_pod;
        env::each(&mut |name, value| {
            let of_service = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
            is_asked |= match name.strip_prefix(b"ARGO_") {
                Some(_) => !of_service(b"_SERVICE_") && !of_service(b"_PORT"),
                None => matches!(name, b"EMISSARY_DIR" | b"EMISSARY_LAYOUT" | b"EMISSARY_NAME") && !value.is_empty(),
            };
        });
        is_asked
    }
}

/// The open shared folder.
pub(crate) struct Shared<'a> {
    pub(crate) layout: Layout<'a>,
    /// Argo is the caller. It gives every container a template.
    pub(crate) is_argos: bool,
    fd: OwnedFd,
}

impl<'a> Shared<'a> {
    /// Finds and opens the shared folder; `None` if it does not exist and nothing asks for it.
    ///
    /// # Errors
    /// As [`Shared::open`].
    pub(crate) fn open_if_any(place: &Place<'a>) -> Result<Option<Self>, Error> {
        match Self::open(place) {
            Err(error) if matches!(error.errno, Some(Errno::NOENT | Errno::NOTDIR)) && !place.is_asked_for() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Finds and opens the shared folder, and checks the container's name.
    ///
    /// # Errors
    /// The name or the layout is not valid, or the folder cannot be opened. The message names it.
    pub(crate) fn open(place: &Place<'a>) -> Result<Self, Error> {
        let text = |name: &CStr| env::var(name).filter(|value| !value.is_empty());
        let name = place.name.or_else(|| text(c"EMISSARY_NAME")).or_else(|| text(c"ARGO_CONTAINER_NAME")).map(CStr::to_bytes);
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
        let is_argos = place.is_in_pod || text(c"ARGO_CONTAINER_NAME").is_some();
        Ok(Self { is_argos, layout: Layout { kind, dir: dir.to_bytes(), container: name.unwrap_or_default() }, fd })
    }

    /// Returns the layout as another container sees it.
    pub(crate) fn layout_of<'b>(&'b self, container: &'b [u8]) -> Layout<'b> {
        Layout { container, ..self.layout }
    }

    /// Returns the path of a protocol file.
    pub(crate) fn path<'b>(&self, file: File<'_>, room: &'b mut Room) -> Result<&'b CStr, Error> {
        self.layout.path(file, room).map_err(|cause| Error::because(&[b"path in the shared folder"], &|out| cause.describe(out)))
    }

    /// Opens a container's folder. Makes it and its parent if they are missing. In the flat layout it is the shared folder itself.
    ///
    /// # Errors
    /// The folder cannot be made or opened. The message has its path.
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
            // The files of a container without a name are directly in `ctr`.
            Kind::Pod if name.is_empty() => &parts[..1],
            Kind::Pod => &parts,
        };
        fs::descend(self.fd.as_fd(), &mut parts.iter().copied(), made)
    }

    /// Opens a container's folder; `None` if it does not exist or cannot be opened.
    pub(crate) fn existing(&self, name: &[u8]) -> Option<Folder> {
        let mut room = [0; PATH_BYTES];
        let path = self.layout_of(name).path(File::Container, &mut room).ok()?;
        let fd = match self.layout.kind {
            // The shared folder itself may have been removed and made again.
            Kind::Flat => fs::open_at(CWD, path, OFlags::PATH | OFlags::DIRECTORY, 0).ok()?,
            Kind::Pod => self.descend(name, None).ok()?,
        };
        Some(Folder { fd, path: path.to_bytes().to_vec() })
    }

    /// Opens this container's folder.
    ///
    /// # Errors
    /// As [`Shared::container`]; also if the folder is not writable.
    pub(crate) fn own(&self) -> Result<Folder, Error> {
        let folder = self.container(self.layout.container)?;
        // Report this before the command runs, not when its exit code cannot be written.
        match fs::access(folder.as_fd(), c".", Access::WRITE_OK | Access::EXEC_OK) {
            Err(errno @ (Errno::ACCESS | Errno::ROFS)) => Err(Error::new("write to the folder", &folder.path, errno)),
            _ => Ok(folder),
        }
    }

    /// Opens the shared folder itself, to read and write files in it.
    pub(crate) fn top(&self) -> Result<Folder, Error> {
        let fd = fs::descend(self.fd.as_fd(), &mut core::iter::empty(), None)
            .map_err(|errno| Error::new("open the shared folder", self.layout.dir, errno))?;
        Ok(Folder { fd, path: self.layout.dir.to_vec() })
    }

    /// Opens the folder of an output, and makes it with mode 0755 if it is missing. Returns the folder and the file's name in it.
    ///
    /// # Errors
    /// The path is empty or has a NUL, or the folder cannot be made.
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

/// Refuses a name that cannot be the name of a container's folder.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Error> {
    layout::check_name(name).map_err(|cause| Error::because(&[b"container name '", name, b"'"], &|out| cause.describe(out)))
}
