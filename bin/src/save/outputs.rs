//! Saves a step's outputs: the parameters (small files) and artifacts (archives of files or folders) that the template asks for (docs/protocol.md, "Main" and
//! "Artifacts").
//!
//! Enters: the template. Leaves: each output as a file on the shared volume. Refuses: nothing; each output is tried even if another one failed, and a missing
//! output is a warning. An output on a volume mount is skipped, because the wait container mounts the same volume and reads the output there.

use core::cell::RefCell;
use core::ffi::CStr;

use emissary_core::exit;
use emissary_core::json::Str;
use emissary_core::layout::{self, File};
use emissary_core::limits::PATH_BYTES;
use emissary_core::template::{Packing, Template};

use super::compressor::Compressor;
use super::deflate::{DEFAULT_LEVEL, HUFFMAN_ONLY};
use super::{Failure, artifact, parameter as parameter_file};
use crate::os::clock;
use crate::pod::folder::Folder;
use crate::pod::record::Saved;
use crate::pod::shared::Shared;
use crate::pod::template as pod_template;
use crate::report::console::Console;
use crate::report::error::Error;

/// A template's mount paths. Each one is cleaned once, because every output is compared with it.
#[derive(Default)]
pub(crate) struct Mounts {
    /// The paths, one behind the other. Each path stands here twice: as the template has it, with a NUL, and cleaned.
    text: Vec<u8>,
    /// For each path: where in `text` its written form begins, where its cleaned form begins, and where its cleaned form ends.
    places: Vec<[usize; 3]>,
}

impl Mounts {
    /// Takes the mount paths of a template. Skips a path that has a NUL or is longer than the kernel takes: no output can lie on it.
    pub(crate) fn new(template: &Template<'_>) -> Self {
        let mut mounts = Self::default();
        for mount in template.mount_paths() {
            let mut room = [0; PATH_BYTES];
            if let Ok(mount) = pod_template::path(mount, &mut room) {
                mounts.push(mount);
            }
        }
        mounts
    }

    /// Adds a path. Skips a path that is empty or consists of dots, because nothing can be mounted there. Returns whether the path was added.
    pub(crate) fn push(&mut self, path: &CStr) -> bool {
        let start = self.text.len();
        self.text.extend_from_slice(path.to_bytes_with_nul());
        let middle = self.text.len();
        // A relative path gets a slash in front when it is cleaned. The byte of the NUL makes room for the slash.
        self.text.resize(middle + path.to_bytes_with_nul().len(), 0);
        let length = layout::clean(path.to_bytes(), &mut self.text[middle..]).map_or(0, <[u8]>::len);
        if length == 0 && path.to_bytes().first() != Some(&b'/') {
            self.text.truncate(start);
            return false;
        }
        self.text.truncate(middle + length);
        self.places.push([start, middle, middle + length]);
        true
    }

    /// Returns each path, as written and cleaned.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&CStr, &[u8])> {
        self.places.iter().map(|&[start, middle, end]| {
            (CStr::from_bytes_with_nul(&self.text[start..middle]).unwrap_or_default(), &self.text[middle..end])
        })
    }

    /// Returns the first mount path that holds a cleaned path, as written, and the part of the cleaned path below the mount.
    pub(crate) fn holding<'p>(&self, path: &'p [u8]) -> Option<(&CStr, &'p [u8])> {
        self.each().find(|(_, mount)| layout::is_inside(path, mount)).map(|(written, mount)| (written, &path[mount.len()..]))
    }
}

/// Saves all outputs, and appends each one to `saved`. Returns whether every output that exists was saved.
#[inline(never)]
pub(crate) fn save(console: Console, shared: &Shared<'_>, template: &Template<'_>, saved: &mut Vec<Saved>) -> bool {
    let mut all = true;
    // The first artifact makes the compressor. Later artifacts use it again.
    let compressor = RefCell::new(None);
    let mounts = Mounts::new(template);
    let mut each =
        |kind: &'static str, name: Str<'_>, path: Str<'_>, may_be_missing: bool, save: &dyn Fn(&CStr) -> Result<u64, Failure>| {
            let mut room = [0; PATH_BYTES];
            let label = label(kind.as_bytes(), name, path);
            let began = clock::now();
            let result = pod_template::source(path, &mut room).map_err(Failure::Error).and_then(|path| {
                // The wait container mounts the same volume and reads the output there. But the wait container does not know the working directory that a
                // relative path starts from, so such an output is saved.
                if path.to_bytes().starts_with(b"/")
                    && layout::clean(path.to_bytes(), &mut [0; PATH_BYTES]).is_ok_and(|path| mounts.holding(path).is_some())
                {
                    return Ok(None);
                }
                save(path).map(Some).map_err(|failure| match failure {
                    Failure::Missing if may_be_missing => Failure::Missing,
                    Failure::Missing => {
                        console.warn(&[&label, b": ", path.to_bytes(), b" is missing"]);
                        Failure::Missing
                    }
                    other => other,
                })
            });
            match result {
                Ok(Some(size_bytes)) => saved.push(Saved {
                    kind,
                    name: decoded(name),
                    path: decoded(path),
                    size_bytes,
                    duration_ms: clock::now().since(began).as_ms(),
                }),
                Ok(None) | Err(Failure::Missing) => {}
                Err(Failure::Error(error)) => {
                    all = false;
                    console.error(&Error::text(&[&label, b": ", &error.text]));
                }
            }
        };
    for parameter in template.output_parameters() {
        each("parameter", parameter.name, parameter.path, parameter.default.is_some(), &|path| {
            into(shared, path, File::Parameter(path.to_bytes()), &|folder, name| parameter_file::save(console, path, folder, name))
        });
    }
    for artifact in template.output_artifacts() {
        let level = match artifact.packing {
            Packing::Default => DEFAULT_LEVEL,
            Packing::Level(level) => level,
            Packing::HuffmanOnly => HUFFMAN_ONLY,
            Packing::Unpacked => 0,
        };
        if let Some(odd) = artifact.odd_level {
            let mut digits = [0; 3];
            let taken: &[u8] = match artifact.packing {
                Packing::Level(level) => exit::digits(level, &mut digits),
                _ => b"the default",
            };
            let label = label(b"artifact", artifact.name, artifact.path);
            let odd = odd.as_number().filter(|odd| odd.len() < 32).unwrap_or(b"what is given");
            console.warn(&[&label, b": compressionLevel: ", odd, b" is not a whole number from -2 to 9: ", taken, b" is taken"]);
        }
        each("artifact", artifact.name, artifact.path, artifact.is_optional, &|path| {
            into(shared, path, File::Artifact(path.to_bytes()), &|folder, name| {
                let mut compressor = compressor.borrow_mut();
                artifact::save(console, compressor.get_or_insert_with(Compressor::new), path, folder, name, level)
            })
        });
    }
    all
}

/// Decodes a string of the template.
fn decoded(string: Str<'_>) -> Vec<u8> {
    let mut room = vec![0; string.raw_len()];
    let length = string.decode(&mut room).map_or(0, <[u8]>::len);
    room.truncate(length);
    room
}

/// Returns an output's label for a message: its name, or its path if it has no name.
fn label(what: &[u8], name: Str<'_>, path: Str<'_>) -> Vec<u8> {
    let mut room = [0; 256];
    let name = if name.raw_len() > 0 { name } else { path };
    [what, b" '", name.decode(&mut room).unwrap_or(b"..."), b"'"].concat()
}

/// Saves an output to its place on the shared volume. A missing output makes no folder.
fn into(shared: &Shared<'_>, path: &CStr, file: File<'_>, save: &dyn Fn(&Folder, &CStr) -> Result<(), Failure>) -> Result<u64, Failure> {
    if matches!(rustix::fs::stat(path), Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR)) {
        return Err(Failure::Missing);
    }
    let mut room = [0; PATH_BYTES];
    let (folder, name) = shared.output(file, &mut room)?;
    save(&folder, name)?;
    Ok(folder.size(name).unwrap_or(0))
}
