//! Links a step's input artifacts in pods without an init container (docs/protocol.md, "Main", step 5). There, a supervisor leaves each input artifact in one
//! folder, and the command expects it at a path of its own (symlink(2)).
//!
//! Enters: the template, and the files `/argo/inputs/artifacts/NAME`. Leaves: a symbolic link at each artifact's path. Refuses, with status 65: to remove a
//! path that lies on a volume mount (once links are resolved), has a mount below it or holds another file system; to remove the working directory, or a
//! folder above it, for a path that is relative or ends in dots; a path that cannot be removed.

use core::ffi::CStr;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use emissary_core::buf::Writer;
use emissary_core::exit;
use emissary_core::json::Str;
use emissary_core::layout;
use emissary_core::limits::PATH_BYTES;
use emissary_core::template::Template;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::outputs::Mounts;
use super::walk::{Event, Fault, Walk};
use crate::os::errno::{is_refusal, noted, refused};
use crate::os::fs::{self, Name};
use crate::pod::template as pod_template;
use crate::report::error::Error;

/// The folder where the supervisor leaves the artifacts.
const SOURCE: &[u8] = b"/argo/inputs/artifacts/";

/// Links every input artifact that exists.
///
/// # Errors
/// The first artifact that is refused or fails; status 65.
pub(crate) fn link(template: &Template<'_>) -> Result<(), Error> {
    let cwd = fs::working_directory();
    // The working directory may lie in a folder that a link replaces.
    let has_left = rustix::process::chdir(c"/").is_ok();
    // The mounts are resolved once, for the first artifact that exists. A link that we make cannot change the way to a mount, because such a link is refused.
    let mut mounts = None;
    let result =
        template.input_artifacts().try_for_each(|artifact| link_one(template, &mut mounts, artifact.name, artifact.path, cwd.as_deref()));
    if let Some(cwd) = cwd.as_ref().filter(|_| has_left) {
        rustix::process::chdir(cwd.as_c_str())
            .map_err(|errno| Error::new("return to the working directory", cwd.to_bytes(), errno).with_status(exit::NOT_READY))?;
    }
    result.map_err(|error| error.with_status(exit::NOT_READY))
}

#[inline(never)]
fn link_one(template: &Template<'_>, mounts: &mut Option<Mounts>, name: Str<'_>, path: Str<'_>, cwd: Option<&CStr>) -> Result<(), Error> {
    if name.raw_len() == 0 {
        // An artifact without a name has no file.
        return Ok(());
    }
    let mut source_room = [0; PATH_BYTES];
    let mut out = Writer::new(&mut source_room);
    out.bytes(SOURCE);
    name.write(&mut out);
    out.byte(0);
    let source = out.finish().ok().and_then(|bytes| CStr::from_bytes_with_nul(bytes).ok());
    let source = source.filter(|source| {
        !layout::last_component(source.to_bytes()).is_empty() && source.to_bytes()[SOURCE.len()..].iter().all(|&byte| byte != b'/')
    });
    let Some(source) = source else { return Err(Error::text(&[b"input artifact: its name is no file name"])) };
    match fs::stat_at(CWD, source, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        other => other.map_err(|errno| Error::new("read", source.to_bytes(), errno))?,
    };
    let mut room = [0; PATH_BYTES];
    let path = pod_template::path(path, &mut room)?.to_bytes();
    if cwd.is_none() && !path.starts_with(b"/") {
        return Err(Error::text(&[
            b"input artifact ",
            source.to_bytes(),
            b": the working directory is not known, in which '",
            path,
            b"' lies",
        ]));
    }
    let absolute = absolute(path, cwd);
    let refuse =
        |why: &[u8], mount: &[u8]| Err(Error::text(&[b"input artifact ", source.to_bytes(), b" is not linked at ", path, why, mount]));
    let last = path.rsplit(|&byte| byte == b'/').find(|part| !part.is_empty());
    let target = resolve_parent(&absolute)?;
    let mounts = match mounts {
        Some(mounts) => mounts,
        None => mounts.insert(resolved_mounts(template)?),
    };
    let mut room = vec![0; absolute.len() + 1];
    let absolute = layout::clean(&absolute, &mut room).unwrap_or_default();
    // A path that is relative or ends in dots may not remove the working directory. An absolute path without such dots may: it names an image's own working
    // directory on purpose.
    let is_dots = !path.starts_with(b"/") || matches!(last, Some(b"." | b".."));
    if is_dots && cwd.is_some_and(|cwd| layout::is_inside(cwd.to_bytes(), &target)) {
        return refuse(b": that would remove the working directory", b"");
    }
    let in_the_way = mounts.each().find_map(|(written, mount)| {
        if layout::is_inside(&target, mount) || layout::is_inside(absolute, mount) {
            return Some((&b": that lies on the volume mount "[..], written));
        }
        layout::is_inside(mount, &target).then_some((&b": that would remove the volume mount "[..], written))
    });
    let fail = |operation: &str, errno| Error::new(operation, &target, errno);
    let slash = target.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    let parent = make_folders(&target[..slash]).map_err(|errno| fail("make the folder of", errno))?;
    let base = Name::new(&target[slash + 1..]).map_err(|errno| fail("link", errno))?;
    let base = base.as_c_str();
    if rustix::fs::readlinkat(&parent, base, Vec::new()).is_ok_and(|now| now.as_c_str() == source) {
        return Ok(());
    }
    match fs::stat_at(parent.as_fd(), base, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(fail("replace", errno)),
        // If the path does not exist, nothing is removed. The link then lands on the volume, as under Argo.
        Ok(_) if let Some((why, mount)) = in_the_way => return refuse(why, mount.to_bytes()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
            // The whole folder is checked before anything is removed.
            each_below(&parent, base, stat.st_dev, false).map_err(|errno| fail("replace", errno))?;
            each_below(&parent, base, stat.st_dev, true).map_err(|errno| fail("replace", errno))?;
        }
        Ok(_) => rustix::fs::unlinkat(&parent, base, AtFlags::empty()).map_err(|errno| fail("replace", errno))?,
    }
    rustix::fs::symlinkat(source, &parent, base).map_err(|errno| fail("link", noted(c"symlinkat", errno)))
}

/// Returns each mount's paths: as written, with the links in its parent resolved, and with all links resolved.
#[inline(never)]
fn resolved_mounts(template: &Template<'_>) -> Result<Mounts, Error> {
    let mut mounts = Mounts::default();
    for mount in template.mount_paths() {
        let mut room = [0; PATH_BYTES];
        let mount = pod_template::path(mount, &mut room)?;
        if !mounts.push(mount) {
            continue;
        }
        for resolved in [resolve_parent(mount.to_bytes())?, resolve(mount.to_bytes())?] {
            mounts.push(&CString::new(resolved).unwrap_or_default());
        }
    }
    Ok(mounts)
}

/// Resolves every link of a path, as far as the path exists.
fn resolve(path: &[u8]) -> Result<Vec<u8>, Error> {
    // With a component appended, the path's last component becomes part of the parent.
    let mut resolved = resolve_parent(&[path, b"/x"].concat())?;
    resolved.truncate(resolved.len() - b"/x".len());
    Ok(if resolved.is_empty() { b"/".to_vec() } else { resolved })
}

/// Resolves every link in a path's parent, as far as the parent exists. Keeps the last component unchanged.
#[inline(never)]
fn resolve_parent(path: &[u8]) -> Result<Vec<u8>, Error> {
    let mut resolved: Vec<u8> = Vec::new();
    // The remaining components; the next one is last.
    let mut left: Vec<Vec<u8>> = split(path);
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == b".." {
            let end = resolved.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            resolved.truncate(end);
            continue;
        }
        let before = resolved.len();
        resolved.push(b'/');
        resolved.extend_from_slice(&part);
        if left.is_empty() {
            break;
        }
        let at = CString::new(&resolved[..]).unwrap_or_default();
        let link = rustix::fs::readlinkat(CWD, at.as_c_str(), Vec::new());
        if let Err(errno) = link
            && is_refusal(errno)
        {
            return Err(Error::new("resolve", path, refused(c"readlinkat", errno)));
        }
        if let Ok(target) = link {
            links += 1;
            if links > 40 {
                return Err(Error::new("resolve", path, Errno::LOOP));
            }
            let target = target.to_bytes();
            resolved.truncate(if target.starts_with(b"/") { 0 } else { before });
            left.extend(split(target));
        }
    }
    if resolved.is_empty() {
        return Err(Error::text(&[b"path '", path, b"' names no file"]));
    }
    Ok(resolved)
}

/// Returns an absolute path. A relative path belongs to the command, which has our working directory.
fn absolute(path: &[u8], cwd: Option<&CStr>) -> Vec<u8> {
    match (path.first(), cwd) {
        (Some(b'/'), _) | (_, None) => path.to_vec(),
        (_, Some(cwd)) => [cwd.to_bytes(), b"/", path].concat(),
    }
}

fn split(path: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> =
        path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

/// Opens a folder by its absolute, resolved path. Makes the folders that are missing.
#[inline(never)]
fn make_folders(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut at = fs::open_at(CWD, c"/", flags, 0)?;
    for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        let name = Name::new(part)?;
        match rustix::fs::mkdirat(&at, name.as_c_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // On a read-only file system, the folder may exist all the same.
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        at = fs::open_at(at.as_fd(), name.as_c_str(), flags, 0)?;
    }
    Ok(at)
}

/// Checks, or removes, a folder and everything below it. Refuses another file system below the folder, because a mount that the template does not declare
/// must stay too.
fn each_below(parent: &OwnedFd, name: &CStr, device: u64, remove: bool) -> Result<(), Errno> {
    let root = fs::open_at(parent.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, 0)?;
    let stat = fs::fstat(&root)?;
    let mut walk = Walk::new(root, stat, b"", false);
    while let Some(event) = walk.next().map_err(|fault| match fault {
        Fault::System(_, errno) => errno,
        Fault::Moved => Errno::BUSY,
    })? {
        match event {
            Event::Folder if walk.stat().st_dev != device => return Err(Errno::XDEV),
            Event::FolderEnd if remove => {
                let (parent, name) = walk.place().unwrap_or((parent.as_fd(), name));
                rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
            }
            Event::File | Event::Other if remove => {
                if let Some((parent, name)) = walk.place() {
                    rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
