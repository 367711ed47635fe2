//! The template: where it is read from, checking it, and what the roles ask it.

use core::ffi::CStr;
use std::ffi::CString;

use emissary_core::buf::Writer;
use emissary_core::json::{self, Str};
use emissary_core::layout::{self, File};
use emissary_core::limits::{CONTAINER_NAME_BYTES, PATH_BYTES};
use emissary_core::template::{Node, OrderError, Template};
use rustix::io::Errno;

use super::shared::{Room, Shared};
use crate::os::{env, fs};
use crate::report::console::Console;
use crate::report::error::Error;

/// Bytes of a template or an argument file at most: far more than an API server stores.
pub(crate) const DOCUMENT_BYTES: usize = 64 << 20;

/// A template's bytes, and where they are from.
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    /// A path, or the name of a variable.
    pub(crate) source: Vec<u8>,
}

impl Document {
    /// A file, by a path of ours.
    ///
    /// # Errors
    /// As [`read_file`].
    pub(crate) fn from_file(path: &CStr) -> Result<Self, Error> {
        Ok(Self { bytes: read_file(path)?, source: path.to_bytes().to_vec() })
    }
}

/// The template's bytes: the file, else `ARGO_TEMPLATE`, else what `offloaded` stands for.
///
/// # Errors
/// A template that is nowhere or cannot be read.
pub(crate) fn read(shared: &Shared<'_>) -> Result<Document, Error> {
    let mut room = [0; PATH_BYTES];
    let path = shared.path(File::Template, &mut room)?;
    let dir = CString::new(shared.layout.dir).unwrap_or_default();
    let mut name = core::iter::once(layout::base_name(File::Template).to_bytes());
    match fs::read_below(&dir, &mut name, DOCUMENT_BYTES) {
        Err(Errno::NOENT) => match from_env()? {
            Some(document) => Ok(document),
            None => Err(Error::text(&[b"no template: ", path.to_bytes(), b" is missing and ARGO_TEMPLATE is not set"])),
        },
        Err(errno) => Err(Error::new("read", path.to_bytes(), errno)),
        Ok(bytes) => Ok(Document { bytes, source: path.to_bytes().to_vec() }),
    }
}

/// Where a template is that was too large for the environment.
const OFFLOADED_TEMPLATE: &CStr = c"/argo/config/ARGO_TEMPLATE";

/// The template in `ARGO_TEMPLATE`, where it is set.
///
/// # Errors
/// An offloaded template that cannot be read.
pub(crate) fn from_env() -> Result<Option<Document>, Error> {
    match env::var(c"ARGO_TEMPLATE").map(CStr::to_bytes) {
        None => Ok(None),
        Some(b"offloaded") => Document::from_file(OFFLOADED_TEMPLATE).map(Some),
        Some(document) => Ok(Some(Document { bytes: document.to_vec(), source: b"ARGO_TEMPLATE".to_vec() })),
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
pub(crate) fn parse(document: &Document) -> Result<Template<'_>, Error> {
    Template::parse(&document.bytes).map_err(|cause| {
        Error::because(&[&document.source], &|out| {
            cause.describe(out);
            describe_place(&document.bytes, cause.offset(), out);
        })
    })
}

/// Line and column for a message.
pub(crate) fn describe_place(document: &[u8], offset: usize, out: &mut Writer<'_>) {
    let (line, column) = json::place(document, offset);
    out.text(" (line ").decimal(line as u64).text(", column ").decimal(column as u64).text(")");
}

/// Looks for what no container would refuse, and no person can want: containers that wait for ever, and misspelt fields, which are warnings.
///
/// # Errors
/// Containers that wait for each other, or for one that there is not.
#[inline(never)]
pub(crate) fn check(console: Console, document: &Document, template: &Template<'_>) -> Result<(), Error> {
    template.misspelt(&mut |misspelt| {
        let warning = Error::because(&[&document.source], &|out| {
            misspelt.describe(out);
            describe_place(&document.bytes, misspelt.offset, out);
        });
        console.warn(&[&warning.text]);
    });
    let mut nodes: Vec<Node<'_>> = template.nodes().collect();
    nodes.sort_unstable();
    emissary_core::template::check_order(&mut nodes).map_err(|cause| {
        Error::because(&[&document.source, b": containerSet"], &|out| match cause {
            OrderError::Unknown { waiting, name } => {
                out.text("'").bytes(nodes[waiting].name()).text("' depends on '");
                name.write(out);
                out.text("', which is no container of the set");
            }
            OrderError::Cycle { first, last } => {
                out.text("containers wait for each other: '").bytes(nodes[first].name()).text("' is a dependency of ");
                let mut at = last;
                for _ in 0..CYCLE_NAMES {
                    out.text("'").bytes(nodes[at].name()).text("'");
                    if at == first {
                        return;
                    }
                    out.text(", that of ");
                    at = nodes[at].waited_for_by();
                }
                out.text("others");
            }
        })
    })
}

/// Containers of a cycle that a message names at most.
const CYCLE_NAMES: usize = 8;

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
    let mut out = Writer::new(room);
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
