//! Paths of the protocol's files on the shared volume (docs/protocol.md, "Files").
//!
//! Enters: the layout, the shared folder, the container's name, and an output's path. Leaves: a NUL-terminated path in the caller's buffer. Refuses: a
//! container name that cannot be a folder's name, and an output path that has a NUL byte or names no file.
//!
//! An output's path comes from the template, and emissary does not trust it. The path is cleaned as text before it is joined to `outputs/`, so a `..` never
//! leads out of `outputs/`.

use core::ffi::CStr;

use crate::buf::{Full, Writer, display_by_describe};
use crate::limits;

/// One of the protocol's two layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One main container. Its files lie directly in the shared folder.
    Flat,
    /// Several containers. Each has its own folder below `ctr/`.
    Pod,
}

impl Kind {
    /// The shared folder if the user names no other.
    #[must_use]
    pub const fn default_dir(self) -> &'static CStr {
        match self {
            Self::Flat => c"/var/argo",
            Self::Pod => c"/var/run/argo",
        }
    }

    /// Parses `flat` or `pod`.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text {
            b"flat" => Some(Self::Flat),
            b"pod" => Some(Self::Pod),
            _ => None,
        }
    }
}

/// A file or folder of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File<'a> {
    /// The shared folder itself.
    Shared,
    /// The emissary binary. Its file is named `argoexec` if it was called by that name.
    Binary {
        /// The binary was called as `argoexec`.
        argoexec: bool,
    },
    /// The template, JSON.
    Template,
    /// Readiness marker of pods without an init container.
    Status,
    /// The parent of the containers' folders: `ctr` in the pod layout, the shared folder in the flat layout.
    Containers,
    /// The container's own folder.
    Container,
    /// The exit code in decimal digits.
    ExitCode,
    /// Copy of the command's stdout.
    Stdout,
    /// Copy of the command's stderr (flat layout).
    Stderr,
    /// Copy of both streams in order of arrival (pod layout).
    Combined,
    /// The signal to deliver to the command.
    Signal,
    /// The file that emissary keeps locked while it runs the container's command.
    Lock,
    /// What happened in the run, as JSON.
    Report,
    /// The file that releases the pause before the command.
    Before,
    /// The file that releases the pause after the command.
    After,
    /// An output parameter, by its path in the template.
    Parameter(&'a [u8]),
    /// An output artifact, by its path in the template.
    Artifact(&'a [u8]),
}

/// Why there is no path for a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// The path has a NUL byte.
    Nul {
        /// Bytes before the NUL byte.
        offset: usize,
    },
    /// The output's path names no file: it is empty, `/`, or leads to the root, such as `..`. For a parameter, the working directory names no file either.
    NamesNothing,
    /// The path is longer than the buffer, or longer than the kernel accepts.
    Full(Full),
}

impl PathError {
    /// Writes the cause as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        match self {
            Self::Nul { offset } => {
                out.text("has a NUL byte at offset ").decimal(*offset as u64);
            }
            Self::NamesNothing => {
                out.text("names no file");
            }
            Self::Full(full) => full.describe(out),
        }
    }
}

/// Why a container name cannot be a folder's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// The name is empty.
    Empty,
    /// The name is longer than [`limits::CONTAINER_NAME_BYTES`].
    TooLong {
        /// The length of the name.
        length: usize,
    },
    /// The name has a byte other than `a-z`, `A-Z`, `0-9`, `-`, `_` and an inner `.`.
    Byte {
        /// The byte.
        byte: u8,
        /// Bytes before that byte.
        offset: usize,
    },
}

impl NameError {
    /// Writes the cause as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        match self {
            Self::Empty => out.text("is empty"),
            Self::TooLong { length } => {
                out.text("has ").decimal(*length as u64).text(" bytes, more than ").decimal(limits::CONTAINER_NAME_BYTES as u64)
            }
            Self::Byte { byte, offset } => out.text("has the byte 0x").hex(*byte).text(" at offset ").decimal(*offset as u64),
        };
    }
}

display_by_describe!(PathError, NameError);

/// Checks a container name. The name becomes a folder's name, so it must not be empty, `.` or `..`, and must not hold a `/`.
///
/// # Errors
/// [`NameError`]; each variant is a cause of its own.
pub fn check_name(name: &[u8]) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > limits::CONTAINER_NAME_BYTES {
        return Err(NameError::TooLong { length: name.len() });
    }
    for (offset, &byte) in name.iter().enumerate() {
        let fine = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || (byte == b'.' && offset > 0);
        if !fine {
            return Err(NameError::Byte { byte, offset });
        }
    }
    Ok(())
}

/// A layout, its shared folder, and the container for which it makes paths.
#[derive(Debug, Clone, Copy)]
pub struct Layout<'a> {
    /// The layout: flat or pod.
    pub kind: Kind,
    /// The shared folder.
    pub dir: &'a [u8],
    /// The container's name, checked by [`check_name`]. The flat layout does not use it. In the pod layout it is empty if nobody gave the container a name; the
    /// container's files then lie directly in `ctr/`.
    pub container: &'a [u8],
}

impl Layout<'_> {
    /// Writes the path of a protocol file into `buf` and returns it.
    ///
    /// # Errors
    /// [`PathError::Nul`] and [`PathError::NamesNothing`] for an output path; [`PathError::Full`] if `buf` is too small.
    pub fn path<'b>(&self, file: File<'_>, buf: &'b mut [u8]) -> Result<&'b CStr, PathError> {
        let mut out = Writer::new(buf);
        out.bytes(self.dir);
        let own = match file {
            File::Container
            | File::Lock
            | File::Report
            | File::ExitCode
            | File::Stdout
            | File::Stderr
            | File::Combined
            | File::Signal
            | File::Before
            | File::After => true,
            File::Shared
            | File::Binary { .. }
            | File::Template
            | File::Status
            | File::Containers
            | File::Parameter(_)
            | File::Artifact(_) => false,
        };
        if self.kind == Kind::Pod {
            if own && self.container.is_empty() {
                out.text("/ctr");
            } else if own {
                out.text("/ctr/").bytes(self.container);
            } else if file == File::Containers {
                out.text("/ctr");
            }
        }
        match file {
            File::Parameter(path) => {
                out.text("/outputs/parameters");
                write_output(path, false, &mut out)?;
            }
            File::Artifact(path) => {
                out.text("/outputs/artifacts");
                write_output(path, true, &mut out)?;
                out.text(".tgz");
            }
            _ => {
                let name = base_name(file);
                if !name.is_empty() {
                    out.byte(b'/').bytes(name.to_bytes());
                }
            }
        }
        out.byte(0);
        let path = out.finish().map_err(PathError::Full)?;
        // The folder and the name come from argv, the environment or a literal. None of these can hold a NUL byte.
        CStr::from_bytes_until_nul(path).map_err(|_| PathError::NamesNothing)
    }
}

/// The name of a protocol file inside its folder. It is empty for folders, and for outputs, whose names come from the template.
#[must_use]
pub const fn base_name(file: File<'_>) -> &'static CStr {
    match file {
        File::Binary { argoexec: true } => c"argoexec",
        File::Binary { argoexec: false } => c"emissary",
        File::Template => c"template",
        File::Status => c"status",
        File::ExitCode => c"exitcode",
        File::Lock => c".emissary-lock",
        File::Report => c"report.json",
        File::Stdout => c"stdout",
        File::Stderr => c"stderr",
        File::Combined => c"combined",
        File::Signal => c"signal",
        File::Before => c"before",
        File::After => c"after",
        File::Shared | File::Containers | File::Container | File::Parameter(_) | File::Artifact(_) => c"",
    }
}

/// Appends an output's path, cleaned. For an artifact that is the working directory, the path is `.`: Argo expects the file `..tgz`.
fn write_output(path: &[u8], is_artifact: bool, out: &mut Writer<'_>) -> Result<(), PathError> {
    if let Some(offset) = path.iter().position(|&byte| byte == 0) {
        return Err(PathError::Nul { offset });
    }
    if is_artifact && is_working_directory(path) {
        out.text("/.");
        return Ok(());
    }
    if last_component(path).is_empty() {
        return Err(PathError::NamesNothing);
    }
    write_clean(path, out);
    Ok(())
}

/// How many folders above its start a cleaned path leads.
fn folders_up(path: &[u8]) -> usize {
    let (mut below, mut up) = (0_usize, 0_usize);
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if below == 0 => up = up.saturating_add(1),
            b".." => below = below.saturating_sub(1),
            _ => below = below.saturating_add(1),
        }
    }
    up
}

/// Whether the cleaned path is `.`. An empty path is not the working directory.
#[must_use]
pub fn is_working_directory(path: &[u8]) -> bool {
    !path.is_empty() && !path.starts_with(b"/") && last_component(path).is_empty() && folders_up(path) == 0
}

/// Cleans a path as text into `room`, as Go's `path.Clean` does. A relative path stays relative; a path without a component becomes `.` or `/`. The result is
/// at most one byte longer than `path`.
///
/// # Errors
/// [`Full`] if `room` is too small.
pub fn clean_source<'b>(path: &[u8], room: &'b mut [u8]) -> Result<&'b [u8], Full> {
    let is_relative = !path.starts_with(b"/");
    let up = if is_relative { folders_up(path) } else { 0 };
    let mut out = Writer::new(room);
    for at in 0..up {
        out.text(if at == 0 { ".." } else { "/.." });
    }
    if last_component(path).is_empty() {
        if up == 0 {
            out.text(if is_relative { "." } else { "/" });
        }
        return out.finish().map(|path| &*path);
    }
    write_clean(path, &mut out);
    let cleaned = out.finish()?;
    Ok(if is_relative && up == 0 { cleaned.get(1..).unwrap_or_default() } else { cleaned })
}

/// Cleans a path as text into `room` and makes it absolute: no `//`, `/./`, `..` or trailing `/` remains. The result is that of Go's `path.Clean("/" + path)`,
/// except that the root becomes the empty path. It is at most one byte longer than `path`.
///
/// # Errors
/// [`Full`] if `room` is too small.
pub fn clean<'b>(path: &[u8], room: &'b mut [u8]) -> Result<&'b [u8], Full> {
    let mut out = Writer::new(room);
    write_clean(path, &mut out);
    out.finish().map(|path| &*path)
}

fn write_clean(path: &[u8], out: &mut Writer<'_>) {
    let length = components_from_the_end(path).fold(0, |length: usize, part| length.saturating_add(part.len()).saturating_add(1));
    let Some(mut room) = out.reserve(length) else { return };
    for part in components_from_the_end(path) {
        let start = room.len().saturating_sub(part.len());
        let Some((before, space)) = room.split_at_mut_checked(start) else { return };
        space.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
        let Some((slash, before)) = before.split_last_mut() else { return };
        *slash = b'/';
        room = before;
    }
}

/// The components of the cleaned, absolute path, last one first: `a//b/./../c` gives `c`, `a`. A `..` at the root has no effect.
///
/// The walk starts at the end, because a `..` removes the component before it: so one pass tells which components remain.
fn components_from_the_end(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut removed: usize = 0;
    path.rsplit(|&byte| byte == b'/').filter(move |part| match *part {
        b"" | b"." => false,
        b".." => {
            removed = removed.saturating_add(1);
            false
        }
        _ if removed > 0 => {
            removed = removed.saturating_sub(1);
            false
        }
        _ => true,
    })
}

/// Whether `path` is `folder` or lies below it. [`clean`] has cleaned both. `/data2` does not lie in `/data`.
#[must_use]
pub fn is_inside(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|below| below.is_empty() || below.starts_with(b"/"))
}

/// The last component of a path, which names an artifact's entry in the archive; empty if the path has no component.
#[must_use]
pub fn last_component(path: &[u8]) -> &[u8] {
    components_from_the_end(path).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Layout<'_> = Layout { kind: Kind::Pod, dir: b"/var/run/argo", container: b"main" };
    const FLAT: Layout<'_> = Layout { kind: Kind::Flat, dir: b"/var/argo", container: b"" };

    fn path(layout: &Layout<'_>, file: File<'_>) -> std::string::String {
        let mut room = [0xa5; 256];
        layout.path(file, &mut room).unwrap().to_str().unwrap().into()
    }

    #[test]
    fn every_file_in_both_layouts() {
        let rows: &[(File<'_>, &str, &str)] = &[
            (File::Binary { argoexec: false }, "/var/argo/emissary", "/var/run/argo/emissary"),
            (File::Binary { argoexec: true }, "/var/argo/argoexec", "/var/run/argo/argoexec"),
            (File::Shared, "/var/argo", "/var/run/argo"),
            (File::Template, "/var/argo/template", "/var/run/argo/template"),
            (File::Status, "/var/argo/status", "/var/run/argo/status"),
            (File::Containers, "/var/argo", "/var/run/argo/ctr"),
            (File::Container, "/var/argo", "/var/run/argo/ctr/main"),
            (File::ExitCode, "/var/argo/exitcode", "/var/run/argo/ctr/main/exitcode"),
            (File::Report, "/var/argo/report.json", "/var/run/argo/ctr/main/report.json"),
            (File::Lock, "/var/argo/.emissary-lock", "/var/run/argo/ctr/main/.emissary-lock"),
            (File::Stdout, "/var/argo/stdout", "/var/run/argo/ctr/main/stdout"),
            (File::Stderr, "/var/argo/stderr", "/var/run/argo/ctr/main/stderr"),
            (File::Combined, "/var/argo/combined", "/var/run/argo/ctr/main/combined"),
            (File::Signal, "/var/argo/signal", "/var/run/argo/ctr/main/signal"),
            (File::Before, "/var/argo/before", "/var/run/argo/ctr/main/before"),
            (File::After, "/var/argo/after", "/var/run/argo/ctr/main/after"),
            (File::Parameter(b"/tmp/a"), "/var/argo/outputs/parameters/tmp/a", "/var/run/argo/outputs/parameters/tmp/a"),
            (File::Artifact(b"/tmp/a/"), "/var/argo/outputs/artifacts/tmp/a.tgz", "/var/run/argo/outputs/artifacts/tmp/a.tgz"),
        ];
        for (file, flat, pod) in rows {
            assert_eq!((path(&FLAT, *file).as_str(), path(&POD, *file).as_str()), (*flat, *pod));
        }
    }

    #[test]
    fn a_container_of_a_pod_without_a_name() {
        let layout = Layout { container: b"", ..POD };
        for (file, want) in [
            (File::Container, "/var/run/argo/ctr"),
            (File::ExitCode, "/var/run/argo/ctr/exitcode"),
            (File::Containers, "/var/run/argo/ctr"),
        ] {
            assert_eq!(path(&layout, file), want);
        }
    }

    #[test]
    fn output_paths_stay_inside() {
        let rows: &[(&[u8], &str)] = &[
            (b"a", "a"),
            (b"a//", "a"),
            (b"./a/./b", "a/b"),
            (b"/../../etc/passwd", "etc/passwd"),
            (b"a/../../../b", "b"),
            (b"a/b/../../c", "c"),
            (b"a/b/c/../../d/..//e", "a/e"),
            (b"...", "..."),
        ];
        for (given, want) in rows {
            assert_eq!(path(&FLAT, File::Parameter(given)), std::format!("/var/argo/outputs/parameters/{want}"));
        }
    }

    #[test]
    fn hostile_output_paths() {
        let mut room = [0xa5; 64];
        assert_eq!(FLAT.path(File::Parameter(b"/a\0b"), &mut room), Err(PathError::Nul { offset: 2 }));
        for nothing in [&b""[..], b"/", b"..", b"a/../..", b"//."] {
            assert_eq!(FLAT.path(File::Artifact(nothing), &mut room), Err(PathError::NamesNothing));
        }
        // The working directory can be an artifact, but not a parameter.
        for dot in [&b"."[..], b"./", b"a/..", b"./b/./../."] {
            assert_eq!(FLAT.path(File::Parameter(dot), &mut room), Err(PathError::NamesNothing));
            assert_eq!(path(&FLAT, File::Artifact(dot)), "/var/argo/outputs/artifacts/..tgz");
        }
        let exact = "/var/argo/exitcode".len() + 1;
        assert!(FLAT.path(File::ExitCode, &mut room[..exact]).is_ok());
        assert_eq!(FLAT.path(File::ExitCode, &mut room[..exact - 1]), Err(PathError::Full(Full { needed: exact, capacity: exact - 1 })));
    }

    #[test]
    fn cleaning_takes_one_byte_more_at_most() {
        for (path, want) in [("", ""), ("/", ""), ("..", ""), ("a", "/a"), ("/a/b", "/a/b"), ("a/../b/./c//", "/b/c"), ("/../a/..", "")] {
            let mut room = [0xa5; 16];
            assert_eq!(clean(path.as_bytes(), &mut room[..path.len() + 1]), Ok(want.as_bytes()), "{path}");
            assert!(room[path.len() + 1..].iter().all(|&byte| byte == 0xa5));
        }
        assert_eq!(clean(b"a/b", &mut [0xa5; 3]), Err(Full { needed: 4, capacity: 3 }));
    }

    #[test]
    fn sources_are_cleaned_as_go_does() {
        for (path, want) in [
            ("", "."),
            (".", "."),
            ("./", "."),
            ("a/..", "."),
            ("/", "/"),
            ("/..", "/"),
            ("/a/../..", "/"),
            ("..", ".."),
            ("../a/../..", "../.."),
            ("../../a//b/.", "../../a/b"),
            ("a/../../b", "../b"),
            ("f/.", "f"),
            ("link/../f", "f"),
            ("/tmp//o/", "/tmp/o"),
            ("a", "a"),
            ("...", "..."),
        ] {
            let mut room = [0xa5; 24];
            assert_eq!(clean_source(path.as_bytes(), &mut room[..path.len() + 1]), Ok(want.as_bytes()), "{path}");
        }
        assert_eq!(clean_source(b"/a/b", &mut [0xa5; 3]), Err(Full { needed: 4, capacity: 3 }));
    }

    #[test]
    fn inside() {
        for (path, folder, want) in [
            ("/data", "/data", true),
            ("/data/", "/data", true),
            ("/data/x", "/data/", true),
            ("/data2", "/data", false),
            ("/data/../x", "/data", false),
            ("/x/../data/y", "/data", true),
            ("/", "/data", false),
            ("/any", "/", true),
        ] {
            let (mut room, mut other) = ([0xa5; 16], [0xa5; 16]);
            let (clean_path, clean_folder) = (clean(path.as_bytes(), &mut room).unwrap(), clean(folder.as_bytes(), &mut other).unwrap());
            assert_eq!(is_inside(clean_path, clean_folder), want, "{path} in {folder}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(check_name(b"main"), Ok(()));
        assert_eq!(check_name(b""), Err(NameError::Empty));
        assert_eq!(check_name(b".."), Err(NameError::Byte { byte: b'.', offset: 0 }));
        assert_eq!(check_name(b"a/b"), Err(NameError::Byte { byte: b'/', offset: 1 }));
        assert_eq!(check_name(&[b'a'; 63]), Ok(()));
        assert_eq!(check_name(&[b'a'; 64]), Err(NameError::TooLong { length: 64 }));
    }

    #[test]
    fn base_names() {
        assert_eq!(last_component(b"/tmp/o//"), b"o");
        assert_eq!(last_component(b"/"), b"");
    }
}
