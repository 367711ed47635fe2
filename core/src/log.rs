//! Log lines: a plain form for people on stderr, and the two forms of Go's log/slog that Argo's log readers expect.
//!
//! Enters: form, level, time, message. Leaves: exactly one line with its newline, whatever bytes the message has. Refuses: a buffer without room for a line
//! with an empty message; the line is then empty.
//!
//! A log line is the one text of this crate that may be cut. If it is longer than the buffer, the writer cuts the message and ends it with `…`. A cut line in
//! JSON is still a whole object.

use crate::buf::Writer;
use crate::time;
use crate::words::WordList;

/// The importance of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details for a search for an error.
    Debug,
    /// A normal event.
    Info,
    /// Something is not as asked, but the step goes on.
    Warn,
    /// The step fails.
    Error,
}

impl Level {
    /// The level with this name, in either letter case; `None` for another name.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let levels = [Self::Debug, Self::Info, Self::Warn, Self::Warn, Self::Error];
        WordList("debug info warn warning error").position_ignoring_case(name).and_then(|at| levels.get(at).copied())
    }

    const fn slog_name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }

    const fn plain_name(self) -> &'static str {
        match self {
            Self::Debug => "debug: ",
            Self::Info => "",
            Self::Warn => "warning: ",
            Self::Error => "error: ",
        }
    }
}

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `emissary: warning: …`
    Plain,
    /// `time=… level=WARN msg=… argo=true`
    Text,
    /// `{"time":"…","level":"WARN","msg":"…","argo":true}`
    #[cfg(feature = "documents")]
    Json,
}

impl Format {
    /// The form with this name: `text`, `plain` or `json`, as `--log-format` accepts them. `None` for another name.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let formats = [
            Self::Text,
            Self::Plain,
            #[cfg(feature = "documents")]
            Self::Json,
        ];
        WordList("text plain json").position(name).and_then(|at| formats.get(at).copied())
    }
}

/// Writes one line to `buf` and returns it. `unix_ms` is the time in milliseconds since 1970. The line is empty if `buf` is too small even for an empty
/// message.
pub fn line<'b>(format: Format, level: Level, unix_ms: i64, message: &[u8], buf: &'b mut [u8]) -> &'b [u8] {
    let mut attempt = |end: usize| {
        let mark = if end < message.len() { "…" } else { "" };
        write(format, level, unix_ms, prefix(message, end), mark, buf)
    };
    let length = attempt(message.len()).or_else(|| {
        // Bisect for the longest prefix of the message that fits. A prefix of `fits` bytes fits if any does; a prefix of `over` bytes does not.
        let (mut fits, mut over) = (0, message.len());
        while over.saturating_sub(fits) > 1 {
            let middle = fits.midpoint(over);
            if attempt(middle).is_some() {
                fits = middle;
            } else {
                over = middle;
            }
        }
        attempt(fits)
    });
    buf.get(..length.unwrap_or(0)).unwrap_or_default()
}

/// At most the first `end` bytes of `message`, without a partial character at the end.
fn prefix(message: &[u8], end: usize) -> &[u8] {
    // At most three bytes of a UTF-8 character follow its first byte. A longer run of such bytes is not a character.
    let starts = |at: &usize| message.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let end = (0..=3).filter_map(|back| end.checked_sub(back)).find(starts).unwrap_or(end);
    message.get(..end).unwrap_or_default()
}

/// Writes one line. Returns its length in bytes, or `None` if it does not fit.
fn write(format: Format, level: Level, unix_ms: i64, message: &[u8], mark: &'static str, buf: &mut [u8]) -> Option<usize> {
    let mut time = [0; 24];
    time::write_rfc3339(unix_ms, &mut Writer::new(&mut time));
    let mut out = Writer::new(buf);
    match format {
        Format::Plain => out.text("emissary: ").text(level.plain_name()).shown(message).text(mark),
        Format::Text => {
            out.text("time=").bytes(&time).text(" level=").text(level.slog_name()).text(" msg=");
            let quoted = needs_quotes(message);
            let quotes = if quoted { "\"" } else { "" };
            out.text(quotes);
            escape(message, &mut out);
            out.text(mark).text(quotes).text(" argo=true")
        }
        #[cfg(feature = "documents")]
        Format::Json => return json::write(&time, level.slog_name(), message, mark, buf),
    };
    out.byte(b'\n');
    out.finish().ok().map(|line| line.len())
}

/// A line in JSON, as log/slog's `JSONHandler` writes it.
#[cfg(feature = "documents")]
mod json {
    use core::fmt;

    use serde::{Serialize, Serializer};

    use crate::documents::{self, Text};

    #[derive(Serialize)]
    struct Line<'a> {
        time: Text<'a>,
        level: &'static str,
        msg: Message<'a>,
        argo: bool,
    }

    /// A message, and the mark that follows a cut message.
    struct Message<'a> {
        text: Text<'a>,
        mark: &'static str,
    }

    impl fmt::Display for Message<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.text.fmt(f)?;
            f.write_str(self.mark)
        }
    }

    impl Serialize for Message<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    /// Writes one line. Returns its length in bytes, or `None` if it does not fit.
    pub(super) fn write(time: &[u8], level: &'static str, message: &[u8], mark: &'static str, buf: &mut [u8]) -> Option<usize> {
        let msg = Message { text: Text(message), mark };
        documents::write(&Line { time: Text(time), level, msg, argo: true }, buf)
    }
}

/// Whether slog's text form quotes this value: it is empty, or has a space, a quote, a backslash, `=`, a control character or bytes that are not UTF-8.
fn needs_quotes(value: &[u8]) -> bool {
    value.is_empty()
        || core::str::from_utf8(value).map_or(true, |text| text.chars().any(char::is_control))
        || value.iter().any(|byte| *byte <= b' ' || matches!(byte, b'"' | b'=' | b'\\' | 0x7f))
}

/// Escapes a value as Go's `strconv.Quote` does. Control characters without an escape of their own, and bytes that are not UTF-8, become `\xNN`.
fn escape(value: &[u8], out: &mut Writer<'_>) {
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut room = [0; 4];
            let text = &*character.encode_utf8(&mut room);
            match character {
                '"' => out.text("\\\""),
                '\\' => out.text("\\\\"),
                '\n' => out.text("\\n"),
                '\r' => out.text("\\r"),
                '\t' => out.text("\\t"),
                _ if character.is_control() => out.escaped(text.as_bytes()),
                _ => out.text(text),
            };
        }
        out.escaped(chunk.invalid());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString as _};

    fn rendered(format: Format, message: &[u8], room: usize) -> String {
        let mut room = std::vec![0xa5; room];
        String::from_utf8(line(format, Level::Warn, 1_795_498_648_007, message, &mut room).to_vec()).unwrap()
    }

    #[test]
    fn the_three_forms() {
        assert_eq!(rendered(Format::Plain, b"a \"b\"\nc", 200), "emissary: warning: a \"b\"\\x0ac\n");
        assert_eq!(
            rendered(Format::Text, b"a \"b\"\nc", 200),
            "time=2026-11-24T05:37:28.007Z level=WARN msg=\"a \\\"b\\\"\\nc\" argo=true\n"
        );
        let with_controls = rendered(Format::Text, "naïve\u{9b}2J".as_bytes(), 200);
        assert!(with_controls.contains("msg=\"naïve\\xc2\\x9b2J\" argo=true"), "{with_controls}");
        assert_eq!(rendered(Format::Text, b"plain", 200), "time=2026-11-24T05:37:28.007Z level=WARN msg=plain argo=true\n");
        assert_eq!(
            rendered(Format::Json, b"a \"b\"\nc", 200),
            "{\"time\":\"2026-11-24T05:37:28.007Z\",\"level\":\"WARN\",\"msg\":\"a \\\"b\\\"\\nc\",\"argo\":true}\n"
        );
    }

    #[test]
    fn a_long_message_is_cut_and_marked_in_one_valid_line() {
        // Miri interprets the code, so it gets shorter messages.
        const LENGTH: usize = if cfg!(miri) { 220 } else { 500 };
        for message in [&[b'm'; LENGTH][..], &[b'\n'; LENGTH], &[0xff; LENGTH], "é".repeat(LENGTH / 2).as_bytes()] {
            for format in [Format::Plain, Format::Text, Format::Json] {
                let line = rendered(format, message, 200);
                assert!(line.contains('…') && line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
                if format == Format::Json {
                    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
                    assert_eq!(value["level"], "WARN".to_string());
                }
            }
        }
    }

    #[test]
    fn levels() {
        assert_eq!(Level::parse(b"WARNING"), Some(Level::Warn));
        assert_eq!(Level::parse(b"loud"), None);
        assert!(Level::Debug < Level::Info && Level::Warn < Level::Error);
    }
}
