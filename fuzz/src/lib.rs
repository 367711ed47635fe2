//! The bodies of the fuzz targets, as plain functions. cargo-fuzz calls them with bytes that it invents; tests/replay.rs calls them with the committed seeds.
//!
//! Enters: any bytes. Leaves: nothing; a body panics if an invariant does not hold. Each body asserts an invariant: «does not crash» alone is not enough.

use core::cell::RefCell;
use core::ffi::CStr;
use std::ffi::CString;
use std::io::Read as _;

use emissary_core::buf::Writer;
use emissary_core::cpus::{self, Group};
use emissary_core::documents::Text;
use emissary_core::gzip::crc::{self, Crc};
use emissary_core::json::JsonError;
use emissary_core::layout::{self, File, Kind, Layout};
use emissary_core::lines::{Lines, Piece};
use emissary_core::log::{self, Format, Level};
use emissary_core::ready::{self, Readiness};
use emissary_core::report::{self as reported, Container, Parameter, Report};
use emissary_core::signal::Signal;
use emissary_core::supervise::{Action, Event, Gate, Machine, Plan, Setup};
use emissary_core::template::{Artifact, Packing, Template, TemplateError};
use emissary_core::timers::{Duration, Instant, STALE_AFTER};
use emissary_core::{exit, gzip as framing, json, tar as headers, time};
use serde_json::Value;

use crate::command_line::Command;
use crate::roles::request;

/// The binary's parser of its command line. The modules below stand in for the parts of the binary that the parser uses.
#[path = "../../bin/src/flags.rs"]
#[allow(dead_code, reason = "only the binary's help uses the rest")]
mod flags;

#[path = "../../bin/src/peers.rs"]
mod peers;

#[path = "../../bin/src/command_line.rs"]
#[allow(dead_code, reason = "only the binary's roles use the rest")]
mod command_line;

#[path = "../../bin/src/roles"]
mod roles {
    #[allow(dead_code, reason = "only the binary's roles use the rest")]
    pub(crate) mod request;
}
/// How the binary makes blocks of a chunk.
#[path = "../../bin/src/save/deflate.rs"]
#[allow(dead_code, reason = "the binary has a default level")]
mod deflate;

mod pod {
    pub(crate) mod shared {
        use core::ffi::CStr;

        use emissary_core::layout::Kind;

        #[derive(Clone, Copy, Default)]
        pub(crate) struct Place<'a> {
            pub(crate) name: Option<&'a CStr>,
            pub(crate) kind: Option<Kind>,
            pub(crate) dir: Option<&'a CStr>,
            pub(crate) is_in_pod: bool,
        }
    }
}

mod report {
    pub(crate) mod console {
        use emissary_core::log::{Format, Level};

        #[derive(Clone, Copy)]
        pub(crate) struct Console {
            pub(crate) format: Format,
            pub(crate) level: Level,
            pub(crate) descriptor: i32,
        }
    }

    pub(crate) mod error {
        use emissary_core::buf::Writer;

        #[derive(Debug)]
        pub(crate) struct Error {
            pub(crate) text: Vec<u8>,
            pub(crate) status: u8,
        }

        impl Error {
            pub(crate) fn text(parts: &[&[u8]]) -> Self {
                Self { text: parts.concat(), status: emissary_core::exit::FAILURE }
            }

            pub(crate) fn because(subject: &[&[u8]], describe: &dyn Fn(&mut Writer<'_>)) -> Self {
                let mut error = Self::text(&[&subject.concat(), b": "]);
                described(&mut error.text, describe);
                error
            }
        }

        pub(crate) fn described(text: &mut Vec<u8>, describe: &dyn Fn(&mut Writer<'_>)) {
            let mut room = [0; 256];
            let mut out = Writer::new(&mut room);
            describe(&mut out);
            text.extend_from_slice(out.written());
        }
    }
}

/// Takes numbers from the front of the fuzzer's bytes. When all bytes are used, it returns zeros.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes(core::array::from_fn(|_| self.byte()))
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

fn decoded(string: json::Str<'_>) -> String {
    let mut room = vec![0; string.raw_len()];
    String::from_utf8(string.decode(&mut room).expect("a decoded string is not longer than its source").to_vec()).expect("UTF-8")
}

/// Parses a document with `serde_json`, without a bound on its nesting.
fn read_value(data: &[u8]) -> serde_json::Result<Value> {
    let mut reader = serde_json::Deserializer::from_slice(data);
    reader.disable_recursion_limit();
    let value = serde::de::Deserialize::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// The deepest nesting of arrays and objects. Brackets in strings do not count.
fn nesting_depth(data: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for &byte in data {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Asserts that the template parser refuses a document for the reason it gives, at the place it names.
fn assert_refusal_is_right(data: &[u8], error: TemplateError) {
    match error {
        TemplateError::Json(JsonError { offset, cause: json::Cause::TooDeep }) => {
            assert!(offset < data.len() && nesting_depth(data) > emissary_core::limits::JSON_DEPTH);
        }
        TemplateError::Json(JsonError { offset, .. }) => {
            assert!(offset <= data.len() && read_value(data).is_err(), "serde_json accepts what we refuse");
        }
        TemplateError::Type { want, offset, .. } => {
            read_value(data).expect("serde_json refuses what we accept as JSON");
            let mut rest = serde_json::Deserializer::from_slice(&data[offset..]);
            rest.disable_recursion_limit();
            let value: Value = serde::de::Deserialize::deserialize(&mut rest).expect("there is no value at the offset");
            let text = value.as_str();
            let whole = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let has_it = match want {
                "an object" => value.is_object(),
                "an array" => value.is_array(),
                "true or false" => value.is_boolean(),
                "a string" => value.is_string(),
                "a container's name" => text.is_some_and(|text| is_folder_name(text.as_bytes())),
                "within 292 years" => text.is_none_or(|text| text.len() > 64 || reference_duration(text).is_some()),
                "a duration such as 1m30s" => text.is_some_and(|text| text.len() <= 64 && reference_duration(text).is_some()),
                "a whole number, or digits in a string" => {
                    value.as_u64().is_some() || text.is_some_and(|text| text.len() < 20 && whole(text))
                }
                other => panic!("the fuzz target does not know the type {other}"),
            };
            assert!(!has_it, "the value at the offset is {want}");
        }
    }
}

/// Any bytes as a template. `serde_json` accepts what we accept. If we refuse a document, it is not JSON, a field has another type, or it nests too deep. Both
/// parsers find the same parameters, artifacts, containers, dependencies and mounts.
pub fn template(data: &[u8]) {
    let template = match Template::parse(data) {
        Ok(template) => template,
        Err(error) => return assert_refusal_is_right(data, error),
    };
    let value = read_value(data).expect("serde_json refuses what we accept");
    let list = |path: &str| value.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_string);
    let ours: Vec<_> = template.output_parameters().map(|p| (decoded(p.name), decoded(p.path), p.default.map(decoded))).collect();
    let parameters = list("/outputs/parameters");
    // A number as it is written: serde_json keeps that of a whole number in 64 bits.
    let any_string = |value: Option<&Value>, ours: &Option<String>| match value {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Bool(is)) => Some(is.to_string()),
        Some(Value::Number(number)) if number.is_f64() || number.to_string() == "0" => {
            ours.clone().filter(|ours| serde_json::from_str::<f64>(ours).is_ok())
        }
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let has_path = |value: &Value, path: &str| text(value, path).filter(|path| !path.is_empty());
    let theirs: Vec<_> = parameters
        .iter()
        .filter_map(|p| Some((p, has_path(p, "/valueFrom/path")?)))
        .zip(&ours)
        .map(|((p, path), ours)| (text(p, "/name").unwrap_or_default(), path, any_string(p.pointer("/valueFrom/default"), &ours.2)))
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), parameters.iter().filter(|p| has_path(p, "/valueFrom/path").is_some()).count());
    let packing = |artifact: &Value| -> Option<Packing> {
        let is_there = |path: &str| artifact.pointer(path).is_some_and(|value| !value.is_null());
        let level = artifact.pointer("/archive/tar/compressionLevel").filter(|level| level.is_number());
        match level.map(ToString::to_string).as_deref() {
            _ if artifact["archive"].is_object() && (is_there("/archive/none") || is_there("/archive/zip")) => Packing::Unpacked,
            // Past 64 bits serde_json has a fraction of it.
            Some(_) if level.is_some_and(Value::is_f64) => return None,
            Some("-2") => Packing::HuffmanOnly,
            Some(level) if !level.starts_with('-') => Packing::Level(level.parse().unwrap_or(9).min(9)),
            _ => Packing::Default,
        }
        .into()
    };
    let is_same = |ours: &Artifact<'_>, theirs: &Value, is_output: bool| {
        assert_eq!(Some(decoded(ours.path)), text(theirs, "/path"));
        assert_eq!(decoded(ours.name), text(theirs, "/name").unwrap_or_default());
        let want = if is_output { packing(theirs) } else { Some(Packing::Default) };
        assert!(want.is_none_or(|want| ours.packing == want), "{theirs}: {:?}", ours.packing);
    };
    let artifacts = |path: &str| -> Vec<Value> { list(path).into_iter().filter(|a| has_path(a, "/path").is_some()).collect() };
    let (ours, theirs): (Vec<_>, _) = (template.output_artifacts().collect(), artifacts("/outputs/artifacts"));
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(&theirs).for_each(|(ours, theirs)| is_same(ours, theirs, true));
    let (ours, theirs): (Vec<_>, _) = (template.input_artifacts().collect(), artifacts("/inputs/artifacts"));
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(&theirs).for_each(|(ours, theirs)| is_same(ours, theirs, false));
    for sidecar in list("/sidecars") {
        assert!(sidecar["name"].as_str().is_none_or(|name| template.is_sidecar(name.as_bytes())));
    }
    assert!(!template.is_sidecar(b"no such name"));
    let containers = list("/containerSet/containers");
    let ours: Vec<_> = template.container_names().map(decoded).collect();
    let theirs: Vec<_> = containers.iter().filter_map(|c| text(c, "/name")).collect();
    assert_eq!(ours, theirs);
    for name in &ours {
        let ours: Vec<_> = template.dependencies(name.as_bytes()).map(decoded).collect();
        let theirs: Vec<_> = containers
            .iter()
            .filter(|c| text(c, "/name").as_ref() == Some(name))
            .flat_map(|c| c.pointer("/dependencies").and_then(Value::as_array).cloned().unwrap_or_default())
            .filter_map(|d| d.as_str().map(str::to_string))
            .collect();
        assert_eq!(ours, theirs);
    }
    let ours: Vec<_> = template.mount_paths().map(decoded).collect();
    let theirs: Vec<_> = ["container", "script", "containerSet"]
        .iter()
        .flat_map(|holder| list(&format!("/{holder}/volumeMounts")))
        .filter_map(|m| text(&m, "/mountPath"))
        .collect();
    assert_eq!(ours, theirs);
    assert_eq!(template.archives_logs(), value.pointer("/archiveLocation/archiveLogs").and_then(Value::as_bool).unwrap_or(false));
    let strategy = value.pointer("/containerSet/retryStrategy");
    let retries = strategy.and_then(|strategy| strategy.get("retries"));
    let attempts = match retries.map(|retries| retries.as_str().map_or_else(|| retries.to_string(), |text| text.trim_ascii().to_string())) {
        Some(digits) if !digits.starts_with('-') && digits != "null" => {
            digits.parse::<u128>().map_or(u32::MAX, |n| u32::try_from(n).unwrap_or(u32::MAX))
        }
        _ => 1,
    };
    assert_eq!(template.retry().attempts, attempts.max(1), "{retries:?}");
    let pause = strategy.and_then(|strategy| text(strategy, "/duration")).and_then(|text| reference_duration(&text));
    assert_eq!(template.retry().pause_ms, u64::try_from(pause.unwrap_or(0)).unwrap_or(0).div_ceil(1_000_000));
}

/// Any bytes as an argument file: we read the list of strings that `serde_json` reads, and refuse what it refuses. We also refuse a NUL.
pub fn argument_file(data: &[u8]) {
    let ours: Option<Vec<String>> = json::parse_strings(data).ok().map(|strings| strings.map(decoded).collect());
    let theirs: Option<Vec<String>> =
        serde_json::from_slice::<Vec<String>>(data).ok().filter(|list| list.iter().all(|text| !text.contains('\0')));
    assert_eq!(ours, theirs);
}

/// Any bytes as a signal: the number is 1 to 64, and the signal's name parses back to the signal.
pub fn signal(data: &[u8]) {
    let Ok(signal) = Signal::parse(data) else { return };
    assert!((1..=64).contains(&signal.number()));
    let mut room = [0; 16];
    let mut out = Writer::new(&mut room);
    signal.describe(&mut out);
    if !matches!(signal.number(), 32 | 33) {
        assert_eq!(Signal::parse(out.written()), Ok(signal));
    }
    // A plain number means the signal with that number.
    if let Some(number) = core::str::from_utf8(data).ok().and_then(|text| text.trim_ascii().parse::<u8>().ok())
        && !data.contains(&b'+')
    {
        assert_eq!(number, signal.number());
    }
}

/// Any bytes as an exit-code file: we read the number that `u8`'s own parser reads, and refuse what it refuses. We also refuse a plus sign.
pub fn exit_code(data: &[u8]) {
    let text = core::str::from_utf8(data).map(str::trim_ascii).unwrap_or("no number");
    let want = text.parse::<u8>().ok().filter(|_| !text.starts_with('+'));
    assert_eq!(exit::parse(data).ok(), want);
    if let Some(code) = want {
        let mut room = [0xa5; 3];
        assert_eq!(exit::parse(exit::digits(code, &mut room)), Ok(code));
    }
}

/// Any readiness marker of any age. READY and FAILED hold at any age. Otherwise the supervisor counts as alive exactly as long as the marker is fresh.
pub fn readiness(data: &[u8]) {
    let mut bytes = Bytes(data);
    let age_ms = bytes.word() % 60_000;
    let marker = bytes.0;
    let first = marker.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    match ready::parse(marker, Duration::from_ms(age_ms)) {
        Readiness::Ready => assert_eq!(first, b"READY"),
        Readiness::Failed(reason) => {
            assert_eq!(first, b"FAILED");
            assert!(reason.is_empty() || marker.windows(reason.len()).any(|part| part == reason));
        }
        Readiness::Wait { left } => assert!(left > Duration::ZERO && left.as_ms() + age_ms == STALE_AFTER.as_ms()),
        Readiness::Dead => assert!(age_ms >= STALE_AFTER.as_ms() && first != b"READY" && first != b"FAILED"),
    }
}

/// A second parser of Go's duration syntax, in `i128`. Returns nanoseconds; `None` if the text is malformed or out of range.
fn reference_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1_i128, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        // A unit ends where the next number begins.
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
        let digits = &fraction[..fraction.len().min(15)];
        let part =
            if digits.is_empty() { 0 } else { digits.parse::<i128>().ok()? * scale / 10_i128.pow(u32::try_from(digits.len()).ok()?) };
        if whole * scale > i128::from(u64::MAX) {
            return None;
        }
        total += whole * scale + part;
        rest = after;
    }
    i64::try_from(sign * total).ok()
}

/// Any text as a duration: the parser agrees with [`reference_duration`].
pub fn duration(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    assert_eq!(time::parse_duration(data).ok(), reference_duration(text), "{text:?}");
}

/// Any bytes as a time stamp: if we accept it, the text that we write for it parses back to the same time.
pub fn rfc3339(data: &[u8]) {
    let Ok(unix_ms) = time::parse_rfc3339(data) else { return };
    let mut room = [0; 24];
    let mut out = Writer::new(&mut room);
    time::write_rfc3339(unix_ms, &mut out);
    let text = out.finish().expect("24 bytes are enough");
    // An offset can move a time of year 0 or 9999 out of the years that RFC 3339 has.
    if (-62_167_219_200_000..=253_402_300_799_999).contains(&unix_ms) {
        assert_eq!(time::parse_rfc3339(text), Ok(unix_ms));
    }
}

/// Any output path: the cleaned path stays below `outputs/`, has no `//`, `.` or `..` in it, and does not change when it is cleaned again. Any container name:
/// the container gets a folder of its own below `ctr/`, or the refusal names the byte.
pub fn layout(data: &[u8]) {
    check_container_name(data);
    // A second implementation, which goes from the start of the path; `clean` goes from its end.
    let mut kept = Vec::new();
    for part in data.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            part => kept.push([b"/", part].concat()),
        }
    }
    assert_eq!(layout::clean(data, &mut vec![0xa5; data.len() + 1]), Ok(&*kept.concat()));
    let layout = Layout { kind: Kind::Flat, dir: b"/v", container: b"" };
    let mut room = [0; 4096];
    for (file, prefix, suffix) in
        [(File::Parameter(data), &b"/v/outputs/parameters/"[..], &b""[..]), (File::Artifact(data), b"/v/outputs/artifacts/", b".tgz")]
    {
        let Ok(path) = layout.path(file, &mut room) else { continue };
        let path = path.to_bytes().to_vec();
        let inner = path.strip_prefix(prefix).and_then(|path| path.strip_suffix(suffix)).expect("a path below outputs/");
        // The working directory as an artifact has the archive `..tgz`, as Argo names it.
        let is_working_directory = inner == b"." && layout::is_working_directory(data) && matches!(file, File::Artifact(_));
        for part in inner.split(|&byte| byte == b'/') {
            assert!(!part.is_empty() && part != b".." && (part != b"." || is_working_directory));
        }
        let mut again_room = [0; 4096];
        let again = match file {
            File::Parameter(_) => layout.path(File::Parameter(inner), &mut again_room),
            _ => layout.path(File::Artifact(inner), &mut again_room),
        };
        assert_eq!(again.expect("it fits: it is no longer than before").to_bytes(), path);
        // A path is inside itself and inside `/`. It is not inside a sibling whose name begins with its own.
        let clean = |path: &[u8]| layout::clean(path, &mut vec![0xa5; path.len() + 1]).expect("at most one byte longer").to_vec();
        assert!(layout::is_inside(&clean(data), &clean(inner)) && layout::is_inside(&clean(data), &clean(b"/")));
        assert!(!layout::is_inside(&clean(inner), &clean(&[inner, b"x"].concat())));
    }
}

/// A second implementation of [`layout::check_name`]: whether a container's name may name a folder.
fn is_folder_name(name: &[u8]) -> bool {
    let may_stand = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    (1..=emissary_core::limits::CONTAINER_NAME_BYTES).contains(&name.len()) && name[0] != b'.' && name.iter().all(may_stand)
}

fn check_container_name(name: &[u8]) {
    let may_stand =
        |(at, byte): (usize, &u8)| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_') || (*byte == b'.' && at > 0);
    let refused = match layout::check_name(name) {
        Ok(()) => {
            assert!(is_folder_name(name));
            return assert_own_folder(name);
        }
        Err(refused) => refused,
    };
    match refused {
        layout::NameError::Empty => assert!(name.is_empty()),
        layout::NameError::TooLong { length } => assert!(length == name.len() && length > emissary_core::limits::CONTAINER_NAME_BYTES),
        layout::NameError::Byte { byte, offset } => assert!(name[offset] == byte && !may_stand((offset, &byte))),
    }
}

fn assert_own_folder(name: &[u8]) {
    let layout = Layout { kind: Kind::Pod, dir: b"/v", container: name };
    for file in [File::ExitCode, File::Stdout, File::Combined, File::Signal, File::Before, File::After] {
        let mut room = [0; 4096];
        let path = layout.path(file, &mut room).expect("a path shorter than 4096 bytes").to_bytes();
        let parts: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        assert_eq!(parts[..4], [b"", &b"v"[..], b"ctr", name]);
        assert!(parts.len() == 5 && !name.starts_with(b"."));
    }
}

/// Reverses the quotes of slog's text form as Go's `strconv.Unquote` does, for the escapes that occur.
fn unquoted(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((&first, rest)) = text.split_first() {
        text = rest;
        if first != b'\\' {
            assert!(first != b'"' && first >= 0x20, "a raw {first:#x} in quotes");
            bytes.push(first);
            continue;
        }
        let (&letter, rest) = text.split_first().expect("an escape");
        text = rest;
        bytes.push(match letter {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'"' | b'\\' => letter,
            b'x' => {
                let (digits, rest) = text.split_at(2);
                text = rest;
                u8::from_str_radix(core::str::from_utf8(digits).expect("ASCII"), 16).expect("two digits")
            }
            _ => panic!("Go has no escape {}", char::from(letter)),
        });
    }
    bytes
}

/// Any message in any form of a log line. The result is exactly one line of UTF-8. The plain and text forms have no control character. In JSON and in
/// slog's text form, the message reads back.
pub fn log_line(data: &[u8]) {
    let mut bytes = Bytes(data);
    let capacity = 160 + usize::from(bytes.byte()) * 8;
    let unix_ms = i64::try_from(bytes.word() >> 20).unwrap_or(0);
    let message = bytes.0;
    for format in [Format::Plain, Format::Text, Format::Json] {
        let mut ample = vec![0; 300 + 6 * message.len()];
        let whole = core::str::from_utf8(log::line(format, Level::Warn, unix_ms, message, &mut ample)).expect("UTF-8");
        let mut room = vec![0xa5; capacity];
        let line = core::str::from_utf8(log::line(format, Level::Warn, unix_ms, message, &mut room)).expect("UTF-8");
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1 && line.len() <= capacity);
        // A line is cut only if it does not fit, and by little more than needed: a character takes at most six bytes in each form.
        assert_eq!(line == whole, whole.len() <= capacity);
        assert!(line == whole || line.len() + 48 >= capacity, "{} of {capacity}", line.len());
        if format == Format::Plain {
            let (mut shown, start) = (vec![0; 4 * message.len()], "emissary: warning: ");
            let mut out = Writer::new(&mut shown);
            out.shown(message);
            assert_eq!(whole.strip_prefix(start).map(str::trim_end), core::str::from_utf8(out.written()).ok().map(str::trim_end));
            let kept = line.strip_suffix('\n').and_then(|line| line.strip_suffix('…')).unwrap_or(line);
            assert!(whole.starts_with(kept));
        }
        if format != Format::Json {
            assert_eq!(line.chars().filter(|character| character.is_control()).count(), 1, "a control character");
        }
        if format == Format::Text {
            let written = line.split_once(" level=WARN msg=").and_then(|(_, rest)| rest.strip_suffix(" argo=true\n")).expect("slog's form");
            let written = match written.strip_prefix('"') {
                Some(quoted) => unquoted(quoted.strip_suffix('"').expect("a closing quote").as_bytes()),
                None => {
                    assert!(!written.is_empty() && !written.contains([' ', '"', '=', '\\']), "this word needs quotes: {written}");
                    written.as_bytes().to_vec()
                }
            };
            assert!(
                written == message || written.strip_suffix("…".as_bytes()).is_some_and(|start| message.starts_with(start)),
                "the line has another message"
            );
        }
        if format == Format::Json {
            let value: Value = serde_json::from_str(line).expect("valid JSON");
            let written = value["msg"].as_str().expect("a message");
            let want = String::from_utf8_lossy(message);
            assert!(written == want || written.strip_suffix('…').is_some_and(|start| want.starts_with(start)));
        }
    }
}

/// Any bytes as names and values of a report. Its JSON is one line, and `serde_json` reads the same fields from it. Its text is one line for the exit code
/// and one for each container, parameter and artifact.
pub fn report(data: &[u8]) {
    let mut bytes = Bytes(data);
    let exit_code = bytes.byte();
    let mut pieces = Vec::new();
    while !bytes.0.is_empty() && pieces.len() < 24 {
        let length = usize::from(bytes.byte() % 48);
        pieces.push((bytes.byte(), bytes.take(length)));
    }
    let (mut containers, mut parameters, mut artifacts) = (Vec::new(), Vec::new(), Vec::new());
    for (at, &(kind, name)) in pieces.iter().enumerate() {
        let (_, other) = pieces[(at + 1) % pieces.len()];
        let is_there = kind & 4 != 0;
        let size = u64::from(kind) << (kind % 57);
        match kind % 3 {
            0 => containers.push(Container {
                name: Text(name),
                exit_code: is_there.then_some(kind),
                reason: (kind & 16 != 0).then_some("killed"),
                stdout_bytes: is_there.then_some(size),
                stderr_bytes: (kind & 8 != 0).then_some(size / 2),
                combined_bytes: Some(size),
            }),
            1 => parameters.push(Parameter { name: Text(name), path: Text(other), value: is_there.then_some(Text(other)) }),
            _ => artifacts.push(reported::Artifact {
                name: Text(name),
                path: Text(other),
                file: is_there.then_some(Text(other)),
                bytes: (is_there && kind & 8 != 0).then_some(size),
            }),
        }
    }
    let reason = (exit_code & 1 != 0).then_some("timeout");
    let report = Report { exit_code, reason, containers: &containers, parameters: &parameters, artifacts: &artifacts };
    // Buffers from 0 bytes to the first that is large enough. A buffer that is too small gets no document.
    let mut room = Vec::new();
    let length = loop {
        match report.write_json(&mut room) {
            Some(length) => break length,
            None => room = vec![0xa5; room.len() * 2 + 1],
        }
    };
    assert!(length > room.len() / 2, "an earlier buffer was large enough, but was refused");
    assert!(report.write_json(&mut vec![0xa5; length]) == Some(length) && report.write_json(&mut vec![0xa5; length - 1]).is_none());
    let json = core::str::from_utf8(&room[..length]).expect("UTF-8");
    assert!(json.ends_with('\n') && json.matches('\n').count() == 1);
    let lossy = |text: Text<'_>| String::from_utf8_lossy(text.0).into_owned();
    let mut want = serde_json::json!({"exitCode": exit_code, "containers": [], "parameters": [], "artifacts": []});
    if let Some(reason) = reason {
        want["reason"] = reason.into();
    }
    let mut add = |list: &str, value: Value| want[list].as_array_mut().expect("an array").push(value);
    for one in &containers {
        let mut value = serde_json::json!({"name": lossy(one.name), "exitCode": one.exit_code});
        for (key, size) in [("stdoutBytes", one.stdout_bytes), ("stderrBytes", one.stderr_bytes), ("combinedBytes", one.combined_bytes)] {
            if let Some(size) = size {
                value[key] = size.into();
            }
        }
        if let Some(reason) = one.reason {
            value["reason"] = reason.into();
        }
        add("containers", value);
    }
    for one in &parameters {
        add("parameters", serde_json::json!({"name": lossy(one.name), "path": lossy(one.path), "value": one.value.map(lossy)}));
    }
    for one in &artifacts {
        add(
            "artifacts",
            serde_json::json!({"name": lossy(one.name), "path": lossy(one.path), "file": one.file.map(lossy), "bytes": one.bytes}),
        );
    }
    assert_eq!(serde_json::from_str::<Value>(json).expect("JSON"), want);
    let mut measure = Writer::new(&mut []);
    report.write_text(&mut measure);
    let mut room = vec![0xa5; measure.needed()];
    let mut out = Writer::new(&mut room);
    report.write_text(&mut out);
    let text = core::str::from_utf8(out.finish().expect("a buffer of the measured length")).expect("UTF-8");
    assert!(text.ends_with('\n') && text.lines().count() == 1 + pieces.len());
}

/// Any bytes as the files of a control group. Each group is a line of three fields. A limit is the quota divided by the period, rounded up.
pub fn cpus(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let want: Vec<Group<'_>> = data
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let first = line.iter().position(|&byte| byte == b':')?;
            let second = first + 1 + line[first + 1..].iter().position(|&byte| byte == b':')?;
            let (id, controllers, path) = (&line[..first], &line[first + 1..second], &line[second + 1..]);
            let is_cpu = controllers.split(|&byte| byte == b',').any(|name| name == b"cpu");
            if id == b"0" && controllers.is_empty() { Some(Group::V2(path)) } else { is_cpu.then_some(Group::V1(path)) }
        })
        .collect();
    assert_eq!(cpus::groups(data).collect::<Vec<_>>(), want);
    if text.contains('\u{fffd}') {
        return;
    }
    let mut fields = text.trim_matches(|c: char| c.is_ascii_whitespace()).split(' ');
    let number = |field: Option<&str>| field?.trim_matches(|c: char| c.is_ascii_whitespace()).parse::<u64>().ok().map(u128::from);
    let (quota, period) = (number(fields.next()), number(Some(fields.next().unwrap_or("100000"))));
    let want = match (quota, period) {
        (Some(quota @ 1..), Some(period @ 1..)) => Some(u32::try_from(quota.div_ceil(period)).unwrap_or(u32::MAX)),
        _ => None,
    };
    assert_eq!(cpus::from_cpu_max(data), want, "{text:?}");
}

/// Logs of several containers that grow in any order. Every line of the stream belongs to one container. Each container's text is complete and in order. The
/// stream has further newlines only where a line has stopped.
pub fn lines(data: &[u8]) {
    const NAMES: [&[u8]; 3] = [b"a", b"bb", b"main"];
    const ROOM: usize = 8;
    let mut bytes = Bytes(data);
    let mut logs: [Vec<u8>; 3] = Default::default();
    let mut offsets = [0; 3];
    let (mut lines, mut stream) = (Lines::default(), Vec::new());
    let take_turn = |at: usize, has_ended: bool, logs: &[Vec<u8>; 3], offsets: &mut [usize; 3], lines: &mut Lines, stream: &mut Vec<u8>| {
        if !lines.may_write(at) {
            return 0;
        }
        let rest = &logs[at][offsets[at]..];
        let read = &rest[..rest.len().min(ROOM)];
        let piece = Piece { at, name: NAMES[at], bytes: read, has_ended, is_full: read.len() == ROOM };
        let taken = lines.take(piece, &mut |bytes| stream.extend_from_slice(bytes));
        assert!(taken <= read.len());
        offsets[at] += taken;
        taken
    };
    while !bytes.0.is_empty() {
        let what = bytes.byte();
        let at = usize::from(what % 3);
        if what & 4 == 0 {
            // Logs have no colon, because the check below takes the first colon for the end of the name.
            let more = bytes.take(usize::from(what >> 3));
            logs[at].extend(more.iter().map(|&byte| if byte == b':' { b'\n' } else { byte }));
        } else {
            take_turn(at, false, &logs, &mut offsets, &mut lines, &mut stream);
        }
    }
    // All containers have ended, so the stream must get everything.
    for _ in 0..logs.iter().map(Vec::len).sum::<usize>() + 8 {
        for at in 0..3 {
            take_turn(at, true, &logs, &mut offsets, &mut lines, &mut stream);
        }
    }
    assert_eq!(offsets, [0, 1, 2].map(|at| logs[at].len()), "the stream lacks a part of a log");
    let mut written: [Vec<u8>; 3] = Default::default();
    for line in stream.split_inclusive(|&byte| byte == b'\n') {
        let colon = line.iter().position(|&byte| byte == b':').expect("a name before each line");
        let at = NAMES.iter().position(|name| *name == &line[..colon]).expect("a container's name");
        assert_eq!(line[colon + 1], b' ');
        written[at].extend_from_slice(&line[colon + 2..]);
    }
    for (written, log) in written.iter().zip(&logs) {
        // Every byte of the log is there, in order. Only newlines are added.
        let mut written = written.iter().peekable();
        for byte in log {
            while byte != &b'\n' && written.next_if(|byte| **byte == b'\n').is_some() {}
            assert_eq!(written.next(), Some(byte), "a byte of the log is lost or changed");
        }
        assert!(written.all(|byte| *byte == b'\n'), "the stream has more than the log");
    }
}

/// Tar members with any facts: the crate `tar` reads the same names, types, sizes, owners, links and contents.
pub fn tar_entry(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mut archive = Vec::new();
    let mut wanted = Vec::new();
    while !bytes.0.is_empty() && wanted.len() < 8 {
        let kind = bytes.byte() % 6;
        let (mode, uid, gid, mtime_s) = (bytes.word() as u32, bytes.word() as u32, bytes.word() as u32, bytes.word() as i64 >> 8);
        let (name_len, link_len) = (usize::from(bytes.byte()) + 2 * usize::from(bytes.byte()), usize::from(bytes.byte()));
        // A walk through a tree gives names without a NUL, an empty part or a slash at the end. The names here have no newline either, because the crate
        // splits PAX records at each newline and ignores their length. core/tests/differential.rs tests names with newlines against GNU tar and Python.
        let clean = |raw: &[u8]| -> Vec<u8> {
            let parts = raw.split(|&byte| byte == b'/').filter(|part| !part.is_empty());
            parts.collect::<Vec<_>>().join(&b'/').into_iter().map(|byte| if matches!(byte, 0 | b'\n') { b'n' } else { byte }).collect()
        };
        let name = clean(bytes.take(name_len));
        let link = clean(bytes.take(link_len));
        if name.is_empty() || link.is_empty() {
            continue;
        }
        let contents = bytes.take(usize::from(kind == 0) * 700);
        let kind = match kind {
            0 => headers::Kind::Regular { size_bytes: contents.len() as u64 },
            1 => headers::Kind::Symlink { target: &link },
            2 => headers::Kind::Directory,
            3 => headers::Kind::Fifo,
            4 => headers::Kind::CharacterDevice { major: uid & 0xfff, minor: gid & 0xf_ffff },
            _ => headers::Kind::BlockDevice { major: uid & 0xfff, minor: gid & 0xf_ffff },
        };
        let entry = headers::Entry { name: &name, kind, mode, uid, gid, mtime_s };
        let mut room = vec![0xa5; 4096];
        let blocks = match entry.write_header(&mut room) {
            Ok(blocks) => blocks.to_vec(),
            Err(full) => {
                let mut room = vec![0xa5; full.needed];
                entry.write_header(&mut room).expect("a buffer of the size that the error names").to_vec()
            }
        };
        assert_eq!(blocks.len() % headers::BLOCK_BYTES, 0);
        archive.extend_from_slice(&blocks);
        archive.extend_from_slice(contents);
        archive.resize(archive.len() + headers::padding(contents.len() as u64), 0);
        let mut read_name = name.clone();
        if kind == headers::Kind::Directory {
            read_name.push(b'/');
        }
        let (typeflag, device) = match kind {
            headers::Kind::Regular { .. } => (b'0', None),
            headers::Kind::Symlink { .. } => (b'2', None),
            headers::Kind::CharacterDevice { major, minor } => (b'3', Some((major, minor))),
            headers::Kind::BlockDevice { major, minor } => (b'4', Some((major, minor))),
            headers::Kind::Directory => (b'5', None),
            headers::Kind::Fifo => (b'6', None),
        };
        let link = (matches!(kind, headers::Kind::Symlink { .. })).then_some(link);
        wanted.push((read_name, link, mode & 0o7777, uid, gid, mtime_s, contents.to_vec(), typeflag, device));
    }
    archive.extend_from_slice(&headers::TRAILER);
    let mut reader = tar::Archive::new(&archive[..]);
    let mut rows = wanted.iter();
    for entry in reader.entries().expect("an archive") {
        let mut entry = entry.expect("a member");
        let (name, link, mode, uid, gid, mtime_s, contents, typeflag, device) = rows.next().expect("more members than were written");
        assert_eq!(entry.path_bytes().as_ref(), name);
        assert_eq!(entry.link_name_bytes().map(|name| name.to_vec()), *link);
        assert_eq!(entry.header().mode().expect("a mode"), *mode);
        assert_eq!(entry.header().entry_type().as_byte(), *typeflag);
        let numbers = entry.header().device_major().expect("a number").zip(entry.header().device_minor().expect("a number"));
        assert!(device.is_none_or(|device| numbers == Some(device)), "{numbers:?}, not {device:?}");
        // The crate gives the numbers of PAX records apart from the header. The ustar fields hold the nearest number that fits.
        let mut numbers = [u64::from((*uid).min(0o777_7777)), u64::from((*gid).min(0o777_7777))].map(i128::from).to_vec();
        numbers.push(i128::from(*mtime_s).clamp(0, 0o777_7777_7777));
        let header = entry.header();
        let read = [header.uid().expect("uid"), header.gid().expect("gid"), header.mtime().expect("mtime")].map(i128::from);
        let mut records = Vec::new();
        if let Some(extensions) = entry.pax_extensions().expect("records") {
            for record in extensions {
                let record = record.expect("a record");
                records.push((record.key_bytes().to_vec(), record.value_bytes().to_vec()));
            }
        }
        let of = |key: &str| {
            records
                .iter()
                .find(|(name, _)| name == key.as_bytes())
                .and_then(|(_, value)| core::str::from_utf8(value).ok()?.parse::<i128>().ok())
        };
        // The crate replaces uid and gid of the header by those of the PAX records.
        let want = [of("uid").unwrap_or(numbers[0]), of("gid").unwrap_or(numbers[1]), numbers[2]];
        assert_eq!(read, want);
        assert_eq!(of("uid").unwrap_or(numbers[0]), i128::from(*uid));
        assert_eq!(of("gid").unwrap_or(numbers[1]), i128::from(*gid));
        assert_eq!(of("mtime").unwrap_or(numbers[2]), i128::from(*mtime_s));
        let mut read = Vec::new();
        entry.read_to_end(&mut read).expect("contents");
        assert_eq!(read, *contents);
    }
    assert!(rows.next().is_none(), "fewer members than were written");
}

/// Any contents, in chunks of any length, at any level: flate2 reads the contents back from our blocks and framing. The joined checksum of the chunks is the
/// checksum of the whole.
pub fn gzip(data: &[u8]) {
    let mut bytes = Bytes(data);
    let (kind, split, repeats) = (bytes.byte(), usize::from(bytes.byte()), usize::from(bytes.byte()) % 24);
    let (level, noise_bytes) = (kind % 10, 4_096 * usize::from(kind / 10));
    // Longer than what a fuzzer hands out: copies of it, each a little different.
    let mut contents = bytes.0.to_vec();
    for at in 0..repeats {
        contents.extend_from_slice(bytes.0);
        if let Some(byte) = contents.get_mut(at * 7) {
            *byte = byte.wrapping_add(1);
        }
    }
    // Noise that is long enough to be noticed, and what was there before once more.
    let mut state = split as u64;
    contents.extend((0..noise_bytes).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    }));
    contents.extend_from_slice(bytes.0);
    // Not too many: each compresses the window before it anew.
    let chunk_bytes = (1 + split * 523).max(contents.len() / 12).min(deflate::CHUNK_BYTES);
    // Large, and what an earlier input left there does not matter.
    type State = (deflate::Deflater, Vec<u8>, Crc);
    thread_local! {
        static STATE: RefCell<State> = RefCell::new((deflate::Deflater::new(), vec![0; deflate::OUT_BYTES], Crc::new()));
    }
    STATE.with_borrow_mut(|(deflater, out, crc)| round_trip(deflater, out, crc, level, &contents, chunk_bytes));
}

fn round_trip(deflater: &mut deflate::Deflater, out: &mut [u8], crc: &Crc, level: u8, contents: &[u8], chunk_bytes: usize) {
    let mut stream = framing::HEADER.to_vec();
    let (mut joined, mut at) = (0, 0);
    while at < contents.len() {
        let (from, to) = (at.saturating_sub(deflate::WINDOW_BYTES), (at + chunk_bytes).min(contents.len()));
        match deflater.deflate(level, &contents[from..to], at - from, out) {
            Some(made) => {
                assert!(made < to - at, "larger than stored");
                stream.extend_from_slice(&out[..made]);
            }
            None => {
                for piece in contents[at..to].chunks(framing::STORED_BYTES) {
                    stream.extend_from_slice(&framing::stored_header(u16::try_from(piece.len()).expect("a stored block")));
                    stream.extend_from_slice(piece);
                }
            }
        }
        joined = crc::join(joined, crc.update(0, &contents[at..to]), crc::shift((to - at) as u64));
        at = to;
    }
    assert_eq!(joined, crc.update(0, contents));
    stream.extend_from_slice(&framing::END);
    stream.extend_from_slice(&framing::trailer(joined, contents.len() as u64));
    let mut back = Vec::new();
    flate2::read::GzDecoder::new(&stream[..]).read_to_end(&mut back).expect("a gzip member");
    assert!(back == contents, "other contents");
}

/// Any command line of another init. The command is the end of the words. A refusal has a text and the exit status 1.
pub fn peer_command_line(data: &[u8]) {
    let (choice, words) = data.split_first().unwrap_or((&0, &[]));
    let words: Vec<CString> = words.split(|&byte| byte == 0 || byte == b'\n').map(|word| CString::new(word).expect("no NUL")).collect();
    let words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    let peer = [request::Peer::Tini, request::Peer::DumbInit, request::Peer::Catatonit][usize::from(choice % 3)];
    let mut common = request::Common::new(request::Personality::Emissary);
    match peers::parse(peer, b"init", &words, &mut common, &|_| None) {
        Command::Run { command } => {
            assert!(!command.is_empty() && words.ends_with(command), "the command is not the end of the command line");
            let flags = &words[..words.len() - command.len()];
            // The command begins behind the first `--` or at the first word that is no option, unless that word is an option's value.
            assert!(flags.iter().all(|word| word.to_bytes().starts_with(b"-")) || peer != request::Peer::Catatonit);
        }
        Command::Page { text, status, .. } => assert!(!text.is_empty() && status <= 1),
        Command::Pause => assert!(peer == request::Peer::Catatonit),
        _ => panic!("no other init has such a role"),
    }
}

/// Any command line. The command is exactly the end of the words; after the first `--`, if there is one. A refusal has a message and the exit status 64.
pub fn command_line(data: &[u8]) {
    let (personality, words) = data.split_first().unwrap_or((&0, &[]));
    let words: Vec<CString> = words.split(|&byte| byte == 0 || byte == b'\n').map(|word| CString::new(word).expect("no NUL")).collect();
    let words: Vec<&CStr> = words.iter().map(CString::as_c_str).collect();
    let personality = if personality & 1 == 0 { request::Personality::Emissary } else { request::Personality::Argoexec };
    let delegate_exists = personality == request::Personality::Argoexec && data[0] & 2 != 0;
    let mut common = request::Common::new(personality);
    let parsed = command_line::parse(&words, &mut common, || delegate_exists);
    let first = words.iter().position(|word| *word == c"--");
    let behind = first.map(|at| &words[at + 1..]);
    // A flag may take `--` as its value.
    let is_value = first.is_some_and(|at| at > 0 && words[at - 1].to_bytes().starts_with(b"-"));
    match parsed {
        Ok(Command::Run { command } | Command::PluginSidecar { command }) => {
            assert!(!command.is_empty(), "no command");
            assert!(words.ends_with(command), "the command is not the end of the command line");
            // A flag may take `--` as its value, and a command may have a `--` among its arguments.
            if let Some(behind) = behind {
                assert!(is_value || command.len() >= behind.len() || behind.contains(&c"--"), "words after `--` were taken for flags");
            }
        }
        Ok(Command::Delegate) => assert!(delegate_exists, "there is no executor to delegate to"),
        Ok(Command::Init { .. } | Command::Wait(_) | Command::Signal { .. } | Command::Kill { .. }) => {
            assert!(is_value || behind.is_none_or(<[_]>::is_empty), "words without a meaning were accepted");
        }
        Ok(Command::Version { .. } | Command::Help(_) | Command::Check | Command::Completions(_)) => {}
        Ok(Command::Pause | Command::Page { .. }) => panic!("another init's command line"),
        Err(error) => {
            assert_eq!(error.status, exit::FAILURE);
            assert!(!error.text.is_empty(), "a refusal without a message");
            // A command line with `--` is a run, unless a word before `--` names another role.
            let others = ["init", "wait", "signal", "kill", "help", "version", "check", "completions"].map(str::as_bytes);
            let named = words
                .iter()
                .take_while(|word| **word != c"--")
                .any(|word| others.contains(&word.to_bytes()) || !word.to_bytes().starts_with(b"-"));
            assert!(common.is_run || behind.is_none() || named || is_value, "a refused run would leave no exit code");
        }
    }
}

/// Any sequence of events for the supervisor. One command runs at a time. No signal goes to a command that was reaped. There is exactly one end. After a
/// command's end there is always an action.
pub fn supervisor(data: &[u8]) {
    let mut bytes = Bytes(data);
    let flags = bytes.byte();
    let setup = Setup {
        waits_for_ready: flags & 1 != 0,
        pauses_before: flags & 2 != 0,
        pauses_after: flags & 4 != 0,
        pauses_on_failure: flags & 8 != 0,
        waits_for_files: flags & 16 != 0,
        waits_for_descendants: flags & 32 != 0,
        timeout: (flags & 64 != 0).then_some(Duration::from_ms(100)),
    };
    let mut machine = Machine::new(setup);
    let (mut starts, mut runs, mut lingers, mut finished, mut now_ms) = (false, false, false, false, 0_u64);
    let (mut spawns, mut attempts) = (0_u32, 1_u32);
    // The codes that the run may end with: the exit code of the last attempt, or the code of a failure or of a request to end since then.
    let (mut exited, mut copy_failed, mut others) = (None::<u8>, false, Vec::new());
    while !bytes.0.is_empty() {
        let kind = bytes.byte();
        let value = bytes.byte();
        let gate = [Gate::Ready, Gate::Dependencies, Gate::Before, Gate::Retry, Gate::After, Gate::Files][usize::from(value % 6)];
        let kind = if kind >= 0xf0 { kind } else { kind % 14 };
        let event = match kind {
            0xff => Event::PassedOn,
            0xfc if runs => Event::Killed(value % 64 + 1),
            0xfb => Event::Childless,
            0xfa => Event::Cancelled,
            0xf9 => Event::Replaced(value),
            0xfd if runs => Event::Unkillable,
            0xfe => match Signal::new(u64::from(value % 64) + 1) {
                Some(signal) => Event::Ignored(signal),
                None => continue,
            },
            _ if kind >= 0xf0 => match kind & 3 {
                0 => Event::Changed,
                1 => Event::LookAfter(Duration::from_ms(value.into())),
                2 => Event::Watching,
                _ => Event::CannotWatch,
            },
            0 => Event::Begin,
            1 => Event::Opened(gate),
            2 => {
                let plan = Plan {
                    has_dependencies: value & 1 != 0,
                    is_sidecar: value & 2 != 0,
                    saves_outputs: value & 4 != 0,
                    attempts: u32::from(value >> 5),
                    retry_pause: Duration::from_ms(u64::from(value & 8) * 10),
                    grace: Duration::from_ms(50),
                };
                Event::Planned(plan)
            }
            3 => Event::Found,
            // A caller reports only what happened: a start that the machine asked for succeeds or fails, and a command that runs ends. Every other event may
            // come at any time.
            4 if starts => {
                starts = false;
                runs = true;
                Event::Spawned
            }
            4 => continue,
            5 => {
                starts = false;
                Event::Failed(value.max(1))
            }
            6 if runs => Event::Exited(value),
            7 => Event::Drained,
            8 => Event::CopyFailed,
            9 => Event::Saved { all: value & 1 != 0 },
            10 | 11 => match Signal::new(u64::from(value % 64) + 1) {
                Some(signal) => Event::Signal(signal),
                None => continue,
            },
            12 => Event::MainsExited,
            _ => {
                now_ms += u64::from(value);
                Event::Tick
            }
        };
        let ended = matches!(event, Event::Exited(_) | Event::Killed(_) | Event::Unkillable);
        let mut is_lost = false;
        match event {
            Event::Exited(code) => {
                exited = Some(code);
                others.clear();
            }
            Event::Killed(signal) => {
                exited = Some(128 + signal);
                others.clear();
            }
            Event::Unkillable => {
                exited = Some(137);
                others.clear();
            }
            Event::Failed(code) => others.push(code),
            Event::Signal(signal) if signal.is_request_to_end() => others.push(exit::code_of_signal(signal)),
            Event::Cancelled => others.push(143),
            Event::Replaced(code) => others.push(code),
            Event::CopyFailed => copy_failed = true,
            Event::Saved { all } => is_lost = !all,
            _ => {}
        }
        if let Event::Planned(plan) = event {
            attempts = attempts.max(plan.attempts);
        }
        if ended {
            runs = false;
            lingers = setup.waits_for_descendants;
        }
        machine.handle(Instant::from_ms(now_ms), event);
        if machine.has_timed_out() {
            others.push(exit::TIMED_OUT);
        }
        let mut actions = 0;
        while let Some(action) = machine.poll_action() {
            actions += 1;
            assert!(!finished, "{action:?} after the last action");
            match action {
                Action::Spawn => {
                    assert!(!runs && !starts, "two commands run at once");
                    spawns += 1;
                    starts = true;
                }
                Action::Forward(_) => assert!(runs || lingers, "a signal without a command that runs"),
                Action::Finish(code) => {
                    assert!(!runs && !starts, "the run ends while the command runs");
                    let with_loss = |code: u8| if code == 0 && (copy_failed || is_lost) { exit::FAILURE } else { code };
                    let own = exited.map(with_loss);
                    let others: Vec<u8> = others.iter().map(|code| with_loss(*code)).collect();
                    assert!(own == Some(code) || others.contains(&code), "the run ends with {code}, not with {own:?} or one of {others:?}");
                    finished = true;
                }
                Action::Save | Action::Drain => {
                    assert!(!runs);
                    lingers = false;
                }
                Action::Look | Action::Watch | Action::Await(_) | Action::Plan | Action::Find | Action::Abandon => {}
            }
        }
        assert!(!ended || lingers || actions > 0, "no action after the command's end");
        assert!(spawns <= attempts.max(1), "more attempts than asked for");
        assert!(!machine.has_action());
    }
    // From any phase, a caller that opens every gate brings the run to an end.
    for _ in 0..64 {
        if finished {
            return;
        }
        now_ms += 100_000;
        if core::mem::take(&mut starts) {
            runs = true;
            machine.handle(Instant::from_ms(now_ms), Event::Spawned);
            while machine.poll_action().is_some() {}
        }
        if runs {
            runs = false;
            machine.handle(Instant::from_ms(now_ms), Event::Exited(1));
        }
        let plan = Plan {
            has_dependencies: false,
            is_sidecar: false,
            saves_outputs: true,
            attempts: 1,
            retry_pause: Duration::ZERO,
            grace: Duration::ZERO,
        };
        for event in [
            Event::Begin,
            Event::Opened(Gate::Ready),
            Event::Planned(plan),
            Event::Opened(Gate::Dependencies),
            Event::Opened(Gate::Files),
            Event::Found,
            Event::Opened(Gate::Before),
            Event::Opened(Gate::After),
            Event::Childless,
            Event::Drained,
            Event::Saved { all: true },
            Event::Tick,
        ] {
            machine.handle(Instant::from_ms(now_ms), event);
            while let Some(action) = machine.poll_action() {
                match action {
                    Action::Spawn => starts = true,
                    Action::Finish(_) => finished = true,
                    _ => {}
                }
            }
        }
    }
    assert!(finished, "the run does not end");
}

/// Any bytes as the record of a run. serde_json reads the same numbers from whatever is accepted.
pub fn record(data: &[u8]) {
    let Some(summary) = emissary_core::record::Summary::read(data) else { return };
    assert_eq!(summary.schema, emissary_core::record::SCHEMA);
    // Strings in which serde-json-core does not look are the only difference to a document in JSON.
    let Ok(value) = serde_json::from_slice::<Value>(data.trim_ascii()) else { return };
    assert_eq!(value["exitCode"].as_u64(), Some(summary.exit_code.into()));
    assert_eq!(value["durationNs"].as_u64(), Some(summary.duration_ns));
    assert_eq!(value["timedOut"].as_bool(), Some(summary.timed_out));
    assert_eq!(value["attempts"].as_u64(), Some(summary.attempts.into()));
    assert_eq!(value["signal"].as_u64(), summary.signal.map(u64::from));
}

/// The body of a target.
pub type Check = fn(&[u8]);

/// Every target, with its name.
pub const TARGETS: [(&str, Check); 18] = [
    ("argument_file", argument_file),
    ("command_line", command_line),
    ("cpus", cpus),
    ("duration", duration),
    ("exit_code", exit_code),
    ("gzip", gzip),
    ("layout", layout),
    ("lines", lines),
    ("peer_command_line", peer_command_line),
    ("log_line", log_line),
    ("readiness", readiness),
    ("record", record),
    ("report", report),
    ("rfc3339", rfc3339),
    ("signal", signal),
    ("supervisor", supervisor),
    ("tar_entry", tar_entry),
    ("template", template),
];
