//! Log lines: what a person reads on stderr, or the two forms of Go's log/slog that Argo's log readers expect.
//!
//! Enters: level, form, time, message. Leaves: exactly one line with its newline, whatever bytes the message has. A line longer than
//! the buffer is cut and ends with `…`: a log line is the one text that may be cut.

use crate::buf::Writer;
use crate::json;
use crate::time;
use crate::words::Words;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For finding out what happens.
    Debug,
    /// What happens.
    Info,
    /// Something was not as asked, and the step goes on.
    Warn,
    /// The step fails.
    Error,
}

impl Level {
    /// A level by its name, in either case.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let levels = [Self::Debug, Self::Info, Self::Warn, Self::Warn, Self::Error];
        Words("debug info warn warning error").place_in_any_case(name).and_then(|at| levels.get(at).copied())
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
    Json,
}

impl Format {
    /// `text` or `json`, as `--log-format` takes them, or `plain`.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        Words("text json plain").place(name).and_then(|at| [Self::Text, Self::Json, Self::Plain].get(at).copied())
    }
}

/// One line in `buf`.
pub fn line<'b>(format: Format, level: Level, unix_ms: i64, message: &[u8], buf: &'b mut [u8]) -> &'b [u8] {
    let capacity = buf.len();
    let mut kept = message;
    let length = loop {
        let mut out = Writer::new(buf);
        write(format, level, unix_ms, kept, kept.len() < message.len(), &mut out);
        if out.needed() <= capacity || kept.is_empty() {
            break out.written().len();
        }
        // An escape takes at most six bytes a byte, so this never cuts more than is needed by far; the mark takes three.
        kept = cut(kept, out.needed().saturating_sub(capacity).div_ceil(6).saturating_add(1));
    };
    buf.get(..length).unwrap_or_default()
}

/// `message` without its last bytes, at least `over` of them, and without a part of a character at its end.
fn cut(message: &[u8], over: usize) -> &[u8] {
    let end = message.len().saturating_sub(over);
    // Three bytes of a character follow its first one at most; a longer run is none.
    let starts = |at: &usize| message.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let end = (0..=3).filter_map(|back| end.checked_sub(back)).find(starts).unwrap_or(end);
    message.get(..end).unwrap_or_default()
}

fn write(format: Format, level: Level, unix_ms: i64, message: &[u8], is_cut: bool, out: &mut Writer<'_>) {
    let mark = if is_cut { "…" } else { "" };
    match format {
        Format::Plain => {
            out.text("emissary: ").text(level.plain_name()).shown(message).text(mark);
        }
        Format::Text => {
            out.text("time=");
            time::write_rfc3339(unix_ms, out);
            out.text(" level=").text(level.slog_name()).text(" msg=");
            let quoted = needs_quotes(message);
            let quotes = if quoted { "\"" } else { "" };
            out.text(quotes);
            escape(message, out);
            out.text(mark).text(quotes).text(" argo=true");
        }
        Format::Json => {
            out.text("{\"time\":\"");
            time::write_rfc3339(unix_ms, out);
            out.text("\",\"level\":\"").text(level.slog_name()).text("\",\"msg\":\"");
            json::write_escaped(message, out);
            out.text(mark).text("\",\"argo\":true}");
        }
    }
    out.byte(b'\n');
}

/// Whether slog's text form quotes this value: it is empty, or has a space, a quote, `=`, a control character or bytes that are not UTF-8.
fn needs_quotes(value: &[u8]) -> bool {
    value.is_empty()
        || core::str::from_utf8(value).map_or(true, |text| text.chars().any(char::is_control))
        || value.iter().any(|byte| *byte <= b' ' || matches!(byte, b'"' | b'=' | b'\\' | 0x7f))
}

/// Escapes as Go's strconv.Quote does for the characters that occur: control characters and faulty bytes as `\xNN`.
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

    fn made(format: Format, message: &[u8], room: usize) -> String {
        let mut room = std::vec![0xa5; room];
        String::from_utf8(line(format, Level::Warn, 1_795_498_648_007, message, &mut room).to_vec()).unwrap()
    }

    #[test]
    fn the_three_forms() {
        assert_eq!(made(Format::Plain, b"a \"b\"\nc", 200), "emissary: warning: a \"b\"\\x0ac\n");
        assert_eq!(made(Format::Text, b"a \"b\"\nc", 200), "time=2026-11-24T05:37:28.007Z level=WARN msg=\"a \\\"b\\\"\\nc\" argo=true\n");
        let with_controls = made(Format::Text, "naïve\u{9b}2J".as_bytes(), 200);
        assert!(with_controls.contains("msg=\"naïve\\xc2\\x9b2J\" argo=true"), "{with_controls}");
        assert_eq!(made(Format::Text, b"plain", 200), "time=2026-11-24T05:37:28.007Z level=WARN msg=plain argo=true\n");
        assert_eq!(
            made(Format::Json, b"a \"b\"\nc", 200),
            "{\"time\":\"2026-11-24T05:37:28.007Z\",\"level\":\"WARN\",\"msg\":\"a \\\"b\\\"\\nc\",\"argo\":true}\n"
        );
    }

    #[test]
    fn a_long_message_is_cut_and_marked_and_stays_one_valid_line() {
        // Shorter ones for an interpreter.
        const LENGTH: usize = if cfg!(miri) { 220 } else { 500 };
        for message in [&[b'm'; LENGTH][..], &[b'\n'; LENGTH], &[0xff; LENGTH], "é".repeat(LENGTH / 2).as_bytes()] {
            for format in [Format::Plain, Format::Text, Format::Json] {
                let line = made(format, message, 200);
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
