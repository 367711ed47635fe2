//! What `wait` reports: as text for a person, or as one JSON object.
//!
//! Enters: exit codes, sizes, values. Leaves: text in the caller's buffer. Bytes that are not UTF-8 become U+FFFD in JSON.

use crate::buf::Writer;
use crate::json::write_str;

/// A main container.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its exit code; `None` where it left none.
    pub exit_code: Option<u8>,
    /// Bytes of each captured copy that is there: its key in JSON, its size.
    pub logs: [Option<(&'static str, u64)>; 3],
}

/// An output parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The path that the template gives.
    pub path: &'a [u8],
    /// Its value; `None` where there is none.
    pub value: Option<&'a [u8]>,
}

/// An output artifact.
#[derive(Debug, Clone, Copy)]
pub struct Artifact<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The path that the template gives.
    pub path: &'a [u8],
    /// The archive, or what lies on a mount, and its bytes, which a folder has not; `None` where there is none.
    pub file: Option<(&'a [u8], Option<u64>)>,
}

/// A value as it is reported: what the file holds without one trailing newline.
#[must_use]
pub fn trim_newline(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\n").map_or(value, |value| value.strip_suffix(b"\r").unwrap_or(value))
}

/// Everything that is reported.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The first container's code that is not 0, else 0.
    pub exit_code: u8,
    /// The main containers.
    pub containers: &'a [Container<'a>],
    /// The parameters with a path.
    pub parameters: &'a [Parameter<'a>],
    /// The artifacts with a path.
    pub artifacts: &'a [Artifact<'a>],
}

impl Report<'_> {
    /// One JSON object and a newline: `exitCode`, `containers[]` (`name`, `exitCode`, `stdoutBytes`, `stderrBytes` or `combinedBytes`),
    /// `parameters[]` (`name`, `path`, `value`), `artifacts[]` (`name`, `path`, `file`, `bytes`). What is not there is `null`, and so are a folder's bytes.
    pub fn write_json(&self, out: &mut Writer<'_>) {
        out.text("{\"exitCode\":").decimal(u64::from(self.exit_code)).text(",\"containers\":[");
        let mut separator = "";
        for container in self.containers {
            out.text(separator).text("{\"name\":");
            write_str(container.name, out);
            out.text(",\"exitCode\":");
            number(container.exit_code.map(u64::from), out);
            for (key, size_bytes) in container.logs.iter().flatten() {
                out.text(",\"").text(key).text("Bytes\":").decimal(*size_bytes);
            }
            out.byte(b'}');
            separator = ",";
        }
        out.text("],\"parameters\":[");
        separator = "";
        for parameter in self.parameters {
            out.text(separator).text("{\"name\":");
            write_str(parameter.name, out);
            out.text(",\"path\":");
            write_str(parameter.path, out);
            out.text(",\"value\":");
            string(parameter.value, out);
            out.byte(b'}');
            separator = ",";
        }
        out.text("],\"artifacts\":[");
        separator = "";
        for artifact in self.artifacts {
            out.text(separator).text("{\"name\":");
            write_str(artifact.name, out);
            out.text(",\"path\":");
            write_str(artifact.path, out);
            out.text(",\"file\":");
            string(artifact.file.map(|(file, _)| file), out);
            out.text(",\"bytes\":");
            number(artifact.file.and_then(|(_, size_bytes)| size_bytes), out);
            out.byte(b'}');
            separator = ",";
        }
        out.text("]}\n");
    }

    /// One line for each thing.
    pub fn write_text(&self, out: &mut Writer<'_>) {
        out.text("exit code ").decimal(u64::from(self.exit_code)).byte(b'\n');
        for container in self.containers {
            out.text("container ").shown(container.name).text(": ");
            match container.exit_code {
                Some(code) => out.text("exit code ").decimal(u64::from(code)),
                None => out.text("no exit code"),
            };
            for (key, size_bytes) in container.logs.iter().flatten() {
                out.text(", ").text(key).byte(b' ').decimal(*size_bytes).text(" bytes");
            }
            out.byte(b'\n');
        }
        for parameter in self.parameters {
            out.text("parameter ").shown(parameter.name).text(" (").shown(parameter.path).text(")");
            match parameter.value {
                Some(value) => out.text(": ").shown(value),
                None => out.text(" is missing"),
            };
            out.byte(b'\n');
        }
        for artifact in self.artifacts {
            out.text("artifact ").shown(artifact.name).text(" (").shown(artifact.path).text(")");
            match artifact.file {
                Some((file, Some(size_bytes))) => out.text(": ").shown(file).text(", ").decimal(size_bytes).text(" bytes"),
                Some((file, None)) => out.text(": ").shown(file).text(", a folder"),
                None => out.text(" is missing"),
            };
            out.byte(b'\n');
        }
    }
}

fn number(value: Option<u64>, out: &mut Writer<'_>) {
    match value {
        Some(value) => out.decimal(value),
        None => out.text("null"),
    };
}

fn string(value: Option<&[u8]>, out: &mut Writer<'_>) {
    match value {
        Some(value) => write_str(value, out),
        None => {
            out.text("null");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    const REPORT: Report<'_> = Report {
        exit_code: 5,
        containers: &[
            Container { name: b"a", exit_code: Some(5), logs: [Some(("stdout", 12)), None, Some(("combined", 15))] },
            Container { name: b"b", exit_code: None, logs: [None; 3] },
        ],
        parameters: &[
            Parameter { name: b"p", path: b"/tmp/p", value: Some(b"v\n\"\xff") },
            Parameter { name: b"q", path: b"/tmp/q", value: None },
        ],
        artifacts: &[
            Artifact { name: b"t", path: b"/t", file: Some((b"/var/argo/outputs/artifacts/t.tgz", Some(99))) },
            Artifact { name: b"f", path: b"/mnt/f", file: Some((b"/mnt/f", None)) },
            Artifact { name: b"u", path: b"/u", file: None },
        ],
    };

    fn written(write: impl Fn(&mut Writer<'_>)) -> String {
        let mut room = [0xa5; 2048];
        let mut out = Writer::new(&mut room);
        write(&mut out);
        String::from_utf8(out.finish().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn json_that_serde_json_reads() {
        let text = written(|out| REPORT.write_json(out));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "exitCode": 5,
                "containers": [{"name": "a", "exitCode": 5, "stdoutBytes": 12, "combinedBytes": 15}, {"name": "b", "exitCode": null}],
                "parameters": [{"name": "p", "path": "/tmp/p", "value": "v\n\"\u{fffd}"}, {"name": "q", "path": "/tmp/q", "value": null}],
                "artifacts": [{"name": "t", "path": "/t", "file": "/var/argo/outputs/artifacts/t.tgz", "bytes": 99},
                    {"name": "f", "path": "/mnt/f", "file": "/mnt/f", "bytes": null}, {"name": "u", "path": "/u", "file": null, "bytes": null}],
            })
        );
        assert!(text.ends_with("]}\n"));
    }

    #[test]
    fn text_is_one_line_a_thing() {
        assert_eq!(
            written(|out| REPORT.write_text(out)),
            "exit code 5\n\
             container a: exit code 5, stdout 12 bytes, combined 15 bytes\n\
             container b: no exit code\n\
             parameter p (/tmp/p): v\\x0a\"\\xff\n\
             parameter q (/tmp/q) is missing\n\
             artifact t (/t): /var/argo/outputs/artifacts/t.tgz, 99 bytes\n\
             artifact f (/mnt/f): /mnt/f, a folder\n\
             artifact u (/u) is missing\n"
        );
    }

    #[test]
    fn one_newline_is_trimmed() {
        for (value, want) in [(&b"v\n"[..], &b"v"[..]), (b"v\n\n", b"v\n"), (b"v", b"v"), (b"", b""), (b"\n", b""), (b"v\r\n", b"v")] {
            assert_eq!(trim_newline(value), want);
        }
    }
}
