//! Borrowed view over JSON text (RFC 8259). It copies nothing, and lists have any length.
//!
//! Enters: a whole document. Leaves: a [`Value`] to walk through. Refuses, with the offset of the fault: text that is not JSON, text that is not UTF-8, a lone
//! surrogate in an escape, and nesting deeper than [`limits::JSON_DEPTH`].
//!
//! [`parse`] checks the document once, without recursion. After that, each step is a plain scan forward that cannot fail. A scan begins at its value, never at
//! the document's start. A caller that wants several members of an object takes them in one walk ([`Value::members_named`]) and keeps them.
//!
//! serde-json-core writes our own documents (`crate::documents`). It does not read documents of others, for these reasons. It accepts text that is not JSON
//! (`{"x": @@}`). It refuses surrogate pairs. Its errors give no place. It can panic, and core is proved free of panics. A document with more than some 174,000
//! levels makes it end the process with SIGSEGV, without an exit code. A check that prevents all this costs 5.5 kB and 90 lines more than this cursor.

use crate::buf::{Full, Writer, display_by_describe};
use crate::limits;

/// Why the parser refuses a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The document ends too early.
    Ends,
    /// The parser expected this text or kind of text.
    Expected(&'static str),
    /// A string has a control character.
    Control,
    /// A string has an escape that JSON does not know, or a lone surrogate.
    Escape,
    /// The text is not UTF-8.
    Utf8,
    /// The nesting is deeper than [`limits::JSON_DEPTH`].
    TooDeep,
    /// There is more text after the document's end.
    Trailing,
}

/// Why the parser refuses a document, and where the fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// Bytes before the fault.
    pub offset: usize,
    /// The fault.
    pub cause: Cause,
}

impl JsonError {
    /// Writes the cause as one lowercase clause.
    pub fn describe(&self, out: &mut Writer<'_>) {
        match self.cause {
            Cause::Ends => out.text("the JSON text ends too early"),
            Cause::Expected(what) => out.text("expected ").text(what),
            Cause::Control => out.text("control character in a string"),
            Cause::Escape => out.text("invalid escape in a string"),
            Cause::Utf8 => out.text("invalid UTF-8"),
            Cause::TooDeep => out.text("nested deeper than ").decimal(limits::JSON_DEPTH as u64).text(" levels"),
            Cause::Trailing => out.text("something after the end of the JSON text"),
        };
        out.text(" at byte ").decimal(self.offset as u64);
    }
}

display_by_describe!(JsonError);

/// Line and column of an offset, both counted from 1. A column is one character, as editors count.
#[must_use]
pub fn place(document: &[u8], offset: usize) -> (usize, usize) {
    let (mut line, mut column) = (1_usize, 1_usize);
    for byte in document.iter().take(offset) {
        match byte {
            b'\n' => (line, column) = (line.saturating_add(1), 1),
            0x80..=0xbf => {}
            _ => column = column.saturating_add(1),
        }
    }
    (line, column)
}

/// Checks a whole document and returns its root.
///
/// # Errors
/// [`JsonError`] with the offset of the first fault.
pub fn parse(document: &[u8]) -> Result<Value<'_>, JsonError> {
    if let Err(error) = core::str::from_utf8(document) {
        return Err(JsonError { offset: error.valid_up_to(), cause: Cause::Utf8 });
    }
    let mut check = Check { document, at: 0, open: heapless::Vec::new() };
    check.whole()?;
    visit(document.len());
    Ok(Value { document, at: white_space(document, 0) })
}

/// What the parser expects next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    CommaOrEnd,
}

struct Check<'a> {
    document: &'a [u8],
    at: usize,
    /// The open objects and arrays, innermost last: `true` for an object, `false` for an array.
    open: heapless::Vec<bool, { limits::JSON_DEPTH }>,
}

impl Check<'_> {
    fn peek(&self) -> Option<u8> {
        self.document.get(self.at).copied()
    }

    fn fail<T>(&self, cause: Cause) -> Result<T, JsonError> {
        let cause = if self.at >= self.document.len() { Cause::Ends } else { cause };
        Err(JsonError { offset: self.at, cause })
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn whole(&mut self) -> Result<(), JsonError> {
        let mut next = Next::Value;
        loop {
            self.at = white_space(self.document, self.at);
            let byte = self.peek();
            next = match (next, byte) {
                (Next::Value | Next::ValueOrEnd, Some(b'{')) => {
                    self.open(true)?;
                    Next::KeyOrEnd
                }
                (Next::Value | Next::ValueOrEnd, Some(b'[')) => {
                    self.open(false)?;
                    Next::ValueOrEnd
                }
                (Next::ValueOrEnd, Some(b']')) | (Next::KeyOrEnd, Some(b'}')) => {
                    self.close();
                    Next::CommaOrEnd
                }
                (Next::Value | Next::ValueOrEnd, _) => {
                    self.scalar()?;
                    Next::CommaOrEnd
                }
                (Next::Key | Next::KeyOrEnd, Some(b'"')) => {
                    self.string()?;
                    self.at = white_space(self.document, self.at);
                    if self.peek() != Some(b':') {
                        return self.fail(Cause::Expected("':'"));
                    }
                    self.step();
                    Next::Value
                }
                (Next::Key, _) => return self.fail(Cause::Expected("a string as key")),
                (Next::KeyOrEnd, _) => return self.fail(Cause::Expected("a string as key or '}'")),
                (Next::CommaOrEnd, Some(b',')) => {
                    self.step();
                    if self.is_in_object() { Next::Key } else { Next::Value }
                }
                (Next::CommaOrEnd, Some(b'}')) if self.is_in_object() => {
                    self.close();
                    Next::CommaOrEnd
                }
                (Next::CommaOrEnd, Some(b']')) if !self.is_in_object() => {
                    self.close();
                    Next::CommaOrEnd
                }
                (Next::CommaOrEnd, _) => return self.fail(Cause::Expected(if self.is_in_object() { "',' or '}'" } else { "',' or ']'" })),
            };
            if next == Next::CommaOrEnd && self.open.is_empty() {
                self.at = white_space(self.document, self.at);
                return if self.at < self.document.len() { self.fail(Cause::Trailing) } else { Ok(()) };
            }
        }
    }

    fn is_in_object(&self) -> bool {
        self.open.last() == Some(&true)
    }

    fn open(&mut self, object: bool) -> Result<(), JsonError> {
        if self.open.push(object).is_err() {
            return self.fail(Cause::TooDeep);
        }
        self.step();
        Ok(())
    }

    fn close(&mut self) {
        self.open.pop();
        self.step();
    }

    fn scalar(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.fail(Cause::Expected("a value")),
        }
    }

    fn word(&mut self, word: &'static str) -> Result<(), JsonError> {
        for byte in word.bytes() {
            if self.peek() != Some(byte) {
                return self.fail(Cause::Expected(word));
            }
            self.step();
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        if !self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            return self.fail(Cause::Expected("a digit"));
        }
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.step();
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.step();
        }
        if self.peek() == Some(b'0') {
            self.step();
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.step();
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.step();
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.step();
            }
            self.digits()?;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.step();
        loop {
            match self.peek() {
                None => return self.fail(Cause::Ends),
                Some(b'"') => {
                    self.step();
                    return Ok(());
                }
                Some(b'\\') => {
                    let (_, rest) =
                        self.document.get(self.at..).and_then(escape).ok_or(JsonError { offset: self.at, cause: Cause::Escape })?;
                    self.at = self.document.len().saturating_sub(rest.len());
                }
                Some(0..=0x1f) => return self.fail(Cause::Control),
                Some(_) => self.step(),
            }
        }
    }
}

/// Decodes the escape at the start of `text`, or the two escapes of a surrogate pair. Returns the character and the text after it.
fn escape(text: &[u8]) -> Option<(char, &[u8])> {
    let (&letter, rest) = text.strip_prefix(b"\\")?.split_first()?;
    let plain = match letter {
        b'"' | b'\\' | b'/' => char::from(letter),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let (high, rest) = four_hex_digits(rest)?;
            if let Some(character) = char::from_u32(high) {
                return Some((character, rest));
            }
            let (low, rest) = four_hex_digits(rest.strip_prefix(b"\\u")?)?;
            let pair = high.checked_sub(0xd800).filter(|high| *high < 0x400)?;
            let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
            let character = char::from_u32(0x1_0000_u32.wrapping_add(pair.wrapping_shl(10)).wrapping_add(low))?;
            return Some((character, rest));
        }
        _ => return None,
    };
    Some((plain, rest))
}

fn four_hex_digits(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let value = digits.iter().try_fold(0_u32, |value, &digit| Some(value.wrapping_shl(4) | char::from(digit).to_digit(16)?))?;
    Some((value, rest))
}

/// The offset of the first byte at or after `at` that is not white space.
fn white_space(document: &[u8], at: usize) -> usize {
    let rest = document.get(at..).unwrap_or_default();
    let length = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).unwrap_or(rest.len());
    visit(length);
    at.saturating_add(length)
}

/// Each scan calls this with the number of bytes that it reads. The tests count those bytes.
#[cfg(not(test))]
const fn visit(_bytes: usize) {}

#[cfg(test)]
pub(crate) use tests::visit;

/// A value of a checked document.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    document: &'a [u8],
    at: usize,
}

impl<'a> Value<'a> {
    /// The value `null`, which belongs to no document.
    pub const NULL: Self = Self { document: &[], at: 0 };

    /// Bytes before the value in the document, for a message.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// The value's first byte. It tells the type: `{`, `[`, `"`, a digit or `-`, `t`, `f`, `n`.
    fn first(&self) -> u8 {
        self.document.get(self.at).copied().unwrap_or(b'n')
    }

    /// Whether the value is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.first() == b'n'
    }

    /// Whether the value is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.first() == b'{'
    }

    /// Whether the value is an array.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.first() == b'['
    }

    /// The value `true` or `false`; `None` for any other value.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self.first() {
            b't' => Some(true),
            b'f' => Some(false),
            _ => None,
        }
    }

    /// The string; `None` if the value is not a string.
    #[must_use]
    pub fn as_str(&self) -> Option<Str<'a>> {
        if self.first() != b'"' {
            return None;
        }
        let start = self.at.saturating_add(1);
        let end = string_end(self.document, self.at).saturating_sub(1);
        Some(Str { raw: self.document.get(start..end).unwrap_or_default() })
    }

    /// The string, or the text of a number, `true` or `false`, none of which has an escape. `None` for any other value.
    #[must_use]
    pub fn as_any_string(&self) -> Option<Str<'a>> {
        let is_plain = matches!(self.first(), b'-' | b'0'..=b'9' | b't' | b'f');
        if is_plain { Some(Str { raw: self.document.get(self.at..self.end()).unwrap_or_default() }) } else { self.as_str() }
    }

    /// The text of the number; `None` if the value is not a number.
    #[must_use]
    pub fn as_number(&self) -> Option<&'a [u8]> {
        matches!(self.first(), b'-' | b'0'..=b'9').then(|| self.document.get(self.at..self.end()).unwrap_or_default())
    }

    /// The elements of the array; empty if the value is not an array.
    #[must_use]
    pub fn elements(&self) -> Elements<'a> {
        Elements { document: self.document, at: if self.is_array() { Some(self.at) } else { None } }
    }

    /// The members of the object; empty if the value is not an object.
    #[must_use]
    pub fn members(&self) -> Members<'a> {
        Members(Elements { document: self.document, at: if self.is_object() { Some(self.at) } else { None } })
    }

    /// The members with these names, all from one walk. If several members have the same name, the last one counts, as in Go and most readers. An absent member
    /// is [`Value::NULL`]; so are all members if the value is not an object.
    #[must_use]
    pub fn members_named<const N: usize>(&self, names: [&str; N]) -> [Self; N] {
        let mut values = [Self::NULL; N];
        self.find(&names, &mut values);
        values
    }

    #[inline(never)]
    fn find(&self, names: &[&str], values: &mut [Self]) {
        for (key, member) in self.members() {
            for (name, value) in names.iter().zip(&mut *values) {
                if key.is(name.as_bytes()) {
                    *value = member;
                }
            }
        }
    }

    /// The offset just after the value.
    fn end(&self) -> usize {
        match self.first() {
            b'"' => string_end(self.document, self.at),
            b'{' | b'[' => {
                let mut depth: usize = 0;
                let mut at = self.at;
                while let Some(byte) = self.document.get(at) {
                    match byte {
                        b'"' => {
                            at = string_end(self.document, at);
                            continue;
                        }
                        b'{' | b'[' => depth = depth.saturating_add(1),
                        b'}' | b']' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    visit(1);
                    at = at.saturating_add(1);
                    if depth == 0 {
                        break;
                    }
                }
                at
            }
            _ => {
                let rest = self.document.get(self.at..).unwrap_or_default();
                let length = rest.iter().position(|byte| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r'));
                let length = length.unwrap_or(rest.len());
                visit(length);
                self.at.saturating_add(length)
            }
        }
    }
}

/// The offset after the closing quote of the string that opens at `at`.
fn string_end(document: &[u8], at: usize) -> usize {
    let mut end = at.saturating_add(1);
    while let Some(byte) = document.get(end) {
        end = end.saturating_add(if *byte == b'\\' { 2 } else { 1 });
        if *byte == b'"' {
            break;
        }
    }
    visit(end.saturating_sub(at));
    end.min(document.len())
}

/// Elements of an array. `at` is the offset of the opening bracket, or the offset just after the last element that the iterator returned.
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    document: &'a [u8],
    at: Option<usize>,
}

impl<'a> Elements<'a> {
    /// Returns the next element, or the name of the next member. The caller then sets `at` to the offset after it.
    fn begin(&mut self) -> Option<Value<'a>> {
        let at = white_space(self.document, self.at.take()?);
        let byte = self.document.get(at)?;
        if matches!(byte, b']' | b'}') {
            return None;
        }
        let found = Value { document: self.document, at: white_space(self.document, at.saturating_add(1)) };
        let is_empty = matches!(byte, b'[' | b'{') && matches!(found.first(), b']' | b'}');
        (!is_empty).then_some(found)
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let element = self.begin()?;
        self.at = Some(element.end());
        Some(element)
    }
}

/// Members of an object: name and value of each.
#[derive(Debug, Clone)]
pub struct Members<'a>(Elements<'a>);

impl<'a> Iterator for Members<'a> {
    type Item = (Str<'a>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.0.begin()?;
        let end = key.end();
        let colon = white_space(key.document, end);
        let value = Value { document: key.document, at: white_space(key.document, colon.saturating_add(1)) };
        self.0.at = Some(value.end());
        Some((Str { raw: key.document.get(key.at.saturating_add(1)..end.saturating_sub(1)).unwrap_or_default() }, value))
    }
}

/// A string of a checked document. Its escapes are not decoded yet.
#[derive(Debug, Clone, Copy)]
pub struct Str<'a> {
    raw: &'a [u8],
}

impl<'a> Str<'a> {
    /// The name of a pod's main container.
    pub const MAIN: Self = Self { raw: b"main" };

    /// No text.
    pub const EMPTY: Self = Self { raw: b"" };

    /// Number of bytes between the quotes. The decoded text has at most that many bytes.
    #[must_use]
    pub const fn raw_len(&self) -> usize {
        self.raw.len()
    }

    /// Passes the decoded text to `each`, piece by piece, until `each` returns `false`.
    fn pieces(&self, mut each: impl FnMut(&[u8]) -> bool) {
        let mut rest = self.raw;
        while !rest.is_empty() {
            let plain = rest.iter().position(|&byte| byte == b'\\').unwrap_or(rest.len());
            let (piece, tail) = rest.split_at_checked(plain).unwrap_or((rest, &[]));
            visit(piece.len());
            if !piece.is_empty() && !each(piece) {
                return;
            }
            let Some((character, after)) = escape(tail) else { return };
            if !each(character.encode_utf8(&mut [0; 4]).as_bytes()) {
                return;
            }
            rest = after;
        }
    }

    /// Whether the string decodes to `text`.
    #[must_use]
    pub fn is(&self, text: &[u8]) -> bool {
        let mut left = Some(text);
        self.pieces(|piece| {
            left = left.and_then(|left| left.strip_prefix(piece));
            left.is_some()
        });
        left.is_some_and(<[u8]>::is_empty)
    }

    /// Appends the decoded text to `out`.
    pub fn write(&self, out: &mut Writer<'_>) {
        self.pieces(|piece| {
            out.bytes(piece);
            true
        });
    }

    /// Decodes the string into `buf` and returns the text.
    ///
    /// # Errors
    /// [`Full`] if `buf` is too small.
    pub fn decode<'b>(&self, buf: &'b mut [u8]) -> Result<&'b [u8], Full> {
        let mut out = Writer::new(buf);
        self.write(&mut out);
        out.finish().map(|text| &*text)
    }
}

/// Parses an array that holds strings alone, such as the file with a command's arguments.
///
/// # Errors
/// [`JsonError`] if the document is not JSON or not an array, or if an element is not a string or has a NUL character.
pub fn parse_strings(document: &[u8]) -> Result<impl Iterator<Item = Str<'_>>, JsonError> {
    let root = parse(document)?;
    if !root.is_array() {
        return Err(JsonError { offset: root.offset(), cause: Cause::Expected("an array of strings") });
    }
    for element in root.elements() {
        let fault = match element.as_str() {
            None => "a string",
            Some(string) => {
                let mut has_nul = false;
                string.pieces(|piece| {
                    has_nul |= piece.contains(&0);
                    true
                });
                if !has_nul {
                    continue;
                }
                "a string without a NUL character"
            }
        };
        return Err(JsonError { offset: element.offset(), cause: Cause::Expected(fault) });
    }
    Ok(root.elements().filter_map(|element| element.as_str()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use core::cell::Cell;
    use std::string::String;
    use std::vec::Vec;

    std::thread_local! {
        static VISITED: Cell<usize> = const { Cell::new(0) };
    }

    pub(crate) fn visit(bytes: usize) {
        VISITED.set(VISITED.get() + bytes);
    }

    /// Runs `work`. Returns its result and the number of bytes of JSON that it read; a byte counts each time that `work` reads it.
    pub(crate) fn visited<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = VISITED.get();
        let result = work();
        (result, VISITED.get() - before)
    }

    fn text(value: Str<'_>) -> String {
        let mut room = [0xa5; 256];
        String::from_utf8(value.decode(&mut room).unwrap().to_vec()).unwrap()
    }

    /// The member with this name.
    fn get<'a>(value: Value<'a>, name: &str) -> Value<'a> {
        let [value] = value.members_named([name]);
        value
    }

    #[test]
    fn walks_objects_and_arrays() {
        let root = parse(br#" { "a" : [ 1 , "x" , [ ] , { } , null ] , "b" : { "c" : true } , "a2":-1.5e3 } "#).unwrap();
        assert_eq!(get(root, "a").elements().count(), 5);
        assert_eq!(get(get(root, "b"), "c").as_bool(), Some(true));
        assert_eq!(get(root, "a2").as_number(), Some(&b"-1.5e3"[..]));
        assert!(get(root, "c").is_null());
        let keys: Vec<String> = root.members().map(|(key, _)| text(key)).collect();
        assert_eq!(keys, ["a", "b", "a2"]);
        assert_eq!(parse(b"[]").unwrap().elements().count(), 0);
        assert_eq!(parse(b"[[],[]]").unwrap().elements().count(), 2);
        assert_eq!(parse(b"{}").unwrap().members().count(), 0);
        assert_eq!(parse(b"7").unwrap().elements().count(), 0);
    }

    #[test]
    fn escapes() {
        let root = parse(r#"["\/tmp\/o15 \u0026 \u00e9", "\ud83d\ude00\"\\\b\f\n\r\t", "é"]"#.as_bytes()).unwrap();
        let all: Vec<String> = root.elements().map(|element| text(element.as_str().unwrap())).collect();
        assert_eq!(all, ["/tmp/o15 & é", "😀\"\\\u{8}\u{c}\n\r\t", "é"]);
        assert!(root.elements().next().unwrap().as_str().unwrap().is("/tmp/o15 & é".as_bytes()));
        assert!(!root.elements().next().unwrap().as_str().unwrap().is(b"/tmp/o15 & "));
    }

    #[test]
    fn the_last_of_equal_names_and_escaped_names() {
        let root = parse(br#"{"a":1,"\u0061":2,"n":null}"#).unwrap();
        assert_eq!(get(root, "a").as_number(), Some(&b"2"[..]));
        assert!(get(root, "n").is_null());
    }

    #[test]
    fn members_of_several_names_come_from_one_walk() {
        let root = parse(br#"{"a":1,"b":[{"a":9}],"c":null,"\u0062":"last","d":{"a":8}}"#).unwrap();
        let ([b, none, a, c], bytes) = visited(|| root.members_named(["b", "x", "a", "c"]));
        assert!(b.as_str().unwrap().is(b"last") && none.is_null() && c.is_null());
        assert_eq!(a.as_number(), Some(&b"1"[..]));
        // The walk reads each byte once to step over it. It reads each name again for each name that the caller wants.
        assert!(bytes < root.document.len() * 2, "{bytes}");
        for no_object in [&b"[1]"[..], b"7", b"null", b"{}", b"\"a\""] {
            assert!(parse(no_object).unwrap().members_named(["a", "b"]).iter().all(Value::is_null));
        }
    }

    #[test]
    fn decode_says_what_it_needs() {
        let root = parse(br#""ab\n""#).unwrap();
        let string = root.as_str().unwrap();
        assert_eq!(string.decode(&mut [0xa5; 3]).unwrap(), b"ab\n");
        assert_eq!(string.decode(&mut [0xa5; 2]), Err(Full { needed: 3, capacity: 2 }));
    }

    #[test]
    fn faults_have_their_place() {
        for (document, offset, cause) in [
            ("", 0, Cause::Ends),
            ("{\"outputs\": ", 12, Cause::Ends),
            ("{\"a\" 1}", 5, Cause::Expected("':'")),
            ("{a:1}", 1, Cause::Expected("a string as key or '}'")),
            ("{\"a\":1,}", 7, Cause::Expected("a string as key")),
            ("[1 2]", 3, Cause::Expected("',' or ']'")),
            ("[1}", 2, Cause::Expected("',' or ']'")),
            ("{\"a\":1]", 6, Cause::Expected("',' or '}'")),
            ("[1,]", 3, Cause::Expected("a value")),
            ("[01]", 2, Cause::Expected("',' or ']'")),
            ("[1.]", 3, Cause::Expected("a digit")),
            ("[-]", 2, Cause::Expected("a digit")),
            ("[1e+]", 4, Cause::Expected("a digit")),
            ("nul", 3, Cause::Ends),
            ("trua", 3, Cause::Expected("true")),
            ("\"a\nb\"", 2, Cause::Control),
            ("\"\\x\"", 1, Cause::Escape),
            ("\"\\u12g4\"", 1, Cause::Escape),
            ("\"\\ud800\"", 1, Cause::Escape),
            ("\"\\ud800\\u0041\"", 1, Cause::Escape),
            ("\"\\udc00\\ud800\"", 1, Cause::Escape),
            ("\"abc", 4, Cause::Ends),
            ("1 1", 2, Cause::Trailing),
            ("]", 0, Cause::Expected("a value")),
        ] {
            assert_eq!(parse(document.as_bytes()).unwrap_err(), JsonError { offset, cause }, "{document}");
        }
        assert_eq!(parse(b"\"\xff\"").unwrap_err(), JsonError { offset: 1, cause: Cause::Utf8 });
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| std::format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(limits::JSON_DEPTH).as_bytes()).is_ok());
        assert_eq!(
            parse(nested(limits::JSON_DEPTH + 1).as_bytes()).unwrap_err(),
            JsonError { offset: limits::JSON_DEPTH, cause: Cause::TooDeep }
        );
        let mixed = std::format!("{}1{}", "{\"a\":[".repeat(64), "]}".repeat(64));
        assert!(parse(mixed.as_bytes()).is_ok());
    }

    #[test]
    fn string_lists() {
        let mut all = Vec::new();
        for string in parse_strings(r#"["a b", "é\n\"\\", "😀", ""]"#.as_bytes()).unwrap() {
            all.push(text(string));
        }
        assert_eq!(all, ["a b", "é\n\"\\", "😀", ""]);
        for (document, offset) in [("[1]", 1), ("{}", 0), ("[\"a\", null]", 6), ("[\"\\u0000\"]", 1)] {
            assert_eq!(parse_strings(document.as_bytes()).err().unwrap().offset, offset);
        }
    }
}
