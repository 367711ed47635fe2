//! The record of one run, `report.json`: what was run, how it ended, what it used and what it left (docs/protocol.md, "report.json").
//!
//! Enters: facts of the run. Leaves: one JSON object and a newline in the caller's buffer; from such a document, the [`Summary`]. Refuses: a buffer that is too
//! small, and a document of another shape. In JSON, U+FFFD replaces bytes that are not UTF-8.

use crate::buf::Writer;
use crate::documents::Text;

/// The number of the document's shape. A change that a reader of the old shape would not understand gets a new number.
pub const SCHEMA: u32 = 1;

/// What a process and its reaped children used (getrusage(2), `struct rusage`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "documents", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Usage {
    /// Largest resident memory, in bytes.
    pub max_rss_bytes: u64,
    /// CPU time in user mode, in microseconds.
    pub user_us: u64,
    /// CPU time in the kernel, in microseconds.
    pub system_us: u64,
    /// Page faults without input.
    pub minor_faults: u64,
    /// Page faults with input.
    pub major_faults: u64,
    /// Blocks read, of 512 bytes.
    pub blocks_in: u64,
    /// Blocks written, of 512 bytes.
    pub blocks_out: u64,
    /// Context switches because the process waited.
    pub voluntary_switches: u64,
    /// Context switches because its time slice was over.
    pub involuntary_switches: u64,
}

/// An output that was saved.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "documents", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Output<'a> {
    /// `parameter` or `artifact`.
    pub kind: &'static str,
    /// The name in the template. May be empty.
    pub name: Text<'a>,
    /// The path in the template.
    pub path: Text<'a>,
    /// Size of the saved file, in bytes.
    pub bytes: u64,
    /// How long the save took, in milliseconds.
    pub duration_ms: u64,
}

/// A point in time: seconds since 1970-01-01T00:00:00Z, and nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, below a thousand million.
    pub nanoseconds: u32,
}

impl core::fmt::Display for Time {
    /// RFC 3339 in UTC, with nine digits of a second.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut room = [0; 40];
        let mut out = Writer::new(&mut room);
        crate::time::write_rfc3339(self.seconds.saturating_mul(1_000), &mut out);
        // The text ends with `.000Z`.
        let seconds = out.written().get(..19).unwrap_or_default();
        let mut digits = [0; 12];
        let mut fraction = Writer::new(&mut digits);
        fraction.padded(u64::from(self.nanoseconds), 9);
        for part in [seconds, b".", fraction.written(), b"Z"] {
            f.write_str(core::str::from_utf8(part).unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(feature = "documents")]
impl serde::Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The record of a run.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "documents", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Record<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The container's name; empty in the flat layout.
    pub name: Text<'a>,
    /// The command and its arguments, as the command line has them.
    pub command: &'a [Text<'a>],
    /// When the first attempt was started; `None` if the command never ran.
    pub started: Option<Time>,
    /// When the last attempt ended, or the run, if the command never ran.
    pub finished: Time,
    /// From the first start to the last end, in nanoseconds.
    pub duration_ns: u64,
    /// The code in `exitcode`.
    pub exit_code: u8,
    /// The signal that ended the command, if one did.
    pub signal: Option<u8>,
    /// The command left a core dump.
    pub core_dumped: bool,
    /// The time limit ended the command.
    pub timed_out: bool,
    /// How many attempts were started.
    pub attempts: u32,
    /// Why the run ended: `exited`, `signal`, `timeout`, `cancelled`, `released`, `output lost`, `asked to end` or `not started`.
    pub reason: &'static str,
    /// The message of the error that ended the run, if one did.
    pub message: Option<Text<'a>>,
    /// What the last attempt used.
    pub usage: Usage,
    /// Size of the copy of stdout, in bytes; `None` if there is no copy.
    pub stdout_bytes: Option<u64>,
    /// Size of the copy of stderr.
    pub stderr_bytes: Option<u64>,
    /// Size of the copy of both.
    pub combined_bytes: Option<u64>,
    /// The outputs that were saved.
    pub outputs: &'a [Output<'a>],
}

#[cfg(feature = "documents")]
impl Record<'_> {
    /// Writes the document and a newline. Returns their length in bytes, or `None` if `buf` is too small.
    #[must_use]
    pub fn write(&self, buf: &mut [u8]) -> Option<usize> {
        crate::documents::write(self, buf)
    }
}

/// The numbers of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "documents", derive(serde::Deserialize), serde(rename_all = "camelCase"))]
pub struct Summary {
    /// The shape of the document.
    pub schema: u32,
    /// From the first start to the last end, in nanoseconds.
    pub duration_ns: u64,
    /// The code in `exitcode`.
    pub exit_code: u8,
    /// The signal that ended the command, if one did.
    pub signal: Option<u8>,
    /// The time limit ended the command.
    pub timed_out: bool,
    /// How many attempts were started.
    pub attempts: u32,
}

#[cfg(feature = "documents")]
impl Summary {
    /// Reads the numbers of a record; `None` if the bytes are no record of a shape that is known.
    #[must_use]
    pub fn read(document: &[u8]) -> Option<Self> {
        let (summary, _) = serde_json_core::from_slice::<Self>(document.trim_ascii()).ok()?;
        (summary.schema == SCHEMA).then_some(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString as _};

    const RECORD: Record<'_> = Record {
        schema: SCHEMA,
        name: Text(b"main"),
        command: &[Text(b"sh"), Text(b"-c"), Text(b"echo \"\xff\"\n")],
        started: Some(Time { seconds: 1_795_498_648, nanoseconds: 7 }),
        finished: Time { seconds: 1_795_498_650, nanoseconds: 999_999_999 },
        duration_ns: 2_999_999_992,
        exit_code: 137,
        signal: Some(9),
        core_dumped: false,
        timed_out: true,
        attempts: 2,
        reason: "timeout",
        message: None,
        usage: Usage {
            max_rss_bytes: 1 << 20,
            user_us: 3,
            system_us: 4,
            minor_faults: 5,
            major_faults: 6,
            blocks_in: 7,
            blocks_out: 8,
            voluntary_switches: 9,
            involuntary_switches: 10,
        },
        stdout_bytes: Some(0),
        stderr_bytes: None,
        combined_bytes: Some(u64::MAX),
        outputs: &[Output { kind: "artifact", name: Text(b""), path: Text(b"/tmp/x"), bytes: 12, duration_ms: 1 }],
    };

    fn written() -> String {
        let mut room = [0xa5; 2048];
        let length = RECORD.write(&mut room).unwrap();
        assert!(room[length..].iter().all(|&byte| byte == 0xa5));
        String::from_utf8(room[..length].to_vec()).unwrap()
    }

    #[test]
    fn json_that_serde_json_reads() {
        let value: serde_json::Value = serde_json::from_str(&written()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "schema": 1, "name": "main", "command": ["sh", "-c", "echo \"\u{fffd}\"\n"],
                "started": "2026-11-24T05:37:28.000000007Z", "finished": "2026-11-24T05:37:30.999999999Z", "durationNs": 2_999_999_992_u64,
                "exitCode": 137, "signal": 9, "coreDumped": false, "timedOut": true, "attempts": 2, "reason": "timeout", "message": null,
                "usage": {"maxRssBytes": 1 << 20, "userUs": 3, "systemUs": 4, "minorFaults": 5, "majorFaults": 6, "blocksIn": 7, "blocksOut": 8,
                    "voluntarySwitches": 9, "involuntarySwitches": 10},
                "stdoutBytes": 0, "stderrBytes": null, "combinedBytes": u64::MAX,
                "outputs": [{"kind": "artifact", "name": "", "path": "/tmp/x", "bytes": 12, "durationMs": 1}],
            })
        );
    }

    #[test]
    fn a_document_is_whole_or_absent() {
        let whole = written().len();
        for capacity in (0..whole + 2).step_by(if cfg!(miri) { 97 } else { 1 }) {
            let mut room = std::vec![0xa5; capacity];
            assert_eq!(RECORD.write(&mut room), (capacity >= whole).then_some(whole), "{capacity}");
        }
    }

    #[test]
    fn the_summary_is_read_back() {
        let text = written();
        let want = Summary { schema: 1, duration_ns: 2_999_999_992, exit_code: 137, signal: Some(9), timed_out: true, attempts: 2 };
        assert_eq!(Summary::read(text.as_bytes()), Some(want));
        for other in [&b""[..], b"{}", b"[]", b"null", &text.as_bytes()[..text.len() / 2]] {
            assert_eq!(Summary::read(other), None);
        }
        assert_eq!(Summary::read(text.replace("\"schema\":1", "\"schema\":2").as_bytes()), None);
    }

    #[test]
    fn times_have_nine_digits_of_a_second() {
        assert_eq!(Time::default().to_string(), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(Time { seconds: -1, nanoseconds: 1 }.to_string(), "1969-12-31T23:59:59.000000001Z");
    }
}
