//! The report that `emissary wait` prints at the end: text for a person, or one JSON object (docs/protocol.md, "Wait").
//!
//! Enters: exit codes, sizes, and the values of outputs. Leaves: text in the caller's buffer. Refuses: nothing. In JSON, U+FFFD replaces bytes that are not
//! UTF-8. The report has no maximum length: if the buffer is too small, the caller writes the report again to a larger one.

use crate::buf::Writer;
use crate::documents::Text;

/// A main container.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "documents", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Container<'a> {
    /// The container's name.
    pub name: Text<'a>,
    /// The exit code; `None` if the container left none.
    pub exit_code: Option<u8>,
    /// Why the exit code is missing or is not the command's: `killed`, `timeout`, `asked to end`, `no exit code`.
    #[cfg_attr(feature = "documents", serde(skip_serializing_if = "Option::is_none"))]
    pub reason: Option<&'static str>,
    /// Size of the captured copy of stdout; `None` if there is no copy.
    #[cfg_attr(feature = "documents", serde(skip_serializing_if = "Option::is_none"))]
    pub stdout_bytes: Option<u64>,
    /// Size of the captured copy of stderr; `None` if there is no copy.
    #[cfg_attr(feature = "documents", serde(skip_serializing_if = "Option::is_none"))]
    pub stderr_bytes: Option<u64>,
    /// Size of the captured copy of both streams in order of arrival; `None` if there is no copy.
    #[cfg_attr(feature = "documents", serde(skip_serializing_if = "Option::is_none"))]
    pub combined_bytes: Option<u64>,
}

/// An output parameter.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "documents", derive(serde::Serialize))]
pub struct Parameter<'a> {
    /// The parameter's name.
    pub name: Text<'a>,
    /// The path in the template.
    pub path: Text<'a>,
    /// The parameter's value; `None` if it has none.
    pub value: Option<Text<'a>>,
}

/// An output artifact.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "documents", derive(serde::Serialize))]
pub struct Artifact<'a> {
    /// The artifact's name.
    pub name: Text<'a>,
    /// The path in the template.
    pub path: Text<'a>,
    /// The archive, or the file or folder on a mount; `None` if the artifact is missing.
    pub file: Option<Text<'a>>,
    /// The size of the file; `None` for a folder.
    pub bytes: Option<u64>,
}

/// A value as the report shows it: the file's contents without one newline at the end. A carriage return before that newline belongs to the value.
#[must_use]
pub fn trim_newline(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\n").unwrap_or(value)
}

/// The whole report.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "documents", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Report<'a> {
    /// The first container's exit code that is not 0; 0 if there is none.
    pub exit_code: u8,
    /// Why the wait container gave up: `timeout`, `asked to end`.
    #[cfg_attr(feature = "documents", serde(skip_serializing_if = "Option::is_none"))]
    pub reason: Option<&'static str>,
    /// The main containers.
    pub containers: &'a [Container<'a>],
    /// The parameters that have a path.
    pub parameters: &'a [Parameter<'a>],
    /// The artifacts that have a path.
    pub artifacts: &'a [Artifact<'a>],
}

impl Report<'_> {
    /// Writes one JSON object and a newline, and returns their length. The members are `exitCode`, `reason`, `containers[]` (`name`, `exitCode`, `reason`,
    /// `stdoutBytes`, `stderrBytes` or `combinedBytes`), `parameters[]` (`name`, `path`, `value`), and `artifacts[]` (`name`, `path`, `file`, `bytes`). An
    /// absent value is `null`, and so is the size of a folder. An absent copy or reason has no member.
    ///
    /// Returns `None` if `buf` is too small. The contents of `buf` are then no report.
    #[cfg(feature = "documents")]
    #[must_use]
    pub fn write_json(&self, buf: &mut [u8]) -> Option<usize> {
        crate::documents::write(self, buf)
    }

    /// Writes one line for each container, parameter and artifact.
    pub fn write_text(&self, out: &mut Writer<'_>) {
        out.text("exit code ").decimal(u64::from(self.exit_code)).byte(b'\n');
        for container in self.containers {
            out.text("container ").shown(container.name.0).text(": ");
            match container.exit_code {
                Some(code) => out.text("exit code ").decimal(u64::from(code)),
                None => out.text("no exit code"),
            };
            if let Some(reason) = container.reason {
                out.text(", ").text(reason);
            }
            for (name, size_bytes) in
                [(", stdout ", container.stdout_bytes), (", stderr ", container.stderr_bytes), (", combined ", container.combined_bytes)]
            {
                if let Some(size_bytes) = size_bytes {
                    out.text(name).decimal(size_bytes).text(" bytes");
                }
            }
            out.byte(b'\n');
        }
        for parameter in self.parameters {
            out.text("parameter ").shown(parameter.name.0).text(" (").shown(parameter.path.0).text(")");
            match parameter.value {
                Some(value) => out.text(": ").shown(value.0),
                None => out.text(" is missing"),
            };
            out.byte(b'\n');
        }
        for artifact in self.artifacts {
            out.text("artifact ").shown(artifact.name.0).text(" (").shown(artifact.path.0).text(")");
            match (artifact.file, artifact.bytes) {
                (Some(file), Some(size_bytes)) => out.text(": ").shown(file.0).text(", ").decimal(size_bytes).text(" bytes"),
                (Some(file), None) => out.text(": ").shown(file.0).text(", a folder"),
                (None, _) => out.text(" is missing"),
            };
            out.byte(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    const REPORT: Report<'_> = Report {
        exit_code: 5,
        reason: Some("timeout"),
        containers: &[
            Container {
                name: Text(b"a"),
                exit_code: Some(5),
                reason: None,
                stdout_bytes: Some(12),
                stderr_bytes: None,
                combined_bytes: Some(15),
            },
            Container {
                name: Text(b"b"),
                exit_code: None,
                reason: Some("timeout"),
                stdout_bytes: None,
                stderr_bytes: None,
                combined_bytes: None,
            },
        ],
        parameters: &[
            Parameter { name: Text(b"p"), path: Text(b"/tmp/p"), value: Some(Text(b"v\n\"\xff")) },
            Parameter { name: Text(b"q"), path: Text(b"/tmp/q"), value: None },
        ],
        artifacts: &[
            Artifact { name: Text(b"t"), path: Text(b"/t"), file: Some(Text(b"/var/argo/outputs/artifacts/t.tgz")), bytes: Some(99) },
            Artifact { name: Text(b"f"), path: Text(b"/mnt/f"), file: Some(Text(b"/mnt/f")), bytes: None },
            Artifact { name: Text(b"u"), path: Text(b"/u"), file: None, bytes: None },
        ],
    };

    const JSON: &str = concat!(
        r#"{"exitCode":5,"reason":"timeout","containers":[{"name":"a","exitCode":5,"stdoutBytes":12,"combinedBytes":15},"#,
        r#"{"name":"b","exitCode":null,"reason":"timeout"}],"#,
        r#""parameters":[{"name":"p","path":"/tmp/p","value":"v\n\"�"},{"name":"q","path":"/tmp/q","value":null}],"#,
        r#""artifacts":[{"name":"t","path":"/t","file":"/var/argo/outputs/artifacts/t.tgz","bytes":99},"#,
        r#"{"name":"f","path":"/mnt/f","file":"/mnt/f","bytes":null},{"name":"u","path":"/u","file":null,"bytes":null}]}"#,
        "\n"
    );

    fn written(write: impl Fn(&mut Writer<'_>)) -> String {
        let mut room = [0xa5; 2048];
        let mut out = Writer::new(&mut room);
        write(&mut out);
        String::from_utf8(out.finish().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn json_that_serde_json_reads() {
        let mut room = [0xa5; 2048];
        let length = REPORT.write_json(&mut room).unwrap();
        assert!(room[length..].iter().all(|&byte| byte == 0xa5));
        let text = core::str::from_utf8(&room[..length]).unwrap();
        assert_eq!(text, JSON);
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "exitCode": 5,
                "reason": "timeout",
                "containers": [{"name": "a", "exitCode": 5, "stdoutBytes": 12, "combinedBytes": 15},
                    {"name": "b", "exitCode": null, "reason": "timeout"}],
                "parameters": [{"name": "p", "path": "/tmp/p", "value": "v\n\"\u{fffd}"}, {"name": "q", "path": "/tmp/q", "value": null}],
                "artifacts": [{"name": "t", "path": "/t", "file": "/var/argo/outputs/artifacts/t.tgz", "bytes": 99},
                    {"name": "f", "path": "/mnt/f", "file": "/mnt/f", "bytes": null}, {"name": "u", "path": "/u", "file": null, "bytes": null}],
            })
        );
        assert!(text.ends_with("]}\n"));
    }

    #[test]
    fn json_is_whole_or_absent() {
        for capacity in 0..JSON.len() + 2 {
            let mut room = std::vec![0xa5; capacity];
            assert_eq!(REPORT.write_json(&mut room), (capacity >= JSON.len()).then_some(JSON.len()), "{capacity}");
        }
    }

    #[test]
    fn text_has_one_line_for_each_thing() {
        assert_eq!(
            written(|out| REPORT.write_text(out)),
            "exit code 5\n\
             container a: exit code 5, stdout 12 bytes, combined 15 bytes\n\
             container b: no exit code, timeout\n\
             parameter p (/tmp/p): v\\x0a\"\\xff\n\
             parameter q (/tmp/q) is missing\n\
             artifact t (/t): /var/argo/outputs/artifacts/t.tgz, 99 bytes\n\
             artifact f (/mnt/f): /mnt/f, a folder\n\
             artifact u (/u) is missing\n"
        );
    }

    #[test]
    fn one_newline_is_trimmed() {
        for (value, want) in
            [(&b"v\n"[..], &b"v"[..]), (b"v\n\n", b"v\n"), (b"v", b"v"), (b"", b""), (b"\n", b""), (b"v\r\n", b"v\r"), (b"v\r", b"v\r")]
        {
            assert_eq!(trim_newline(value), want);
        }
    }
}
