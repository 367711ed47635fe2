//! The template: where it is read from, checking it, and what the roles ask it.

use core::ffi::CStr;
use std::ffi::CString;

use emissary_core::json::Str;
use emissary_core::layout::{self, File};
use emissary_core::limits::{CONTAINER_NAME_BYTES, PATH_BYTES};
use emissary_core::template::Template;
use rustix::io::Errno;

use super::shared::{Room, Shared};
use crate::os::{env, fs};
use crate::report::error::Error;

/// Bytes of a template or an argument file at most: far more than an API server stores.
pub(crate) const DOCUMENT_BYTES: usize = 64 << 20;

/// The template's bytes: the file, else `ARGO_TEMPLATE`, else what `offloaded` stands for.
///
/// # Errors
/// A template that is nowhere or cannot be read.
pub(crate) fn read(shared: &Shared<'_>) -> Result<Vec<u8>, Error> {
    let mut room = [0; PATH_BYTES];
    let path = shared.path(File::Template, &mut room)?;
    let dir = CString::new(shared.layout.dir).unwrap_or_default();
    let mut name = core::iter::once(layout::base_name(File::Template).to_bytes());
    match fs::read_below(&dir, &mut name, DOCUMENT_BYTES) {
        Err(Errno::NOENT) => match from_env()? {
            Some(document) => Ok(document),
            None => Err(Error::text(&[b"no template: ", path.to_bytes(), b" is missing and ARGO_TEMPLATE is not set"])),
        },
        other => other.map_err(|errno| Error::new("read", path.to_bytes(), errno)),
    }
}

/// Where a template is that was too large for the environment.
const OFFLOADED_TEMPLATE: &CStr = c"/argo/config/ARGO_TEMPLATE";

/// The template in `ARGO_TEMPLATE`, where it is set.
///
/// # Errors
/// An offloaded template that cannot be read.
pub(crate) fn from_env() -> Result<Option<Vec<u8>>, Error> {
    match env::var(c"ARGO_TEMPLATE").map(CStr::to_bytes) {
        None => Ok(None),
        Some(b"offloaded") => read_file(OFFLOADED_TEMPLATE).map(Some),
        Some(document) => Ok(Some(document.to_vec())),
    }
}

/// A whole file by a path of ours, not of another container's.
///
/// # Errors
/// What the system says, by the path; `EFBIG` past [`DOCUMENT_BYTES`].
pub(crate) fn read_file(path: &CStr) -> Result<Vec<u8>, Error> {
    fs::read_file(path, DOCUMENT_BYTES).map_err(|errno| Error::new("read", path.to_bytes(), errno))
}

/// A container's name that the template's check has found to fit.
pub(crate) fn decoded<'b>(name: Str<'_>, room: &'b mut [u8; CONTAINER_NAME_BYTES]) -> &'b [u8] {
    name.decode(room).unwrap_or_default()
}

/// Checks a template; the message says where it is wrong.
///
/// # Errors
/// As [`Template::parse`].
pub(crate) fn parse(document: &[u8]) -> Result<Template<'_>, Error> {
    Template::parse(document).map_err(|cause| Error::because(&[b"template"], &|out| cause.describe(out)))
}

/// Names of the main containers of a pod: those of the set, or `main`.
pub(crate) fn main_containers<'a>(template: &Template<'a>) -> impl Iterator<Item = Str<'a>> + use<'a> {
    let has_set = template.container_names().next().is_some();
    template.container_names().chain((!has_set).then_some(Str::MAIN))
}

/// An output's path as the system is to open it: cleaned as text, as what it is saved as is, so that `f/.` and `link/../f` are `f`.
///
/// # Errors
/// As [`path`].
pub(crate) fn source<'b>(path: Str<'_>, room: &'b mut Room) -> Result<&'b CStr, Error> {
    let (mut written, mut clean) = ([0; PATH_BYTES], [0; PATH_BYTES]);
    let written = self::path(path, &mut written)?;
    // Never longer, since it is not empty.
    let cleaned = layout::clean_source(written.to_bytes(), &mut clean).unwrap_or_default();
    room[..cleaned.len()].copy_from_slice(cleaned);
    room[cleaned.len()] = 0;
    Ok(CStr::from_bytes_until_nul(room).unwrap_or_default())
}

/// Decodes a path with the NUL that system calls want, without slashes at its end: `a/` is the same output as `a`, whatever it is.
///
/// # Errors
/// A path that is too long or has a NUL of its own.
pub(crate) fn path<'b>(path: Str<'_>, room: &'b mut Room) -> Result<&'b CStr, Error> {
    let mut out = emissary_core::buf::Writer::new(room);
    path.write(&mut out);
    out.byte(0);
    let bytes = out.finish().map_err(|full| Error::because(&[b"path in the template"], &|out| full.describe(out)))?;
    let mut end = bytes.len() - 1;
    while end > 1 && bytes[end - 1] == b'/' {
        end -= 1;
    }
    bytes[end] = 0;
    CStr::from_bytes_with_nul(&bytes[..=end]).map_err(|_| Error::text(&[b"path in the template: has a NUL character"]))
}
