//! The outputs of a step: every parameter and artifact that the template asks for and that does not lie on a volume mount.
//!
//! Each is tried, whatever became of the others. A missing one is a warning.

use core::cell::RefCell;
use core::ffi::CStr;

use emissary_core::json::Str;
use emissary_core::layout::File;
use emissary_core::limits::PATH_BYTES;
use emissary_core::template::{Packing, Template};

use crate::artifact::{self, Failure};
use crate::compress::Compressor;
use crate::console::Console;
use crate::deflate::DEFAULT_LEVEL;
use crate::error::Error;
use crate::files::{Folder, Room, Shared};

/// Decodes a path with the NUL that system calls want, without slashes at its end: `a/` is the same output as `a`, whatever it is.
///
/// # Errors
/// A path that is too long or has a NUL of its own.
pub(crate) fn decode<'b>(path: Str<'_>, room: &'b mut Room) -> Result<&'b CStr, Error> {
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

/// Saves all outputs; says whether every one that is there was saved.
#[inline(never)]
pub(crate) fn save(console: Console, shared: &Shared<'_>, template: &Template<'_>) -> bool {
    let mut all = true;
    // Made for the first artifact, and kept for the next.
    let compressor = RefCell::new(None);
    let mut each = |what: &[u8], name: Str<'_>, path: Str<'_>, save: &dyn Fn(&CStr) -> Result<(), Failure>| {
        let mut room = [0; PATH_BYTES];
        let mut label = what.to_vec();
        let mut name_room = [0; 256];
        label.extend_from_slice(b" '");
        label.extend_from_slice(name.decode(&mut name_room).unwrap_or(b"..."));
        label.extend_from_slice(b"'");
        let result = decode(path, &mut room).map_err(Failure::Error).and_then(|path| {
            let mut mount = [0; PATH_BYTES];
            // The wait side mounts the same volume and reads it there. It does not know what a relative path is relative to.
            if path.to_bytes().starts_with(b"/") && template.is_on_mount(path.to_bytes(), &mut mount) {
                return Ok(());
            }
            save(path).map_err(|failure| match failure {
                Failure::Missing => {
                    console.warn(&[&label, b": ", path.to_bytes(), b" is missing"]);
                    Failure::Missing
                }
                other => other,
            })
        });
        if let Err(Failure::Error(error)) = result {
            all = false;
            console.error(&Error::text(&[&label, b": ", &error.text]));
        }
    };
    for parameter in template.output_parameters() {
        each(b"parameter", parameter.name, parameter.path, &|path| {
            into(shared, path, File::Parameter(path.to_bytes()), &|folder, name| artifact::copy(path, folder, name))
        });
    }
    for artifact in template.output_artifacts() {
        let level = match artifact.packing {
            Packing::Default => DEFAULT_LEVEL,
            Packing::Level(level) => level,
            Packing::Unpacked => 0,
        };
        each(b"artifact", artifact.name, artifact.path, &|path| {
            into(shared, path, File::Artifact(path.to_bytes()), &|folder, name| {
                let mut compressor = compressor.borrow_mut();
                artifact::save(console, compressor.get_or_insert_with(Compressor::new), path, folder, name, level)
            })
        });
    }
    all
}

/// Saves to where an output belongs. What is missing makes no folder.
fn into(shared: &Shared<'_>, path: &CStr, file: File<'_>, save: &dyn Fn(&Folder, &CStr) -> Result<(), Failure>) -> Result<(), Failure> {
    if matches!(rustix::fs::stat(path), Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)) {
        return Err(Failure::Missing);
    }
    let mut room = [0; PATH_BYTES];
    let (folder, name) = shared.output(file, &mut room)?;
    save(&folder, name)
}
