//! The template: a JSON document that names a step's outputs, containers and mounts (docs/protocol.md, "Files").
//!
//! Enters: a file of the shared folder, or the variable `ARGO_TEMPLATE`. Leaves: the checked template, its containers' names and its paths. Refuses: a
//! template that is missing, malformed or too large, and containers that wait for each other. `core::template` decides; this file adds the document's path,
//! line and column to the message.

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

/// Maximum bytes of a template or an argument file. An API server stores far less.
pub(crate) const DOCUMENT_BYTES: usize = 64 << 20;

/// A template's bytes, and their source for messages.
#[derive(Default)]
pub(crate) struct Document {
    pub(crate) bytes: Vec<u8>,
    /// A path, or a variable's name.
    pub(crate) source: Vec<u8>,
}

impl Document {
    /// Reads a document by a path that no other container chose.
    ///
    /// # Errors
    /// As [`read_file`].
    pub(crate) fn from_file(path: &CStr) -> Result<Self, Error> {
        Ok(Self { bytes: read_file(path)?, source: path.to_bytes().to_vec() })
    }
}

/// Reads the template: the file in the shared folder, or else the variable `ARGO_TEMPLATE`, or else the file that the value `offloaded` stands for.
///
/// # Errors
/// The template is missing or cannot be read.
pub(crate) fn read(shared: &Shared<'_>) -> Result<Document, Error> {
    find(shared, true).map(Option::unwrap_or_default)
}

/// Reads the template as [`read`] does. Returns `None` if there is none and Argo is not the caller.
///
/// # Errors
/// As [`read`]. For Argo, a template that is missing is an error.
pub(crate) fn read_if_any(shared: &Shared<'_>) -> Result<Option<Document>, Error> {
    find(shared, shared.is_argos)
}

fn find(shared: &Shared<'_>, is_needed: bool) -> Result<Option<Document>, Error> {
    let mut room = [0; PATH_BYTES];
    let path = shared.path(File::Template, &mut room)?;
    let dir = CString::new(shared.layout.dir).unwrap_or_default();
    let mut name = core::iter::once(layout::base_name(File::Template).to_bytes());
    match fs::read_below(&dir, &mut name, DOCUMENT_BYTES) {
        Err(Errno::NOENT) => match from_env()? {
            Some(document) => Ok(Some(document)),
            None if !is_needed => Ok(None),
            None => Err(Error::text(&[b"no template: ", path.to_bytes(), b" is missing and ARGO_TEMPLATE is not set"])),
        },
        Err(errno) => Err(Error::new("read", path.to_bytes(), errno)),
        Ok(bytes) => Ok(Some(Document { bytes, source: path.to_bytes().to_vec() })),
    }
}

/// Path of a template that was too large for the environment.
const OFFLOADED_TEMPLATE: &CStr = c"/argo/config/ARGO_TEMPLATE";

/// Returns the template in `ARGO_TEMPLATE`, if that variable is set.
///
/// # Errors
/// The offloaded template cannot be read.
pub(crate) fn from_env() -> Result<Option<Document>, Error> {
    match env::var(c"ARGO_TEMPLATE").map(CStr::to_bytes) {
        None => Ok(None),
        Some(b"offloaded") => Document::from_file(OFFLOADED_TEMPLATE).map(Some),
        Some(document) => Ok(Some(Document { bytes: document.to_vec(), source: b"ARGO_TEMPLATE".to_vec() })),
    }
}

/// Reads a whole file by a path that no other container chose.
///
/// # Errors
/// The kernel's error, with the path; `EFBIG` past [`DOCUMENT_BYTES`].
pub(crate) fn read_file(path: &CStr) -> Result<Vec<u8>, Error> {
    fs::read_file(path, DOCUMENT_BYTES).map_err(|errno| Error::new("read", path.to_bytes(), errno))
}

/// Decodes a container's name. The template's check has found that the name fits.
pub(crate) fn decoded<'b>(name: Str<'_>, room: &'b mut [u8; CONTAINER_NAME_BYTES]) -> &'b [u8] {
    name.decode(room).unwrap_or_default()
}

/// Checks a template. An error's message names the line and the column.
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

/// Appends the line and the column of an offset to a message.
pub(crate) fn describe_place(document: &[u8], offset: usize, out: &mut Writer<'_>) {
    let (line, column) = json::place(document, offset);
    out.text(" (line ").decimal(line as u64).text(", column ").decimal(column as u64).text(")");
}

/// Checks the template for mistakes that no single container would notice. Refuses containers that would wait for ever. Prints a warning for each misspelt
/// field.
///
/// # Errors
/// Containers wait for each other, or a container waits for one that does not exist.
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

/// Maximum number of containers that a message about a cycle names.
const CYCLE_NAMES: usize = 8;

/// Returns the names of a pod's main containers: those of the container set, or `main`.
pub(crate) fn main_containers<'a>(template: &Template<'a>) -> impl Iterator<Item = Str<'a>> + use<'a> {
    let has_set = template.container_names().next().is_some();
    template.container_names().chain((!has_set).then_some(Str::MAIN))
}

/// Writes an output's path as the kernel must open it. The path is cleaned as text, exactly like the path that the output is saved under: `f/.` and
/// `link/../f` become `f`.
///
/// # Errors
/// As [`path`].
pub(crate) fn source<'b>(path: Str<'_>, room: &'b mut Room) -> Result<&'b CStr, Error> {
    let (mut written, mut clean) = ([0; PATH_BYTES], [0; PATH_BYTES]);
    let written = self::path(path, &mut written)?;
    // The written path is not empty, so the cleaned path is never longer.
    let cleaned = layout::clean_source(written.to_bytes(), &mut clean).unwrap_or_default();
    room[..cleaned.len()].copy_from_slice(cleaned);
    room[cleaned.len()] = 0;
    Ok(CStr::from_bytes_until_nul(room).unwrap_or_default())
}

/// Decodes a path and adds the NUL that system calls need. Removes slashes at the end, because `a/` is the same output as `a`, whether a file or a folder.
///
/// # Errors
/// The path is too long or contains a NUL.
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
