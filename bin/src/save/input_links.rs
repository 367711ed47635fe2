//! Input artifacts of pods without an init container: a link at each one's path.
//!
//! Enters: the template, `/argo/inputs/artifacts/NAME`. Leaves: symbolic links. Refuses, with status 65: to remove what lies on a volume mount once links are
//! resolved, or has one below it; to remove the working directory for a path that is empty but for dots; what cannot be removed.

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

/// Where the supervisor leaves them.
const SOURCE: &[u8] = b"/argo/inputs/artifacts/";

/// Links every input artifact that is there.
///
/// # Errors
/// The first that is refused or fails, with status 65.
pub(crate) fn link(template: &Template<'_>) -> Result<(), Error> {
    let cwd = fs::working_directory();
    // It may lie in what is replaced.
    let has_left = rustix::process::chdir(c"/").is_ok();
    // Resolved for the first artifact that is there: no link that is made leads another way to a mount, or it would be refused.
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
        // It is found by its name.
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
    // It is the working directory that such a path is relative to. An image's own working directory is replaced where its path is written out.
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
        // Where nothing stands nothing is removed: as Argo does, it lands on the volume.
        Ok(_) if let Some((why, mount)) = in_the_way => return refuse(why, mount.to_bytes()),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_dir() => {
            // First the whole look, then the first removal.
            each_below(&parent, base, stat.st_dev, false).map_err(|errno| fail("replace", errno))?;
            each_below(&parent, base, stat.st_dev, true).map_err(|errno| fail("replace", errno))?;
        }
        Ok(_) => rustix::fs::unlinkat(&parent, base, AtFlags::empty()).map_err(|errno| fail("replace", errno))?,
    }
    rustix::fs::symlinkat(source, &parent, base).map_err(|errno| fail("link", noted(c"symlinkat", errno)))
}

/// The paths of the mounts: each as it is written, as it is once links on the way are resolved, and where it leads if it is a link itself.
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

/// The path with every link resolved as far as it exists.
fn resolve(path: &[u8]) -> Result<Vec<u8>, Error> {
    // With one more component, what was the last is part of the parent.
    let mut resolved = resolve_parent(&[path, b"/x"].concat())?;
    resolved.truncate(resolved.len() - b"/x".len());
    Ok(if resolved.is_empty() { b"/".to_vec() } else { resolved })
}

/// The path with every link in its parent resolved as far as it exists; the last component is kept as it is.
#[inline(never)]
fn resolve_parent(path: &[u8]) -> Result<Vec<u8>, Error> {
    let mut resolved: Vec<u8> = Vec::new();
    // Components still to come, the next one last.
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

/// A path from the root. A relative one is the command's, whose working directory is ours.
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

/// Opens a folder by its absolute, resolved path, making what is missing.
#[inline(never)]
fn make_folders(path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut at = fs::open_at(CWD, c"/", flags, 0)?;
    for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        let name = Name::new(part)?;
        match rustix::fs::mkdirat(&at, name.as_c_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // It may be there on a file system that is read-only.
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
        at = fs::open_at(at.as_fd(), name.as_c_str(), flags, 0)?;
    }
    Ok(at)
}

/// Looks at, or removes, a folder and all below it. Another file system below is refused: a mount that nobody declared is kept too.
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
